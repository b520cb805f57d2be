//! The embedded analytics database: SQLite, a file per month.
//!
//! `observations-YYYYMM.db` holds the observations that began in that month (UTC), so that indexes stay bounded and
//! retention is deleting a file. WAL mode; the one writer commits with `synchronous=FULL`: what
//! [`insert`](AnalyticsStore::insert) has answered survives a power cut, and a queue may forget it. Readers have
//! read-only connections of their own on blocking threads, [`MAX_READS`] at a time, and never wait for the writer.
//!
//! Rows are appended (`INTEGER PRIMARY KEY`): random trace ids only hit one index, `UNIQUE(project, trace_id, span_id)`.
//! The list's index begins with `(project, start_us, rid)` and covers every filter, so that rows are fetched only for
//! what is answered. Bodies are in an append table of their own, zstd level 1 where that makes them smaller. Hourly sums
//! are updated in the transaction that inserts, from the rows that were really inserted. Log records and metrics' points have
//! tables of their own in the same files, by their own time. Scores, and what is
//! said of traces after the fact, are in `scores.db`.

mod arrivals;
mod blobs;
mod body;
mod checkpoint;
mod columns;
mod files;
mod list;
mod query;
mod reader;
mod retention;
mod rollups;
mod schema;
mod scores;
mod signals;
mod trace;
mod updates;
mod writer;

use std::collections::HashMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use brokle_core::ids::ProjectId;
use brokle_core::observation::{Observation, TraceId};
use brokle_core::signal::{LogRecord, MetricPoint};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use self::reader::Readers;
use self::scores::Scores;
use self::writer::Writer;
use super::payloads::BlobRow;
use super::query::{
    Filter, Group, GroupKind, Limits, Metrics, MetricsQuery, ObservationRow, Place, Query, QueryStore,
};
use super::retention::Removed;
use super::signal::{LogRow, LogsQuery, PointRow, PointsQuery, SeriesRow};
use super::update::TraceUpdate;
use super::{
    AnalyticsError, AnalyticsStore, Answer, Arrivals, Cursor, Inserted, Mark, Month, Page, Rollup, Score,
    Summary, Trace, TraceFilter,
};

/// Reads that run at the same time; others wait.
pub const MAX_READS: usize = 8;

/// The month files of one directory. Clones share them. There must be only one of it per directory that writes.
#[derive(Clone, Debug)]
pub struct SqliteObservations {
    readers: Arc<Readers>,
    writer: Arc<Mutex<Writer>>,
    scores: Arc<Scores>,
    permits: Arc<Semaphore>,
    limits: Limits,
}

impl SqliteObservations {
    /// Opens the directory, which is created (mode 0700) if it isn't there. Files are opened when they are needed.
    ///
    /// # Errors
    /// When the directory can't be created, or no thread is to be had.
    pub fn open(directory: impl Into<PathBuf>) -> Result<Self, AnalyticsError> {
        let directory = directory.into();
        files::create_directory(&directory)?;
        Ok(Self {
            readers: Arc::new(Readers::new(directory.clone())),
            scores: Arc::new(Scores::new(&directory)),
            writer: Arc::new(Mutex::new(Writer::new(directory)?)),
            permits: Arc::new(Semaphore::new(MAX_READS)),
            limits: Limits::default(),
        })
    }

    /// The same, with other bounds on what a question may cost.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Runs a query on a blocking thread; it runs to its end even when the caller goes away.
    fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Readers) -> Result<T, AnalyticsError> + Send + 'static,
    ) -> Answer<'_, T> {
        let readers = Arc::clone(&self.readers);
        Box::pin(async move {
            let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(unavailable)?;
            let task = tokio::task::spawn_blocking(move || {
                let answer = query(&readers);
                drop(permit);
                answer
            });
            task.await.map_err(unavailable)?
        })
    }
}

impl AnalyticsStore for SqliteObservations {
    fn insert(&self, batch: &[Observation], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        self.writer.lock().insert(batch, inserted)
    }

    fn insert_logs(&self, batch: &[LogRecord], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        self.writer.lock().insert_logs(batch, inserted)
    }

    fn insert_points(&self, batch: &[MetricPoint], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        self.writer.lock().insert_points(batch, inserted)
    }

    fn is_embedded(&self) -> bool {
        true
    }

    fn list(
        &self,
        project: ProjectId,
        filter: TraceFilter,
        limit: u32,
        cursor: Option<Cursor>,
    ) -> Answer<'_, Page<Summary>> {
        self.read(move |readers| list::list(readers, project, &filter, limit, cursor))
    }

    fn trace(&self, project: ProjectId, trace_id: TraceId) -> Answer<'_, Option<Trace>> {
        self.read(move |readers| trace::trace(readers, project, trace_id))
    }

    fn rollups(&self, project: ProjectId, from: DateTime<Utc>, to: DateTime<Utc>) -> Answer<'_, Vec<Rollup>> {
        self.read(move |readers| {
            let hours = rollups::read(readers, project, from.timestamp_micros(), to.timestamp_micros())?;
            Ok(hours.into_iter().map(|hour| hour.rollup).collect())
        })
    }

    fn retain(&self, before: Month, dry_run: bool) -> Answer<'_, Removed> {
        let (writer, scores) = (Arc::clone(&self.writer), Arc::clone(&self.scores));
        self.read(move |readers| {
            let removed = retention::months(readers, &writer, before, dry_run)?;
            let scores = scores.expire(None, &(i64::MIN..before.begin().timestamp_micros()), dry_run)?;
            Ok(Removed { scores, ..removed })
        })
    }

    fn expire(&self, project: ProjectId, time: Range<DateTime<Utc>>, dry_run: bool) -> Answer<'_, Removed> {
        let (writer, scores) = (Arc::clone(&self.writer), Arc::clone(&self.scores));
        self.read(move |readers| {
            let time = time.start.timestamp_micros()..time.end.timestamp_micros();
            let removed = retention::expire(readers, &writer, project, &time, dry_run)?;
            let scores = scores.expire(Some(project), &time, dry_run)?;
            Ok(Removed { scores, ..removed })
        })
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.read(|readers| files::months(readers.directory()).map(drop))
    }

    fn kind(&self) -> &'static str {
        "sqlite"
    }
}

