//! Routing policies, ready to be asked.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use wasmtime::component::{Component, HasSelf, Instance, InstancePre};

use crate::bindings::common::ConfigProblem;
use crate::bindings::routing::RoutingPolicy;
use crate::engine::Runtime;
use crate::error::{LoadError, PluginError};
use crate::export::{CheckConfig, Export, describe_and_test, signature};
use crate::facts::{Candidate, Plan, Refusal, Request};
use crate::instance::{CallContext, Pace, Session, Spent, State, guarded, instantiate};
use crate::lazy::Lazy;
use crate::load::{Inspection, compile, inspect, linker, world_error};
use crate::manifest::{Kind, Manifest};

/// A routing policy: compiled, linked, proved by its own test.
pub struct PolicyPlugin {
    /// What it says of itself.
    pub inspection: Inspection,
    label: Arc<str>,
    runtime: Runtime,
    ready: Lazy<Ready>,
}

/// A component that can be instantiated.
struct Ready {
    pre: InstancePre<State>,
    pace: Pace,
    decide: Export<Decide>,
    check_config: Export<CheckConfig>,
}

signature!(
    Decide,
    Some("brokle:routing/policy@0.1.0"),
    "decide",
    (&'a Request, &'a [Candidate]) -> Result<Plan, Refusal>
);

impl std::fmt::Debug for PolicyPlugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("PolicyPlugin").field(&self.label).finish()
    }
}

impl PolicyPlugin {
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
    /// It is no routing policy.
    pub fn later(runtime: &Runtime, bytes: Bytes, inspection: Inspection) -> Result<Self, LoadError> {
        let manifest = &inspection.manifest;
        if manifest.kind != Kind::RoutingPolicy {
            return Err(LoadError::Manifest(format!("{} is not a routing policy", manifest.label())));
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

    /// What a fresh instance says of a configuration that its schema has accepted: nothing when it is good, else what
    /// is wrong, each with a pointer to the key.
    ///
    /// # Errors
    /// The plugin failed.
    pub async fn check_config(&self, config: &[u8]) -> Result<Vec<ConfigProblem>, PluginError> {
        let context = CallContext { config: config.into(), ..CallContext::default() };
        let (mut session, instance, ready) = self.open(context).await?;
        let check = &ready.check_config;
        let (checked,) =
            guarded!(session, "check-config", check.call(&instance, &mut session.store, (config,)))?;
        Ok(checked.err().unwrap_or_default())
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.inspection.manifest
    }

    /// `id version`.
    pub fn label(&self) -> &Arc<str> {
        &self.label
    }

    /// Asks a fresh instance for the order of the candidates, and says what that cost.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: it has no plan.
    pub async fn decide(
        &self,
        context: CallContext,
        request: &Request,
        candidates: &[Candidate],
    ) -> Result<(Result<Plan, Refusal>, Spent), PluginError> {
        let (mut session, mut instance, ready) = self.open(context).await?;
        let params = (request, candidates);
        if session.is_pure() && ready.pace.is_quick() {
            let started = Instant::now();
            if let Some(outcome) = session.at_once(|store| ready.decide.call_now(&instance, store, params)) {
                let (answer,) = session.end("decide", started, Ok(outcome))?;
                return Ok((answer, session.spent));
            }
            ready.pace.slow();
            session.renew();
            session.spent.time += started.elapsed();
            instance = instantiate(&mut session, &ready.pre, &ready.pace).await?;
        }
        let (answer,) =
            guarded!(session, "decide", ready.decide.call(&instance, &mut session.store, params))?;
        Ok((answer, session.spent))
    }

    async fn open(&self, context: CallContext) -> Result<(Session, Instance, &Ready), PluginError> {
        let ready = self.ready().await?;
        let mut session = Session::open(&self.runtime, &self.label, self.runtime.config.policy, context)?;
        let instance = instantiate(&mut session, &ready.pre, &ready.pace).await?;
        Ok((session, instance, ready))
    }
}

async fn make(runtime: &Runtime, bytes: &[u8], inspection: &Inspection) -> Result<Ready, LoadError> {
    let manifest = &inspection.manifest;
    let component = compile(runtime, bytes, inspection)?;
    let mut linker = linker(runtime, &component, manifest)?;
    let link = RoutingPolicy::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state);
    let pre = link.and_then(|()| linker.instantiate_pre(&component));
    let pre = pre.map_err(|error| world_error(manifest, &error))?;
    let label: Arc<str> = manifest.label().into();
    let (decide, check_config) = probe(runtime, &label, &component, &pre, manifest).await?;
    Ok(Ready { pre, pace: Pace::default(), decide, check_config })
}

/// Checks the export's type and runs the self-test, in an instance like those that requests get.
async fn probe(
    runtime: &Runtime,
    label: &Arc<str>,
    component: &Component,
    pre: &InstancePre<State>,
    manifest: &Manifest,
) -> Result<(Export<Decide>, Export<CheckConfig>), LoadError> {
    let mut session = Session::open(runtime, label, runtime.config.policy, CallContext::default())
        .map_err(|error| LoadError::SelfTest { plugin: label.to_string(), detail: error.to_string() })?;
    let instance = pre.instantiate_async(&mut session.store).await;
    let instance = instance.map_err(|error| world_error(manifest, &error))?;
    let decide = Export::check(component, &instance, &mut session.store)
        .map_err(|error| world_error(manifest, &error))?;
    let (_, check_config) = describe_and_test(&mut session, component, &instance, manifest).await?;
    Ok((decide, check_config))
}

impl crate::bindings::routing::brokle::routing::facts::Host for State {}
