//! Providers, ready to be asked.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::{HasSelf, ResourceAny};

use crate::bindings::common::{ConfigProblem, Problem};
use crate::bindings::provider::{Provider, ProviderPre};
use crate::body::Body;
use crate::engine::Runtime;
use crate::error::{Fault, LoadError, PluginError};
use crate::exchange::{Call, Ending, ErrorOutcome, Frame, Output, Preparation, ResponseHead};
use crate::instance::{CallContext, Session, Spent, State, guarded};
use crate::load::{Inspection, compile, inspect, linker, world_error};
use crate::manifest::{Kind, Manifest, ProviderManifest};

/// A provider plugin: compiled, linked, proved by its own test.
pub struct ProviderPlugin {
    /// What it says of itself.
    pub inspection: Inspection,
    /// What it can do: the JSON of `describe`.
    pub description: serde_json::Value,
    label: Arc<str>,
    runtime: Runtime,
    pre: ProviderPre<State>,
}

impl std::fmt::Debug for ProviderPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProviderPlugin").field(&self.label).finish()
    }
}

impl ProviderPlugin {
    /// Loads a component and runs its self-test.
    ///
    /// # Errors
    /// Why it can't be loaded.
    pub async fn load(runtime: &Runtime, bytes: &[u8]) -> Result<Self, LoadError> {
        let inspection = inspect(bytes)?;
        let manifest = &inspection.manifest;
        if manifest.kind != Kind::Provider {
            return Err(LoadError::Manifest(format!("{} is not a provider", manifest.label())));
        }
        let component = compile(runtime, bytes, &inspection)?;
        let mut linker = linker(runtime, &component, manifest)?;
        let link = Provider::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state);
        let pre = link.and_then(|()| linker.instantiate_pre(&component)).and_then(ProviderPre::new);
        let pre = pre.map_err(|error| world_error(manifest, &error))?;
        let label: Arc<str> = manifest.label().into();
        let mut plugin =
            Self { label, runtime: runtime.clone(), pre, description: serde_json::Value::Null, inspection };
        plugin.description = plugin.probe().await?;
        Ok(plugin)
    }

    async fn probe(&self) -> Result<serde_json::Value, LoadError> {
        let failed = |detail: String| LoadError::SelfTest { plugin: self.label.to_string(), detail };
        let mut instance =
            self.open(CallContext::default()).await.map_err(|error| failed(error.to_string()))?;
        let session = &mut instance.session;
        let described = guarded!(session, "describe", instance.bindings.call_describe(&mut session.store));
        let described = described.map_err(|error| failed(error.to_string()))?;
        let description = serde_json::from_slice(&described)
            .map_err(|error| failed(format!("its description isn't JSON: {error}")))?;
        let tested = guarded!(session, "self-test", instance.bindings.call_self_test(&mut session.store));
        match tested.map_err(|error| failed(error.to_string()))? {
            Ok(()) => Ok(description),
            Err(problem) => Err(failed(problem.message)),
        }
    }

    /// What a fresh instance says of a configuration that its schema has accepted: nothing when it is good, else what
    /// is wrong, each with a pointer to the key.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn check_config(&self, config: &[u8]) -> Result<Vec<ConfigProblem>, PluginError> {
        let context = CallContext { config: config.into(), ..CallContext::default() };
        let mut instance = self.open(context).await?;
        let (session, bindings) = (&mut instance.session, &instance.bindings);
        let config = config.to_vec();
        let checked =
            guarded!(session, "check-config", bindings.call_check_config(&mut session.store, &config))?;
        Ok(checked.err().unwrap_or_default())
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inspection.manifest
    }

    /// What it needs to be connected.
    pub fn connection(&self) -> ProviderManifest {
        self.manifest().provider.clone().unwrap_or_default()
    }

    /// `id version`.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Whether the plugin offers an operation.
    pub fn offers(&self, operation: &str) -> bool {
        self.description.get("operations").and_then(|operations| operations.get(operation)).is_some()
    }

    /// A fresh instance, for one request.
    ///
    /// # Errors
    /// No slot is free, or the instance can't be made.
    pub async fn open(&self, context: CallContext) -> Result<ProviderInstance, PluginError> {
        let started = Instant::now();
        let mut session = Session::open(&self.runtime, &self.label, self.runtime.config.provider, context)?;
        let made = self.pre.instantiate_async(&mut session.store).await;
        session.spent.time += started.elapsed();
        match made {
            Ok(bindings) => Ok(ProviderInstance { session, bindings, decoder: None }),
            Err(error) => Err(PluginError {
                plugin: self.label.clone(),
                export: "instantiate",
                fault: Fault::Instantiate(format!("{error:#}")),
            }),
        }
    }
}

/// One request's instance. After an error it is of no more use: drop it.
pub struct ProviderInstance {
    session: Session,
    bindings: Provider,
    decoder: Option<ResourceAny>,
}

impl std::fmt::Debug for ProviderInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProviderInstance").field(&self.session.label).finish()
    }
}

impl ProviderInstance {
    /// What to send for a call.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: its refusal.
    pub async fn prepare(
        &mut self,
        call: &Call,
        body: Body,
    ) -> Result<Result<Preparation, Problem>, PluginError> {
        let session = &mut self.session;
        let handle = session.lend(body);
        let adapter = self.bindings.brokle_provider_adapter();
        guarded!(session, "prepare", adapter.call_prepare(&mut session.store, call, handle))
    }

    /// What an answer outside 2xx means.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn map_error(
        &mut self,
        call: &Call,
        head: &ResponseHead,
        body: Vec<u8>,
    ) -> Result<ErrorOutcome, PluginError> {
        let session = &mut self.session;
        let adapter = self.bindings.brokle_provider_adapter();
        guarded!(session, "map-error", adapter.call_map_error(&mut session.store, call, head, &body))
    }

    /// Begins to decode an answer.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn begin_decoding(
        &mut self,
        call: &Call,
        head: &ResponseHead,
        state: &[u8],
    ) -> Result<(), PluginError> {
        let session = &mut self.session;
        let decoder = self.bindings.brokle_provider_adapter().decoder();
        let made = guarded!(
            session,
            "decoder.constructor",
            decoder.call_constructor(&mut session.store, call, head, state)
        )?;
        self.decoder = Some(made);
        Ok(())
    }

    /// Frames of one read, in order.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it can't understand the answer.
    pub async fn push(&mut self, frames: &[Frame]) -> Result<Result<Vec<Output>, Problem>, PluginError> {
        let decoder = self.decoder("decoder.push")?;
        let session = &mut self.session;
        let adapter = self.bindings.brokle_provider_adapter().decoder();
        guarded!(session, "decoder.push", adapter.call_push(&mut session.store, decoder, frames))
    }

    /// The answer has ended.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: the answer was cut short.
    pub async fn finish(&mut self) -> Result<Result<Ending, Problem>, PluginError> {
        let decoder = self.decoder("decoder.finish")?;
        let session = &mut self.session;
        let adapter = self.bindings.brokle_provider_adapter().decoder();
        guarded!(session, "decoder.finish", adapter.call_finish(&mut session.store, decoder))
    }

    /// What this instance has cost so far.
    pub fn spent(&self) -> Spent {
        self.session.spent
    }

    fn decoder(&self, export: &'static str) -> Result<ResourceAny, PluginError> {
        self.decoder.ok_or_else(|| PluginError {
            plugin: self.session.label.clone(),
            export,
            fault: Fault::Instantiate("decoding was not begun".into()),
        })
    }
}