impl QueryStore for SqliteObservations {
    fn put_scores(&self, project: ProjectId, scores: Vec<Score>) -> Answer<'_, ()> {
        let file = Arc::clone(&self.scores);
        self.read(move |_| file.put(project, &scores))
    }

    fn delete_score(&self, project: ProjectId, id: String) -> Answer<'_, bool> {
        let file = Arc::clone(&self.scores);
        self.read(move |_| file.delete(project, &id))
    }

    fn scores(&self, project: ProjectId, query: Query) -> Answer<'_, Page<Score, Place>> {
        let (file, limits) = (Arc::clone(&self.scores), self.limits);
        self.read(move |_| file.list(project, &query, limits))
    }

    fn observations(&self, project: ProjectId, query: Query) -> Answer<'_, Page<ObservationRow, Place>> {
        let limits = self.limits;
        self.read(move |readers| query::observations(readers, project, &query, limits))
    }

    fn groups(&self, project: ProjectId, kind: GroupKind, query: Query) -> Answer<'_, Page<Group, Place>> {
        let limits = self.limits;
        self.read(move |readers| query::groups(readers, project, kind, &query, limits))
    }

    fn metrics(&self, project: ProjectId, query: MetricsQuery) -> Answer<'_, Metrics> {
        let limits = self.limits;
        self.read(move |readers| query::metrics(readers, project, &query, limits))
    }

    fn update_trace(
        &self,
        project: ProjectId,
        trace: TraceId,
        update: TraceUpdate,
        now: DateTime<Utc>,
    ) -> Answer<'_, ()> {
        let file = Arc::clone(&self.scores);
        self.read(move |_| file.update_trace(project, trace, &update, now.timestamp_micros()))
    }

    fn trace_updates(
        &self,
        project: ProjectId,
        traces: Vec<TraceId>,
    ) -> Answer<'_, HashMap<TraceId, TraceUpdate>> {
        let file = Arc::clone(&self.scores);
        self.read(move |_| file.trace_updates(project, &traces))
    }

    fn logs(&self, project: ProjectId, query: LogsQuery) -> Answer<'_, Page<LogRow, Place>> {
        let limits = self.limits;
        self.read(move |readers| signals::logs(readers, project, &query, limits))
    }

    fn points(&self, project: ProjectId, query: PointsQuery) -> Answer<'_, Page<PointRow, Place>> {
        let limits = self.limits;
        self.read(move |readers| signals::points(readers, project, &query, limits))
    }

    fn series(&self, project: ProjectId, query: PointsQuery) -> Answer<'_, Page<SeriesRow, Place>> {
        let limits = self.limits;
        self.read(move |readers| signals::series(readers, project, &query, limits))
    }

    fn arrivals(
        &self,
        project: ProjectId,
        filter: Filter,
        after: Mark,
        to: Option<Mark>,
        limit: usize,
    ) -> Answer<'_, Arrivals> {
        let limits = self.limits;
        self.read(move |readers| {
            arrivals::arrivals(readers, project, &filter, (&after, to.as_ref()), limit, limits)
        })
    }

    fn arrived(&self) -> Answer<'_, Mark> {
        self.read(arrivals::mark)
    }

    fn log_blobs(&self, rows: &[BlobRow]) -> Result<(), AnalyticsError> {
        self.writer.lock().log_blobs(rows)
    }

    fn blobs(
        &self,
        project: Option<ProjectId>,
        time: Range<DateTime<Utc>>,
        after: String,
        limit: u32,
    ) -> Answer<'_, Vec<String>> {
        let time = time.start.timestamp_micros()..time.end.timestamp_micros();
        self.read(move |readers| blobs::names(readers, project, &time, &after, limit))
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}

fn unavailable(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AnalyticsError {
    AnalyticsError::Unavailable(error.into())
}

fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> AnalyticsError {
    AnalyticsError::Corrupt(error.into())
}

impl From<rusqlite::Error> for AnalyticsError {
    /// Only what the row itself is to blame for rejects it. A damaged file or a full disk is somebody's to mend, and the
    /// rows wait for it.
    fn from(error: rusqlite::Error) -> Self {
        use rusqlite::ErrorCode as Code;
        match &error {
            rusqlite::Error::ToSqlConversionFailure(_) => Self::Rejected(error.into()),
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                Code::ConstraintViolation | Code::TooBig | Code::TypeMismatch => Self::Rejected(error.into()),
                _ => Self::Unavailable(error.into()),
            },
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::InvalidColumnType(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::Utf8Error(..) => Self::Corrupt(error.into()),
            _ => Self::Unavailable(error.into()),
        }
    }
}
