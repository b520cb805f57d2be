//! Providers, ready to be asked.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Resource, ResourceAny};
use wasmtime::{Result as Wasm, Store};

use crate::bindings::common::{ConfigProblem, Problem};
use crate::bindings::provider::Provider;
use crate::body::Body;
use crate::engine::Runtime;
use crate::error::{Fault, LoadError, PluginError};
use crate::exchange::{Call, Ending, ErrorOutcome, Frame, Output, Preparation, ResponseHead};
use crate::export::{CheckConfig, Export, describe_and_test, signature};
use crate::instance::{CallContext, Pace, Session, Spent, State, guarded, instantiate};
use crate::lazy::Lazy;
use crate::load::{Inspection, compile, inspect, linker, world_error};
use crate::manifest::{Kind, Manifest, ProviderManifest};

/// A provider plugin: compiled, linked, proved by its own test.
pub struct ProviderPlugin {
    /// What it says of itself.
    pub inspection: Inspection,
    label: Arc<str>,
    runtime: Runtime,
    ready: Lazy<Arc<Ready>>,
}

/// A component that can be instantiated.
struct Ready {
    pre: InstancePre<State>,
    pace: Pace,
    adapter: Adapter,
    /// What it can do: the JSON of `describe`.
    description: serde_json::Value,
}

