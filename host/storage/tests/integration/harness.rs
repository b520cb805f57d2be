//! One test text, two databases.

use brokle_core::clock::SystemClock;
use brokle_core::ids::{ApiKeyId, ConnectionId, EnvironmentId, OrganizationId, ProjectId, RouteId};
use brokle_core::random::{Random, SystemRandom};
use brokle_core::tenancy::Tenant;
use brokle_storage::sql::api_keys::{NewApiKey, Restrictions};
use brokle_storage::sql::connections::Connection;
use brokle_storage::sql::migrate::Migrator;
use brokle_storage::sql::routes::Route;
use brokle_storage::sql::{ConnectOptions, Database};
use brokle_test_services::{Postgres, TestDatabase};
use chrono::{DateTime, Utc};
use tempfile::TempDir;

/// Runs `async fn name(Fixture)` once per database, as `name::sqlite` and `name::postgres`.
macro_rules! on_both_databases {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[tokio::test]
            async fn sqlite() {
                super::$name(crate::harness::Fixture::sqlite().await).await;
            }

            #[tokio::test]
            async fn postgres() {
                if let Some(fixture) = crate::harness::Fixture::postgres().await {
                    super::$name(fixture).await;
                }
            }
        }
    )+};
}
pub(crate) use on_both_databases;

/// An empty database, and the ways into it.
pub(crate) struct Fixture {
    /// As who migrates.
    pub(crate) owner: Database,
    /// As who serves.
    pub(crate) app: Database,
    /// Where, if it is PostgreSQL.
    pub(crate) postgres: Option<TestDatabase>,
    /// Its directory, if it is SQLite.
    _directory: Option<TempDir>,
}

impl Fixture {
    pub(crate) async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("brokle.db").display());
        let owner = connect(&url).await;
        Self { app: owner.clone(), owner, postgres: None, _directory: Some(directory) }
    }

    pub(crate) async fn postgres() -> Option<Self> {
        let urls = Postgres::shared().unwrap_or_else(|error| panic!("{error}"))?.database().unwrap();
        let (owner, app) = (connect(&urls.owner_url).await, connect(&urls.app_url).await);
        Some(Self { owner, app, postgres: Some(urls), _directory: None })
    }

    /// The database as the server sees it, with the newest schema.
    pub(crate) async fn migrated(&self) -> &Database {
        Migrator::new(&self.owner).up(None, false, |_| {}).await.unwrap();
        &self.app
    }
}

pub(crate) async fn connect(url: &str) -> Database {
    Database::connect(url, ConnectOptions::default()).await.unwrap()
}

/// 10:00 on a day in March 2026, and then some microseconds.
pub(crate) fn at(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(1_772_359_200_000_000 + micros).unwrap()
}

pub(crate) fn new_tenant() -> Tenant {
    Tenant {
        organization: OrganizationId::generate(&SystemClock, &SystemRandom),
        project: ProjectId::generate(&SystemClock, &SystemRandom),
        environment: EnvironmentId::generate(&SystemClock, &SystemRandom),
    }
}

/// Stores an organization with a project and an environment.
pub(crate) async fn add_tenant(database: &Database, name: &str) -> Tenant {
    let tenant = new_tenant();
    database.organizations().create(tenant.organization, name, name, at(0)).await.unwrap();
    database.projects().create(tenant.organization, tenant.project, "default", at(0)).await.unwrap();
    database.environments().create(tenant, "development", at(0)).await.unwrap();
    tenant
}

pub(crate) fn new_key(name: &str) -> NewApiKey {
    let mut key_hash = [0; 32];
    SystemRandom.fill(&mut key_hash);
    NewApiKey {
        id: ApiKeyId::generate(&SystemClock, &SystemRandom),
        name: name.to_owned(),
        key_hash,
        preview: "bk_AbCd...XyZa".to_owned(),
        scopes: vec!["gateway".to_owned(), "traces:read".to_owned()],
        requests_per_minute: Some(u32::MAX),
        restrictions: Restrictions { models: vec!["gpt-4o*".to_owned()], ..Restrictions::default() },
        expires_at: Some(at(123_456)),
        created_at: at(1),
    }
}

pub(crate) fn new_connection(name: &str) -> Connection {
    Connection {
        id: ConnectionId::generate(&SystemClock, &SystemRandom),
        organization: OrganizationId::generate(&SystemClock, &SystemRandom),
        project: None,
        provider: "openai".to_owned(),
        name: name.to_owned(),
        base_url: Some("https://api.example.com/v1".to_owned()),
        sealed_secret: Some(vec![0, 1, 254, 255]),
        secret_preview: Some("sk-A...wXyZ".to_owned()),
        options: serde_json::from_str(r#"{"organization": "org-1", "retries": 3}"#).unwrap(),
        headers: [("x-team".to_owned(), "search".to_owned())].into(),
        priority: -1,
        weight: 7,
        health_check_seconds: Some(30),
        enabled: true,
        created_at: at(2),
        updated_at: at(3),
    }
}

pub(crate) fn new_route(name: &str) -> Route {
    Route {
        id: RouteId::generate(&SystemClock, &SystemRandom),
        organization: OrganizationId::generate(&SystemClock, &SystemRandom),
        project: None,
        name: name.to_owned(),
        version: 1,
        definition: serde_json::from_str(r#"{"candidates": [{"provider": "echo", "model": "é"}]}"#).unwrap(),
        changed_by: "somebody".to_owned(),
        changed_at: at(3),
        created_at: at(3),
    }
}
