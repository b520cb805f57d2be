//! A catalogue with a database of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::{Clock, ManualClock, SystemClock};
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_plugins::catalogue::{Parts, VersionEntry};
use brokle_plugins::{
    Actor, Catalogue, CatalogueError, Gate, Offer, PinnedOnly, ScopeKey, Settings, Source, State, Terms,
    Unwatched,
};
use brokle_runtime::{Builtin, Runtime, RuntimeConfig};
use brokle_storage::sql::migrate::Migrator;
use brokle_storage::sql::plugins::EventFilter;
use brokle_storage::sql::{ConnectOptions, Database};

pub const INSTANCE: ScopeKey = ScopeKey { organization: None, project: None };

/// A world that a server can start in, more than once.
pub struct World {
    pub folder: tempfile::TempDir,
    pub database: Database,
    pub clock: Arc<ManualClock>,
    pub runtime: Runtime,
}

impl World {
    pub async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", folder.path().join("brokle.db").display());
        let database = Database::connect(&url, ConnectOptions::default()).await.unwrap();
        Migrator::new(&database).up(None, false, |_| {}).await.unwrap();
        let clock = Arc::new(ManualClock::new(SystemClock.now()));
        let runtime = Runtime::start(RuntimeConfig::default(), folder.path(), [1; 32]).unwrap();
        Self { folder, database, clock, runtime }
    }

    /// A server that trusts everything, with these components of its own.
    pub async fn dev(&self, embedded: Vec<Builtin>) -> Arc<Catalogue> {
        // Not `Settings::dev`: files of one version don't replace each other.
        self.start(PinnedOnly { dev: true }, Settings::default(), embedded).await
    }

    pub async fn start(
        &self,
        gate: impl Gate + 'static,
        settings: Settings,
        embedded: Vec<Builtin>,
    ) -> Arc<Catalogue> {
        let parts = Parts {
            runtime: self.runtime.clone(),
            database: self.database.clone(),
            data_dir: self.folder.path().to_owned(),
            clock: self.clock.clone(),
            random: Arc::new(SystemRandom),
            gate: Arc::new(gate),
            watch: Arc::new(Unwatched),
            services: None,
        };
        let catalogue = Catalogue::open(parts, settings).unwrap();
        catalogue.start(embedded).await.unwrap();
        catalogue
    }

    /// A tenant with rows.
    pub async fn tenant(&self, name: &str) -> Tenant {
        let (clock, random) = (SystemClock, SystemRandom);
        let tenant = Tenant {
            organization: OrganizationId::generate(&clock, &random),
            project: ProjectId::generate(&clock, &random),
            environment: EnvironmentId::generate(&clock, &random),
        };
        let now = clock.now();
        self.database.organizations().create(tenant.organization, name, name, now).await.unwrap();
        self.database.projects().create(tenant.organization, tenant.project, "default", now).await.unwrap();
        tenant
    }
}

/// A built component's bytes.
pub fn component(name: &str) -> Vec<u8> {
    let profile = if name == "hostile" || name == "smuggler" { "guest-test" } else { "guest" };
    let exe = std::env::current_exe().unwrap();
    let found: Option<PathBuf> = exe
        .ancestors()
        .map(|folder| folder.join(format!("wasm32-wasip2/{profile}/{name}.wasm")))
        .find(|path| path.exists());
    std::fs::read(found.unwrap_or_else(|| panic!("{name}.wasm isn't built: run `make plugins guests`")))
        .unwrap()
}

/// The same component as another release: version numbers of one length, in the manifest and in the SDK's stamp.
pub fn release(name: &str, version: &str) -> Vec<u8> {
    let mut bytes = component(name);
    let mut replaced = 0;
    for (from, to) in [
        (r#""version": "0.1.0""#.to_owned(), format!(r#""version": "{version}""#)),
        (r#""version":"0.1.0""#.to_owned(), format!(r#""version":"{version}""#)),
    ] {
        let places: Vec<usize> = bytes
            .windows(from.len())
            .enumerate()
            .filter(|(_, window)| *window == from.as_bytes())
            .map(|(at, _)| at)
            .collect();
        for at in places {
            bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
            replaced += 1;
        }
    }
    assert_eq!(replaced, 2, "{name}: manifest and stamp");
    bytes
}

pub fn builtin(name: &str) -> Builtin {
    Builtin { name: format!("{name}.wasm"), bytes: component(name).into() }
}

pub fn operator() -> Actor {
    Actor::key("01KJME5T5V7QZ8WXJ3N4P6R9ST")
}

pub async fn upload(catalogue: &Catalogue, component: Vec<u8>) -> Result<(), CatalogueError> {
    upload_on(catalogue, component, Terms::default()).await
}

pub async fn upload_on(
    catalogue: &Catalogue,
    component: Vec<u8>,
    terms: Terms,
) -> Result<(), CatalogueError> {
    let offer = Offer { terms, ..Offer::new(component, Source::Upload, "test.wasm") };
    catalogue.install(offer, &operator()).await.map(drop)
}

/// A version as the catalogue shows it.
pub fn version(catalogue: &Catalogue, id: &str, version: &str) -> VersionEntry {
    let entry = catalogue.get(id).unwrap();
    let found = entry.versions.iter().find(|known| known.version == version);
    found.unwrap_or_else(|| panic!("{id} {version} isn't in {entry:#?}")).clone()
}

pub fn state(catalogue: &Catalogue, id: &str, number: &str) -> State {
    version(catalogue, id, number).state
}

/// Which version serves a tenant under this name.
pub fn serving(catalogue: &Catalogue, tenant: Tenant, name: &str) -> Option<String> {
    let snapshot = catalogue.snapshots().load();
    snapshot.of(tenant).provider(name).map(|active| active.plugin.manifest().version.to_string())
}

/// Which version serves those who say nothing.
pub fn serving_all(catalogue: &Catalogue, name: &str) -> Option<String> {
    let snapshot = catalogue.snapshots().load();
    snapshot.instance().provider(name).map(|active| active.plugin.manifest().version.to_string())
}

/// The instance's events of a component, oldest first: what, which version, who.
pub async fn history(catalogue: &Catalogue, id: &str) -> Vec<String> {
    let filter = EventFilter { plugin_id: Some(id), before: None, limit: 1_000 };
    let mut events = catalogue.events(INSTANCE, filter).await.unwrap();
    events.reverse();
    let line = |event: &brokle_storage::sql::plugins::Event| {
        let actor = event.actor.split(':').next().unwrap_or_default();
        let code = event.code.as_deref().unwrap_or_default();
        let version = event.version.as_deref().unwrap_or("-");
        format!("{} {version} {actor} {code}", event.event).trim_end().to_owned()
    };
    events.iter().map(line).collect()
}

/// Waits until something is so.
pub async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.expect("it never came to be so");
}

pub fn code(error: &CatalogueError) -> &str {
    match error {
        CatalogueError::Refused(refusal) => refusal.code,
        CatalogueError::Conflict { code, .. } | CatalogueError::Invalid { code, .. } => code,
        other => panic!("no code: {other:?}"),
    }
}
