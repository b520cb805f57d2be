//! Putting the gateway together: sandbox, plugins, connections, telemetry.

use std::sync::Arc;
use std::time::Duration;

use brokle_api::app::{QueueHealth, Telemetry};
use brokle_core::catalogue::Catalogue as Models;
use brokle_core::clock::Clock;
use brokle_core::random::Random;
use brokle_gateway::account::Books;
use brokle_gateway::batches::BatchService;
use brokle_gateway::budgets::Budgets;
use brokle_gateway::cache::Cache;
use brokle_gateway::cache::vectors::{InClickHouse, InMemory, OnDisk, Vectors};
use brokle_gateway::connections::{Directory, NewConnection, Template};
use brokle_gateway::egress::{Egress, fill};
use brokle_gateway::files::FileService;
use brokle_gateway::guardrails::{ConfigFault, Guardrail, Guardrails, Masking, OnFailure};
use brokle_gateway::limits::{Limit, SharedLimits};
use brokle_gateway::routing::scores::Scores;
use brokle_gateway::{Gateway, Parts};
use brokle_identity::Secret;
use brokle_identity::connections::ConnectionService;
use brokle_identity::seal::MasterKey;
use brokle_plugins::snapshot::Active;
use brokle_plugins::{Catalogue, View};
use brokle_runtime::{Limits, Preset, ProviderManifest, ProviderPlugin, Runtime, RuntimeConfig};
use brokle_storage::blobs::BlobStore;
use brokle_storage::observations::QueryStore;
use brokle_storage::sql::Database;
use brokle_storage::vectors::{ClickHouseVectors, VectorFile};
use brokle_telemetry::live::Live;
use brokle_telemetry::metrics::Metrics;
use brokle_telemetry::recording::Recording;
use brokle_telemetry::{Options, Recorder, Worker};
use serde_json::Map;

use super::Failure;
use super::{analytics, plugins, routing};
use crate::config::{CacheStore, Config, VectorStore};

/// What a gateway is made with.
pub(super) struct Ingredients {
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) database: Database,
    pub(super) master_key: Arc<MasterKey>,
    pub(super) catalogue: Arc<Models>,
    pub(super) store: Arc<dyn QueryStore>,
    pub(super) live: Arc<Live>,
    pub(super) blobs: Arc<dyn BlobStore>,
}

/// A gateway and what the server shows of it.
pub(super) struct Assembled {
    pub(super) gateway: Arc<Gateway>,
    pub(super) files: Arc<FileService>,
    pub(super) batches: Arc<BatchService>,
    pub(super) connections: Arc<ConnectionService>,
    pub(super) recorder: Arc<Recorder>,
    pub(super) recording: Arc<Recording>,
    pub(super) store: Arc<dyn QueryStore>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) catalogue: Arc<Catalogue>,
}

/// The recorder, as the HTTP surface sees it.
#[derive(Debug)]
pub(super) struct Queue(pub(super) Arc<Recorder>);

impl Telemetry for Queue {
    fn queue(&self) -> QueueHealth {
        let stats = self.0.stats();
        QueueHealth {
            available: stats.is_available,
            spilled: stats.spilled,
            depth: (stats.waiting_rows + stats.queued_rows) as u64,
            dropped: stats.dropped,
            dead_letters: stats.dead_letters,
        }
    }
}

/// A worker without a server, as the HTTP surface sees it.
#[derive(Debug)]
pub(super) struct WorkersQueue(pub(super) Arc<Worker>);

impl Telemetry for WorkersQueue {
    fn queue(&self) -> QueueHealth {
        let stats = self.0.stats();
        QueueHealth {
            available: self.0.is_well(),
            depth: stats.queued_rows,
            dropped: 0,
            dead_letters: stats.dead_letters,
            spilled: 0,
        }
    }
}

