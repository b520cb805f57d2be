//! What the handlers work with: one struct of dependencies, one per server.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::catalogue::Catalogue;
use brokle_core::clock::{Clock, SystemClock};
use brokle_core::random::{Random, SystemRandom};
use brokle_identity::KeyService;
use brokle_identity::connections::ConnectionService;
use brokle_storage::sql::Database;
use serde::Serialize;
use utoipa::ToSchema;

use crate::body::BodyLimits;
use crate::client::TrustedProxies;
use crate::failed_keys::FailedKeys;
use crate::ingest::Ingest;
use crate::lifecycle::Lifecycle;
use crate::watching::Watching;
use brokle_gateway::Gateway;
use brokle_gateway::batches::BatchService;
use brokle_gateway::files::FileService;
use brokle_storage::observations::QueryStore;
use brokle_telemetry::metrics::Metrics;
use brokle_telemetry::retention::Retention;

/// How long [`Database::ping`] may take before `/health` calls the database away.
pub const PING_TIMEOUT: Duration = Duration::from_secs(2);

/// The dependencies of every handler.
#[derive(Debug)]
pub struct App {
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Organizations, keys, connections.
    pub database: Database,
    /// Who is calling.
    pub keys: Arc<KeyService>,
    /// Addresses that try keys which don't exist.
    pub failed_keys: FailedKeys,
    /// Who may say where a request comes from.
    pub trusted_proxies: TrustedProxies,
    /// Models and prices.
    pub catalogue: Arc<Catalogue>,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// The catalogue of components; none in a worker.
    pub plugin_catalogue: Option<Arc<brokle_plugins::Catalogue>>,
    /// Calls to models; none in a worker.
    pub gateway: Option<Arc<Gateway>>,
    /// Ways to providers; none in a worker.
    pub connections: Option<Arc<ConnectionService>>,
    /// Files of projects; none in a worker.
    pub files: Option<Arc<FileService>>,
    /// Batches of calls; none in a worker.
    pub batches: Option<Arc<BatchService>>,
    /// Where spans from elsewhere go; none in a server without telemetry.
    pub ingest: Option<Arc<Ingest>>,
    /// Calls and spans as they come; none in a server without telemetry.
    pub watching: Option<Arc<Watching>>,
    /// What is known of past calls; none in a server without telemetry.
    pub observations: Option<Arc<dyn QueryStore>>,
    /// How long it is kept; none in a server without telemetry.
    pub retention: Option<Arc<Retention>>,
    /// Ready, draining, cutting.
    pub lifecycle: Lifecycle,
    /// The components, for `/health/plugins`.
    pub plugins: Arc<dyn Plugins>,
    /// The store of observations, for `/health` and `/metrics`.
    pub telemetry: Arc<dyn Telemetry>,
    /// Where files are kept.
    pub data_directory: PathBuf,
    /// What a request's body may be.
    pub body: BodyLimits,
}

/// The sandbox as the HTTP surface sees it.
pub trait Plugins: Send + Sync + Debug {
    /// Every component that was found, those that were refused included.
    fn list(&self) -> Vec<PluginHealth>;
}

/// A component's state, as `/health/plugins` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct PluginHealth {
    /// Its id, such as `provider-openai`; the file's name if it couldn't be read.
    pub id: String,
    /// Its version.
    pub version: Option<String>,
    /// Its role: `provider`, `routing-policy`, ….
    pub kind: Option<String>,
    /// Whether it serves.
    pub status: PluginStatus,
    /// Why it doesn't: a stable code such as `PLUGIN_UNSIGNED`.
    pub code: Option<String>,
    /// The same for people.
    pub message: Option<String>,
}

/// Whether a component serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PluginStatus {
    /// It serves.
    Active,
    /// It serves on probation, after it was taken out.
    Degraded,
    /// It is there and waits: for grants, or to be switched on.
    Installed,
    /// An operator removed it; it can be had again.
    Available,
    /// It trapped too often and was taken out.
    Quarantined,
    /// It was never let in.
    Refused,
}

/// The store of observations as the HTTP surface sees it.
pub trait Telemetry: Send + Sync + Debug {
    /// How the queue between calls and the store is doing now.
    fn queue(&self) -> QueueHealth;
}

/// The state of the queue between calls and the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct QueueHealth {
    /// False while a shared queue's Redis doesn't answer, or a worker gets nowhere.
    pub available: bool,
    /// Observations that wait.
    pub depth: u64,
    /// Observations that were given up since the start because the queue was full.
    pub dropped: u64,
    /// Observations that can't be stored and are kept aside: `brokle queue dlq list`.
    pub dead_letters: u64,
    /// Observations that went to the file since the start, since Redis didn't take them.
    pub spilled: u64,
}

/// No components, and no store: a server without a gateway, such as a test's.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nothing;

impl Plugins for Nothing {
    fn list(&self) -> Vec<PluginHealth> {
        Vec::new()
    }
}

impl Telemetry for Nothing {
    fn queue(&self) -> QueueHealth {
        QueueHealth { available: true, depth: 0, dropped: 0, dead_letters: 0, spilled: 0 }
    }
}

impl App {
    /// Begins an app over a database; what isn't said otherwise is the machine's clock and chance, the built-in
    /// catalogue, no components and no telemetry.
    #[must_use]
    pub fn builder(database: Database, catalogue: Arc<Catalogue>) -> AppBuilder {
        AppBuilder {
            clock: Arc::new(SystemClock),
            random: Arc::new(SystemRandom),
            database,
            keys: None,
            failed_keys: FailedKeys::default(),
            trusted_proxies: TrustedProxies::default(),
            catalogue,
            lifecycle: Lifecycle::default(),
            plugins: Arc::new(Nothing),
            telemetry: Arc::new(Nothing),
            metrics: Arc::default(),
            plugin_catalogue: None,
            gateway: None,
            connections: None,
            files: None,
            batches: None,
            ingest: None,
            watching: None,
            observations: None,
            retention: None,
            data_directory: PathBuf::from("data"),
            body: BodyLimits::default(),
        }
    }
}

