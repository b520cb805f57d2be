//! Dialects, ready to be asked.
//!
//! A dialect is asked twice in a call: for the request, and for the answer. Between the two no instance is held, so
//! that no sandbox waits while a provider thinks; what the second is to know travels as bytes. The instance that writes
//! or reads a stream is kept for it.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::{HasSelf, Resource, ResourceAny};

use crate::bindings::common::{ConfigProblem, Problem};
use crate::bindings::dialect::brokle::dialect::exchange;
use crate::bindings::dialect::{Dialect, DialectPre};
use crate::body::Body;
use crate::dialects::{Call, Frame, Head, Reading, Translated};
use crate::engine::Runtime;
use crate::error::{Fault, LoadError, PluginError};
use crate::instance::{CallContext, Session, Spent, State, guarded};
use crate::lazy::Lazy;
use crate::load::{Inspection, compile, inspect, linker, world_error};
use crate::manifest::{Kind, Manifest};

/// A dialect: compiled, linked, proved by its own test.
pub struct DialectPlugin {
    /// What it says of itself.
    pub inspection: Inspection,
    label: Arc<str>,
    runtime: Runtime,
    ready: Lazy<DialectPre<State>>,
}

impl std::fmt::Debug for DialectPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("DialectPlugin").field(&self.label).finish()
    }
}

impl DialectPlugin {
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
    /// It is no dialect.
    pub fn later(runtime: &Runtime, bytes: Bytes, inspection: Inspection) -> Result<Self, LoadError> {
        let manifest = &inspection.manifest;
        if manifest.kind != Kind::Dialect {
            return Err(LoadError::Manifest(format!("{} is not a dialect", manifest.label())));
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

    async fn ready(&self) -> Result<&DialectPre<State>, PluginError> {
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
    pub async fn open(&self, context: CallContext) -> Result<DialectInstance, PluginError> {
        let started = Instant::now();
        let pre = self.ready().await?;
        instantiate(&self.runtime, &self.label, pre, context, started).await
    }
}

async fn instantiate(
    runtime: &Runtime,
    label: &Arc<str>,
    pre: &DialectPre<State>,
    context: CallContext,
    started: Instant,
) -> Result<DialectInstance, PluginError> {
    // It sees whole bodies, as providers do.
    let mut session = Session::open(runtime, label, runtime.config.provider, context)?;
    let made = pre.instantiate_async(&mut session.store).await;
    session.spent.time += started.elapsed();
    match made {
        Ok(bindings) => Ok(DialectInstance { session, bindings }),
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
) -> Result<DialectPre<State>, LoadError> {
    let manifest = &inspection.manifest;
    let component = compile(runtime, bytes, inspection)?;
    let mut linker = linker(runtime, &component, manifest)?;
    let link = Dialect::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state);
    let pre = link.and_then(|()| linker.instantiate_pre(&component)).and_then(DialectPre::new);
    let pre = pre.map_err(|error| world_error(manifest, &error))?;
    probe(runtime, &manifest.label().into(), &pre).await?;
    Ok(pre)
}

async fn probe(runtime: &Runtime, label: &Arc<str>, pre: &DialectPre<State>) -> Result<(), LoadError> {
    let failed = |detail: String| LoadError::SelfTest { plugin: label.to_string(), detail };
    let opened = instantiate(runtime, label, pre, CallContext::default(), Instant::now()).await;
    let mut instance = opened.map_err(|error| failed(error.to_string()))?;
    let session = &mut instance.session;
    let described = guarded!(session, "describe", instance.bindings.call_describe(&mut session.store));
    let described = described.map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice::<serde_json::Value>(&described)
        .map_err(|error| failed(format!("its description isn't JSON: {error}")))?;
    let tested = guarded!(session, "self-test", instance.bindings.call_self_test(&mut session.store));
    tested.map_err(|error| failed(error.to_string()))?.map_err(|problem| failed(problem.message))
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

    fn get(&mut self, _: Resource<Body>, pointer: String) -> wasmtime::Result<Option<Vec<u8>>> {
        Ok(self.body.as_ref().and_then(|body| body.get(&pointer)))
    }

    fn drop(&mut self, _: Resource<Body>) -> wasmtime::Result<()> {
        Ok(())
    }
}
