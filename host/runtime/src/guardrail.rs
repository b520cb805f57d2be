//! Guardrails, ready to be asked.
//!
//! A guardrail's instance rules on one thing: a request, a whole answer, or a stream, for which it is kept. What it
//! wants to know of the request when the answer comes travels as bytes, so that no sandbox is held while a provider
//! thinks.

use wasmtime::component::Resource;

use crate::bindings::guardrail::brokle::guardrail::facts;
use crate::bindings::guardrail::{Guardrail, GuardrailIndices};
use crate::body::Body;
use crate::error::PluginError;
use crate::guarding::{Call, Failure, Fragment, Ruling, StreamRuling, Text};
use crate::instance::{CallContext, Session, Spent, State, guarded};
use crate::loaded::{Loaded, bound_world, plugin};

/// A guardrail: compiled, linked, proved by its own test.
pub struct GuardrailPlugin(Loaded<GuardrailIndices>);
plugin!(GuardrailPlugin);

bound_world!(Guardrail, GuardrailIndices, guardrail);

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
        let (session, bindings) =
            self.0.bind(context, |indices, store, instance| indices.load(store, instance)).await?;
        Ok(GuardrailInstance { session, bindings })
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
