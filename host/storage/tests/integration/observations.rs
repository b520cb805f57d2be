//! The analytics store's promises, over SQLite.

mod conformance;
mod language;
mod list;
mod trace;
mod write;

use brokle_core::clock::SystemClock;
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_storage::observations::{
    AnalyticsStore as _, Cursor, Inserted, Page, SqliteObservations, Summary, TraceFilter,
};
use chrono::{DateTime, Utc};
use tempfile::TempDir;

struct Fixture {
    directory: TempDir,
    store: SqliteObservations,
    tenant: Tenant,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let store = SqliteObservations::open(directory.path()).unwrap();
        Self { directory, store, tenant: tenant() }
    }

    /// A call of the fixture's tenant.
    fn call(&self, name: &str, start: &str) -> Observation {
        let start: DateTime<Utc> = start.parse().unwrap();
        let (trace_id, span_id) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
        let new =
            Observation::new(self.tenant, trace_id, span_id, Kind::Generation, start.timestamp_micros());
        Observation { name: name.to_owned().into(), ..new }
    }

    fn insert(&self, batch: &[Observation]) -> Inserted {
        let mut inserted = Inserted::default();
        self.store.insert(batch, &mut inserted).unwrap();
        inserted
    }

    async fn list(&self, filter: TraceFilter, limit: u32, cursor: Option<Cursor>) -> Page<Summary> {
        self.store.list(self.tenant.project, filter, limit, cursor).await.unwrap()
    }

    /// The names of everything that passes the filter.
    async fn names(&self, filter: TraceFilter) -> Vec<String> {
        names(&self.list(filter, 100, None).await)
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn tenant() -> Tenant {
    Tenant {
        organization: OrganizationId::generate(&SystemClock, &SystemRandom),
        project: ProjectId::generate(&SystemClock, &SystemRandom),
        environment: EnvironmentId::generate(&SystemClock, &SystemRandom),
    }
}

fn names(page: &Page<Summary>) -> Vec<String> {
    page.data.iter().map(|summary| summary.name.clone()).collect()
}
