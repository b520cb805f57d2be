//! A version in memory: compiled once, whatever the number of scopes that it serves.

use std::sync::Arc;

use brokle_runtime::capabilities::PluginCapabilities;
use brokle_runtime::{
    CallContext, ConfigProblem, DialectPlugin, ExporterPlugin, GuardrailPlugin, Inspection, Kind, LoadError,
    PluginError, PolicyPlugin, ProviderPlugin, Runtime, inspect,
};
use bytes::Bytes;

use crate::health::Health;
use crate::snapshot::{Active, View};

/// A compiled component.
#[derive(Clone, Debug)]
pub(crate) enum Component {
    Provider(Arc<ProviderPlugin>),
    Policy(Arc<PolicyPlugin>),
    Guardrail(Arc<GuardrailPlugin>),
    Dialect(Arc<DialectPlugin>),
    Exporter(Arc<ExporterPlugin>),
}

/// A compiled component and its record.
#[derive(Clone, Debug)]
pub(crate) struct Loaded {
    pub(crate) component: Component,
    pub(crate) health: Arc<Health>,
}

impl Component {
    /// Compiles, links and tests on a thread of its own, away from those that serve.
    pub(crate) async fn load(runtime: &Runtime, bytes: Bytes) -> Result<Self, LoadError> {
        let runtime = runtime.clone();
        let handle = tokio::runtime::Handle::current();
        let work = tokio::task::spawn_blocking(move || handle.block_on(Self::load_here(&runtime, &bytes)));
        work.await.map_err(|error| LoadError::Compile { plugin: "it".into(), detail: error.to_string() })?
    }

    /// One of the server's own: compiled when it is first used.
    pub(crate) fn later(runtime: &Runtime, bytes: Bytes) -> Result<Self, LoadError> {
        let inspection = inspect(&bytes)?;
        Ok(match inspection.manifest.kind {
            Kind::Provider => Self::Provider(Arc::new(ProviderPlugin::later(runtime, bytes, inspection)?)),
            Kind::RoutingPolicy => Self::Policy(Arc::new(PolicyPlugin::later(runtime, bytes, inspection)?)),
            Kind::Guardrail => Self::Guardrail(Arc::new(GuardrailPlugin::later(runtime, bytes, inspection)?)),
            Kind::Dialect => Self::Dialect(Arc::new(DialectPlugin::later(runtime, bytes, inspection)?)),
            Kind::Exporter => Self::Exporter(Arc::new(ExporterPlugin::later(runtime, bytes, inspection)?)),
        })
    }

    async fn load_here(runtime: &Runtime, bytes: &[u8]) -> Result<Self, LoadError> {
        match inspect(bytes)?.manifest.kind {
            Kind::Provider => Ok(Self::Provider(Arc::new(ProviderPlugin::load(runtime, bytes).await?))),
            Kind::RoutingPolicy => Ok(Self::Policy(Arc::new(PolicyPlugin::load(runtime, bytes).await?))),
            Kind::Guardrail => Ok(Self::Guardrail(Arc::new(GuardrailPlugin::load(runtime, bytes).await?))),
            Kind::Dialect => Ok(Self::Dialect(Arc::new(DialectPlugin::load(runtime, bytes).await?))),
            Kind::Exporter => Ok(Self::Exporter(Arc::new(ExporterPlugin::load(runtime, bytes).await?))),
        }
    }

    pub(crate) fn inspection(&self) -> &Inspection {
        match self {
            Self::Provider(plugin) => plugin.inspection(),
            Self::Policy(plugin) => plugin.inspection(),
            Self::Guardrail(plugin) => plugin.inspection(),
            Self::Dialect(plugin) => plugin.inspection(),
            Self::Exporter(plugin) => plugin.inspection(),
        }
    }

    pub(crate) async fn check_config(&self, config: &[u8]) -> Result<Vec<ConfigProblem>, PluginError> {
        match self {
            Self::Provider(plugin) => plugin.check_config(config).await,
            Self::Policy(plugin) => plugin.check_config(config).await,
            Self::Guardrail(plugin) => plugin.check_config(config).await,
            Self::Dialect(plugin) => plugin.check_config(config).await,
            Self::Exporter(plugin) => plugin.check_config(config).await,
        }
    }
}

impl Loaded {
    /// Puts it into a scope's view, with the scope's configuration.
    pub(crate) fn show(
        &self,
        view: &mut View,
        config: Arc<[u8]>,
        embedded: bool,
        granted: Option<&Arc<PluginCapabilities>>,
    ) {
        let context = CallContext { config, observer: Some(self.health.clone()), capabilities: None };
        let capabilities = granted.cloned();
        match &self.component {
            Component::Provider(plugin) => {
                view.add_provider(Active { plugin: plugin.clone(), context, capabilities, embedded });
            }
            Component::Policy(plugin) => {
                view.add_policy(Active { plugin: plugin.clone(), context, capabilities, embedded });
            }
            Component::Guardrail(plugin) => {
                view.add_guardrail(Active { plugin: plugin.clone(), context, capabilities, embedded });
            }
            Component::Dialect(plugin) => {
                view.add_dialect(Active { plugin: plugin.clone(), context, capabilities, embedded });
            }
            Component::Exporter(plugin) => {
                view.add_exporter(Active { plugin: plugin.clone(), context, capabilities, embedded });
            }
        }
    }
}
