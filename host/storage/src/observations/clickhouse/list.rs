//! Lists of observations.
//!
//! Which rows are on the page is found by narrow columns; the wide ones are then read by the whole key.

use brokle_core::ids::ProjectId;
use brokle_core::money::Usd;
use chrono::{DateTime, Utc};

use super::super::query::{ObservationRow, Place, Query, SortBy, Subject, page_of};
use super::super::{AnalyticsError, Cursor, MAX_LIMIT, Page, Summary, TraceFilter};
use super::ClickHouseObservations;
use super::rows::{BODIES, COLUMNS, NO_BODIES, Stored, money};
use super::sql::Sql;

/// The table's key, which a row has alone.
const KEY: &str = "toStartOfMinute(o.start_time), xxHash32(o.trace_id), o.span_id, o.start_time";

pub(super) async fn traces(
    store: &ClickHouseObservations,
    project: ProjectId,
    filter: TraceFilter,
    limit: u32,
    cursor: Option<Cursor>,
) -> Result<Page<Summary>, AnalyticsError> {
    let limit = limit.clamp(1, MAX_LIMIT) as usize;
    let (from, to) =
        (filter.from.unwrap_or(DateTime::UNIX_EPOCH), filter.to.unwrap_or(DateTime::<Utc>::MAX_UTC));
    let mut inner = Sql::observations(&format!("SELECT {KEY}"), project, from, to);
    if let Some(Cursor { start_us, rid }) = cursor {
        inner.push(" AND (o.start_time, o.arrival) < (").time(start_us);
        inner.push(", ").integer(rid).push(")");
    }
    if let Some(model) = &filter.model {
        inner.push(" AND (ifNull(o.model_requested = ").text(model).push(", 0)");
        inner.push(" OR ifNull(o.model_served = ").text(model).push(", 0))");
    }
    for (column, value) in [
        ("kind", filter.kind.map(|kind| kind.as_str())),
        ("status", filter.status.map(|status| status.as_str())),
        ("provider", filter.provider.as_deref()),
        ("user_id", filter.user.as_deref()),
        ("session_id", filter.session.as_deref()),
        ("name", filter.name.as_deref()),
    ] {
        if let Some(value) = value {
            inner.push(&format!(" AND ifNull(o.{column} = ")).text(value).push(", 0)");
        }
    }
    let order = format!(" ORDER BY o.start_time DESC, o.arrival DESC LIMIT {}", limit + 1);
    inner.push(&order);
    let mut rows = wide(store, project, NO_BODIES, &inner, &order).await?;
    let more = rows.len() > limit;
    rows.truncate(limit);
    let next_cursor =
        rows.last().filter(|_| more).map(|row| Cursor { start_us: row.start_time, rid: row.arrival });
    Ok(Page { data: rows.iter().map(Stored::summary).collect::<Result<_, _>>()?, next_cursor })
}

/// What a list is ordered by before the time.
struct Order {
    column: &'static str,
    /// A row's value of it, as a number and as a text that ClickHouse reads exactly.
    value: fn(&Stored) -> (f64, String),
    kind: &'static str,
}

impl Order {
    fn of(by: SortBy) -> Option<Self> {
        fn whole(value: Option<u64>) -> (f64, String) {
            value.map_or((-1.0, "-1".to_owned()), |value| (value as f64, value.to_string()))
        }
        let order = match by {
            SortBy::Duration => Self {
                column: "toInt64(o.duration_us)",
                value: |row| whole(Some(row.duration_us)),
                kind: "Int64",
            },
            SortBy::FirstToken => Self {
                column: "ifNull(toInt64(o.first_token_us), -1)",
                value: |row| whole(row.first_token_us),
                kind: "Int64",
            },
            SortBy::Cost => Self {
                column: "ifNull(o.cost, toDecimal128(-1, 18))",
                value: |row| {
                    let cost = row.cost.map(money);
                    (
                        cost.map_or(-1.0, Usd::approximate),
                        cost.map_or("-1".to_owned(), |cost| cost.to_string()),
                    )
                },
                kind: "Decimal(38, 18)",
            },
            SortBy::Tokens => Self {
                column: "if(o.usage_known, toInt64(o.input_tokens + o.output_tokens), -1)",
                value: |row| whole(row.tokens()),
                kind: "Int64",
            },
            _ => return None,
        };
        Some(order)
    }

    /// The value in a place that a client gave back: whatever is no number is 0.
    fn after(&self, place: &Place) -> String {
        let exact = place.key.parse::<i64>().map(|whole| whole.to_string());
        exact
            .or_else(|_| place.key.parse::<Usd>().map(|cost| cost.to_string()))
            .unwrap_or_else(|_| "0".to_owned())
    }
}

pub(super) async fn observations(
    store: &ClickHouseObservations,
    project: ProjectId,
    query: Query,
) -> Result<Page<ObservationRow, Place>, AnalyticsError> {
    let mut inner = Sql::observations(&format!("SELECT {KEY}"), project, query.from, query.to);
    inner.filter(&query.filter, Subject::Observations, project);
    let by = Order::of(query.sort.by);
    let (comparison, direction) = if query.sort.descending { ("<", " DESC") } else { (">", "") };
    let first = by.as_ref().map(|order| order.column);
    let columns = first.into_iter().chain(["o.start_time", "o.arrival"]).collect::<Vec<_>>();
    if let Some(place) = &query.after {
        inner.push(&format!(" AND ({}) {comparison} (", columns.join(", ")));
        if let Some(order) = &by {
            inner.push("CAST(").text(&order.after(place)).push(&format!(", '{}'), ", order.kind));
        }
        inner.time(place.start_us).push(", ").integer(place.rid).push(")");
    }
    let order = format!(
        " ORDER BY {}{direction} LIMIT {}",
        columns.join(&format!("{direction}, ")),
        query.limit.saturating_add(1)
    );
    inner.push(&order);
    let bodies = if query.bodies { BODIES } else { NO_BODIES };
    let mut found = Vec::new();
    for row in wide(store, project, bodies, &inner, &order).await? {
        let start_us = row.start_time as f64;
        let (value, key) = by.as_ref().map_or((start_us, String::new()), |order| (order.value)(&row));
        let place = Place::new(query.sort, value, row.start_time, row.arrival, &key);
        let node = row.node()?;
        found.push((place, ObservationRow { summary: node.summary, input: node.input, output: node.output }));
    }
    Ok(page_of(found, query.limit))
}

async fn wide(
    store: &ClickHouseObservations,
    project: ProjectId,
    bodies: &str,
    keys: &Sql,
    order: &str,
) -> Result<Vec<Stored>, AnalyticsError> {
    let mut sql =
        Sql::new(&format!("SELECT {COLUMNS}, {bodies} FROM observations AS o FINAL WHERE o.project_id = "));
    sql.text(&project.to_string()).push(&format!(" AND ({KEY}) IN (")).append(keys).push(")").push(order);
    store.ask(sql).await
}
