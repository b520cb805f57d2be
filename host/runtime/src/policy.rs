//! Routing policies, ready to be asked.

use std::sync::Arc;
use std::time::Instant;

use wasmtime::component::HasSelf;

use crate::bindings::common::ConfigProblem;
use crate::bindings::routing::{RoutingPolicy, RoutingPolicyPre};
use crate::engine::Runtime;
use crate::error::{Fault, LoadError, PluginError};
use crate::facts::{Candidate, Plan, Refusal, Request};
use crate::instance::{CallContext, Session, Spent, State, guarded};
use crate::load::{Inspection, compile, inspect, linker, world_error};
use crate::manifest::{Kind, Manifest};

/// A routing policy: compiled, linked, proved by its own test.
pub struct PolicyPlugin {
    /// What it says of itself.
    pub inspection: Inspection,
    label: Arc<str>,
    runtime: Runtime,
    pre: RoutingPolicyPre<State>,
}

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
        let inspection = inspect(bytes)?;
        let manifest = &inspection.manifest;
        if manifest.kind != Kind::RoutingPolicy {
            return Err(LoadError::Manifest(format!("{} is not a routing policy", manifest.label())));
        }
        let component = compile(runtime, bytes, &inspection)?;
        let mut linker = linker(runtime, &component, manifest)?;
        let link = RoutingPolicy::add_to_linker::<_, HasSelf<State>>(&mut linker, |state| state);
        let pre = link.and_then(|()| linker.instantiate_pre(&component)).and_then(RoutingPolicyPre::new);
        let pre = pre.map_err(|error| world_error(manifest, &error))?;
        let plugin = Self { label: manifest.label().into(), runtime: runtime.clone(), pre, inspection };
        plugin.probe().await?;
        Ok(plugin)
    }

    async fn probe(&self) -> Result<(), LoadError> {
        let failed = |detail: String| LoadError::SelfTest { plugin: self.label.to_string(), detail };
        let (mut session, bindings) =
            self.open(CallContext::default()).await.map_err(|error| failed(error.to_string()))?;
        let tested = guarded!(session, "self-test", bindings.call_self_test(&mut session.store));
        match tested.map_err(|error| failed(error.to_string()))? {
            Ok(()) => Ok(()),
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
        let (mut session, bindings) = self.open(context).await?;
        let config = config.to_vec();
        let checked =
            guarded!(session, "check-config", bindings.call_check_config(&mut session.store, &config))?;
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
        let (mut session, bindings) = self.open(context).await?;
        let policy = bindings.brokle_routing_policy();
        let answer =
            guarded!(session, "decide", policy.call_decide(&mut session.store, request, candidates))?;
        Ok((answer, session.spent))
    }

    async fn open(&self, context: CallContext) -> Result<(Session, RoutingPolicy), PluginError> {
        let started = Instant::now();
        let mut session = Session::open(&self.runtime, &self.label, self.runtime.config.policy, context)?;
        let made = self.pre.instantiate_async(&mut session.store).await;
        session.spent.time += started.elapsed();
        made.map(|bindings| (session, bindings)).map_err(|error| PluginError {
            plugin: self.label.clone(),
            export: "instantiate",
            fault: Fault::Instantiate(format!("{error:#}")),
        })
    }
}

impl crate::bindings::routing::brokle::routing::facts::Host for State {}
