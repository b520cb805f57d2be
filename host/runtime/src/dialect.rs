//! Dialects, ready to be asked.
//!
//! A dialect is asked twice in a call: for the request, and for the answer. Between the two no instance is held, so
//! that no sandbox waits while a provider thinks; what the second is to know travels as bytes. The instance that writes
//! or reads a stream is kept for it.

use wasmtime::component::{Resource, ResourceAny};

use crate::bindings::common::Problem;
use crate::bindings::dialect::brokle::dialect::exchange;
use crate::bindings::dialect::{Dialect, DialectIndices};
use crate::body::Body;
use crate::dialects::{Call, Frame, Head, Reading, Translated};
use crate::error::PluginError;
use crate::instance::{CallContext, Session, Spent, State, guarded};
use crate::loaded::{Loaded, bound_world, plugin};

/// A dialect: compiled, linked, proved by its own test.
pub struct DialectPlugin(Loaded<DialectIndices>);
plugin!(DialectPlugin);

// It sees whole bodies, as providers do: what they may use.
bound_world!(Dialect, DialectIndices, provider);

impl DialectPlugin {
    /// A fresh instance, for one request, one answer, or one stream.
    ///
    /// # Errors
    /// No slot is free, or the instance can't be made.
    pub async fn open(&self, context: CallContext) -> Result<DialectInstance, PluginError> {
        let (session, bindings) =
            self.0.bind(context, |indices, store, instance| indices.load(store, instance)).await?;
        Ok(DialectInstance { session, bindings })
    }
}

/// One instance. After an error it is of no more use: drop it.
pub struct DialectInstance {
    session: Session,
    bindings: Dialect,
}

impl std::fmt::Debug for DialectInstance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DialectInstance").field(&self.session.label).finish()
    }
}

/// Calls one function of the world's interface.
macro_rules! translator {
    ($instance:expr, $export:literal, $call:ident($($argument:expr),*)) => {{
        let session = &mut $instance.session;
        let translator = $instance.bindings.brokle_dialect_translator();
        guarded!(session, $export, translator.$call(&mut session.store, $($argument),*))
    }};
}

impl DialectInstance {
    /// The hot fields of a request.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: the request can't be served as written.
    pub async fn read_head(&mut self, call: &Call, body: Body) -> Result<Result<Head, Problem>, PluginError> {
        let body = self.session.lend(body);
        translator!(self, "read-head", call_read_head(call, body))
    }

    /// The request in the canonical form.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it can't be said in that form.
    pub async fn to_canonical(
        &mut self,
        call: &Call,
        body: Body,
    ) -> Result<Result<Translated, Problem>, PluginError> {
        let body = self.session.lend(body);
        translator!(self, "to-canonical", call_to_canonical(call, body))
    }

    /// An estimate of the request's tokens, as a whole answer.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: the request can't be read.
    pub async fn estimate(
        &mut self,
        call: &Call,
        body: Body,
    ) -> Result<Result<Vec<u8>, Problem>, PluginError> {
        let body = self.session.lend(body);
        translator!(self, "estimate", call_estimate(call, body))
    }

    /// A whole answer, from the canonical one.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it can't understand the canonical answer.
    pub async fn write_answer(
        &mut self,
        call: &Call,
        state: &[u8],
        answer: &Vec<u8>,
    ) -> Result<Result<Vec<u8>, Problem>, PluginError> {
        translator!(self, "write-answer", call_write_answer(call, state, answer))
    }

    /// An error in the dialect's own form.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn write_error(
        &mut self,
        call: &Call,
        status: u16,
        problem: &Problem,
    ) -> Result<Vec<u8>, PluginError> {
        translator!(self, "write-error", call_write_error(call, status, problem))
    }

    /// What a whole answer that has this dialect already tells the account.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn read_answer(&mut self, call: &Call, answer: &Vec<u8>) -> Result<Reading, PluginError> {
        translator!(self, "read-answer", call_read_answer(call, answer))
    }

    /// Begins to write a stream.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn encode(mut self, call: &Call, state: &[u8]) -> Result<DialectEncoder, PluginError> {
        let session = &mut self.session;
        let encoder = self.bindings.brokle_dialect_translator().encoder();
        let made = guarded!(
            session,
            "encoder.constructor",
            encoder.call_constructor(&mut session.store, call, state)
        );
        Ok(DialectEncoder { encoder: made?, instance: self })
    }

    /// Begins to read a stream that has this dialect already.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn read(mut self, call: &Call) -> Result<DialectReader, PluginError> {
        let session = &mut self.session;
        let reader = self.bindings.brokle_dialect_translator().reader();
        let made = guarded!(session, "reader.constructor", reader.call_constructor(&mut session.store, call));
        Ok(DialectReader { reader: made?, instance: self })
    }

    /// What this instance has cost so far.
    pub fn spent(&self) -> Spent {
        self.session.spent
    }
}

