//! The catalogue of plugins, as this server has it: whom it trusts, what it counts, what `/health/plugins` shows.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use brokle_api::app::{PluginHealth, PluginStatus, Plugins};
use brokle_core::clock::Clock;
use brokle_core::observation::{Kind, Observation, Status};
use brokle_core::random::Random;
use brokle_gateway::egress::Egress;
use brokle_gateway::guardrails::Masking;
use brokle_plugins::catalogue::Parts;
use brokle_plugins::{Catalogue, Entry, State, Trusted, Watch};
use brokle_runtime::capabilities::clock::SystemMonotonic;
use brokle_runtime::capabilities::secrets::EnvironmentSecrets;
use brokle_runtime::capabilities::telemetry::{PluginSpan, SpanSink};
use brokle_runtime::capabilities::{DenialSink, Services};
use brokle_runtime::license::Licenses;
use brokle_runtime::trust::{Anchor, TrustStore};
use brokle_runtime::{Builtin, Runtime, inspect};
use brokle_storage::sql::Database;
use brokle_telemetry::metrics::{CodeLabels, DenialLabels, Metrics, PluginLabels};
use brokle_telemetry::recording::Recording;

use super::Failure;
use crate::config::Config;

/// How long starting may take before somebody is told what it is about.
const NOTICE: Duration = Duration::from_millis(300);

/// What the catalogue is made with.
pub(super) struct Ingredients {
    pub(super) runtime: Runtime,
    pub(super) database: Database,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) random: Arc<dyn Random>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) spans: Arc<PluginSpans>,
    pub(super) egress: Egress,
}

/// Opens the catalogue and brings everything into service that was when the server stopped, and the built-in set.
pub(super) async fn start(config: &Config, with: Ingredients) -> Result<Arc<Catalogue>, Failure> {
    let builtins = Builtin::all(config.runtime.plugins_dir.as_deref())?;
    let (begun, count) = (Instant::now(), builtins.len());
    let data_dir = config.storage.data_dir.clone();
    let trusted = trust(config, &builtins, &with)?;
    let services = Services {
        kv: Arc::new(with.database.plugin_kv()),
        http: Arc::new(with.egress.clone()),
        secrets: Arc::new(EnvironmentSecrets::default()),
        spans: with.spans,
        denials: Arc::new(Counting(Arc::clone(&with.metrics))),
        clock: Arc::clone(&with.clock),
        monotonic: Arc::new(SystemMonotonic::default()),
        random: Arc::clone(&with.random),
    };
    let parts = Parts {
        runtime: with.runtime,
        database: with.database,
        data_dir,
        clock: with.clock,
        random: with.random,
        gate: Arc::new(trusted),
        watch: Arc::new(Counting(with.metrics)),
        services: Some(services),
    };
    let catalogue = Catalogue::open(parts, config.plugins.settings())?;
    {
        let mut starting = std::pin::pin!(catalogue.start(builtins));
        tokio::select! {
            done = starting.as_mut() => done?,
            () = tokio::time::sleep(NOTICE) => {
                tracing::info!("compiling plugins: {count} of them, those that aren't in the cache");
                starting.await?;
            }
        }
    }
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let entries = catalogue.list();
    let serving = |entry: &&Entry| entry.current().is_some_and(|version| version.state.serves());
    let serving = entries.iter().filter(serving).count();
    tracing::info!(serving, known = entries.len(), milliseconds, "plugins started");
    Ok(catalogue)
}

fn trust(config: &Config, builtins: &[Builtin], with: &Ingredients) -> Result<Trusted, Failure> {
    let folder = config.storage.data_dir.join("trust");
    let configured = std::env::var_os("BROKLE_TRUST_ROOT").filter(|path| !path.is_empty()).map(PathBuf::from);
    let anchor = Anchor::choose(configured.as_deref())?;
    let host = semver::Version::parse(env!("CARGO_PKG_VERSION"))?;
    let own = builtins.iter().filter_map(|builtin| inspect(&builtin.bytes).ok());
    let store = Arc::new(TrustStore::open(&folder, anchor, host, own.map(|inspection| inspection.digest()))?);
    let now = with.clock.now();
    for warning in store.warnings(now) {
        tracing::warn!("{warning}");
    }
    let file = config.runtime.license_file.clone();
    let licenses = Licenses::open(&folder, file, Arc::clone(&store), &*with.random, now)?;
    let (licenses, clock) = (Arc::new(licenses), Arc::clone(&with.clock));
    Ok(Trusted::new(store, licenses, clock, config.plugins.dev))
}

