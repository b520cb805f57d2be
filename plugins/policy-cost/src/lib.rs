//! The cheapest that can serve the request.
//!
//! **Can serve**: the catalogue knows each feature that the request needs, and its context holds the prompt and what is
//! wanted back. A context that the catalogue doesn't know is no obstacle; a feature that it doesn't know is one, since price
//! tables leave out what isn't there more often than what is. Those that can't come last rather than never: tables err.
//! Being able goes before being available: an answer that says "too long" helps less than a try at one that cools down.
//!
//! **Cost**: prompt tokens as the host estimates them and output tokens as the caller limits them (else `output_tokens` of the
//! configuration), times the prices. One without prices comes after those that have them; equal costs go by priority.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::vec::Vec;

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};
use serde::Deserialize;

/// What is expected back when nobody says.
const OUTPUT_TOKENS: u64 = 512;

#[derive(Deserialize)]
struct Config {
    output_tokens: Option<u64>,
}

struct Cost;

impl RoutingPolicy for Cost {
    fn describe() -> Description {
        let facts = [
            "input-price",
            "output-price",
            "context-window",
            "features",
            "input-tokens",
            "max-output-tokens",
            "priority",
            "available",
        ];
        Description::routing_policy(facts)
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let config: Config = brokle_plugin::host::config()
            .map_err(|_| Refusal::Misconfigured("an object is expected".into()))?;
        let output = request.max_output_tokens.or(config.output_tokens).unwrap_or(OUTPUT_TOKENS);
        let mut order = (0..).zip(candidates).collect::<Vec<(u32, &Candidate)>>();
        order.sort_by(|(_, a), (_, b)| {
            let price = |one: &Candidate| one.cost(request, output).unwrap_or(f64::MAX);
            b.can_serve(request)
                .cmp(&a.can_serve(request))
                .then(b.available.cmp(&a.available))
                .then(price(a).total_cmp(&price(b)))
                .then(a.priority.cmp(&b.priority))
        });
        let able = order.first().is_some_and(|(_, first)| first.can_serve(request));
        let reason = if able { "cheapest that can serve it" } else { "cheapest; none is known to serve it" };
        Ok(Plan { order: order.into_iter().map(|(index, _)| index).collect(), reason: reason.into() })
    }
}

brokle_plugin::export!(routing_policy: Cost);
brokle_plugin::no_std!();