/// Writes one stream. After an error it is of no more use: drop it.
#[derive(Debug)]
pub struct DialectEncoder {
    instance: DialectInstance,
    encoder: ResourceAny,
}

impl DialectEncoder {
    /// What canonical chunks amount to.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it can't understand them.
    pub async fn push(&mut self, chunks: &[Vec<u8>]) -> Result<Result<Vec<u8>, Problem>, PluginError> {
        let session = &mut self.instance.session;
        let encoder = self.instance.bindings.brokle_dialect_translator().encoder();
        guarded!(session, "encoder.push", encoder.call_push(&mut session.store, self.encoder, chunks))
    }

    /// The rest of the answer.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: the canonical stream wasn't complete.
    pub async fn finish(&mut self) -> Result<Result<Vec<u8>, Problem>, PluginError> {
        let session = &mut self.instance.session;
        let encoder = self.instance.bindings.brokle_dialect_translator().encoder();
        guarded!(session, "encoder.finish", encoder.call_finish(&mut session.store, self.encoder))
    }

    /// The end of a stream that has failed.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn failed(&mut self, status: u16, problem: &Problem) -> Result<Vec<u8>, PluginError> {
        let session = &mut self.instance.session;
        let encoder = self.instance.bindings.brokle_dialect_translator().encoder();
        guarded!(
            session,
            "encoder.failed",
            encoder.call_failed(&mut session.store, self.encoder, status, problem)
        )
    }

    /// What this instance has cost so far.
    pub fn spent(&self) -> Spent {
        self.instance.spent()
    }
}

/// Reads one stream on its way past. After an error it is of no more use: drop it.
#[derive(Debug)]
pub struct DialectReader {
    instance: DialectInstance,
    reader: ResourceAny,
}

impl DialectReader {
    /// What is known after these events.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn push(&mut self, frames: &[Frame]) -> Result<Reading, PluginError> {
        let session = &mut self.instance.session;
        let reader = self.instance.bindings.brokle_dialect_translator().reader();
        guarded!(session, "reader.push", reader.call_push(&mut session.store, self.reader, frames))
    }

    /// What is to be added to a stream that broke off.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn failed(&mut self, status: u16, problem: &Problem) -> Result<Vec<u8>, PluginError> {
        let session = &mut self.instance.session;
        let reader = self.instance.bindings.brokle_dialect_translator().reader();
        guarded!(
            session,
            "reader.failed",
            reader.call_failed(&mut session.store, self.reader, status, problem)
        )
    }

    /// What this instance has cost so far.
    pub fn spent(&self) -> Spent {
        self.instance.spent()
    }
}

impl exchange::Host for State {}

impl exchange::HostBody for State {
    fn size(&mut self, _: Resource<Body>) -> wasmtime::Result<u64> {
        Ok(self.body.as_ref().map_or(0, Body::size))
    }

    fn read(&mut self, _: Resource<Body>, offset: u64, length: u32) -> wasmtime::Result<Vec<u8>> {
        Ok(self.body.as_ref().map(|body| body.read(offset, length)).unwrap_or_default())
    }

    fn abridged(&mut self, _: Resource<Body>) -> wasmtime::Result<Vec<u8>> {
        Ok(self.body.as_ref().map(Body::abridged).unwrap_or_default())
    }

    fn get(&mut self, _: Resource<Body>, pointer: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.body.as_ref().and_then(|body| body.get(&pointer)))
    }

    fn drop(&mut self, _: Resource<Body>) -> wasmtime::Result<()> {
        Ok(())
    }
}
