//! Power of two choices over peak EWMA: two candidates are drawn, and the one is first that will probably answer sooner.
//!
//! What it will take: the latency (for a stream: the time to its first token) as it was lately, times the calls that are
//! under way and this one, divided by the share of calls that succeed (1 in 20 at least). Always taking the fastest would
//! send every gateway's calls to the same one until it is slow; of two drawn, the slowest of all is never taken. The
//! others follow by what they will take.
//!
//! A candidate without a measurement counts as fast as the fastest, so that it gets one. The host lets measurements fade, so
//! that a slow one is tried again some time. What cools down comes last; lower priorities come first; weights have no effect.

#![cfg_attr(target_arch = "wasm32", no_std)]

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Draws, Plan, Refusal, Request, RoutingPolicy};

/// What a measurement counts at least, in milliseconds: below it differences are noise.
const LEAST: f64 = 1.0;

struct Latency;

impl RoutingPolicy for Latency {
    fn describe() -> Description {
        let facts =
            ["latency-ms", "first-token-ms", "in-flight", "error-rate", "priority", "available", "entropy"];
        Description::routing_policy(facts)
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let mut draws = Draws::new(request.entropy);
        let measured = |index: &u32| milliseconds(request, candidates.get(*index as usize)?);
        let arrange = |group: &mut [u32]| {
            let fastest = group.iter().filter_map(measured).fold(f64::MAX, f64::min);
            let fastest = if fastest == f64::MAX { LEAST } else { fastest };
            let cost = |index: &u32| {
                let candidate = candidates.get(*index as usize);
                candidate.map_or(f64::MAX, |one| burden(one, measured(index).unwrap_or(fastest)))
            };
            draws.shuffle(group);
            if let Some(drawn) = group.get_mut(..2) {
                drawn.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
            }
            if let Some((_, others)) = group.split_first_mut() {
                others.sort_by(|a, b| cost(a).total_cmp(&cost(b)));
            }
        };
        Ok(Plan::by_group(candidates, arrange, "the faster of two"))
    }
}

fn milliseconds(request: &Request, candidate: &Candidate) -> Option<f64> {
    let stats = &candidate.stats;
    let first = stats.first_token_ms.filter(|_| request.streaming);
    first.or(stats.latency_ms).map(|measured| measured.max(LEAST))
}

fn burden(candidate: &Candidate, milliseconds: f64) -> f64 {
    let stats = &candidate.stats;
    let succeed = (1.0 - stats.error_rate.unwrap_or(0.0)).max(0.05);
    milliseconds * (f64::from(stats.in_flight) + 1.0) / succeed
}

brokle_plugin::export!(routing_policy: Latency);
brokle_plugin::no_std!();
