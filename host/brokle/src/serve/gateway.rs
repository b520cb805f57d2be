//! Putting the gateway together: sandbox, plugins, connections, telemetry.

use std::sync::Arc;
use std::time::Duration;

use brokle_api::app::{QueueHealth, Telemetry};
use brokle_core::catalogue::Catalogue;
use brokle_core::clock::Clock;
use brokle_core::random::Random;
use brokle_gateway::account::Books;
use brokle_gateway::connections::{Connection, Directory, NewConnection};
use brokle_gateway::egress::Egress;
use brokle_gateway::{Gateway, Parts, Timeouts};
use brokle_identity::connections::ConnectionService;
use brokle_identity::seal::MasterKey;
use brokle_identity::{KeyService, Secret};
use brokle_runtime::{Limits, ProviderPlugin, Runtime, RuntimeConfig};
use brokle_storage::observations::{AnalyticsStore, SqliteObservations};
use brokle_storage::sql::Database;
use brokle_telemetry::metrics::Metrics;
use brokle_telemetry::{Options, Recorder};

use super::Failure;
use super::plugins::{self, Health};
use crate::config::Config;

/// The policy that orders candidates.
const POLICY: &str = "priority";

/// What a gateway is made with.
pub(super) struct Ingredients {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) database: Database,
    pub(super) keys: Arc<KeyService>,
    pub(super) master_key: Arc<MasterKey>,
    pub(super) catalogue: Arc<Catalogue>,
}

/// A gateway and what the server shows of it.
pub(super) struct Assembled {
    pub(super) gateway: Arc<Gateway>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) store: Arc<dyn AnalyticsStore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) health: Health,
}

/// The recorder, as the HTTP surface sees it.
#[derive(Debug)]
pub(super) struct Queue(pub(super) Arc<Recorder>);

impl Telemetry for Queue {
    fn queue(&self) -> QueueHealth {
        let stats = self.0.stats();
        QueueHealth { depth: (stats.waiting_rows + stats.queued_rows) as u64, dropped: stats.dropped }
    }
}

pub(super) async fn assemble(config: &Config, with: Ingredients) -> Result<Assembled, Failure> {
    let directory = config.storage.data_dir.join("telemetry");
    super::make_private_directory(&directory)?;
    let store: Arc<dyn AnalyticsStore> = Arc::new(SqliteObservations::open(&directory)?);
    let recorder = Recorder::start(&Options::new(&directory), Arc::clone(&store), Arc::clone(&with.clock))?;
    let recorder = Arc::new(recorder);
    let metrics = Arc::new(Metrics::new());

    let mut cache_key = [0; 32];
    with.random.fill(&mut cache_key);
    let runtime = Runtime::start(sandbox(config), &config.storage.data_dir, cache_key)?;
    let loaded = plugins::load(&runtime, config.runtime.plugins_dir.as_deref()).await?;
    let policy = loaded.policies.into_iter().find(|policy| policy.manifest().name == POLICY);
    let policy = policy.ok_or_else(|| format!("there is no routing policy '{POLICY}' among the plugins"))?;

    let egress =
        Egress::new(config.gateway.allow_private_upstreams, Duration::from_millis(config.gateway.connect_ms));
    let fixed = fixed(config, &loaded.providers, &egress)?;
    for connection in &fixed {
        tracing::info!(connection = connection.name, provider = connection.provider_name(), "connection");
    }
    let stored = ConnectionService::new(
        with.database,
        with.master_key,
        Arc::clone(&with.clock),
        Arc::clone(&with.random),
    );
    let connections = Directory::new(fixed, loaded.providers, Some(Arc::new(stored)), egress.clone());
    let gateway = Gateway::new(Parts {
        clock: with.clock,
        random: with.random,
        keys: with.keys,
        books: Books {
            recorder: Arc::clone(&recorder),
            metrics: Arc::clone(&metrics),
            catalogue: with.catalogue,
        },
        connections,
        policy,
        guardrails: Default::default(),
        egress,
        timeouts: Timeouts {
            first_byte: Duration::from_millis(config.gateway.first_byte_ms),
            idle: Duration::from_millis(config.gateway.idle_ms),
            total: Duration::from_millis(config.gateway.total_ms),
        },
    });
    Ok(Assembled { gateway, recorder, store, metrics, health: loaded.health })
}

fn sandbox(config: &Config) -> RuntimeConfig {
    let memory = (config.runtime.memory_mib as usize) << 20;
    RuntimeConfig {
        max_instances: config.runtime.max_instances,
        provider: Limits { memory, ..Limits::provider() },
        policy: Limits { memory, ..Limits::policy() },
        guardrail: Limits { memory, ..Limits::guardrail() },
    }
}

/// The connections of the configuration file, then those that variables such as `OPENAI_API_KEY` make, then those of
/// plugins that need no vendor.
fn fixed(
    config: &Config,
    plugins: &[Arc<ProviderPlugin>],
    egress: &Egress,
) -> Result<Vec<Connection>, Failure> {
    let mut connections = Vec::new();
    for wanted in &config.gateway.connections {
        let name = &wanted.name;
        let plugin = plugins
            .iter()
            .find(|p| p.manifest().name == wanted.provider || p.manifest().id == wanted.provider);
        let plugin = plugin.ok_or_else(|| {
            let known: Vec<&str> = plugins.iter().map(|plugin| plugin.manifest().name.as_str()).collect();
            format!("connection '{name}': no provider '{}'; there are {}", wanted.provider, known.join(", "))
        })?;
        let secret = match (&wanted.api_key_env, &wanted.api_key_file) {
            (Some(variable), _) => {
                let missing = || format!("connection '{name}': the variable {variable} isn't set");
                Some(variable_of(variable).ok_or_else(missing)?)
            }
            (None, Some(path)) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| format!("connection '{name}': {}: {error}", path.display()))?;
                Some(Secret::new(text.trim().to_owned()))
            }
            (None, None) => None,
        };
        let new = NewConnection {
            name: name.clone(),
            base_url: wanted.base_url.clone(),
            secret,
            options: wanted.options.clone().into_iter().collect(),
            headers: wanted.headers.clone().into_iter().collect(),
            priority: i32::try_from(wanted.priority).unwrap_or(i32::MAX),
            weight: wanted.weight,
            models: wanted.models.clone(),
            ..NewConnection::default()
        };
        connections.push(Connection::new(Arc::clone(plugin), new, egress, true)?);
    }
    for plugin in plugins {
        let manifest = plugin.connection();
        let secret = manifest.api_key_env.as_deref().and_then(variable_of);
        if secret.is_none() && !manifest.offline {
            continue;
        }
        let base_url = manifest.base_url_env.as_deref().and_then(|name| std::env::var(name).ok());
        let new = NewConnection {
            name: plugin.manifest().name.clone(),
            base_url: base_url.filter(|url| !url.trim().is_empty()),
            secret,
            priority: 100,
            weight: 1,
            ..NewConnection::default()
        };
        connections.push(Connection::new(Arc::clone(plugin), new, egress, true)?);
    }
    Ok(connections)
}

fn variable_of(name: &str) -> Option<Secret> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.trim().is_empty())
        .map(|text| Secret::new(text.trim().to_owned()))
}
