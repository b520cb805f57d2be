//! A recorder over a store that can be told to fail.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brokle_core::clock::{Clock, SystemClock};
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::signal::{LogRecord, MetricPoint};
use brokle_core::tenancy::Tenant;
use brokle_storage::observations::{
    AnalyticsError, AnalyticsStore, Answer, Cursor, Inserted, Month, Page, Removed, Rollup,
    SqliteObservations, Summary, Trace, TraceFilter,
};
use brokle_telemetry::live::Live;
use brokle_telemetry::{Options, Recorder, SharedQueue, Worker};
use brokle_test_services::Redis;
use chrono::DateTime;
use rusqlite::Connection;
use tempfile::TempDir;

/// The embedded store; it can be switched off, and refuses observations of the user `poison` while told to.
#[derive(Debug)]
pub(crate) struct Fussy {
    pub(crate) inner: SqliteObservations,
    pub(crate) down: AtomicBool,
    pub(crate) refuses_poison: AtomicBool,
    /// The projects of the first batch.
    pub(crate) first_batch: Mutex<Vec<ProjectId>>,
    /// Whether it says that it needs no queue.
    embedded: bool,
}

impl AnalyticsStore for Fussy {
    fn insert(&self, batch: &[Observation], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(AnalyticsError::Unavailable("switched off".into()));
        }
        let poisonous = |row: &Observation| row.user.as_deref() == Some("poison");
        if self.refuses_poison.load(Ordering::SeqCst) && batch.iter().any(poisonous) {
            return Err(AnalyticsError::Rejected("it tastes odd".into()));
        }
        let mut first = self.first_batch.lock().unwrap();
        if first.is_empty() {
            first.extend(batch.iter().map(|row| row.tenant.project));
        }
        drop(first);
        self.inner.insert(batch, inserted)
    }

    fn insert_logs(&self, batch: &[LogRecord], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(AnalyticsError::Unavailable("switched off".into()));
        }
        if self.refuses_poison.load(Ordering::SeqCst) && batch.iter().any(|row| row.body == "poison") {
            return Err(AnalyticsError::Rejected("it tastes odd".into()));
        }
        self.inner.insert_logs(batch, inserted)
    }

    fn insert_points(&self, batch: &[MetricPoint], inserted: &mut Inserted) -> Result<(), AnalyticsError> {
        if self.down.load(Ordering::SeqCst) {
            return Err(AnalyticsError::Unavailable("switched off".into()));
        }
        self.inner.insert_points(batch, inserted)
    }

    fn is_embedded(&self) -> bool {
        self.embedded
    }

    fn list(
        &self,
        project: ProjectId,
        filter: TraceFilter,
        limit: u32,
        cursor: Option<Cursor>,
    ) -> Answer<'_, Page<Summary>> {
        self.inner.list(project, filter, limit, cursor)
    }

    fn trace(&self, project: ProjectId, trace_id: TraceId) -> Answer<'_, Option<Trace>> {
        self.inner.trace(project, trace_id)
    }

    fn rollups(
        &self,
        project: ProjectId,
        from: DateTime<chrono::Utc>,
        to: DateTime<chrono::Utc>,
    ) -> Answer<'_, Vec<Rollup>> {
        self.inner.rollups(project, from, to)
    }

    fn retain(&self, before: Month, dry_run: bool) -> Answer<'_, Removed> {
        self.inner.retain(before, dry_run)
    }

    fn expire(
        &self,
        project: ProjectId,
        time: Range<DateTime<chrono::Utc>>,
        dry_run: bool,
    ) -> Answer<'_, Removed> {
        self.inner.expire(project, time, dry_run)
    }

    fn ping(&self) -> Answer<'_, ()> {
        self.inner.ping()
    }

    fn kind(&self) -> &'static str {
        self.inner.kind()
    }
}

pub(crate) struct Fixture {
    pub(crate) directory: TempDir,
    pub(crate) store: Arc<Fussy>,
    pub(crate) tenant: Tenant,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = store(directory.path());
        Self { directory, store, tenant: tenant() }
    }

    /// Whose store takes rows without the queue.
    pub(crate) fn embedded() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = fussy(directory.path(), true);
        Self { directory, store, tenant: tenant() }
    }

    /// The same directory, after the process before has ended.
    pub(crate) fn start(&self) -> Recorder {
        self.start_with(&Options::new(self.directory.path()))
    }

    pub(crate) fn start_with(&self, options: &Options) -> Recorder {
        Recorder::start(options, self.store.clone(), Arc::new(SystemClock)).unwrap()
    }

    pub(crate) fn observation(&self, name: &str) -> Observation {
        observation(self.tenant, name)
    }

    pub(crate) fn record(&self, recorder: &Recorder, names: impl IntoIterator<Item = impl ToString>) {
        for name in names {
            recorder.record(self.observation(&name.to_string()));
        }
    }

    pub(crate) fn set_down(&self, down: bool) {
        self.store.down.store(down, Ordering::SeqCst);
    }

    /// The names of everything that is stored, sorted as numbers where they are.
    pub(crate) async fn names(&self) -> Vec<String> {
        names(&*self.store, self.tenant.project).await
    }

    pub(crate) async fn count(&self) -> u64 {
        count(&*self.store, self.tenant.project).await
    }

    pub(crate) fn queue(&self) -> Connection {
        Connection::open(self.directory.path().join("queue.db")).unwrap()
    }
}

pub(crate) fn store(directory: &Path) -> Arc<Fussy> {
    fussy(directory, false)
}

