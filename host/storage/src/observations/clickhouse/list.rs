//! Lists of observations.
//!
//! Which rows are on the page is found by narrow columns and without merging, so that no more is read than the page needs. The
//! wide columns are then read, merged: of a page by the time those of its stretch of time, of others by the whole key.

use brokle_core::ids::ProjectId;
use brokle_core::money::Usd;

use super::super::query::{ObservationRow, Place, Query, SortBy, Subject, page_of};
use super::super::{AnalyticsError, Cursor, MAX_LIMIT, Page, Summary, TraceFilter};
use super::ClickHouseObservations;
use super::rows::{BODIES, COLUMNS, NO_BODIES, Stored, money};
use super::sql::{FEW, Sql};

/// The first stretch of time in which a page is looked for, in microseconds: a minute.
const SHORTEST: i64 = 60_000_000;
/// The table's key, which a row has alone.
const KEY: &str = "o.start_time, xxHash32(o.trace_id), o.span_id";

pub(super) async fn traces(
    store: &ClickHouseObservations,
    project: ProjectId,
    filter: TraceFilter,
    limit: u32,
    cursor: Option<Cursor>,
) -> Result<Page<Summary>, AnalyticsError> {
    let limit = limit.clamp(1, MAX_LIMIT);
    let from = filter.from.map_or(0, |from| from.timestamp_micros());
    let mut to = filter.to.map_or(i64::MAX, |to| to.timestamp_micros());
    let mut conditions = Sql::new("");
    if let Some(Cursor { start_us, rid }) = cursor {
        conditions.push(" AND (o.start_time, o.arrival) < (").time(start_us);
        conditions.push(", ").integer(rid).push(")");
        to = to.min(start_us.saturating_add(1));
    }
    if let Some(model) = &filter.model {
        conditions.push(" AND (ifNull(o.model_requested = ").text(model).push(", 0)");
        conditions.push(" OR ifNull(o.model_served = ").text(model).push(", 0))");
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
            conditions.push(&format!(" AND ifNull(o.{column} = ")).text(value).push(", 0)");
        }
    }
    let page =
        PageOf { project, from, to, conditions, first: None, descending: true, limit, bodies: NO_BODIES };
    let (mut rows, limit) = (page.rows(store).await?, limit as usize);
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
    let by = Order::of(query.sort.by);
    let first = by.as_ref().map(|order| order.column);
    let (mut from, mut to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let mut conditions = Sql::new("");
    conditions.filter(&query.filter, Subject::Observations, project);
    if let Some(place) = &query.after {
        let columns = first.into_iter().chain(["o.start_time", "o.arrival"]).collect::<Vec<_>>().join(", ");
        let comparison = if query.sort.descending { "<" } else { ">" };
        conditions.push(&format!(" AND ({columns}) {comparison} ("));
        if let Some(order) = &by {
            conditions.push("CAST(").text(&order.after(place)).push(&format!(", '{}'), ", order.kind));
        }
        conditions.time(place.start_us).push(", ").integer(place.rid).push(")");
        match (&by, query.sort.descending) {
            (None, true) => to = to.min(place.start_us.saturating_add(1)),
            (None, false) => from = from.max(place.start_us),
            (Some(_), _) => {}
        }
    }
    let page = PageOf {
        project,
        from,
        to,
        conditions,
        first,
        descending: query.sort.descending,
        limit: query.limit,
        bodies: if query.bodies { BODIES } else { NO_BODIES },
    };
    let mut found = Vec::new();
    for row in page.rows(store).await? {
        let start_us = row.start_time as f64;
        let (value, key) = by.as_ref().map_or((start_us, String::new()), |order| (order.value)(&row));
        let place = Place::new(query.sort, value, row.start_time, row.arrival, &key);
        let node = row.node()?;
        found.push((place, ObservationRow { summary: node.summary, input: node.input, output: node.output }));
    }
    Ok(page_of(found, query.limit))
}