/// An app in the making.
#[derive(Debug)]
pub struct AppBuilder {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    database: Database,
    keys: Option<Arc<KeyService>>,
    failed_keys: FailedKeys,
    trusted_proxies: TrustedProxies,
    catalogue: Arc<Catalogue>,
    lifecycle: Lifecycle,
    plugins: Arc<dyn Plugins>,
    telemetry: Arc<dyn Telemetry>,
    metrics: Arc<Metrics>,
    plugin_catalogue: Option<Arc<brokle_plugins::Catalogue>>,
    gateway: Option<Arc<Gateway>>,
    connections: Option<Arc<ConnectionService>>,
    files: Option<Arc<FileService>>,
    batches: Option<Arc<BatchService>>,
    ingest: Option<Arc<Ingest>>,
    watching: Option<Arc<Watching>>,
    observations: Option<Arc<dyn QueryStore>>,
    retention: Option<Arc<Retention>>,
    data_directory: PathBuf,
    body: BodyLimits,
}

impl AppBuilder {
    /// Another clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Another source of chance.
    #[must_use]
    pub fn random(mut self, random: Arc<dyn Random>) -> Self {
        self.random = random;
        self
    }

    /// A key service that others share; otherwise one is made.
    #[must_use]
    pub fn keys(mut self, keys: Arc<KeyService>) -> Self {
        self.keys = Some(keys);
        self
    }

    /// How often an address may try keys which don't exist.
    #[must_use]
    pub fn failed_keys(mut self, failed_keys: FailedKeys) -> Self {
        self.failed_keys = failed_keys;
        self
    }

    /// Who may say where a request comes from.
    #[must_use]
    pub fn trusted_proxies(mut self, trusted_proxies: TrustedProxies) -> Self {
        self.trusted_proxies = trusted_proxies;
        self
    }

    /// The lifecycle that the accept loop moves.
    #[must_use]
    pub fn lifecycle(mut self, lifecycle: Lifecycle) -> Self {
        self.lifecycle = lifecycle;
        self
    }

    /// The components.
    #[must_use]
    pub fn plugins(mut self, plugins: Arc<dyn Plugins>) -> Self {
        self.plugins = plugins;
        self
    }

    /// The store of observations.
    #[must_use]
    pub fn telemetry(mut self, telemetry: Arc<dyn Telemetry>) -> Self {
        self.telemetry = telemetry;
        self
    }

    /// Metrics that others share; otherwise they are made.
    #[must_use]
    pub fn metrics(mut self, metrics: Arc<Metrics>) -> Self {
        self.metrics = metrics;
        self
    }

    /// The catalogue of components.
    #[must_use]
    pub fn plugin_catalogue(mut self, catalogue: Arc<brokle_plugins::Catalogue>) -> Self {
        self.plugin_catalogue = Some(catalogue);
        self
    }

    /// Ways to providers.
    #[must_use]
    pub fn connections(mut self, connections: Arc<ConnectionService>) -> Self {
        self.connections = Some(connections);
        self
    }

    /// Files of projects, and batches of calls.
    #[must_use]
    pub fn batches(mut self, files: Arc<FileService>, batches: Arc<BatchService>) -> Self {
        (self.files, self.batches) = (Some(files), Some(batches));
        self
    }

    /// The gateway.
    #[must_use]
    pub fn gateway(mut self, gateway: Arc<Gateway>) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Where spans from elsewhere go.
    #[must_use]
    pub fn ingest(mut self, ingest: Arc<Ingest>) -> Self {
        self.ingest = Some(ingest);
        self
    }

    /// What live streams share.
    #[must_use]
    pub fn watching(mut self, watching: Arc<Watching>) -> Self {
        self.watching = Some(watching);
        self
    }

    /// The store that traces are read from.
    #[must_use]
    pub fn observations(mut self, store: Arc<dyn QueryStore>) -> Self {
        self.observations = Some(store);
        self
    }

    /// How long what it has is kept.
    #[must_use]
    pub fn retention(mut self, retention: Arc<Retention>) -> Self {
        self.retention = Some(retention);
        self
    }

    /// Where files are kept.
    #[must_use]
    pub fn data_directory(mut self, path: PathBuf) -> Self {
        self.data_directory = path;
        self
    }

    /// What a request's body may be.
    #[must_use]
    pub fn body(mut self, limits: BodyLimits) -> Self {
        self.body = limits;
        self
    }

    /// The app.
    #[must_use]
    pub fn build(self) -> Arc<App> {
        let keys = self.keys.unwrap_or_else(|| {
            let (clock, random) = (Arc::clone(&self.clock), Arc::clone(&self.random));
            Arc::new(KeyService::new(self.database.clone(), clock, random))
        });
        Arc::new(App {
            clock: self.clock,
            random: self.random,
            database: self.database,
            keys,
            failed_keys: self.failed_keys,
            trusted_proxies: self.trusted_proxies,
            catalogue: self.catalogue,
            metrics: self.metrics,
            plugin_catalogue: self.plugin_catalogue,
            gateway: self.gateway,
            connections: self.connections,
            files: self.files,
            batches: self.batches,
            ingest: self.ingest,
            watching: self.watching,
            observations: self.observations,
            retention: self.retention,
            lifecycle: self.lifecycle,
            plugins: self.plugins,
            telemetry: self.telemetry,
            data_directory: self.data_directory,
            body: self.body,
        })
    }
}
