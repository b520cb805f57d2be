//! Guardrails, ready to be asked.
//!
//! A guardrail's instance rules on one thing: a request, a whole answer, or a stream, for which it is kept. What it
//! wants to know of the request when the answer comes travels as bytes, so that no sandbox is held while a provider
//! thinks.

use std::sync::Arc;

use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker, Resource};
use wasmtime::{Result as Wasm, Store};

use crate::bindings::guardrail::Guardrail;
use crate::bindings::guardrail::brokle::guardrail::facts;
use crate::body::Body;
use crate::engine::RuntimeConfig;
use crate::error::PluginError;
use crate::export::{Export, Signature, signature};
use crate::guarding::{Call, Failure, Fragment, Ruling, StreamRuling, Text};
use crate::instance::{CallContext, Session, Spent, State};
use crate::limits::Limits;
use crate::loaded::{Loaded, Ready, World, plugin};
use crate::manifest::Kind;

/// A guardrail: compiled, linked, proved by its own test.
pub struct GuardrailPlugin(Loaded<Guard>);
plugin!(GuardrailPlugin);

const GUARD: Option<&str> = Some("brokle:guardrail/guard@0.1.0");
signature!(OnRequest, GUARD, "on-request", (&'a Call, Resource<Body>, &'a [Text]) -> Result<Ruling, Failure>);
signature!(OnResponse, GUARD, "on-response", (&'a Call, Resource<Body>, &'a [Text]) -> Result<Ruling, Failure>);
signature!(
    OnChunk,
    GUARD,
    "on-chunk",
    (&'a Call, Resource<Body>, &'a [Fragment], bool) -> Result<StreamRuling, Failure>
);

/// What a guardrail exports.
struct Guard {
    on_request: Export<OnRequest>,
    on_response: Export<OnResponse>,
    on_chunk: Export<OnChunk>,
}

impl World for Guard {
    const KIND: Kind = Kind::Guardrail;

    fn limits(config: &RuntimeConfig) -> Limits {
        config.guardrail
    }

    fn link(linker: &mut Linker<State>) -> Wasm<()> {
        Guardrail::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }

    fn find(
        component: &Component,
        _: &InstancePre<State>,
        instance: &Instance,
        store: &mut Store<State>,
    ) -> Wasm<Self> {
        Ok(Self {
            on_request: Export::check(component, instance, store)?,
            on_response: Export::check(component, instance, store)?,
            on_chunk: Export::check(component, instance, store)?,
        })
    }
}

impl GuardrailPlugin {
    /// Whether it has rules for a stage, `request` or `response`. One that nobody has used yet may have: it is asked.
    pub fn rules_on(&self, stage: &str) -> bool {
        let Some(ready) = self.0.known() else { return true };
        let stages = ready.description.get("stages").and_then(serde_json::Value::as_array);
        stages.is_some_and(|stages| stages.iter().any(|named| named == stage))
    }

    /// A fresh instance, for one request, one answer, or one stream.
    ///
    /// # Errors
    /// No slot is free, or the instance can't be made.
    pub async fn open(&self, context: CallContext) -> Result<GuardrailInstance, PluginError> {
        let (session, instance, ready) = self.0.open(context).await?;
        Ok(GuardrailInstance { session, instance, ready: Arc::clone(ready) })
    }
}

/// One instance. After an error it is of no more use: drop it.
pub struct GuardrailInstance {
    session: Session,
    instance: Instance,
    ready: Arc<Ready<Guard>>,
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
        let params = |session: &mut Session| (call, session.lend(request.clone()), texts);
        let called = self.ask(|guard| &guard.on_request, params).await;
        called.map(|(ruling,)| ruling)
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
        let params = |session: &mut Session| (call, session.lend(request.clone()), texts);
        let called = self.ask(|guard| &guard.on_response, params).await;
        called.map(|(ruling,)| ruling)
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
        let params = |session: &mut Session| (call, session.lend(request.clone()), fragments, finish);
        let called = self.ask(|guard| &guard.on_chunk, params).await;
        called.map(|(ruling,)| ruling)
    }

    async fn ask<'a, S: Signature>(
        &mut self,
        export: impl Fn(&Guard) -> &Export<S>,
        params: impl Fn(&mut Session) -> S::Params<'a>,
    ) -> Result<S::Return, PluginError> {
        self.ready.call(export(&self.ready.world), &mut self.session, &mut self.instance, params).await
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
