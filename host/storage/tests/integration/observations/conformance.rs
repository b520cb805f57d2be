//! What every [`QueryStore`] promises; lists, traces and inserting beside it. Each test gets an empty store from the [`Store`] that it runs over, and compares
//! numbers with what it worked out from the observations itself.
//!
//! Another implementation joins by a line in [`on_every_store`].

mod arrivals;
mod filters;
mod lists;
mod metrics;
mod payloads;
mod retention;
mod scores;
mod signals;
mod updates;

use std::path::Path;
use std::sync::{Arc, Mutex};

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_storage::observations::clickhouse::{ClickHouse as Database, ClickHouseObservations, Migrator};
use brokle_storage::observations::query::{Filter, Limits, Query, Subject};
use brokle_storage::observations::{
    Cursor, Inserted, Page, QueryStore, Score, ScoreValue, Source, SqliteObservations, Summary, TraceFilter,
};
use brokle_test_services::{ClickHouse, ClickHouseParts};
use chrono::{DateTime, Utc};
use tempfile::TempDir;

/// An empty store of one implementation.
pub(super) struct Store {
    pub(super) store: Arc<dyn QueryStore>,
    pub(super) tenant: Tenant,
    /// SQLite's files.
    directory: Option<TempDir>,
    /// What the store was given, each once.
    delivered: Mutex<Vec<Observation>>,
}

/// Runs `async fn name(Store)` over every implementation.
macro_rules! on_every_store {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            use crate::observations::conformance::Store;

            #[tokio::test]
            async fn sqlite() {
                super::$name(Store::sqlite(Default::default())).await;
            }

            #[tokio::test]
            async fn clickhouse() {
                if let Some(store) = Store::clickhouse().await {
                    super::$name(store).await;
                }
            }
        }
    )+};
}
pub(super) use on_every_store;

