//! Inserting: what isn't there yet, once.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::observation::Observation;
use brokle_core::signal::{LogRecord, MetricPoint};
use chrono::{DateTime, Utc};
use clickhouse::{Row, RowOwned, RowWrite};
use parking_lot::Mutex;
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::super::apart::Apart;
use super::super::payloads::BlobRow;
use super::super::{AnalyticsError, Inserted};
use super::connection::{STATEMENT_TIMEOUT, within};
use super::rows::Stored;
use super::signals::{self, StoredLog, StoredPoint};
use super::sql::Sql;
use super::{ClickHouse, blobs};

/// Ids of spans, and seconds, in one parameter, so that it stays below the server's 128 KiB.
const SPANS: usize = 4_000;
const SECONDS: usize = 1_000;
const SECOND: i64 = 1_000_000;
/// How long a batch may take from when its rows are numbered until they are there. Who reads in the order of arrival
/// waits for it.
pub(super) const INSERT_TIMEOUT: Duration = Duration::from_secs(30);
/// A writer stores fewer rows than this in a microsecond.
pub(super) const ARRIVALS_PER_MICROSECOND: i64 = 1 << 10;

/// Inserts on a thread of its own, with connections of its own, so that whoever waits needs no runtime.
pub(super) struct Writer {
    database: ClickHouse,
    apart: Apart,
    clock: Arc<dyn Clock>,
    last_arrival: Mutex<i64>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Writer").field("database", &self.database).finish_non_exhaustive()
    }
}

/// A row of `traces`.
#[derive(Clone, Debug, Row, Serialize)]
struct Span {
    project_id: String,
    trace_id: String,
    first_start: i64,
    last_start: i64,
}

impl Writer {
    pub(super) fn start(database: &ClickHouse, clock: Arc<dyn Clock>) -> Result<Self, AnalyticsError> {
        let apart = Apart::start("clickhouse")?;
        Ok(Self { database: database.apart(), apart, clock, last_arrival: Mutex::default() })
    }

    pub(super) fn insert(
        &self,
        batch: &[Observation],
        inserted: &mut Inserted,
    ) -> Result<(), AnalyticsError> {
        let rows = batch.iter().map(Stored::new).collect::<Result<Vec<_>, _>>()?;
        let (first, database) = (self.arrivals(rows.len()), self.database.clone());
        let done = self.apart.wait(async move {
            let inserting = insert(&database, rows, first);
            let late = |_| AnalyticsError::Unavailable("an insert took too long".into());
            tokio::time::timeout(INSERT_TIMEOUT, inserting).await.map_err(late)?
        })?;
        inserted.rows += done.rows;
        inserted.duplicates += done.duplicates;
        Ok(())
    }

    /// All of them count as new: the table's key and its merges see to it that each is there once.
    pub(super) fn insert_logs(
        &self,
        batch: &[LogRecord],
        inserted: &mut Inserted,
    ) -> Result<(), AnalyticsError> {
        let rows = batch.iter().map(StoredLog::new).collect::<Result<Vec<_>, _>>()?;
        let (count, database) = (rows.len() as u64, self.database.clone());
        self.apart.wait(async move { signals::insert_logs(&database, rows).await })?;
        inserted.rows += count;
        Ok(())
    }

    /// The same for points.
    pub(super) fn insert_points(
        &self,
        batch: &[MetricPoint],
        inserted: &mut Inserted,
    ) -> Result<(), AnalyticsError> {
        let rows = batch.iter().map(StoredPoint::new).collect::<Result<Vec<_>, _>>()?;
        let (count, database) = (rows.len() as u64, self.database.clone());
        self.apart.wait(async move { signals::insert_points(&database, rows).await })?;
        inserted.rows += count;
        Ok(())
    }

    /// The same of blobs.
    pub(super) fn log_blobs(&self, rows: &[BlobRow]) -> Result<(), AnalyticsError> {
        let (rows, database) = (blobs::stored(rows, self.arrivals(rows.len()))?, self.database.clone());
        self.apart.wait(async move { write(&database, "blob_storage_file_log", &rows, None).await })
    }

    /// The first of so many numbers that nobody had before, each larger than those of earlier microseconds.
    pub(super) fn arrivals(&self, count: usize) -> i64 {
        let now = first_arrival(self.clock.now());
        let mut last = self.last_arrival.lock();
        let first = now.max(last.saturating_add(1));
        *last = first.saturating_add(i64::try_from(count).unwrap_or(i64::MAX));
        first
    }
}

/// The first number of a moment.
pub(super) fn first_arrival(time: DateTime<Utc>) -> i64 {
    time.timestamp_micros().saturating_mul(ARRIVALS_PER_MICROSECOND)
}

