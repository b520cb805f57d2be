//! The fewest calls under way first, for its weight: 4 calls on a weight of 2 are as busy as 2 on a weight of 1.
//!
//! Between equally busy ones chance decides, so that a quiet gateway doesn't send everything to the first. What cools down
//! comes last; lower priorities come first.

#![cfg_attr(target_arch = "wasm32", no_std)]

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Draws, Plan, Refusal, Request, RoutingPolicy};

struct LeastBusy;

impl RoutingPolicy for LeastBusy {
    fn describe() -> Description {
        Description::routing_policy(["in-flight", "weight", "priority", "available", "entropy"])
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let mut draws = Draws::new(request.entropy);
        let load = |index: &u32| candidates.get(*index as usize).map_or(f64::MAX, load);
        let arrange = |group: &mut [u32]| {
            draws.shuffle(group);
            group.sort_by(|a, b| load(a).total_cmp(&load(b)));
        };
        Ok(Plan::by_group(candidates, arrange, "fewest calls under way"))
    }
}

/// Calls for each unit of weight, the one that is to be placed among them.
fn load(candidate: &Candidate) -> f64 {
    if candidate.weight == 0 {
        return f64::MAX;
    }
    (f64::from(candidate.stats.in_flight) + 1.0) / f64::from(candidate.weight)
}

brokle_plugin::export!(routing_policy: LeastBusy);
brokle_plugin::no_std!();