impl Store {
    pub(super) fn sqlite(limits: Limits) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteObservations::open(directory.path()).unwrap().with_limits(limits));
        Self { store, tenant: super::tenant(), directory: Some(directory), delivered: Mutex::default() }
    }

    /// None when services are left out.
    pub(super) async fn clickhouse() -> Option<Self> {
        let store = Arc::new(clickhouse_store().await?);
        Some(Self { store, tenant: super::tenant(), directory: None, delivered: Mutex::default() })
    }

    pub(super) fn directory(&self) -> &Path {
        self.directory.as_ref().expect("a store of files").path()
    }

    pub(super) fn deliver(&self, batch: &[Observation]) -> Inserted {
        let mut inserted = Inserted::default();
        self.store.insert(batch, &mut inserted).unwrap();
        let mut delivered = self.delivered.lock().unwrap();
        for row in batch {
            if !delivered.iter().any(|other| (other.trace_id, other.span_id) == (row.trace_id, row.span_id)) {
                delivered.push(row.clone());
            }
        }
        inserted
    }

    /// A page of the list.
    pub(super) async fn list(
        &self,
        filter: TraceFilter,
        limit: u32,
        cursor: Option<Cursor>,
    ) -> Page<Summary> {
        self.store.list(self.tenant.project, filter, limit, cursor).await.unwrap()
    }

    pub(super) fn insert(&self, batch: &[Observation]) {
        assert_eq!(self.deliver(batch).rows, batch.len() as u64);
    }

    /// An observation of the store's tenant, in a trace of its own.
    pub(super) fn call(&self, name: &str, start: &str) -> Observation {
        let (trace, span) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
        let new = Observation::new(self.tenant, trace, span, Kind::Generation, at(start).timestamp_micros());
        Observation { name: name.to_owned().into(), ..new }
    }

    pub(super) async fn put(&self, scores: Vec<Score>) {
        scores.iter().for_each(|score| score.check().unwrap());
        self.store.put_scores(self.tenant.project, scores).await.unwrap();
    }

    /// A score on an observation's trace as a whole.
    pub(super) fn score(&self, id: &str, name: &str, value: ScoreValue, of: &Observation) -> Score {
        let now = SystemClock.now();
        Score {
            id: id.to_owned(),
            name: name.to_owned(),
            data_type: value.data_type(),
            value,
            source: Source::Api,
            trace_id: Some(of.trace_id),
            span_id: None,
            session: None,
            comment: None,
            metadata: serde_json::Map::new(),
            environment_id: self.tenant.environment,
            timestamp: DateTime::from_timestamp_micros(of.start_us).unwrap(),
            created_at: now,
            updated_at: now,
        }
    }

    /// The names of the observations of 2026 that pass the filter, newest first.
    pub(super) async fn found(&self, filter: &str) -> Vec<String> {
        let query = Query { filter: parse(filter), ..year() };
        let page = self.store.observations(self.tenant.project, query).await.unwrap();
        page.data.into_iter().map(|row| row.summary.name).collect()
    }

    /// The same of rows of whose traces nothing was said. What is told live is told by the same
    /// filter, in the same words.
    pub(super) async fn names(&self, filter: &str) -> Vec<String> {
        let query = Query { filter: parse(filter), ..year() };
        let page = self.store.observations(self.tenant.project, query.clone()).await.unwrap();
        if !query.filter.asks_for_scores() {
            let mut found: Vec<_> = page.data.iter().map(|row| row.summary.clone()).collect();
            let delivered = self.delivered.lock().unwrap();
            let mine = delivered.iter().filter(|row| row.tenant.project == self.tenant.project);
            let in_time = mine.filter(|row| {
                (query.from.timestamp_micros()..query.to.timestamp_micros()).contains(&row.start_us)
            });
            let passing = in_time.filter(|row| query.filter.passes(row));
            let mut told: Vec<Summary> = passing.map(Summary::from).collect();
            found.sort_by_key(|row| (row.start_time, row.span_id.to_string()));
            told.sort_by_key(|row| (row.start_time, row.span_id.to_string()));
            assert_eq!(found, told, "{filter}");
        }
        page.data.into_iter().map(|row| row.summary.name).collect()
    }
}

/// An empty store in a ClickHouse database of its own; none when services are left out.
pub(super) async fn clickhouse_store() -> Option<ClickHouseObservations> {
    let server = ClickHouse::shared().unwrap_or_else(|error| panic!("{error}"))?;
    Some(migrated(&server.database_url()).await)
}

/// A client for this database.
pub(super) fn client(url: &str) -> clickhouse::Client {
    let ClickHouseParts { origin, user, password, database } = ClickHouseParts::of(url);
    let client = clickhouse::Client::default().with_url(origin).with_database(database);
    client.with_user(user).with_password(password)
}

/// A store in this database, which is made. Rows stay however old they are: tests have days of their own.
pub(super) async fn migrated(url: &str) -> ClickHouseObservations {
    let database = Database::new(url).unwrap();
    Migrator::new(&database).up(None, false, |_| {}).await.unwrap();
    let client = client(url);
    for table in [
        "observations",
        "observation_hours",
        "traces",
        "quality_scores",
        "metrics",
        "logs",
        "trace_updates",
        "blob_storage_file_log",
    ] {
        client.query(&format!("ALTER TABLE {table} REMOVE TTL")).execute().await.unwrap();
    }
    let store = ClickHouseObservations::new(database, Arc::new(SystemClock)).unwrap();
    store.with_settle(std::time::Duration::ZERO)
}

pub(super) fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

pub(super) fn parse(filter: &str) -> Filter {
    Filter::parse(filter, Subject::Observations).unwrap_or_else(|error| panic!("{filter}: {error}"))
}

/// Everything of 2026.
pub(super) fn year() -> Query {
    Query::new(at("2026-01-01T00:00:00Z"), at("2027-01-01T00:00:00Z"))
}
