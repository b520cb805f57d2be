//! The three phases of a capability.
//!
//! 1. **Link**, when a component is loaded: [`link`] defines the interfaces that its manifest asks for, no others.
//! 2. **Configure**, when an operator has granted: [`PluginCapabilities::configure`] intersects, resolves secrets, and
//!    makes the permits and counters that all instances share. What is wrong is an operator's error with a pointer.
//! 3. **Prepare**, for each call: [`PluginCapabilities::prepare`] says for whom, and goes into the
//!    [`CallContext`](crate::CallContext). Two pointers and a tenant: nothing is looked up.
//!
//! An instance without a context, such as the one that a component is tested in when it is loaded, has nothing: each
//! call answers `denied`.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::kv::KvStore;
use brokle_core::random::Random;
use brokle_core::tenancy::Tenant;
use parking_lot::Mutex;
use wasmtime::component::{HasSelf, Linker};

use super::clock::Monotonic;
use super::http::{HttpTransport, Permits};
use super::redact;
use super::secrets::{Material, SecretSource, SecretValue};
use super::telemetry::{PluginMetrics, SpanSink, Spans, TraceParent};
use crate::bindings::capabilities::brokle::host;
use crate::grants::{EffectiveGrants, GrantProblem, Grants, below, effective};
use crate::instance::State;
use crate::limits::Limits;
use crate::manifest::Manifest;

/// Log lines of one plugin in one second, all its instances together.
const LINES_PER_SECOND: u32 = 200;

/// What stands behind the interfaces: one of each for the whole server.
#[derive(Debug, Clone)]
pub struct Services {
    /// Keys and values.
    pub kv: Arc<dyn KvStore>,
    /// Requests.
    pub http: Arc<dyn HttpTransport>,
    /// Values behind references.
    pub secrets: Arc<dyn SecretSource>,
    /// Finished spans.
    pub spans: Arc<dyn SpanSink>,
    /// Denied calls.
    pub denials: Arc<dyn DenialSink>,
    /// The time of day.
    pub clock: Arc<dyn Clock>,
    /// Time that only goes forward.
    pub monotonic: Arc<dyn Monotonic>,
    /// Randomness.
    pub random: Arc<dyn Random>,
}

/// Counts what was denied: the server's metrics. Called while a guest waits: it must not wait itself.
pub trait DenialSink: Send + Sync + Debug {
    /// The plugin with this label called an interface without being allowed to.
    fn denied(&self, plugin: &str, interface: &'static str);
}

/// Nobody counts.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoDenials;

impl DenialSink for NoDenials {
    fn denied(&self, _: &str, _: &'static str) {}
}

/// A configured plugin: what its instances share.
#[derive(Debug)]
pub struct PluginCapabilities {
    /// What it may do.
    pub grants: EffectiveGrants,
    /// Calls that were denied.
    pub denials: Denials,
    /// What it has recorded.
    pub metrics: PluginMetrics,
    pub(crate) id: Arc<str>,
    pub(crate) label: Arc<str>,
    pub(crate) services: Services,
    pub(crate) secrets: Vec<Material>,
    /// The secrets' values, to be masked.
    pub(crate) known: Vec<SecretValue>,
    pub(crate) permits: Permits,
    limits: (crate::capabilities::LimitsRequest, Option<crate::capabilities::LimitsRequest>),
    lines: Mutex<Lines>,
}

/// The log's rate.
#[derive(Debug, Default)]
struct Lines {
    second: Duration,
    written: u32,
    dropped: u64,
}

impl PluginCapabilities {
    /// Intersects the manifest with the operator's grants, and resolves what the grants refer to.
    ///
    /// # Errors
    /// What is wrong with the grants, each with a pointer. No message has a secret in it.
    pub fn configure(
        manifest: &Manifest,
        operator: &Grants,
        services: &Services,
    ) -> Result<Arc<Self>, Vec<GrantProblem>> {
        let grants = effective(&manifest.capabilities, operator)?;
        let mut problems = Vec::new();
        let mut secrets = Vec::new();
        for (name, grant) in &grants.secrets {
            match services.secrets.resolve(&grant.reference) {
                Ok(value) => secrets.push(Material::new(name, value)),
                Err(error) => problems
                    .push(GrantProblem { pointer: below("/secrets", name), message: error.to_string() }),
            }
        }
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(Arc::new(Self {
            permits: Permits::new(grants.http.as_ref()),
            grants,
            denials: Denials::default(),
            metrics: PluginMetrics::default(),
            id: manifest.id.as_str().into(),
            label: manifest.label().into(),
            services: services.clone(),
            known: secrets.iter().map(|secret| secret.value.clone()).collect(),
            secrets,
            limits: (manifest.limits, operator.limits),
            lines: Mutex::default(),
        }))
    }

