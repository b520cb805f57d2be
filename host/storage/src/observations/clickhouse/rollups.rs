//! Hourly sums, kept: whenever rows of an hour have arrived, all of the hour's are summed up again, from merged rows. Nothing is ever
//! added to a sum, so that a batch that comes twice, or a year late, changes what it should and no more; and whoever does
//! it twice, or at the same time as another one, gets the same.
//!
//! Work goes by arrival, [`STEP`] at a time, up to what has settled ([`SETTLE`](super::SETTLE)): what is summed up has no more
//! to come from before. How far it has come is one row of `observation_hours_built`, written after the sums.

use std::time::Duration;

use clickhouse::Row;
use serde::Deserialize;

use super::super::AnalyticsError;
use super::ClickHouse;
use super::connection::within;
use super::metrics::{HOURS, PARTS};
use super::sql::Sql;
use super::writer::ARRIVALS_PER_MICROSECOND;

/// So much of arrivals is summed up by one statement.
const STEP: Duration = Duration::from_hours(6);
/// How long that may take.
const TIMEOUT: Duration = Duration::from_mins(10);

/// What arrived in a stretch of arrivals.
#[derive(Row, Deserialize)]
struct Arrived {
    rows: u64,
    first: i64,
    first_start: i64,
    last_start: i64,
}

/// Sums up every hour of which something has arrived, up to this arrival.
pub(super) async fn sum_up(database: &ClickHouse, settled: i64) -> Result<(), AnalyticsError> {
    let step = i64::try_from(STEP.as_micros()).unwrap_or(i64::MAX).saturating_mul(ARRIVALS_PER_MICROSECOND);
    let mut from = built(database).await?.unwrap_or(i64::MIN);
    loop {
        let next = arrived(database, from, settled).await?;
        if next.rows == 0 {
            return Ok(());
        }
        let to = settled.min(next.first.saturating_add(step));
        let found = arrived(database, from, to).await?;
        let mut sql = Sql::new(&format!("INSERT INTO observation_hours SELECT {HOURS}, "));
        sql.integer(to).push(" AS built FROM observations AS o FINAL WHERE o.start_time >= ");
        sql.push("toStartOfHour(").time(found.first_start).push(") AND o.start_time < toStartOfHour(");
        sql.time(found.last_start).push(") + INTERVAL 1 HOUR");
        sql.push(" AND (o.project_id, toStartOfHour(o.start_time)) IN (");
        sql.push("SELECT DISTINCT d.project_id, toStartOfHour(d.start_time) FROM observations AS d WHERE d.arrival > ");
        sql.integer(from).push(" AND d.arrival <= ").integer(to).push(&format!(") GROUP BY {PARTS}"));
        within(TIMEOUT, sql.query(database.client()).execute()).await?;
        let mut done = Sql::new("INSERT INTO observation_hours_built SELECT 1, ");
        done.integer(to);
        database.run(done).await?;
        from = to;
    }
}

/// Up to which arrival everything is summed up, if anything is.
pub(super) async fn built(database: &ClickHouse) -> Result<Option<i64>, AnalyticsError> {
    let built: Vec<i64> = database
        .look_up(Sql::new("SELECT built FROM observation_hours_built ORDER BY built DESC LIMIT 1"))
        .await?;
    Ok(built.first().copied())
}

async fn arrived(database: &ClickHouse, from: i64, to: i64) -> Result<Arrived, AnalyticsError> {
    let mut sql = Sql::new(
        "SELECT count() AS rows, min(o.arrival) AS first, toUnixTimestamp64Micro(min(o.start_time)) AS first_start,
            toUnixTimestamp64Micro(max(o.start_time)) AS last_start FROM observations AS o WHERE o.arrival > ",
    );
    sql.integer(from).push(" AND o.arrival <= ").integer(to);
    let found: Vec<Arrived> = within(TIMEOUT, sql.query(database.client()).fetch_all()).await?;
    let nothing = Arrived { rows: 0, first: 0, first_start: 0, last_start: 0 };
    Ok(found.into_iter().next().unwrap_or(nothing))
}