pub(super) async fn assemble(config: &Config, with: Ingredients) -> Result<Assembled, Failure> {
    let directory = analytics::directory(config)?;
    let store = Arc::clone(&with.store);
    let options = Options {
        max_queued_bytes: config.telemetry.max_queue_bytes,
        shared: config.shared_queue()?,
        live: Some(Arc::clone(&with.live)),
        ..Options::new(&directory)
    };
    let recorder = Recorder::start(&options, store.clone(), Arc::clone(&with.clock))?;
    let recorder = Arc::new(recorder);
    let metrics = Arc::new(Metrics::new());
    let recording = Arc::new(crate::config::rules(&config.recording)?);

    let mut cache_key = [0; 32];
    with.random.fill(&mut cache_key);
    let runtime = Runtime::start(sandbox(config), &config.storage.data_dir, cache_key)?;
    let egress = Egress::new(
        config.gateway.allow_private_upstreams,
        Duration::from_millis(config.gateway.connect_ms),
        config.server.reactors().get(),
    );
    let spans = Arc::new(plugins::PluginSpans::default());
    let catalogue = plugins::start(
        config,
        plugins::Ingredients {
            runtime,
            database: with.database.clone(),
            clock: Arc::clone(&with.clock),
            random: Arc::clone(&with.random),
            metrics: Arc::clone(&metrics),
            spans: Arc::clone(&spans),
            egress: egress.clone(),
        },
    )
    .await?;
    let snapshots = catalogue.snapshots();
    let snapshot = snapshots.load();
    let routing = routing::of(config, &catalogue, snapshot.instance()).await?;

    let fixed = fixed(config, snapshot.instance())?;
    for template in &fixed {
        let (connection, provider) = (&template.new.name, &template.provider);
        match template.bind(snapshot.instance(), &egress) {
            Ok(_) => tracing::info!(connection, provider, "connection"),
            // Its plugin may yet be installed, or be mended.
            Err(error) if snapshot.instance().provider(provider).is_none() => tracing::warn!("{error}"),
            Err(error) => return Err(error.into()),
        }
    }
    warm(snapshot.instance(), &fixed).await;
    let guardrails = guardrails(config, snapshot.instance()).await?;
    let masking = Arc::new(Masking::new(
        guardrails.clone(),
        Arc::clone(&snapshots),
        Arc::clone(&recording),
        Arc::clone(&recorder),
    ));
    spans.go_to(&masking, Arc::clone(&recording));
    let cache = cache(config, &with, &metrics)?;
    let limits = limits(config)?;
    let shared_limits = shared_limits(config, &with, &metrics)?;
    let budgets = budgets(config, &with, &metrics).await?;
    let (clock, random) = (Arc::clone(&with.clock), Arc::clone(&with.random));
    let stored_routes = Some(with.database.clone());
    let database = with.database.clone();
    let (batches_clock, batches_random) = (Arc::clone(&with.clock), Arc::clone(&with.random));
    let known = |settings| Arc::new(Scores::new(settings, with.store, Arc::clone(&with.clock)));
    let scores = config.gateway.scores.settings().map(known);
    let stored = Arc::new(ConnectionService::new(with.database, with.master_key, clock, random));
    let connections = Directory::new(fixed, Some(Arc::clone(&stored)), egress.clone());
    let gateway = Gateway::new(Parts {
        clock: with.clock,
        random: with.random,
        books: Books {
            recorder: Arc::clone(&recorder),
            recording: Arc::clone(&recording),
            masking,
            metrics: Arc::clone(&metrics),
            catalogue: with.catalogue,
        },
        connections,
        plugins: snapshots,
        routing,
        stored_routes,
        scores,
        guardrails,
        egress,
        timeouts: config.gateway.timeouts(),
        realtime: config.gateway.realtime.limits(),
        resilience: config.gateway.resilience(),
        limits,
        cache,
        shared_limits,
        budgets,
    });
    let files = Arc::new(FileService::new(
        database.clone(),
        with.blobs,
        Arc::clone(&gateway),
        Arc::clone(&batches_clock),
        Arc::clone(&batches_random),
        config.files.settings(),
    ));
    let batches = BatchService::new(
        database,
        Arc::clone(&files),
        Arc::clone(&gateway),
        batches_clock,
        batches_random,
        config.batches.settings(),
    );
    let batches = Arc::new(batches);
    Ok(Assembled {
        gateway,
        files,
        batches,
        connections: stored,
        recorder,
        recording,
        store,
        metrics,
        catalogue,
    })
}