async fn insert(database: &ClickHouse, rows: Vec<Stored>, first: i64) -> Result<Inserted, AnalyticsError> {
    let mut seen = there(database, &rows).await?;
    let all = rows.len() as u64;
    let mut new: Vec<Stored> = rows.into_iter().filter(|row| seen.insert(row.id())).collect();
    for (row, arrival) in new.iter_mut().zip(first..) {
        row.arrival = arrival;
    }
    let inserted = Inserted { rows: new.len() as u64, duplicates: all - new.len() as u64 };
    if new.is_empty() {
        return Ok(inserted);
    }
    // Before the rows: a trace without rows harms nobody, rows whose trace isn't known would not be found.
    write(database, "traces", &spans(&new), None).await?;
    write(database, "observations", &new, Some(&token(&new))).await?;
    Ok(inserted)
}

/// Those of the rows that are there. All at once: rows that arrive together began in the same seconds, whose granules would
/// be read again for each piece of them. The server looks for their spans' ids in these seconds, which reads no other
/// column where it finds none; whose they are is seen here.
async fn there(
    database: &ClickHouse,
    rows: &[Stored],
) -> Result<HashSet<(String, String, String)>, AnalyticsError> {
    let seconds: BTreeSet<_> =
        rows.iter().map(|row| (&row.project_id, row.start_time.div_euclid(SECOND) * SECOND)).collect();
    let seconds: Vec<_> = seconds.into_iter().collect();
    let mut sql = Sql::new(
        "SELECT o.project_id, o.trace_id, o.span_id, toUnixTimestamp64Micro(o.start_time) FROM observations AS o
         WHERE (o.project_id, toStartOfSecond(o.start_time)) IN (
             SELECT second.1, toStartOfSecond(fromUnixTimestamp64Micro(second.2, 'UTC'))
             FROM (SELECT arrayJoin(arrayConcat(",
    );
    for (piece, seconds) in seconds.chunks(SECONDS).enumerate() {
        sql.push(if piece > 0 { ", arrayZip(" } else { "arrayZip(" });
        sql.texts(seconds.iter().map(|(project, _)| (*project).clone()).collect()).push(", ");
        sql.integers(seconds.iter().map(|(_, second)| *second).collect()).push(")");
    }
    sql.push(")) AS second)) AND o.span_id IN (SELECT arrayJoin(arrayConcat(");
    for (piece, rows) in rows.chunks(SPANS).enumerate() {
        // One text is read in a tenth of the time that a list of them takes.
        let spans: Vec<_> = rows.iter().map(|row| row.span_id.as_str()).collect();
        sql.push(if piece > 0 { ", splitByChar(',', " } else { "splitByChar(',', " });
        sql.text(&spans.join(",")).push(")");
    }
    sql.push(")))");
    let found: Vec<(String, String, String, i64)> = database.look_up(sql).await?;
    let mut asked = HashMap::new();
    for row in rows {
        asked.entry(row.span_id.as_str()).or_insert_with(Vec::new).push(row);
    }
    let is_asked = |(project, trace, span, start): &(String, String, String, i64)| {
        let rows = asked.get(span.as_str()).into_iter().flatten();
        rows.into_iter()
            .any(|row| (&row.project_id, &row.trace_id, row.start_time) == (project, trace, *start))
    };
    let found = found.into_iter().filter(is_asked);
    Ok(found.map(|(project, trace, span, _)| (project, trace, span)).collect())
}

/// When the traces' observations began.
fn spans(rows: &[Stored]) -> Vec<Span> {
    let mut spans: BTreeMap<(&str, &str), (i64, i64)> = BTreeMap::new();
    for row in rows {
        let time = spans.entry((&row.project_id, &row.trace_id)).or_insert((row.start_time, row.start_time));
        *time = (time.0.min(row.start_time), time.1.max(row.start_time));
    }
    spans
        .into_iter()
        .map(|((project, trace), (first_start, last_start))| Span {
            project_id: project.to_owned(),
            trace_id: trace.to_owned(),
            first_start,
            last_start,
        })
        .collect()
}

/// By which the server knows the same rows again.
fn token(rows: &[Stored]) -> String {
    let mut hash = Sha256::new();
    for row in rows {
        for part in [&row.project_id, &row.trace_id, &row.span_id] {
            hash.update(part);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Inserts all rows, and waits until the server has them.
pub(super) async fn write<T>(
    database: &ClickHouse,
    table: &str,
    rows: &[T],
    token: Option<&str>,
) -> Result<(), AnalyticsError>
where
    T: RowOwned + RowWrite + Sync,
{
    let write = async {
        let insert = database.client().insert::<T>(table).await?;
        let mut insert = insert.with_setting("async_insert", "0");
        if let Some(token) = token {
            insert = insert.with_setting("insert_deduplication_token", token);
        }
        for row in rows {
            insert.write(row).await?;
        }
        insert.end().await
    };
    Ok(within(STATEMENT_TIMEOUT, write).await?)
}
