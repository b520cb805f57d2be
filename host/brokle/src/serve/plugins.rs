//! Loading the built-in plugins: off the request's path, with progress for whoever waits.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_api::app::{PluginHealth, PluginStatus, Plugins};
use brokle_runtime::{
    Builtin, GuardrailPlugin, Inspection, Kind, LoadError, PolicyPlugin, ProviderPlugin, Runtime, inspect,
};

use super::Failure;

/// How long loading may take before somebody is told what it is about.
const NOTICE: Duration = Duration::from_millis(300);

/// What was loaded.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) providers: Vec<Arc<ProviderPlugin>>,
    pub(super) policies: Vec<PolicyPlugin>,
    pub(super) guardrails: Vec<Arc<GuardrailPlugin>>,
    pub(super) health: Health,
}

/// Every component that was found, for `/health/plugins`.
#[derive(Clone, Debug, Default)]
pub(super) struct Health(Vec<PluginHealth>);

impl Plugins for Health {
    fn list(&self) -> Vec<PluginHealth> {
        self.0.clone()
    }
}

/// Loads all of them. One that can't be loaded is logged and left out; none at all is an error.
pub(super) async fn load(runtime: &Runtime, folder: Option<&Path>) -> Result<Loaded, Failure> {
    let found = Builtin::all(folder)?;
    let (begun, count) = (Instant::now(), found.len());
    let mut loaded = Loaded::default();
    for (index, builtin) in found.into_iter().enumerate() {
        if begun.elapsed() > NOTICE {
            tracing::info!("compiling plugins: {} of {count}, {}", index + 1, builtin.name);
        }
        match load_one(runtime, &builtin, &mut loaded).await {
            Ok(inspection) => loaded.health.0.push(healthy(&inspection)),
            Err(error) => {
                tracing::error!(plugin = builtin.name, code = error.code(), "a plugin isn't loaded: {error}");
                loaded.health.0.push(refused(&builtin, &error));
            }
        }
    }
    let milliseconds = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    tracing::info!(
        providers = loaded.providers.len(),
        policies = loaded.policies.len(),
        guardrails = loaded.guardrails.len(),
        milliseconds,
        "plugins loaded"
    );
    Ok(loaded)
}

async fn load_one(
    runtime: &Runtime,
    builtin: &Builtin,
    loaded: &mut Loaded,
) -> Result<Inspection, LoadError> {
    let kind = inspect(&builtin.bytes)?.manifest.kind;
    // Compiling takes a thread for tenths of a second; other tasks go on meanwhile.
    match kind {
        Kind::Provider => {
            let plugin = ProviderPlugin::load(runtime, &builtin.bytes).await?;
            let inspection = plugin.inspection.clone();
            loaded.providers.push(Arc::new(plugin));
            Ok(inspection)
        }
        Kind::RoutingPolicy => {
            let plugin = PolicyPlugin::load(runtime, &builtin.bytes).await?;
            let inspection = plugin.inspection.clone();
            loaded.policies.push(plugin);
            Ok(inspection)
        }
        Kind::Guardrail => {
            let plugin = GuardrailPlugin::load(runtime, &builtin.bytes).await?;
            let inspection = plugin.inspection.clone();
            loaded.guardrails.push(Arc::new(plugin));
            Ok(inspection)
        }
    }
}

fn healthy(inspection: &Inspection) -> PluginHealth {
    let manifest = &inspection.manifest;
    let kind = match manifest.kind {
        Kind::Provider => "provider",
        Kind::RoutingPolicy => "routing-policy",
        Kind::Guardrail => "guardrail",
    };
    PluginHealth {
        id: manifest.id.clone(),
        version: Some(manifest.version.to_string()),
        kind: Some(kind.to_owned()),
        status: PluginStatus::Active,
        code: None,
        message: None,
    }
}

fn refused(builtin: &Builtin, error: &LoadError) -> PluginHealth {
    PluginHealth {
        id: builtin.name.clone(),
        version: None,
        kind: None,
        status: PluginStatus::Refused,
        code: Some(error.code().to_owned()),
        message: Some(error.to_string()),
    }
}
