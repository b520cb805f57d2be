//! Ordered failover: the operator's order, what is available first.
//!
//! A candidate that is cooling down is kept at the end, so that a request is tried rather than
//! refused while all of them are.

#![cfg_attr(target_arch = "wasm32", no_std)]

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};

struct Priority;

impl RoutingPolicy for Priority {
    fn describe() -> Description {
        Description::routing_policy(["priority", "available"])
    }

    fn decide(_request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        Ok(Plan::by_key(candidates, |candidate| f64::from(candidate.priority), "priority"))
    }
}

brokle_plugin::export!(routing_policy: Priority);
brokle_plugin::no_std!();
