//! Providers, ready to be asked.

use std::sync::Arc;

use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker, Resource, ResourceAny};
use wasmtime::{Result as Wasm, Store};

use crate::bindings::common::Problem;
use crate::bindings::provider::Provider;
use crate::body::Body;
use crate::engine::RuntimeConfig;
use crate::error::{Fault, PluginError};
use crate::exchange::{Call, Ending, ErrorOutcome, Frame, Output, Preparation, ResponseHead};
use crate::export::{Export, signature};
use crate::instance::{CallContext, Session, Spent, State, guarded};
use crate::limits::Limits;
use crate::loaded::{Loaded, Ready, World, plugin};
use crate::manifest::{Kind, ProviderManifest};

/// A provider plugin: compiled, linked, proved by its own test.
pub struct ProviderPlugin(Loaded<Adapter>);
plugin!(ProviderPlugin);

const ADAPTER: Option<&str> = Some("brokle:provider/adapter@0.1.0");
signature!(Prepare, ADAPTER, "prepare", (&'a Call, Resource<Body>) -> Result<Preparation, Problem>);
signature!(MapError, ADAPTER, "map-error", (&'a Call, &'a ResponseHead, &'a [u8]) -> ErrorOutcome);
signature!(NewDecoder, ADAPTER, "[constructor]decoder", (&'a Call, &'a ResponseHead, &'a [u8]) -> ResourceAny);
signature!(Push, ADAPTER, "[method]decoder.push", (ResourceAny, &'a [Frame]) -> Result<Vec<Output>, Problem>);
signature!(Finish, ADAPTER, "[method]decoder.finish", (ResourceAny,) -> Result<Ending, Problem>);

/// What a provider exports.
struct Adapter {
    prepare: Export<Prepare>,
    map_error: Export<MapError>,
    new_decoder: Export<NewDecoder>,
    push: Export<Push>,
    finish: Export<Finish>,
}

impl World for Adapter {
    const KIND: Kind = Kind::Provider;

    fn limits(config: &RuntimeConfig) -> Limits {
        config.provider
    }

    fn link(linker: &mut Linker<State>) -> Wasm<()> {
        Provider::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }

    fn find(
        component: &Component,
        _: &InstancePre<State>,
        instance: &Instance,
        store: &mut Store<State>,
    ) -> Wasm<Self> {
        Ok(Self {
            prepare: Export::check(component, instance, store)?,
            map_error: Export::check(component, instance, store)?,
            new_decoder: Export::check(component, instance, store)?,
            push: Export::check(component, instance, store)?,
            finish: Export::check(component, instance, store)?,
        })
    }
}

impl ProviderPlugin {
    /// What it needs to be connected.
    pub fn connection(&self) -> &ProviderManifest {
        static NOTHING: std::sync::LazyLock<ProviderManifest> = std::sync::LazyLock::new(Default::default);
        self.manifest().provider.as_ref().unwrap_or_else(|| &*NOTHING)
    }

    /// What it can do, the JSON of `describe`; none before it was first used.
    pub fn description(&self) -> Option<&serde_json::Value> {
        self.0.known().map(|ready| &ready.description)
    }

    /// A fresh instance, for one request.
    ///
    /// # Errors
    /// No slot is free, or the instance can't be made.
    pub async fn open(&self, context: CallContext) -> Result<ProviderInstance, PluginError> {
        let (session, instance, ready) = self.0.open(context).await?;
        Ok(ProviderInstance { session, instance, ready: Arc::clone(ready), decoder: None })
    }
}

/// One request's instance. After an error it is of no more use: drop it.
pub struct ProviderInstance {
    session: Session,
    instance: Instance,
    ready: Arc<Ready<Adapter>>,
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
        let export = &self.ready.world.prepare;
        let params = |session: &mut Session| (call, session.lend(body.clone()));
        let called = self.ready.call(export, &mut self.session, &mut self.instance, params).await;
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
        let export = &self.ready.world.map_error;
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
        let export = &self.ready.world.new_decoder;
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
        let export = &self.ready.world.push;
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
        let export = &self.ready.world.finish;
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
