//! Lists of traces, sessions and users.

use brokle_core::ids::ProjectId;
use chrono::DateTime;
use clickhouse::Row;
use serde::Deserialize;

use super::super::query::{Filter, Group, GroupKind, Place, Query, SortBy, Subject, Totals, page_of};
use super::super::view::millis;
use super::super::{AnalyticsError, Page};
use super::ClickHouseObservations;
use super::metrics::{COST, sum};
use super::rows::money;
use super::sql::Sql;

#[derive(Row, Deserialize)]
struct Found {
    id: String,
    name: String,
    user: Option<String>,
    session: Option<String>,
    start_us: i64,
    end_us: i64,
    traces: u64,
    sessions: u64,
    observations: u64,
    errors: u64,
    input_tokens: u64,
    output_tokens: u64,
    cost: i128,
    rank: f64,
}

/// Which of them have an observation that passes the filter, then the numbers of all of those.
pub(super) async fn groups(
    store: &ClickHouseObservations,
    project: ProjectId,
    kind: GroupKind,
    query: Query,
) -> Result<Page<Group, Place>, AnalyticsError> {
    let (key, is_there) = match kind {
        GroupKind::Trace => ("o.trace_id", ""),
        GroupKind::Session => ("assumeNotNull(o.session_id)", " AND o.session_id IS NOT NULL"),
        GroupKind::User => ("assumeNotNull(o.user_id)", " AND o.user_id IS NOT NULL"),
    };
    let rank = match query.sort.by {
        SortBy::Duration => "end_us - start_us",
        SortBy::Cost => "cost",
        SortBy::Tokens => "input_tokens + output_tokens",
        SortBy::Observations => "observations",
        SortBy::Errors => "errors",
        SortBy::Time | SortBy::FirstToken | SortBy::Value => "start_us",
    };
    // The first in time, then in arrival.
    let select = format!(
        "SELECT {key} AS id,
            argMin(o.name, (o.parent_span_id IS NOT NULL, o.start_time, o.arrival)) AS name,
            argMin(o.user_id, (o.start_time, o.arrival)) AS user,
            argMin(o.session_id, (o.start_time, o.arrival)) AS session,
            toUnixTimestamp64Micro(min(o.start_time)) AS start_us,
            max(toUnixTimestamp64Micro(o.start_time) + toInt64(o.duration_us)) AS end_us,
            uniqExact(o.trace_id) AS traces, uniqExact(o.session_id) AS sessions, count() AS observations,
            countIf(o.status != 'ok') AS errors, {} AS input_tokens, {} AS output_tokens,
            {COST} AS cost, toFloat64({rank}) AS rank",
        sum("o.input_tokens"),
        sum("o.output_tokens"),
    );
    let mut sql =
        Sql::observations(&select, project, query.from.timestamp_micros(), query.to.timestamp_micros());
    sql.push(is_there);
    if query.filter != Filter::default() {
        let mut passing = Sql::observations(
            &format!("SELECT {key}"),
            project,
            query.from.timestamp_micros(),
            query.to.timestamp_micros(),
        );
        passing.push(is_there).filter(&query.filter, Subject::Observations, project);
        sql.push(&format!(" AND {key} IN (")).append(&passing).push(")");
    }
    let (comparison, direction) = if query.sort.descending { ("<", " DESC") } else { (">", "") };
    sql.push(" GROUP BY id");
    if let Some(after) = &query.after {
        sql.push(&format!(" HAVING (rank, id) {comparison} (")).number(after.value).push(", ");
        sql.text(&after.key).push(")");
    }
    let limit = query.limit.saturating_add(1);
    sql.push(&format!(" ORDER BY rank{direction}, id{direction} LIMIT {limit}"));
    let found: Vec<Found> = store.ask(sql).await?;
    let rows = found
        .into_iter()
        .map(|found| (Place::new(query.sort, found.rank, 0, 0, &found.id), found.group(kind)));
    Ok(page_of(rows.collect(), query.limit))
}

impl Found {
    fn group(self, kind: GroupKind) -> Group {
        let time = |micros| DateTime::from_timestamp_micros(micros).unwrap_or_default();
        Group {
            name: Some(self.name).filter(|_| kind == GroupKind::Trace),
            id: self.id,
            user: self.user,
            session: self.session,
            start_time: time(self.start_us),
            end_time: time(self.end_us),
            duration_ms: millis(u64::try_from(self.end_us.saturating_sub(self.start_us)).unwrap_or_default()),
            totals: Totals {
                traces: self.traces,
                sessions: self.sessions,
                observations: self.observations,
                errors: self.errors,
                input_tokens: self.input_tokens,
                output_tokens: self.output_tokens,
                cost: money(self.cost),
            },
        }
    }
}
