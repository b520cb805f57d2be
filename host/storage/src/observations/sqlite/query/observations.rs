//! Lists of observations.

use brokle_core::ids::ProjectId;
use rusqlite::types::Value;
use rusqlite::{Connection, params_from_iter};

use super::super::super::query::{Limits, ObservationRow, Place, Query, SortBy, Subject};
use super::super::super::{AnalyticsError, Page};
use super::super::reader::Readers;
use super::super::{body, columns};
use super::{Beside, Budget, Needs, Sql, ask, in_time, page_of};

/// By time: from month to month until the page is full. Otherwise: the best of each month, merged.
pub(in super::super) fn observations(
    readers: &Readers,
    project: ProjectId,
    query: &Query,
    limits: Limits,
) -> Result<Page<ObservationRow, Place>, AnalyticsError> {
    let budget = Budget::new(limits);
    let needs = Needs::of(&query.filter);
    let (from, to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let mut months: Vec<_> = readers.months(Some(from), Some(to))?.collect();
    if query.sort.descending {
        months.reverse();
    }
    let by_time = query.sort.by == SortBy::Time;
    let mut found: Vec<(Place, ObservationRow)> = Vec::new();
    for month in months {
        let rows = ask(readers, month, needs, &budget, |connection, beside| {
            run(connection, project, query, beside)
        })?;
        found.extend(rows.unwrap_or_default());
        if by_time && found.len() > query.limit as usize {
            break;
        }
    }
    if !by_time {
        let ascending = |one: &Place, other: &Place| {
            let values = one.value.total_cmp(&other.value);
            values.then_with(|| (one.start_us, one.rid).cmp(&(other.start_us, other.rid)))
        };
        found.sort_by(|(one, _), (other, _)| {
            let order = ascending(one, other);
            if query.sort.descending { order.reverse() } else { order }
        });
    }
    Ok(page_of(found, query.limit))
}

fn run(
    connection: &Connection,
    project: ProjectId,
    query: &Query,
    beside: Beside,
) -> Result<Vec<(Place, ObservationRow)>, AnalyticsError> {
    let sort = match query.sort.by {
        SortBy::Duration => "o.duration_us",
        SortBy::FirstToken => "coalesce(o.first_token_us, -1)",
        SortBy::Cost => "coalesce(CAST(o.cost AS REAL), -1.0)",
        SortBy::Tokens => "CASE WHEN o.usage_known THEN o.input_tokens + o.output_tokens ELSE -1 END",
        _ => "o.start_us",
    };
    let bodies = if query.bodies {
        "(SELECT input FROM bodies b WHERE b.rid = o.rid), (SELECT output FROM bodies b WHERE b.rid = o.rid)"
    } else {
        "NULL, NULL"
    };
    let mut sql = Sql::new(&format!(
        "SELECT {}, {bodies}, CAST({sort} AS REAL) FROM observations o INDEXED BY observations_list WHERE o.project = ",
        columns::SUMMARY
    ));
    sql.bind(Value::Blob(project.as_u128().to_be_bytes().to_vec()));
    in_time(&mut sql, "o.start_us", query.from, query.to);
    sql.filter(&query.filter, Subject::Observations, beside);
    sql.page(query, sort, "o.start_us");

    let mut statement = connection.prepare_cached(&sql.text)?;
    let width = statement.column_count();
    let mut rows = statement.query(params_from_iter(&sql.values))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let summary = columns::summary(row)?;
        let (start_us, rid, value) =
            (summary.start_time.timestamp_micros(), row.get(0)?, row.get(width - 1)?);
        let (input, output) = (body::show(row.get_ref(width - 3)?)?, body::show(row.get_ref(width - 2)?)?);
        found.push((
            Place::new(query.sort, value, start_us, rid, ""),
            ObservationRow { summary, input, output },
        ));
    }
    Ok(found)
}
