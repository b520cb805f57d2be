//! Calls that belong together go to the same candidate: rendezvous hashing on the request's affinity.
//!
//! Each candidate gets a number from the affinity and its own name, and the order is that of the numbers. So when a
//! candidate leaves or cools down, only its own sessions move, each to its next; when it comes back, they come back. Weights
//! are shares of the sessions. A call without affinity goes
//! anywhere, in the same shares. Lower priorities come first.

#![cfg_attr(target_arch = "wasm32", no_std)]

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy, distance};

struct Sticky;

impl RoutingPolicy for Sticky {
    fn describe() -> Description {
        let facts = ["affinity", "connection", "model", "weight", "priority", "available", "entropy"];
        Description::routing_policy(facts)
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let (key, reason) = match request.affinity {
            Some(affinity) => (affinity, "where its session is"),
            None => (request.entropy, "no session: by weight"),
        };
        let far = |index: &u32| {
            let far = |one: &Candidate| distance(key, [&*one.connection, &*one.model], one.weight);
            candidates.get(*index as usize).map_or(f64::MAX, far)
        };
        let arrange = |group: &mut [u32]| group.sort_by(|a, b| far(a).total_cmp(&far(b)));
        Ok(Plan::by_group(candidates, arrange, reason))
    }
}

brokle_plugin::export!(routing_policy: Sticky);
brokle_plugin::no_std!();
