//! One test text, two databases; and a wire to cut between the service and PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::{Clock, ManualClock, SystemClock};
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::random::{Random, SystemRandom};
use brokle_core::tenancy::Tenant;
use brokle_identity::keys::NewKey;
use brokle_identity::{KeyService, Secret};
use brokle_storage::sql::api_keys::ApiKey;
use brokle_storage::sql::migrate::Migrator;
use brokle_storage::sql::{ConnectOptions, Database};
use brokle_test_services::{Postgres, Wire};
use tempfile::TempDir;

/// Runs `async fn name(Fixture)` once per database, as `name::sqlite` and `name::postgres`.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                super::$name(crate::harness::Fixture::sqlite().await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                if let Some(fixture) = crate::harness::Fixture::postgres().await {
                    super::$name(fixture).await;
                }
            }
        }
    )+};
}
pub(crate) use on_both_databases;

/// A migrated database as the server sees it, and a clock that stands still.
pub(crate) struct Fixture {
    pub(crate) database: Database,
    pub(crate) clock: Arc<ManualClock>,
    _directory: Option<TempDir>,
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let database = connect(&format!("sqlite:{}", directory.path().join("brokle.db").display())).await;
        migrate(&database).await;
        Self { database, clock: clock(), _directory: Some(directory) }
    }

    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self { database: connect(&migrated_postgres().await?).await, clock: clock(), _directory: None })
    }

    /// A server's service: caches of its own.
    pub(crate) fn keys(&self) -> KeyService {
        KeyService::new(self.database.clone(), self.clock.clone(), Arc::new(SystemRandom))
    }

    pub(crate) fn random(&self) -> Arc<dyn Random> {
        Arc::new(SystemRandom)
    }

    /// Stores an organization with a project and an environment.
    pub(crate) async fn tenant(&self, name: &str) -> Tenant {
        let tenant = Tenant {
            organization: OrganizationId::generate(&SystemClock, &SystemRandom),
            project: ProjectId::generate(&SystemClock, &SystemRandom),
            environment: EnvironmentId::generate(&SystemClock, &SystemRandom),
        };
        let now = self.clock.now();
        self.database.organizations().create(tenant.organization, name, name, now).await.unwrap();
        self.database.projects().create(tenant.organization, tenant.project, "default", now).await.unwrap();
        self.database.environments().create(tenant, "development", now).await.unwrap();
        tenant
    }

    /// Makes a key by way of a service that is then forgotten.
    pub(crate) async fn key(&self, tenant: Tenant) -> (ApiKey, Secret) {
        self.keys().create(tenant, new_key("ci")).await.unwrap()
    }
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new("2026-03-01T10:00:00.000001Z".parse().unwrap()))
}

async fn migrate(database: &Database) {
    Migrator::new(database).up(None, false, |_| {}).await.unwrap();
}

async fn connect(url: &str) -> Database {
    Database::connect(url, ConnectOptions::default()).await.unwrap()
}

/// A new database with the newest schema: where the server's role finds it.
async fn migrated_postgres() -> Option<String> {
    let urls = Postgres::shared().unwrap_or_else(|error| panic!("{error}"))?.database().unwrap();
    let owner = connect(&urls.owner_url).await;
    migrate(&owner).await;
    owner.close().await;
    Some(urls.app_url)
}

pub(crate) fn new_key(name: &str) -> NewKey {
    NewKey { name: name.to_owned(), scopes: vec!["gateway".to_owned()], ..NewKey::default() }
}

/// A PostgreSQL behind a wire, and the wire.
pub(crate) async fn wired_postgres() -> Option<(Fixture, Wire)> {
    let (wire, url) = Wire::to_server_of(&migrated_postgres().await?).unwrap();
    let options = ConnectOptions { acquire_timeout: Duration::from_millis(300), ..ConnectOptions::default() };
    let database = Database::connect(&url, options).await.unwrap();
    Some((Fixture { database, clock: clock(), _directory: None }, wire))
}