const ADAPTER: Option<&str> = Some("brokle:provider/adapter@0.1.0");
signature!(Prepare, ADAPTER, "prepare", (&'a Call, Resource<Body>) -> Result<Preparation, Problem>);
signature!(MapError, ADAPTER, "map-error", (&'a Call, &'a ResponseHead, &'a [u8]) -> ErrorOutcome);
signature!(NewDecoder, ADAPTER, "[constructor]decoder", (&'a Call, &'a ResponseHead, &'a [u8]) -> ResourceAny);
signature!(Push, ADAPTER, "[method]decoder.push", (ResourceAny, &'a [Frame]) -> Result<Vec<Output>, Problem>);
signature!(Finish, ADAPTER, "[method]decoder.finish", (ResourceAny,) -> Result<Ending, Problem>);

/// What a provider exports.
struct Adapter {
    check_config: Export<CheckConfig>,
    prepare: Export<Prepare>,
    map_error: Export<MapError>,
    new_decoder: Export<NewDecoder>,
    push: Export<Push>,
    finish: Export<Finish>,
}

impl Adapter {
    fn check(component: &Component, instance: &Instance, store: &mut Store<State>) -> Wasm<Self> {
        Ok(Self {
            check_config: Export::check(component, instance, store)?,
            prepare: Export::check(component, instance, store)?,
            map_error: Export::check(component, instance, store)?,
            new_decoder: Export::check(component, instance, store)?,
            push: Export::check(component, instance, store)?,
            finish: Export::check(component, instance, store)?,
        })
    }
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
        let mut plugin = Self::later(runtime, Bytes::new(), inspect(bytes)?)?;
        plugin.ready = Lazy::done(make(runtime, bytes, &plugin.inspection).await?);
        Ok(plugin)
    }

    /// One of the server's own: compiled and tested when it is first used.
    ///
    /// # Errors
    /// It is no provider.
    pub fn later(runtime: &Runtime, bytes: Bytes, inspection: Inspection) -> Result<Self, LoadError> {
        let manifest = &inspection.manifest;
        if manifest.kind != Kind::Provider {
            return Err(LoadError::Manifest(format!("{} is not a provider", manifest.label())));
        }
        let label = manifest.label().into();
        Ok(Self { label, runtime: runtime.clone(), ready: Lazy::later(bytes), inspection })
    }

    /// Compiles it now, unless that was done.
    ///
    /// # Errors
    /// It can't be used, and why.
    pub async fn warm(&self) -> Result<(), PluginError> {
        self.ready().await.map(|_| ())
    }

    async fn ready(&self) -> Result<&Arc<Ready>, PluginError> {
        if let Some(ready) = self.ready.get() {
            return Ok(ready);
        }
        let (runtime, inspection) = (self.runtime.clone(), self.inspection.clone());
        let make = |bytes: Bytes| async move { make(&runtime, &bytes, &inspection).await };
        Box::pin(self.ready.ready(&self.label, make)).await
    }

    /// What a fresh instance says of a configuration that its schema has accepted: nothing when it is good, else what
    /// is wrong, each with a pointer to the key.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn check_config(&self, config: &[u8]) -> Result<Vec<ConfigProblem>, PluginError> {
        let context = CallContext { config: config.into(), ..CallContext::default() };
        let mut instance = self.open(context).await?;
        let (session, check) = (&mut instance.session, &instance.ready.adapter.check_config);
        let (checked,) =
            guarded!(session, "check-config", check.call(&instance.instance, &mut session.store, (config,)))?;
        Ok(checked.err().unwrap_or_default())
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inspection.manifest
    }

    /// What it needs to be connected.
    pub fn connection(&self) -> &ProviderManifest {
        static NOTHING: std::sync::LazyLock<ProviderManifest> = std::sync::LazyLock::new(Default::default);
        self.manifest().provider.as_ref().unwrap_or_else(|| &*NOTHING)
    }

    /// `id version`.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// What it can do, the JSON of `describe`; none before it was first used.
    pub fn description(&self) -> Option<&serde_json::Value> {
        self.ready.get().map(|ready| &ready.description)
    }

    /// A fresh instance, for one request.
    ///
    /// # Errors
    /// No slot is free, or the instance can't be made.
    pub async fn open(&self, context: CallContext) -> Result<ProviderInstance, PluginError> {
        let ready = self.ready().await?.clone();
        let mut session = Session::open(&self.runtime, &self.label, self.runtime.config.provider, context)?;
        let instance = instantiate(&mut session, &ready.pre, &ready.pace).await?;
        Ok(ProviderInstance { session, instance, ready, decoder: None })
    }
}

async fn make(runtime: &Runtime, bytes: &[u8], inspection: &Inspection) -> Result<Arc<Ready>, LoadError> {
    let manifest = &inspection.manifest;
    let component = compile(runtime, bytes, inspection)?;
    let mut linker = linker(runtime, &component, manifest)?;
    let link = Provider::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state);
    let pre = link.and_then(|()| linker.instantiate_pre(&component));
    let pre = pre.map_err(|error| world_error(manifest, &error))?;
    let label: Arc<str> = manifest.label().into();
    let (adapter, description) = probe(runtime, &label, &component, &pre, manifest).await?;
    Ok(Arc::new(Ready { pre, pace: Pace::default(), adapter, description }))
}

/// Checks the exports' types and runs the self-test, in an instance like those that requests get.
async fn probe(
    runtime: &Runtime,
    label: &Arc<str>,
    component: &Component,
    pre: &InstancePre<State>,
    manifest: &Manifest,
) -> Result<(Adapter, serde_json::Value), LoadError> {
    let failed = |detail: String| LoadError::SelfTest { plugin: label.to_string(), detail };
    let trapped = |error: PluginError| failed(error.to_string());
    let mut session =
        Session::open(runtime, label, runtime.config.provider, CallContext::default()).map_err(trapped)?;
    let instance = pre.instantiate_async(&mut session.store).await;
    let instance = instance.map_err(|error| world_error(manifest, &error))?;
    let adapter = Adapter::check(component, &instance, &mut session.store)
        .map_err(|error| world_error(manifest, &error))?;
    let (described, _) = describe_and_test(&mut session, component, &instance, manifest).await?;
    let description = serde_json::from_slice(&described)
        .map_err(|error| failed(format!("its description isn't JSON: {error}")))?;
    Ok((adapter, description))
}

/// One request's instance. After an error it is of no more use: drop it.
pub struct ProviderInstance {
    session: Session,
    instance: Instance,
    ready: Arc<Ready>,
    decoder: Option<ResourceAny>,
}

impl std::fmt::Debug for ProviderInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ProviderInstance").field(&self.session.label).finish()
    }
}

impl ProviderInstance {
    /// Whether the plugin offers an operation.
    pub fn offers(&self, operation: &str) -> bool {
        self.features(operation).is_some()
    }

    /// Whether an operation that the plugin offers has a feature (`stream`).
    pub fn can(&self, operation: &str, feature: &str) -> bool {
        let features = self.features(operation).and_then(serde_json::Value::as_array);
        features.is_some_and(|features| features.iter().any(|named| named == feature))
    }

    fn features(&self, operation: &str) -> Option<&serde_json::Value> {
        self.ready.description.get("operations")?.get(operation)
    }

    /// Whether the vendor takes requests in this dialect and answers in it.
    pub fn speaks(&self, dialect: &str) -> bool {
        let dialects = self.ready.description.get("native_dialects").and_then(serde_json::Value::as_array);
        dialects.is_some_and(|dialects| dialects.iter().any(|named| named == dialect))
    }

    /// What to send for a call.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: its refusal.
    pub async fn prepare(
        &mut self,
        call: &Call,
        body: Body,
    ) -> Result<Result<Preparation, Problem>, PluginError> {
        let (session, export) = (&mut self.session, &self.ready.adapter.prepare);
        // What an earlier call left in the instance would be gone with it.
        if session.spent.calls == 0 && session.is_quick && self.ready.pace.is_quick() {
            let (started, handle) = (Instant::now(), session.lend(body.clone()));
            let call = |store: &mut _| export.call_now(&self.instance, store, (call, handle));
            if let Some(outcome) = session.at_once(call) {
                return session.end("prepare", started, Ok(outcome)).map(|(prepared,)| prepared);
            }
            self.ready.pace.slow();
            session.renew();
            session.spent.time += started.elapsed();
            self.instance = instantiate(session, &self.ready.pre, &self.ready.pace).await?;
        }
        let handle = session.lend(body);
        let called =
            guarded!(session, "prepare", export.call(&self.instance, &mut session.store, (call, handle)));
        called.map(|(prepared,)| prepared)
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
        let export = &self.ready.adapter.map_error;
        let params = (call, head, body.as_slice());
        let called = guarded!(session, "map-error", export.call(&self.instance, &mut session.store, params));
        called.map(|(outcome,)| outcome)
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
        let export = &self.ready.adapter.new_decoder;
        let params = (call, head, state);
        let (made,) = guarded!(
            session,
            "decoder.constructor",
            export.call(&self.instance, &mut session.store, params)
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
        let export = &self.ready.adapter.push;
        let params = (decoder, frames);
        let called =
            guarded!(session, "decoder.push", export.call(&self.instance, &mut session.store, params));
        called.map(|(outputs,)| outputs)
    }

    /// The answer has ended.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: the answer was cut short.
    pub async fn finish(&mut self) -> Result<Result<Ending, Problem>, PluginError> {
        let decoder = self.decoder("decoder.finish")?;
        let session = &mut self.session;
        let export = &self.ready.adapter.finish;
        let called =
            guarded!(session, "decoder.finish", export.call(&self.instance, &mut session.store, (decoder,)));
        called.map(|(ending,)| ending)
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