fn fussy(directory: &Path, embedded: bool) -> Arc<Fussy> {
    Arc::new(Fussy {
        embedded,
        inner: SqliteObservations::open(directory).unwrap(),
        down: AtomicBool::new(false),
        refuses_poison: AtomicBool::new(true),
        first_batch: Mutex::default(),
    })
}

pub(crate) fn tenant() -> Tenant {
    Tenant {
        organization: OrganizationId::generate(&SystemClock, &SystemRandom),
        project: ProjectId::generate(&SystemClock, &SystemRandom),
        environment: EnvironmentId::generate(&SystemClock, &SystemRandom),
    }
}

pub(crate) fn observation(tenant: Tenant, name: &str) -> Observation {
    let (trace_id, span_id) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
    let start_us = SystemClock.now().timestamp_micros();
    let new = Observation::new(tenant, trace_id, span_id, Kind::Generation, start_us);
    Observation { name: name.to_owned().into(), cost: "0.1".parse().ok(), ..new }
}

/// Page by page.
pub(crate) async fn names(store: &dyn AnalyticsStore, project: ProjectId) -> Vec<String> {
    let (mut names, mut cursor) = (Vec::new(), None);
    loop {
        let page = store.list(project, TraceFilter::default(), 100, cursor).await.unwrap();
        names.extend(page.data.into_iter().map(|summary| summary.name));
        cursor = page.next_cursor;
        if cursor.is_none() {
            names.sort_by_key(|name| (name.parse::<u64>().ok(), name.clone()));
            return names;
        }
    }
}

/// What the rollups count; their cost must agree.
pub(crate) async fn count(store: &dyn AnalyticsStore, project: ProjectId) -> u64 {
    let hours = store.rollups(project, DateTime::UNIX_EPOCH, DateTime::<chrono::Utc>::MAX_UTC).await.unwrap();
    let count = hours.iter().map(|hour| hour.sums.count).sum();
    let cost: brokle_core::money::Usd = hours.iter().map(|hour| hour.sums.cost).sum();
    assert_eq!(Some(cost), "0.1".parse::<brokle_core::money::Usd>().unwrap().checked_mul(count));
    count
}

/// The numbers below `end`, as names.
pub(crate) fn numbers(end: u64) -> Vec<String> {
    (0..end).map(|n| n.to_string()).collect()
}

/// Waits until it holds; fails after half a minute.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let all = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), all).await.unwrap_or_else(|_| panic!("never: {what}"));
}

/// A queue of either kind, and what is around it.
pub(crate) struct Scene {
    pub(crate) fixture: Fixture,
    redis: Option<Redis>,
}

/// Recorder and, for Redis, worker in one process.
pub(crate) struct Pipeline {
    pub(crate) recorder: Recorder,
    worker: Option<Worker>,
}

impl Scene {
    pub(crate) fn embedded() -> Self {
        Self { fixture: Fixture::new(), redis: None }
    }

    /// None when services are left out.
    pub(crate) fn redis() -> Option<Self> {
        let redis = Redis::start().unwrap_or_else(|error| panic!("{error}"))?;
        Some(Self { fixture: Fixture::new(), redis: Some(redis) })
    }

    pub(crate) fn redis_url(&self) -> String {
        self.redis.as_ref().unwrap().url()
    }

    pub(crate) fn stop_redis(&mut self) {
        self.redis.as_mut().unwrap().stop();
    }

    pub(crate) fn start_redis(&mut self) {
        self.redis.as_mut().unwrap().start_again().unwrap();
    }

    fn shared(&self) -> Option<SharedQueue> {
        self.redis.as_ref().map(|redis| SharedQueue::new(redis::Client::open(redis.url()).unwrap()))
    }

    pub(crate) fn start(&self) -> Pipeline {
        self.start_with(Options::new(self.fixture.directory.path()))
    }

    pub(crate) fn start_with(&self, options: Options) -> Pipeline {
        let recorder = self.fixture.start_with(&Options { shared: self.shared(), ..options });
        Pipeline { recorder, worker: self.redis.as_ref().map(|_| self.worker(Duration::from_secs(30))) }
    }

    /// A server without a worker.
    pub(crate) fn recorder(&self) -> Recorder {
        self.recorder_at("server")
    }

    pub(crate) fn recorder_at(&self, name: &str) -> Recorder {
        self.recorder_with(name, None)
    }

    pub(crate) fn recorder_with(&self, name: &str, live: Option<Arc<Live>>) -> Recorder {
        let directory = self.fixture.directory.path().join(name);
        self.fixture.start_with(&Options { shared: self.shared(), live, ..Options::new(directory) })
    }

    pub(crate) fn worker(&self, claim_after: Duration) -> Worker {
        let queue = self.shared().unwrap().claim_after(claim_after);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        Worker::start(&queue, &(Arc::clone(&self.fixture.store) as _), &clock, &SystemRandom).unwrap()
    }
}

impl Pipeline {
    /// Rows that were stored, and that were there already.
    pub(crate) fn stored(&self) -> (u64, u64) {
        match &self.worker {
            Some(worker) => (worker.stats().inserted, worker.stats().duplicates),
            None => (self.recorder.stats().inserted, self.recorder.stats().duplicates),
        }
    }

    pub(crate) async fn shutdown(self) {
        self.recorder.shutdown().await;
        if let Some(worker) = &self.worker {
            worker.shutdown().await;
        }
    }
}
