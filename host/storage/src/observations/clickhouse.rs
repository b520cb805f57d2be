//! Observations in ClickHouse, over HTTP; for more than one machine can hold.
//!
//! The tables are those of `migrations/clickhouse/`, which a [`Migrator`] brings up. ClickHouse 24.8 or later.
//!
//! **Exactly once.** Before a batch is inserted, those of its rows that are there already are left out, by the table's
//! whole key; the insert carries a token by which the server knows the same batch again; and what two writers insert at
//! once is merged to the row that arrived first. Every answer is made of merged rows (`FINAL`), so no number ever has a row
//! twice. A row's place in lists is its arrival, a number that grows with each row that a writer stores.
//!
//! **Hourly sums** are made again, from merged rows, for each hour of which rows arrived ([`rollups`]); an answer takes the sums of
//! hours that no later row belongs to, and the rows of the others.
//!
//! **Questions** are SQL of fixed texts; every value is a parameter of the server's (`{p0:String}`). Sums and exact
//! percentiles are made by ClickHouse. What a question may cost is given to it as settings: rows that are read, groups,
//! time.
//!
//! **Durable** means that ClickHouse has answered; whether it then is on the disk of one machine or of several is how
//! that ClickHouse is run. While it is away, batches stay in the telemetry queue.
//!
//! Counts saturate at 2⁶³ − 1, money has 18 places after the point. Observations begin in the years 1970 to 2105.

mod arrivals;
mod blobs;
mod connection;
mod groups;
mod history;
mod list;
mod metrics;
mod retention;
mod rollups;
mod rows;
mod scores;
mod signals;
mod sql;
mod trace;
mod updates;
mod vectors;
mod writer;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::ProjectId;
use brokle_core::observation::{Observation, TraceId};
use brokle_core::signal::{LogRecord, MetricPoint};
use chrono::{DateTime, TimeDelta, Utc};

pub use self::connection::{ClickHouse, ClickHouseUrlError};
pub use self::history::Migrator;
use self::sql::Sql;
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

/// What a question to ClickHouse may cost unless told: it reads columns, many rows at a time.
pub const LIMITS: Limits = Limits { rows: 500_000_000, groups: 1_000_000, time: Duration::from_secs(20) };

/// How long after its writer's clock has numbered it a row counts as arrived: the 30 s that an insert may take, and
/// some seconds by which clocks may differ.
pub const SETTLE: Duration = Duration::from_secs(35);

/// A ClickHouse database with observations. Clones share their connections.
#[derive(Clone, Debug)]
pub struct ClickHouseObservations {
    database: ClickHouse,
    writer: Arc<Writer>,
    limits: Limits,
    clock: Arc<dyn Clock>,
    settle: TimeDelta,
}

impl ClickHouseObservations {
    /// The store in this database, which must have been migrated. Connects when it is used.
    ///
    /// # Errors
    /// When the thread that inserts can't be started.
    pub fn new(database: ClickHouse, clock: Arc<dyn Clock>) -> Result<Self, AnalyticsError> {
        let writer = Arc::new(Writer::start(&database, Arc::clone(&clock))?);
        let this = Self { database, writer, limits: LIMITS, clock, settle: TimeDelta::zero() };
        Ok(this.with_settle(SETTLE))
    }

    /// The same, with another time until a row counts as arrived.
    #[must_use]
    pub fn with_settle(self, settle: Duration) -> Self {
        Self { settle: TimeDelta::from_std(settle).unwrap_or(TimeDelta::MAX), ..self }
    }

    /// The same, with other bounds on what a question may cost.
    #[must_use]
    pub fn with_limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }
}

impl AnalyticsStore for ClickHouseObservations {
    fn insert(&self, batch: &[Observation], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        self.writer.insert(batch, inserted)
    }

    fn insert_logs(&self, batch: &[LogRecord], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        self.writer.insert_logs(batch, inserted)
    }

    fn insert_points(&self, batch: &[MetricPoint], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        self.writer.insert_points(batch, inserted)
    }