/// The server's metrics, as the catalogue counts in them.
#[derive(Debug)]
struct Counting(Arc<Metrics>);

impl Watch for Counting {
    fn grew(&self, id: &str, memory: usize) {
        let labels = PluginLabels { plugin: id.to_owned() };
        self.0.plugin_memory.get_or_create(&labels).set(i64::try_from(memory).unwrap_or(i64::MAX));
    }

    fn refused(&self, code: &str) {
        self.0.plugin_refusals.get_or_create(&CodeLabels { code: code.to_owned() }).inc();
    }

    fn swapped(&self) {
        self.0.plugin_swaps.inc();
    }
}

impl DenialSink for Counting {
    fn denied(&self, label: &str, interface: &'static str) {
        let plugin = label.split(' ').next().unwrap_or_default().to_owned();
        let labels = DenialLabels { plugin, capability: interface.to_owned() };
        self.0.plugin_denials.get_or_create(&labels).inc();
    }
}

/// Plugins' own spans, beside those of the calls that they are a part of, and masked as those are.
#[derive(Debug, Default)]
pub(super) struct PluginSpans(OnceLock<(Weak<Masking>, Arc<Recording>)>);

impl PluginSpans {
    /// Where they go. Plugins are there before the gateway, whose calls spans belong to.
    pub(super) fn go_to(&self, masking: &Arc<Masking>, recording: Arc<Recording>) {
        // Once, by who makes it: nothing to be told of a second time.
        let _ = self.0.set((Arc::downgrade(masking), recording));
    }
}

impl SpanSink for PluginSpans {
    fn record(&self, span: PluginSpan) {
        // Without a gateway there is no call, and no span.
        let Some((masking, recording)) = self.0.get() else { return };
        let Some(masking) = masking.upgrade() else { return };
        let PluginSpan { plugin, tenant, parent, id, name, started_at, ended_at, attributes, failure } = span;
        let start = started_at.timestamp_micros();
        let mut observation = Observation::new(tenant, parent.trace, id, Kind::Plugin, start);
        (observation.parent_span_id, observation.key_id) = (Some(parent.span), parent.key);
        observation.name = name.into();
        let micros = ended_at.timestamp_micros().saturating_sub(start);
        observation.duration_us = u64::try_from(micros).unwrap_or_default();
        observation.attributes = attributes.into_iter().map(|(name, value)| (name, value.into())).collect();
        observation.attributes.insert("brokle.plugin".into(), plugin.into());
        if let Some(failure) = failure {
            observation.status = Status::Error;
            observation.error_message = Some(failure.into());
        }
        if recording.records(&observation) {
            masking.record(observation);
        }
    }
}

/// The catalogue, as `/health/plugins` shows it: a line for each version that serves, and for each that is refused or
/// taken out; one for a component that has neither.
#[derive(Clone, Debug)]
pub(super) struct Health(pub(super) Arc<Catalogue>);

impl Plugins for Health {
    fn list(&self) -> Vec<PluginHealth> {
        self.0.list().iter().flat_map(lines).collect()
    }
}

fn lines(entry: &Entry) -> Vec<PluginHealth> {
    let matters = |state: State| state.serves() || matches!(state, State::Rejected | State::Quarantined);
    let mut shown: Vec<_> = entry.versions.iter().filter(|version| matters(version.state)).collect();
    if shown.is_empty() {
        shown.extend(entry.current());
    }
    let line = |version: &brokle_plugins::catalogue::VersionEntry| PluginHealth {
        id: entry.id.clone(),
        version: Some(version.version.clone()).filter(|version| !version.is_empty()),
        kind: Some(entry.kind.clone()).filter(|kind| !kind.is_empty()),
        status: match version.state {
            State::Enabled => PluginStatus::Active,
            State::Degraded => PluginStatus::Degraded,
            State::Installed => PluginStatus::Installed,
            State::Available => PluginStatus::Available,
            State::Quarantined => PluginStatus::Quarantined,
            State::Rejected => PluginStatus::Refused,
        },
        code: version.code.clone(),
        message: version.reason.clone(),
    };
    shown.into_iter().map(line).collect()
}
