//! The list's query.

use brokle_core::ids::ProjectId;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::super::{AnalyticsError, Cursor, MAX_LIMIT, Page, Summary, TraceFilter};
use super::columns;
use super::reader::Readers;

/// From the newest month to the oldest, until the page is full. One row more than asked for tells whether there is a
/// next page.
pub(super) fn list(
    readers: &Readers,
    project: ProjectId,
    filter: &TraceFilter,
    limit: u32,
    cursor: Option<Cursor>,
) -> Result<Page<Summary>, AnalyticsError> {
    let limit = limit.clamp(1, MAX_LIMIT) as usize;
    let query = Query::new(project, filter, cursor);
    let mut found: Vec<(Cursor, Summary)> = Vec::with_capacity(limit + 1);
    for month in readers.months(query.from, query.before.map(|before| before.start_us))?.rev() {
        let missing = limit + 1 - found.len();
        if missing == 0 {
            break;
        }
        found.extend(readers.with(month, |connection| query.run(connection, missing))?.unwrap_or_default());
    }
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|(place, _)| *place);
    Ok(Page { data: found.into_iter().map(|(_, summary)| summary).collect(), next_cursor })
}

struct Query {
    sql: String,
    values: Vec<Value>,
    from: Option<i64>,
    before: Option<Cursor>,
}

impl Query {
    fn new(project: ProjectId, filter: &TraceFilter, cursor: Option<Cursor>) -> Self {
        let from = filter.from.map(|from| from.timestamp_micros());
        // No row number is negative, so this is before every row of the microsecond `to`.
        let to = filter.to.map(|to| Cursor { start_us: to.timestamp_micros(), rid: -1 });
        let before = cursor.into_iter().chain(to).min();

        let mut sql = format!(
            "SELECT {} FROM observations INDEXED BY observations_list WHERE project = ?1",
            columns::SUMMARY
        );
        let mut values = vec![Value::Blob(project.as_u128().to_be_bytes().to_vec())];
        let mut narrow = |condition: &str, value: Value| {
            values.push(value);
            sql.push_str(&condition.replace('$', &format!("?{}", values.len())));
        };
        if let Some(from) = from {
            narrow(" AND start_us >= $", Value::Integer(from));
        }
        if let Some(before) = before {
            narrow(" AND (start_us, rid) < ($", Value::Integer(before.start_us));
            narrow(", $)", Value::Integer(before.rid));
        }
        let text = |text: &str| Value::Text(text.to_owned());
        if let Some(model) = &filter.model {
            narrow(" AND (model_requested = $ OR model_served = $)", text(model));
        }
        for (condition, value) in [
            (" AND kind = $", filter.kind.map(|kind| kind.as_str())),
            (" AND status = $", filter.status.map(|status| status.as_str())),
            (" AND provider = $", filter.provider.as_deref()),
            (" AND user = $", filter.user.as_deref()),
            (" AND session = $", filter.session.as_deref()),
            (" AND name = $", filter.name.as_deref()),
        ] {
            if let Some(value) = value {
                narrow(condition, text(value));
            }
        }
        sql.push_str(&format!(" ORDER BY start_us DESC, rid DESC LIMIT ?{}", values.len() + 1));
        Self { sql, values, from, before }
    }

    fn run(&self, connection: &Connection, limit: usize) -> Result<Vec<(Cursor, Summary)>, AnalyticsError> {
        let limit = Value::Integer(i64::try_from(limit).unwrap_or(i64::MAX));
        let mut statement = connection.prepare_cached(&self.sql)?;
        let rows = statement.query_map(params_from_iter(self.values.iter().chain([&limit])), |row| {
            let summary = columns::summary(row)?;
            Ok((Cursor { start_us: summary.start_time.timestamp_micros(), rid: row.get(0)? }, summary))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::clock::SystemClock;
    use brokle_core::observation::{Kind, Status};
    use brokle_core::random::SystemRandom;

    use super::*;

    #[test]
    fn every_filter_is_read_from_the_index_and_nothing_is_sorted() {
        let mut connection = Connection::open_in_memory().unwrap();
        super::super::schema::prepare(&mut connection).unwrap();
        let some = || Some("x".to_owned());
        let filter = TraceFilter {
            from: Some(chrono::DateTime::UNIX_EPOCH),
            to: Some(chrono::DateTime::UNIX_EPOCH),
            model: some(),
            provider: some(),
            status: Some(Status::Ok),
            user: some(),
            session: some(),
            kind: Some(Kind::Generation),
            name: some(),
        };
        let project = ProjectId::generate(&SystemClock, &SystemRandom);
        let query = Query::new(project, &filter, None);
        let plan: Vec<String> = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {}", query.sql))
            .unwrap()
            .query_map(params_from_iter(query.values.iter().chain([&Value::Integer(1)])), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(plan.len(), 1, "{plan:?}");
        assert!(plan[0].contains("project=? AND start_us>? AND start_us<?"), "{plan:?}");
    }
}
