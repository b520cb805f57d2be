//! Turns: of the candidates of one priority, each is first once before any is first again.
//!
//! A component remembers nothing from one request to the next, so the host counts: the request's attribute `brokle.turn` is
//! the number of calls that this project has made by this name. Without it (an older host) chance decides. Weights have no
//! effect. What cools down comes last; lower priorities come first.

#![cfg_attr(target_arch = "wasm32", no_std)]

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};

struct RoundRobin;

impl RoutingPolicy for RoundRobin {
    fn describe() -> Description {
        Description::routing_policy(["brokle.turn", "priority", "available", "entropy"])
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let turn = request.attributes.iter().find(|(name, _)| name == "brokle.turn");
        let turn = turn.and_then(|(_, value)| value.parse().ok()).unwrap_or(request.entropy);
        let arrange = |group: &mut [u32]| {
            let length = group.len() as u64;
            group.rotate_left(usize::try_from(turn % length.max(1)).unwrap_or_default());
        };
        Ok(Plan::by_group(candidates, arrange, "its turn"))
    }
}

brokle_plugin::export!(routing_policy: RoundRobin);
brokle_plugin::no_std!();
