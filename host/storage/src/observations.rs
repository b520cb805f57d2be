//! Where observations are kept and looked up: the analytics database.
//!
//! [`AnalyticsStore`] is the port. [`sqlite`] is the embedded one: a file per month, no server. [`clickhouse`] is a server's.
//!
//! **Tenancy.** Every query takes the project and names it in its SQL. A trace of another project and one that never
//! was answer the same.
//!
//! **Exactly once.** Whoever writes may write the same observation again (a queue redelivers after a crash): the pair of
//! trace and span id is unique within a project, the first one stays, and sums count only rows that were really
//! inserted.

mod apart;
mod arrivals;
pub mod clickhouse;
mod cursor;
mod filter;
mod month;
pub mod payloads;
pub mod query;
mod retention;
mod rollup;
mod score;
pub mod signal;
mod sketch;
pub mod sqlite;
mod tree;
pub mod update;
mod view;

use std::fmt::Debug;
use std::ops::Range;
use std::pin::Pin;

use brokle_core::ids::ProjectId;
use brokle_core::observation::{Observation, TraceId};
use brokle_core::signal::{LogRecord, MetricPoint};
use chrono::{DateTime, Utc};
use serde::Serialize;

pub use self::arrivals::{Arrival, Arrivals, Mark};
pub use self::clickhouse::ClickHouseObservations;
pub use self::cursor::{Cursor, ParseCursorError};
pub use self::filter::TraceFilter;
pub use self::month::Month;
pub use self::payloads::Payloads;
pub use self::query::{Place, QueryStore};
pub use self::retention::Removed;
pub use self::rollup::{Rollup, RollupKey, Sums};
pub use self::score::{
    DataType, MAX_BATCH, MAX_CATEGORY, MAX_ID, MAX_METADATA, MAX_NAME, MAX_TEXT, Score, ScoreError,
    ScoreValue, Source,
};
pub use self::sqlite::SqliteObservations;
pub use self::view::{ErrorView, Node, Summary, Trace, UsageView};

/// How many rows a list answers unless told.
pub const DEFAULT_LIMIT: u32 = 50;
/// How many rows a list answers at most.
pub const MAX_LIMIT: u32 = 100;
/// How many rows of one trace are answered at most; steps come on top.
pub const MAX_TRACE_ROWS: u32 = 10_000;

/// What an [`AnalyticsStore`] answers later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AnalyticsError>> + Send + 'a>>;

/// A failed call to the analytics database.
#[derive(Debug, thiserror::Error)]
pub enum AnalyticsError {
    /// It can't be reached, its disk is full or its file is damaged: keep the rows and try again later.
    #[error("the analytics database is unavailable")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// At least one of the rows can never be stored; the others could be without it.
    #[error("the analytics database refuses a row")]
    Rejected(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A stored value can't be read.
    #[error("a stored observation can't be read")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The question costs more than a question may: it must be narrower.
    #[error("the question costs too much")]
    TooMuch(#[source] query::TooMuch),
}

/// What became of the rows that were given to [`AnalyticsStore::insert`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Inserted {
    /// Rows that are there now and weren't before.
    pub rows: u64,
    /// Rows that had been there already.
    pub duplicates: u64,
}

/// A part of a list.
#[derive(Clone, Debug, Serialize)]
pub struct Page<T, C = Cursor> {
    /// The rows, in the list's order.
    pub data: Vec<T>,
    /// Where the next page begins; none when this is the last.
    pub next_cursor: Option<C>,
}

/// A database of observations.
pub trait AnalyticsStore: Send + Sync + Debug {
    /// Stores the rows durably; those that are there already stay as they are. Blocks: for a thread of its own, never
    /// for a worker of the async runtime. `inserted` grows by what is durable, also when an error follows.
    ///
    /// # Errors
    /// [`AnalyticsError::Unavailable`]: the same call may succeed later. [`AnalyticsError::Rejected`]: it never will,
    /// though parts of the batch may.
    fn insert(&self, batch: &[Observation], inserted: &mut Inserted) -> Result<(), AnalyticsError>;

    /// The same for log records.
    ///
    /// # Errors
    /// As [`insert`](Self::insert) says.
    fn insert_logs(&self, batch: &[LogRecord], inserted: &mut Inserted) -> Result<(), AnalyticsError>;

    /// The same for metrics' points: one of the same metric, series and time is the same.
    ///
    /// # Errors
    /// As [`insert`](Self::insert) says.
    fn insert_points(&self, batch: &[MetricPoint], inserted: &mut Inserted) -> Result<(), AnalyticsError>;

    /// Whether [`insert`](Self::insert) is a commit on this machine's disk, which is as quick and as safe as the telemetry
    /// queue's own: then there is nothing to gain by writing rows to the queue first. False for a server, which may be slow or
    /// away.
    fn is_embedded(&self) -> bool {
        false
    }

    /// The project's calls and spans that pass the filter, newest first. `limit` is cut to 1 to [`MAX_LIMIT`]. Rows that
    /// arrive between two pages neither repeat nor hide any that was there.
    fn list(
        &self,
        project: ProjectId,
        filter: TraceFilter,
        limit: u32,
        cursor: Option<Cursor>,
    ) -> Answer<'_, Page<Summary>>;

    /// Everything of one trace as a tree, or none if the project has no such trace.
    fn trace(&self, project: ProjectId, trace_id: TraceId) -> Answer<'_, Option<Trace>>;

    /// The project's hourly sums of hours that begin in `from..to`, oldest first.
    fn rollups(&self, project: ProjectId, from: DateTime<Utc>, to: DateTime<Utc>) -> Answer<'_, Vec<Rollup>>;

    /// Deletes whatever every project has of the months before this one; in a dry run it only counts.
    fn retain(&self, before: Month, dry_run: bool) -> Answer<'_, Removed>;

    /// Deletes what the project has of a time that ends with an hour, by when each thing began, was logged, measured or scored;
    /// in a dry run it only counts.
    fn expire(&self, project: ProjectId, time: Range<DateTime<Utc>>, dry_run: bool) -> Answer<'_, Removed>;

    /// Tells a database that forgets by itself not to do so before this many days: nobody wants anything for longer.
    fn keep(&self, days: u32) -> Answer<'_, ()> {
        let _ = days;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Makes the hourly sums that are to be made: for a store that doesn't while it inserts. Answers are right without them, and
    /// take longer.
    fn sum_up(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether it answers.
    fn ping(&self) -> Answer<'_, ()>;

    /// `sqlite` or `clickhouse`.
    fn kind(&self) -> &'static str;
}
