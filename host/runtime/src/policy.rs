//! Routing policies, ready to be asked.

use std::time::Instant;

use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker};
use wasmtime::{Result as Wasm, Store};

use crate::bindings::routing::RoutingPolicy;
use crate::engine::RuntimeConfig;
use crate::error::PluginError;
use crate::export::{Export, signature};
use crate::facts::{Candidate, Plan, Refusal, Request};
use crate::instance::{CallContext, Spent, State, guarded, instantiate};
use crate::limits::Limits;
use crate::loaded::{Loaded, World, plugin};
use crate::manifest::Kind;

/// A routing policy: compiled, linked, proved by its own test.
pub struct PolicyPlugin(Loaded<Policy>);
plugin!(PolicyPlugin);

/// What a policy exports.
struct Policy {
    decide: Export<Decide>,
}

signature!(
    Decide,
    Some("brokle:routing/policy@0.1.0"),
    "decide",
    (&'a Request, &'a [Candidate]) -> Result<Plan, Refusal>
);

impl World for Policy {
    const KIND: Kind = Kind::RoutingPolicy;

    fn limits(config: &RuntimeConfig) -> Limits {
        config.policy
    }

    fn link(linker: &mut Linker<State>) -> Wasm<()> {
        RoutingPolicy::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }

    fn find(
        component: &Component,
        _: &InstancePre<State>,
        instance: &Instance,
        store: &mut Store<State>,
    ) -> Wasm<Self> {
        Ok(Self { decide: Export::check(component, instance, store)? })
    }
}

impl PolicyPlugin {
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
        let (mut session, mut instance, ready) = self.0.open(context).await?;
        let params = (request, candidates);
        if session.is_quick && ready.pace.is_quick() {
            let started = Instant::now();
            if let Some(outcome) =
                session.at_once(|store| ready.world.decide.call_now(&instance, store, params))
            {
                let (answer,) = session.end("decide", started, Ok(outcome))?;
                return Ok((answer, session.spent));
            }
            ready.pace.slow();
            session.renew();
            session.spent.time += started.elapsed();
            instance = instantiate(&mut session, &ready.pre, &ready.pace).await?;
        }
        let (answer,) =
            guarded!(session, "decide", ready.world.decide.call(&instance, &mut session.store, params))?;
        Ok((answer, session.spent))
    }
}

impl crate::bindings::routing::brokle::routing::facts::Host for State {}
