//! Exporters, ready to send.
//!
//! A fresh instance sends one batch: what it kept of the one before would be another project's.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::HasSelf;

use crate::bindings::common::ConfigProblem;
use crate::bindings::exporter::{Exporter, ExporterPre};
use crate::engine::Runtime;
use crate::error::{Fault, LoadError, PluginError};
use crate::exporting::{Batch, Failure, Receipt};
use crate::instance::{CallContext, Session, State, guarded};
use crate::lazy::Lazy;
use crate::load::{Inspection, compile, inspect, linker, world_error};
use crate::manifest::{Kind, Manifest};

/// An exporter: compiled, linked, proved by its own test.
pub struct ExporterPlugin {
    /// What it says of itself.
    pub inspection: Inspection,
    label: Arc<str>,
    runtime: Runtime,
    ready: Lazy<ExporterPre<State>>,
}

impl std::fmt::Debug for ExporterPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ExporterPlugin").field(&self.label).finish()
    }
}

impl ExporterPlugin {
    /// Loads a component and runs its self-test.
    ///
    /// # Errors
    /// Why it can't be loaded.
    pub async fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Self, LoadError> {
        let mut plugin = Self::later(runtime, Bytes::new(), inspect(bytes)?)?;
        plugin.ready = Lazy::done(make(runtime, bytes, &plugin.inspection).await?);
        Ok(plugin)
    }

    /// One of the server's own: compiled and tested when it is first used.
    ///
    /// # Errors
    /// It is no exporter.
    pub fn later(runtime: &Runtime, bytes: Bytes, inspection: Inspection) -> Result<Self, LoadError> {
        let manifest = &inspection.manifest;
        if manifest.kind != Kind::Exporter {
            return Err(LoadError::Manifest(format!("{} is not an exporter", manifest.label())));
        }
        let label = manifest.label().into();
        Ok(Self { label, runtime: runtime.clone(), ready: Lazy::later(bytes), inspection })
    }

    async fn ready(&self) -> Result<&ExporterPre<State>, PluginError> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let (runtime, inspection) = (self.runtime.clone(), self.inspection.clone());
        let make = |bytes: Bytes| async move { make(&runtime, &bytes, &inspection).await };
        Box::pin(self.ready.ready(&self.label, make)).await
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inspection.manifest
    }

    /// `id version`.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What a fresh instance says of a configuration that its schema has accepted: nothing when it is good, else what
    /// is wrong, each with a pointer to the key.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn check_config(&self, config: &[u8]) -> Result<Vec<ConfigProblem>, PluginError> {
        let context = CallContext { config: config.into(), ..CallContext::default() };
        let (mut session, bindings) = open(&self.runtime, &self.label, self.ready().await?, context).await?;
        let config = config.to_vec();
        let checked =
            guarded!(session, "check-config", bindings.call_check_config(&mut session.store, &config))?;
        Ok(checked.err().unwrap_or_default())
    }

    /// Has a fresh instance send a batch.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: the receiver doesn't have it.
    pub async fn export(
        &self,
        context: CallContext,
        batch: &Batch,
    ) -> Result<Result<Receipt, Failure>, PluginError> {
        let (mut session, bindings) = open(&self.runtime, &self.label, self.ready().await?, context).await?;
        let sink = bindings.brokle_exporter_sink();
        guarded!(session, "export", sink.call_export(&mut session.store, batch))
    }
}

async fn open(
    runtime: &Runtime,
    label: &Arc<str>,
    pre: &ExporterPre<State>,
    context: CallContext,
) -> Result<(Session, Exporter), PluginError> {
    let started = Instant::now();
    let mut session = Session::open(runtime, label, runtime.config.exporter, context)?;
    let made = pre.instantiate_async(&mut session.store).await;
    session.spent.time += started.elapsed();
    match made {
        Ok(bindings) => Ok((session, bindings)),
        Err(error) => Err(PluginError {
            plugin: label.clone(),
            export: "instantiate",
            fault: Fault::Instantiate(format!("{error:#}")),
        }),
    }
}

async fn make(
    runtime: &Runtime,
    bytes: &[u8],
    inspection: &Inspection,
) -> Result<ExporterPre<State>, LoadError> {
    let manifest = &inspection.manifest;
    let component = compile(runtime, bytes, inspection)?;
    let mut linker = linker(runtime, &component, manifest)?;
    let link = Exporter::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state);
    let pre = link.and_then(|()| linker.instantiate_pre(&component)).and_then(ExporterPre::new);
    let pre = pre.map_err(|error| world_error(manifest, &error))?;
    probe(runtime, &manifest.label().into(), &pre).await?;
    Ok(pre)
}

async fn probe(runtime: &Runtime, label: &Arc<str>, pre: &ExporterPre<State>) -> Result<(), LoadError> {
    let failed = |detail: String| LoadError::SelfTest { plugin: label.to_string(), detail };
    let opened = open(runtime, label, pre, CallContext::default()).await;
    let (mut session, bindings) = opened.map_err(|error| failed(error.to_string()))?;
    let described = guarded!(session, "describe", bindings.call_describe(&mut session.store));
    let described = described.map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice::<serde_json::Value>(&described)
        .map_err(|error| failed(format!("its description isn't JSON: {error}")))?;
    let tested = guarded!(session, "self-test", bindings.call_self_test(&mut session.store));
    let tested = tested.map_err(|error| failed(error.to_string()))?;
    tested.map_err(|problem| failed(problem.message))
}

impl crate::bindings::exporter::brokle::exporter::batches::Host for State {}