    /// For one call of a tenant, at its place in the trace.
    pub fn prepare(self: &Arc<Self>, tenant: Tenant, trace: Option<TraceParent>) -> CallCapabilities {
        CallCapabilities { plugin: self.clone(), tenant, trace }
    }

    /// The limits of its instances: the role's `default`, as manifest and operator change them.
    pub fn limits(&self, default: Limits) -> Limits {
        default.granted(&self.limits.0, self.limits.1.as_ref())
    }

    /// Log lines that were dropped because the plugin wrote too many a second.
    pub fn log_lines_dropped(&self) -> u64 {
        self.lines.lock().dropped
    }

    /// A text as it may be shown.
    pub(crate) fn redact(&self, text: &str) -> String {
        redact::text(text, &self.known)
    }

    /// Whether one more line fits into this second.
    pub(crate) fn admit_line(&self) -> bool {
        let second = Duration::from_secs(self.services.monotonic.elapsed().as_secs());
        let mut lines = self.lines.lock();
        if lines.second != second {
            *lines = Lines { second, written: 0, dropped: lines.dropped };
        }
        let fits = lines.written < LINES_PER_SECOND;
        if fits {
            lines.written += 1;
        } else {
            lines.dropped += 1;
        }
        fits
    }
}

/// What a call may reach, and for whom. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CallCapabilities {
    pub(crate) plugin: Arc<PluginCapabilities>,
    pub(crate) tenant: Tenant,
    pub(crate) trace: Option<TraceParent>,
}

/// What one instance has.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) plugin: Arc<PluginCapabilities>,
    pub(crate) tenant: Tenant,
    pub(crate) trace: Option<TraceParent>,
    pub(crate) spans: Spans,
}

impl From<CallCapabilities> for Box<Instance> {
    fn from(call: CallCapabilities) -> Self {
        let CallCapabilities { plugin, tenant, trace } = call;
        Box::new(Instance { plugin, tenant, trace, spans: Spans::default() })
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.end_spans(None);
    }
}

/// Calls of one plugin that were denied.
#[derive(Debug, Default)]
pub struct Denials(Mutex<BTreeMap<&'static str, u64>>);

impl Denials {
    /// How many, by the interface's short name.
    pub fn counts(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().clone()
    }

    /// Counts one, and logs the first of each interface.
    pub(crate) fn count(&self, plugin: &str, interface: &'static str, what: &str) {
        let mut counts = self.0.lock();
        let count = counts.entry(interface).or_default();
        *count += 1;
        if *count == 1 {
            tracing::warn!(
                plugin,
                interface,
                "plugin was denied {what}; grant it, or configure the plugin not to use it"
            );
        }
    }
}

impl PluginCapabilities {
    /// Counts a call that was denied: `what`, of this interface.
    pub(crate) fn deny(&self, interface: &'static str, what: &str) {
        self.denials.count(&self.label, interface, what);
        self.services.denials.denied(&self.label, interface);
    }
}

impl State {
    /// The instance's capabilities, if it has this one. Counts a denial if it doesn't.
    pub(crate) fn granted(
        &self,
        interface: &'static str,
        has: impl FnOnce(&Instance) -> bool,
    ) -> Option<&Instance> {
        let instance = self.capabilities.as_deref()?;
        if has(instance) {
            return Some(instance);
        }
        self.deny(interface);
        None
    }

    pub(crate) fn deny(&self, interface: &'static str) {
        if let Some(instance) = self.capabilities.as_deref() {
            instance.plugin.deny(interface, interface);
        }
    }
}

/// Defines the interfaces that the manifest asks for.
pub(crate) fn link(linker: &mut Linker<State>, manifest: &Manifest) -> wasmtime::Result<()> {
    type Data = HasSelf<State>;
    for interface in manifest.capabilities.imports() {
        match interface {
            "clock" => host::clock::add_to_linker::<_, Data>(linker, |state| state)?,
            "crypto" => host::crypto::add_to_linker::<_, Data>(linker, |state| state)?,
            "http" => host::http::add_to_linker::<_, Data>(linker, |state| state)?,
            "kv" => host::kv::add_to_linker::<_, Data>(linker, |state| state)?,
            "random" => host::random::add_to_linker::<_, Data>(linker, |state| state)?,
            "secrets" => host::secrets::add_to_linker::<_, Data>(linker, |state| state)?,
            "telemetry" => host::telemetry::add_to_linker::<_, Data>(linker, |state| state)?,
            _ => {}
        }
    }
    Ok(())
}
