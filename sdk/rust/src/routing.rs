//! Routing policies: which candidate is tried first.

use core::marker::PhantomData;

use crate::bindings::routing::Guest as Lifecycle;
use crate::bindings::routing::exports::brokle::routing::policy;
use crate::prelude::*;
use crate::{ConfigProblem, Description, Problem};

pub use crate::bindings::routing::brokle::routing::facts::{Candidate, Plan, Refusal, Request, Stats};

/// A routing policy.
///
/// ```
/// use brokle_plugin::Description;
/// use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};
///
/// /// The cheapest input price first; unknown prices last.
/// struct Cheapest;
///
/// impl RoutingPolicy for Cheapest {
///     fn describe() -> Description {
///         Description::routing_policy(["input-price"])
///     }
///
///     fn decide(_request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
///         Ok(Plan::by_key(candidates, |c| c.input_price.unwrap_or(f64::MAX), "cheapest input price"))
///     }
/// }
/// # brokle_plugin::export!(routing_policy: Cheapest, manifest = "{}");
/// # fn main() {}
/// ```
pub trait RoutingPolicy: Sized + 'static {
    /// The facts that the policy reads.
    fn describe() -> Description;

    /// Checks what the manifest's schema can't say.
    ///
    /// # Errors
    /// What is wrong, each with the key at fault.
    fn check_config(_config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        Ok(())
    }

    /// Proves on a sample that the component works.
    ///
    /// # Errors
    /// Why it doesn't.
    fn self_test() -> Result<(), Problem> {
        Ok(())
    }

    /// Orders the candidates.
    ///
    /// # Errors
    /// There is no plan: the host takes its built-in order and raises an alert.
    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal>;
}

impl Plan {
    /// All available candidates by ascending key, in the operator's order where keys are equal.
    /// The unavailable ones follow, so that a request isn't refused while all are cooling down.
    pub fn by_key(candidates: &[Candidate], key: impl Fn(&Candidate) -> f64, reason: &str) -> Self {
        let mut order: Vec<(usize, &Candidate)> = candidates.iter().enumerate().collect();
        order.sort_by(|(_, a), (_, b)| {
            (!a.available)
                .cmp(&!b.available)
                .then(key(a).total_cmp(&key(b)))
                .then(a.priority.cmp(&b.priority))
        });
        let order = order.into_iter().filter_map(|(index, _)| u32::try_from(index).ok()).collect();
        Self { order, reason: reason.to_owned() }
    }
}

/// Glue between [`RoutingPolicy`] and the generated exports; named by [`export!`](crate::export).
#[doc(hidden)]
pub struct Component<P>(PhantomData<P>);

/// Holds a native build to the trait; named by [`export!`](crate::export).
#[doc(hidden)]
pub fn used<P: RoutingPolicy>() {}

impl<P: RoutingPolicy> policy::Guest for Component<P> {
    fn decide(request: Request, candidates: Vec<Candidate>) -> Result<Plan, Refusal> {
        P::decide(&request, &candidates)
    }
}

impl<P: RoutingPolicy> Lifecycle for Component<P> {
    fn describe() -> Vec<u8> {
        P::describe().into_json()
    }
    fn check_config(config: Vec<u8>) -> Result<(), Vec<ConfigProblem>> {
        crate::export::check_config(&config, P::check_config)
    }
    fn self_test() -> Result<(), Problem> {
        P::self_test()
    }
}