/// Compiles what the first calls need; the rest of the server's own components waits for whoever asks for it.
async fn warm(view: &View, fixed: &[Template]) {
    let mut work = tokio::task::JoinSet::new();
    let offline = |provider: &&Active<ProviderPlugin>| provider.plugin.connection().offline;
    let named = fixed.iter().filter_map(|template| view.vendor(&template.provider));
    // Twice the same is compiled once.
    for provider in view.providers().filter(offline).chain(named.map(|(provider, _)| provider)) {
        let plugin = Arc::clone(&provider.plugin);
        work.spawn(async move { plugin.warm().await });
    }
    while let Some(done) = work.join_next().await {
        match done {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!("a plugin can't be used: {error}"),
            Err(error) => tracing::error!("a plugin can't be used: {error}"),
        }
    }
}

fn sandbox(config: &Config) -> RuntimeConfig {
    let memory = (config.runtime.memory_mib as usize) << 20;
    RuntimeConfig {
        max_instances: config.runtime.max_instances,
        provider: Limits { memory, ..Limits::provider() },
        policy: Limits { memory, ..Limits::policy() },
        guardrail: Limits { memory, ..Limits::guardrail() },
        exporter: Limits { memory, ..Limits::exporter() },
    }
}

/// The connections of the configuration file, then those that variables such as `OPENAI_API_KEY` make. The variables are
/// the ones that the server's own components name: another one's manifest must not choose which secret it is given.
/// Providers that need no vendor have theirs from the directory.
fn fixed(config: &Config, view: &View) -> Result<Vec<Template>, Failure> {
    let mut templates = Vec::new();
    for wanted in &config.gateway.connections {
        let name = &wanted.name;
        let mut secrets = Vec::new();
        for variable in wanted.api_key_env.iter().chain(&wanted.api_keys_env) {
            let missing = || format!("connection '{name}': the variable {variable} isn't set");
            secrets.push(variable_of(variable).ok_or_else(missing)?);
        }
        if let Some(path) = &wanted.api_key_file {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("connection '{name}': {}: {error}", path.display()))?;
            secrets.push(Secret::new(text.trim().to_owned()));
        }
        let new = NewConnection {
            name: name.clone(),
            base_url: wanted.base_url.clone(),
            secrets,
            options: wanted.options.clone().into_iter().collect(),
            headers: wanted.headers.clone().into_iter().collect(),
            priority: i32::try_from(wanted.priority).unwrap_or(i32::MAX),
            weight: wanted.weight,
            models: wanted.models.clone(),
            gate: wanted.gate(),
            raw: wanted.raw,
            health_check: wanted.health_check_seconds.map(Duration::from_secs),
            ..NewConnection::default()
        };
        templates.push(Template { provider: wanted.provider.clone(), new, trusted: true });
    }
    let mut own: Vec<_> = view.providers().filter(|provider| provider.embedded).collect();
    own.sort_by(|a, b| a.plugin.manifest().id.cmp(&b.plugin.manifest().id));
    for provider in own {
        let manifest = provider.plugin.connection();
        templates.extend(presets(&provider.plugin.manifest().id, manifest, |name| std::env::var(name).ok()));
        let secret = manifest.api_key_env.as_deref().and_then(variable_of);
        let base_url = manifest.base_url_env.as_deref().and_then(|name| std::env::var(name).ok());
        let base_url = base_url.filter(|url| !url.trim().is_empty());
        if secret.is_none() && !(manifest.keyless && base_url.is_some()) {
            continue;
        }
        let name = provider.plugin.manifest().name.clone();
        // One that has to be filled first is none.
        let usual = manifest.base_url.as_deref().filter(|url| fill(url, &Map::new()).is_ok());
        if let (None, None, Some(variable)) = (&base_url, usual, &manifest.base_url_env) {
            tracing::warn!("{name} has a key and no address: set {variable} to connect it");
            continue;
        }
        let new = NewConnection {
            name: name.clone(),
            base_url,
            secrets: secret.into_iter().collect(),
            priority: 100,
            weight: 1,
            ..NewConnection::default()
        };
        templates.push(Template { provider: name, new, trusted: true });
    }
    Ok(templates)
}