/// What is read for a page, and one row more.
struct PageOf {
    project: ProjectId,
    /// The time that rows begin in: microseconds since the epoch, without the last one.
    from: i64,
    to: i64,
    /// ` AND …`, for rows that are merged and for those that aren't.
    conditions: Sql,
    /// What it is ordered by before the time.
    first: Option<&'static str>,
    descending: bool,
    limit: u32,
    bodies: &'static str,
}

impl PageOf {
    async fn rows(&self, store: &ClickHouseObservations) -> Result<Vec<Stored>, AnalyticsError> {
        match self.first {
            Some(first) => self.by(first, store).await,
            None => self.by_time(store).await,
        }
    }

    const fn direction(&self) -> &'static str {
        if self.descending { "DESC" } else { "ASC" }
    }

    /// By a column, then the time: which rows they are by the keys of all.
    async fn by(&self, first: &str, store: &ClickHouseObservations) -> Result<Vec<Stored>, AnalyticsError> {
        let direction = self.direction();
        let order = format!(" ORDER BY {first} {direction}, o.start_time {direction}, o.arrival {direction}");
        let limit = self.limit.saturating_add(1);
        let mut keys = Sql::stored(&format!("SELECT {KEY}"), self.project, self.from, self.to);
        keys.append(&self.conditions).push(&order).push(&format!(" LIMIT 1 BY {KEY} LIMIT {limit}"));

        let mut sql = Sql::observations(
            &format!("SELECT {COLUMNS}, {}", self.bodies),
            self.project,
            self.from,
            self.to,
        );
        sql.push(&format!(" AND ({KEY}) IN (")).append(&keys).push(")").append(&self.conditions);
        sql.push(&order).push(&format!(" LIMIT {limit}{FEW}"));
        store.ask(sql).await
    }

    /// By the time alone: all of a stretch that holds them.
    async fn by_time(&self, store: &ClickHouseObservations) -> Result<Vec<Stored>, AnalyticsError> {
        let direction = self.direction();
        let mut stored = self.limit.saturating_add(1);
        loop {
            let (from, to) = self.stretch(stored, store).await?;
            let mut sql = Sql::merged(&format!("SELECT {COLUMNS}, {}", self.bodies), self.project, from, to);
            sql.append(&self.conditions).push(&format!(
                " ORDER BY o.start_time {direction}, o.arrival {direction} LIMIT {}{FEW}",
                self.limit.saturating_add(1)
            ));
            let rows: Vec<Stored> = store.ask(sql).await?;
            if rows.len() > self.limit as usize || (from, to) == (self.from, self.to) {
                return Ok(rows);
            }
            // Some of them are one when they are merged.
            stored = stored.saturating_mul(2);
        }
    }

    /// Where the first rows of the page's time begin, as many as these (or all). They are looked for close to where the page
    /// begins, then in longer stretches: a project may have a million rows of a minute, and another one of a year.
    async fn stretch(&self, rows: u32, store: &ClickHouseObservations) -> Result<(i64, i64), AnalyticsError> {
        let now = store.clock.now().timestamp_micros();
        let mut width = SHORTEST;
        loop {
            let (from, to) = if self.descending {
                (self.to.min(now).saturating_sub(width).max(self.from), self.to)
            } else {
                (self.from, self.from.saturating_add(width).min(self.to))
            };
            let mut sql = Sql::stored("SELECT toUnixTimestamp64Micro(o.start_time)", self.project, from, to);
            sql.append(&self.conditions);
            sql.push(&format!(" ORDER BY o.start_time {} LIMIT {rows}", self.direction()));
            let times: Vec<i64> = store.ask(sql).await?;
            match times.last() {
                Some(last) if times.len() >= rows as usize => {
                    return Ok(if self.descending { (*last, to) } else { (from, last.saturating_add(1)) });
                }
                _ if (from, to) == (self.from, self.to) => return Ok((from, to)),
                last => width = width.saturating_mul(if last.is_some() { 8 } else { 64 }),
            }
        }
    }
}