    fn list(
        &self,
        project: ProjectId,
        filter: TraceFilter,
        limit: u32,
        cursor: Option<Cursor>,
    ) -> Answer<'_, Page<Summary>> {
        Box::pin(list::traces(self, project, filter, limit, cursor))
    }

    fn trace(&self, project: ProjectId, trace_id: TraceId) -> Answer<'_, Option<Trace>> {
        Box::pin(trace::trace(self, project, trace_id))
    }

    fn rollups(&self, project: ProjectId, from: DateTime<Utc>, to: DateTime<Utc>) -> Answer<'_, Vec<Rollup>> {
        Box::pin(metrics::hours(self, project, from, to))
    }

    fn retain(&self, before: Month, dry_run: bool) -> Answer<'_, Removed> {
        Box::pin(retention::months(&self.database, before, dry_run))
    }

    fn expire(&self, project: ProjectId, time: Range<DateTime<Utc>>, dry_run: bool) -> Answer<'_, Removed> {
        Box::pin(retention::expire(&self.database, project, time, dry_run))
    }

    fn keep(&self, days: u32) -> Answer<'_, ()> {
        Box::pin(retention::keep(&self.database, days))
    }

    fn sum_up(&self) -> Answer<'_, ()> {
        Box::pin(rollups::sum_up(&self.database, arrivals::settled(self, self.clock.now())))
    }

    fn ping(&self) -> Answer<'_, ()> {
        Box::pin(self.database.ping())
    }

    fn kind(&self) -> &'static str {
        "clickhouse"
    }
}

impl QueryStore for ClickHouseObservations {
    fn put_scores(&self, project: ProjectId, scores: Vec<Score>) -> Answer<'_, ()> {
        Box::pin(async move {
            let versions = self.writer.arrivals(scores.len());
            scores::put(&self.database, project, scores, versions).await
        })
    }

    fn delete_score(&self, project: ProjectId, id: String) -> Answer<'_, bool> {
        let version = self.writer.arrivals(1);
        Box::pin(async move { scores::delete(&self.database, project, &id, version).await })
    }

    fn scores(&self, project: ProjectId, query: Query) -> Answer<'_, Page<Score, Place>> {
        Box::pin(scores::list(self, project, query))
    }

    fn observations(&self, project: ProjectId, query: Query) -> Answer<'_, Page<ObservationRow, Place>> {
        Box::pin(list::observations(self, project, query))
    }

    fn groups(&self, project: ProjectId, kind: GroupKind, query: Query) -> Answer<'_, Page<Group, Place>> {
        Box::pin(groups::groups(self, project, kind, query))
    }

    fn metrics(&self, project: ProjectId, query: MetricsQuery) -> Answer<'_, Metrics> {
        Box::pin(metrics::metrics(self, project, query))
    }

    fn update_trace(
        &self,
        project: ProjectId,
        trace: TraceId,
        update: TraceUpdate,
        now: DateTime<Utc>,
    ) -> Answer<'_, ()> {
        let (version, now) = (self.writer.arrivals(1), now.timestamp_micros());
        Box::pin(async move { updates::put(&self.database, project, trace, update, now, version).await })
    }

    fn trace_updates(
        &self,
        project: ProjectId,
        traces: Vec<TraceId>,
    ) -> Answer<'_, HashMap<TraceId, TraceUpdate>> {
        Box::pin(async move { updates::get(&self.database, project, &traces).await })
    }

    fn logs(&self, project: ProjectId, query: LogsQuery) -> Answer<'_, Page<LogRow, Place>> {
        Box::pin(signals::logs(self, project, query))
    }

    fn points(&self, project: ProjectId, query: PointsQuery) -> Answer<'_, Page<PointRow, Place>> {
        Box::pin(signals::points(self, project, query))
    }

    fn series(&self, project: ProjectId, query: PointsQuery) -> Answer<'_, Page<SeriesRow, Place>> {
        Box::pin(signals::series(self, project, query))
    }

    fn arrivals(
        &self,
        project: ProjectId,
        filter: Filter,
        after: Mark,
        to: Option<Mark>,
        limit: usize,
    ) -> Answer<'_, Arrivals> {
        let to = to.unwrap_or_else(|| arrivals::mark(self, self.clock.now()));
        Box::pin(async move { arrivals::arrivals(self, project, &filter, (after, to), limit).await })
    }

    fn arrived(&self) -> Answer<'_, Mark> {
        let mark = arrivals::mark(self, self.clock.now());
        Box::pin(async move { Ok(mark) })
    }

    fn log_blobs(&self, rows: &[BlobRow]) -> Result<(), AnalyticsError> {
        self.writer.log_blobs(rows)
    }

    fn blobs(
        &self,
        project: Option<ProjectId>,
        time: Range<DateTime<Utc>>,
        after: String,
        limit: u32,
    ) -> Answer<'_, Vec<String>> {
        Box::pin(async move { blobs::names(&self.database, project, time, &after, limit).await })
    }

    fn limits(&self) -> Limits {
        self.limits
    }
}

impl ClickHouseObservations {
    /// Asks within the limits.
    async fn ask<T>(&self, sql: Sql) -> Result<Vec<T>, AnalyticsError>
    where
        T: clickhouse::RowOwned + clickhouse::RowRead,
    {
        self.database.ask(sql, self.limits).await
    }
}