/// A connection for each preset whose variables are set. It goes to the component of this id, and to no other one of
/// that name.
fn presets(
    id: &str,
    manifest: &ProviderManifest,
    variable: impl Fn(&str) -> Option<String>,
) -> Vec<Template> {
    let variable =
        |name: &str| variable(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
    let template = |(name, preset): (&String, &Preset)| {
        let secret = preset.api_key_env.as_deref().and_then(variable);
        let base_url = preset.base_url_env.as_deref().and_then(variable);
        let is_wanted = secret.is_some() || (preset.keyless && base_url.is_some());
        if !is_wanted {
            return None;
        }
        let mut options: Map<_, _> = [("preset".to_owned(), name.as_str().into())].into_iter().collect();
        for (option, name) in &preset.options_env {
            options.insert(option.clone(), variable(name)?.into());
        }
        let usual = preset.base_url.as_deref().and_then(|url| fill(url, &options).ok());
        if base_url.is_none() && usual.is_none() {
            return None;
        }
        let new = NewConnection {
            name: name.clone(),
            base_url,
            secrets: secret.map(Secret::new).into_iter().collect(),
            options,
            priority: 100,
            weight: 1,
            ..NewConnection::default()
        };
        Some(Template { provider: id.to_owned(), new, trusted: true })
    };
    manifest.presets.iter().filter_map(template).collect()
}

fn variable_of(name: &str) -> Option<Secret> {
    std::env::var(name)
        .ok()
        .filter(|text| !text.trim().is_empty())
        .map(|text| Secret::new(text.trim().to_owned()))
}

fn limits(config: &Config) -> Result<Vec<Limit>, Failure> {
    let read = |(index, limit): (usize, &crate::config::Limit)| {
        limit.to_limit().map_err(|problem| format!("limits.{index}.{problem}").into())
    };
    config.limits.iter().enumerate().map(read).collect()
}

/// Redis, if it is configured. It may be away at the start.
fn shared_limits(
    config: &Config,
    with: &Ingredients,
    metrics: &Arc<Metrics>,
) -> Result<Option<Arc<SharedLimits>>, Failure> {
    let Some(client) = config.redis()? else { return Ok(None) };
    let longest = Duration::from_millis(config.gateway.total_ms.max(config.gateway.realtime.total_ms));
    let shared = SharedLimits::connect(client, longest, Arc::clone(metrics), Arc::clone(&with.random));
    Ok(Some(shared?))
}

/// The cache, if answers are cached.
fn cache(config: &Config, with: &Ingredients, metrics: &Arc<Metrics>) -> Result<Option<Arc<Cache>>, Failure> {
    let Some(settings) = config.cache.settings() else { return Ok(None) };
    let mut cache = Cache::new(settings, Arc::clone(&with.clock), Arc::clone(metrics));
    if let (CacheStore::Redis, Some(client)) = (config.cache.store, config.redis()?) {
        cache = cache.in_redis(client)?;
    }
    if let Some(semantic) = config.cache.semantic() {
        let memory = InMemory::new(semantic.max_entries, semantic.max_bytes);
        let clock = Arc::clone(&with.clock);
        let vectors: Arc<dyn Vectors> = match (config.cache.semantic.store, config.clickhouse()?) {
            (VectorStore::ClickHouse, Some(database)) => {
                Arc::new(InClickHouse::new(ClickHouseVectors::new(database), clock))
            }
            (VectorStore::Disk, _) => {
                let most = u32::try_from(semantic.max_entries).unwrap_or(u32::MAX);
                let file = VectorFile::open(&config.storage.data_dir.join("vectors.db"), most)?;
                Arc::new(OnDisk::load(memory, file, clock)?)
            }
            _ => Arc::new(memory),
        };
        cache = cache.with_vectors(semantic, vectors);
    }
    Ok(Some(Arc::new(cache)))
}

/// The configured budgets, with what is spent of them.
async fn budgets(
    config: &Config,
    with: &Ingredients,
    metrics: &Arc<Metrics>,
) -> Result<Arc<Budgets>, Failure> {
    let read = |(index, budget): (usize, &crate::config::Budget)| {
        budget.to_budget().map_err(|problem| format!("budgets.{index}.{problem}"))
    };
    let rules = config.budgets.iter().enumerate().map(read).collect::<Result<_, _>>()?;
    let store = Some(with.database.budgets());
    let budgets = Budgets::new(rules, Arc::clone(&with.clock), Arc::clone(metrics), store);
    budgets.load().await?;
    Ok(Arc::new(budgets))
}

/// The configured guardrails. One whose component doesn't serve is no reason not to start: it may be waiting for its
/// license, and fails closed until it has it.
async fn guardrails(config: &Config, view: &View) -> Result<Guardrails, Failure> {
    let mut list = Vec::with_capacity(config.guardrails.len());
    for (index, one) in config.guardrails.iter().enumerate() {
        let new = one.to_new().map_err(|problem| format!("guardrails.{index}.{problem}"))?;
        if view.guardrail(&new.plugin).is_none() {
            let calls = match new.on_failure {
                OnFailure::Closed => "are refused",
                OnFailure::Open => "go on without it",
            };
            tracing::warn!(
                "guardrail '{}': no plugin '{}' serves; until one does, calls {calls}",
                new.name,
                new.plugin
            );
            list.push(Guardrail::unchecked(new));
            continue;
        }
        let fault = |fault: ConfigFault| {
            let line = |(pointer, message): &(String, String)| {
                format!("guardrails.{index}{}: {message}", pointer.replace('/', "."))
            };
            fault.problems.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        list.push(Guardrail::new(view, new).await.map_err(fault)?);
    }
    Ok(Guardrails::new(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(variables: &[(&str, &str)]) -> Vec<Template> {
        let manifest = r#"{"presets": {
            "hosted": {"base_url": "https://hosted.example", "api_key_env": "HOSTED_API_KEY", "base_url_env": "HOSTED_BASE_URL"},
            "local": {"base_url": "http://localhost:1", "base_url_env": "LOCAL_BASE_URL", "keyless": true},
            "private": {"api_key_env": "PRIVATE_API_KEY", "base_url_env": "PRIVATE_BASE_URL"},
            "account": {"base_url": "https://a.example", "api_key_env": "ACCOUNT_API_KEY",
                        "options_env": {"account_id": "ACCOUNT_ID"}}
        }}"#;
        let manifest: ProviderManifest = serde_json::from_str(manifest).unwrap();
        let variable = |name: &str| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        presets("brokle.many", &manifest, variable)
    }

    #[test]
    fn a_presets_variables_make_its_connection() {
        assert!(made(&[]).is_empty());
        assert!(made(&[("HOSTED_API_KEY", "  ")]).is_empty(), "an empty key is none");
        let [hosted] = made(&[("HOSTED_API_KEY", "k\n")]).try_into().unwrap();
        assert_eq!((hosted.provider.as_str(), hosted.new.name.as_str()), ("brokle.many", "hosted"));
        assert_eq!(hosted.new.options.get("preset"), Some(&"hosted".into()));
        assert_eq!(hosted.new.secrets[0].expose(), "k");
        assert_eq!(hosted.new.base_url, None);
    }

    #[test]
    fn what_cant_be_reached_isnt_connected() {
        assert!(made(&[("PRIVATE_API_KEY", "k")]).is_empty(), "no base URL");
        assert_eq!(made(&[("PRIVATE_API_KEY", "k"), ("PRIVATE_BASE_URL", "https://p.example")]).len(), 1);
        assert!(made(&[("ACCOUNT_API_KEY", "k")]).is_empty(), "no account");
        let [account] = made(&[("ACCOUNT_API_KEY", "k"), ("ACCOUNT_ID", "me")]).try_into().unwrap();
        assert_eq!(account.new.options.get("account_id"), Some(&"me".into()));
        assert!(made(&[("HOSTED_BASE_URL", "https://h.example")]).is_empty(), "a vendor wants a key");
        assert_eq!(
            made(&[("LOCAL_BASE_URL", "http://localhost:2")]).len(),
            1,
            "a server of one's own doesn't"
        );
    }
}
