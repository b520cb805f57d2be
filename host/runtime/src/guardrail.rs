//! Guardrails, ready to be asked.
//!
//! A guardrail's instance rules on one thing: a request, a whole answer, or a stream, for which it is kept. What it
//! wants to know of the request when the answer comes travels as bytes, so that no sandbox is held while a provider
//! thinks.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::{HasSelf, Resource};

use crate::bindings::common::ConfigProblem;
use crate::bindings::guardrail::brokle::guardrail::facts;
use crate::bindings::guardrail::{Guardrail, GuardrailPre};
use crate::body::Body;
use crate::engine::Runtime;
use crate::error::{Fault, LoadError, PluginError};
use crate::guarding::{Call, Failure, Fragment, Ruling, StreamRuling, Text};
use crate::instance::{CallContext, Session, Spent, State, guarded};
use crate::lazy::Lazy;
use crate::load::{Inspection, compile, inspect, linker, world_error};
use crate::manifest::{Kind, Manifest};

/// A guardrail: compiled, linked, proved by its own test.
pub struct GuardrailPlugin {
    /// What it says of itself.
    pub inspection: Inspection,
    label: Arc<str>,
    runtime: Runtime,
    ready: Lazy<Ready>,
}

/// A component that can be instantiated.
struct Ready {
    pre: GuardrailPre<State>,
    /// What it has rules for: the JSON of `describe`.
    description: serde_json::Value,
}

impl std::fmt::Debug for GuardrailPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GuardrailPlugin").field(&self.label).finish()
    }
}

impl GuardrailPlugin {
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
    /// It is no guardrail.
    pub fn later(runtime: &Runtime, bytes: Bytes, inspection: Inspection) -> Result<Self, LoadError> {
        let manifest = &inspection.manifest;
        if manifest.kind != Kind::Guardrail {
            return Err(LoadError::Manifest(format!("{} is not a guardrail", manifest.label())));
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

    async fn ready(&self) -> Result<&Ready, PluginError> {
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

    /// Whether it has rules for a stage, `request` or `response`. One that nobody has used yet may have: it is asked.
    pub fn rules_on(&self, stage: &str) -> bool {
        let Some(ready) = self.ready.get() else { return true };
        let stages = ready.description.get("stages").and_then(serde_json::Value::as_array);
        stages.is_some_and(|stages| stages.iter().any(|named| named == stage))
    }

    /// What a fresh instance says of a configuration that its schema has accepted: nothing when it is good, else what
    /// is wrong, each with a pointer to the key.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn check_config(&self, config: &[u8]) -> Result<Vec<ConfigProblem>, PluginError> {
        let context = CallContext { config: config.into(), ..CallContext::default() };
        let mut instance = self.open(context).await?;
        let session = &mut instance.session;
        let (bindings, config) = (&instance.bindings, config.to_vec());
        let checked =
            guarded!(session, "check-config", bindings.call_check_config(&mut session.store, &config))?;
        Ok(checked.err().unwrap_or_default())
    }

    /// A fresh instance, for one request, one answer, or one stream.
    ///
    /// # Errors
    /// No slot is free, or the instance can't be made.
    pub async fn open(&self, context: CallContext) -> Result<GuardrailInstance, PluginError> {
        let started = Instant::now();
        let pre = &self.ready().await?.pre;
        instantiate(&self.runtime, &self.label, pre, context, started).await
    }
}

async fn instantiate(
    runtime: &Runtime,
    label: &Arc<str>,
    pre: &GuardrailPre<State>,
    context: CallContext,
    started: Instant,
) -> Result<GuardrailInstance, PluginError> {
    let mut session = Session::open(runtime, label, runtime.config.guardrail, context)?;
    let made = pre.instantiate_async(&mut session.store).await;
    session.spent.time += started.elapsed();
    match made {
        Ok(bindings) => Ok(GuardrailInstance { session, bindings }),
        Err(error) => Err(PluginError {
            plugin: label.clone(),
            export: "instantiate",
            fault: Fault::Instantiate(format!("{error:#}")),
        }),
    }
}

async fn make(runtime: &Runtime, bytes: &[u8], inspection: &Inspection) -> Result<Ready, LoadError> {
    let manifest = &inspection.manifest;
    let component = compile(runtime, bytes, inspection)?;
    let mut linker = linker(runtime, &component, manifest)?;
    let link = Guardrail::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state);
    let pre = link.and_then(|()| linker.instantiate_pre(&component)).and_then(GuardrailPre::new);
    let pre = pre.map_err(|error| world_error(manifest, &error))?;
    let description = probe(runtime, &manifest.label().into(), &pre).await?;
    Ok(Ready { pre, description })
}

async fn probe(
    runtime: &Runtime,
    label: &Arc<str>,
    pre: &GuardrailPre<State>,
) -> Result<serde_json::Value, LoadError> {
    let failed = |detail: String| LoadError::SelfTest { plugin: label.to_string(), detail };
    let opened = instantiate(runtime, label, pre, CallContext::default(), Instant::now()).await;
    let mut instance = opened.map_err(|error| failed(error.to_string()))?;
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

/// One instance. After an error it is of no more use: drop it.
pub struct GuardrailInstance {
    session: Session,
    bindings: Guardrail,
}

impl std::fmt::Debug for GuardrailInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("GuardrailInstance").field(&self.session.label).finish()
    }
}

impl GuardrailInstance {
    /// Rules on a request's texts. `request` is the whole body.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it couldn't rule.
    pub async fn on_request(
        &mut self,
        call: &Call,
        request: Body,
        texts: &[Text],
    ) -> Result<Result<Ruling, Failure>, PluginError> {
        let session = &mut self.session;
        let document = session.lend(request);
        let guard = self.bindings.brokle_guardrail_guard();
        guarded!(session, "on-request", guard.call_on_request(&mut session.store, call, document, texts))
    }

    /// Rules on a whole answer's texts. `request` is what the answer is to.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it couldn't rule.
    pub async fn on_response(
        &mut self,
        call: &Call,
        request: Body,
        texts: &[Text],
    ) -> Result<Result<Ruling, Failure>, PluginError> {
        let session = &mut self.session;
        let document = session.lend(request);
        let guard = self.bindings.brokle_guardrail_guard();
        guarded!(session, "on-response", guard.call_on_response(&mut session.store, call, document, texts))
    }

    /// Rules on what a stream's texts have grown by; `finish` after the last of it.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it couldn't rule.
    pub async fn on_chunk(
        &mut self,
        call: &Call,
        request: Body,
        fragments: &[Fragment],
        finish: bool,
    ) -> Result<Result<StreamRuling, Failure>, PluginError> {
        let session = &mut self.session;
        let document = session.lend(request);
        let guard = self.bindings.brokle_guardrail_guard();
        guarded!(
            session,
            "on-chunk",
            guard.call_on_chunk(&mut session.store, call, document, fragments, finish)
        )
    }

    /// What this instance has cost so far.
    pub fn spent(&self) -> Spent {
        self.session.spent
    }
}

impl facts::Host for State {}

impl facts::HostDocument for State {
    fn size(&mut self, _: Resource<Body>) -> wasmtime::Result<u64> {
        Ok(self.body.as_ref().map_or(0, Body::size))
    }

    fn get(&mut self, _: Resource<Body>, pointer: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.body.as_ref().and_then(|body| body.get(&pointer)))
    }

    fn drop(&mut self, _: Resource<Body>) -> wasmtime::Result<()> {
        Ok(())
    }
}
