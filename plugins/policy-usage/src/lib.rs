//! Shares by what vendors' rate limits leave: who has twice the tokens left is first twice as often.
//!
//! **Left** is what the vendor said with its last answer, less what calls under way will take: each of them counts as much as
//! this one, prompt and answer together (an answer without a limit: `output_tokens` of the configuration). Shares rather than
//! "most first": vendors' words are a moment old, and many callers who all follow them meet at the same one.
//!
//! One whose vendor has said nothing, or nothing that is still good, counts as the one that has the most left: its minute is
//! over, or it never counted. It has room for this call, even if nobody else does. If none has said anything, shares go by `weight`. Who has no room for this call, in tokens or
//! in requests, comes after those that have, the one with the most left first. What cools down comes last; lower priorities come
//! first.

#![cfg_attr(target_arch = "wasm32", no_std)]

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Draws, Plan, Refusal, Request, RoutingPolicy, distance};
use serde::Deserialize;

/// What is expected back when nobody says.
const OUTPUT_TOKENS: u64 = 512;

#[derive(Deserialize)]
struct Config {
    output_tokens: Option<u64>,
}

struct Usage;

impl RoutingPolicy for Usage {
    fn describe() -> Description {
        let facts = [
            "connection",
            "model",
            "remaining-tokens",
            "remaining-requests",
            "in-flight",
            "input-tokens",
            "max-output-tokens",
            "weight",
            "priority",
            "available",
            "entropy",
        ];
        Description::routing_policy(facts)
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let config: Config = brokle_plugin::host::config()
            .map_err(|_| Refusal::Misconfigured("an object is expected".into()))?;
        let output = request.max_output_tokens.or(config.output_tokens).unwrap_or(OUTPUT_TOKENS);
        let size = request.input_tokens.saturating_add(output).max(1);
        let draws = Draws::new(request.entropy).draw();
        let arrange = |group: &mut [u32]| arrange(group, candidates, size, draws);
        Ok(Plan::by_group(candidates, arrange, "by what is left at the vendor"))
    }
}

fn arrange(group: &mut [u32], candidates: &[Candidate], size: u64, key: u64) {
    let known = |index: &u32| tokens_left(candidates.get(*index as usize)?, size);
    let most = group.iter().filter_map(known).max();
    let rank = |index: &u32| {
        let Some(candidate) = candidates.get(*index as usize) else { return (true, f64::MAX) };
        let said = known(index);
        let left = said.or(most);
        if said.is_some_and(|left| left < size) || !has_requests(candidate) {
            // The most left first: this is no draw any more.
            return (true, -(left.unwrap_or(0) as f64));
        }
        // In units of this call, so that the largest limits fit; one at least. Who has said nothing has room, as much as
        // anybody has said.
        let weight = left.map_or(u64::from(candidate.weight), |left| (left / size).max(1));
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        (false, distance(key, [&*candidate.connection, &*candidate.model], weight))
    };
    group.sort_by(|a, b| {
        let (a, b) = (rank(a), rank(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    });
}

/// None if the vendor has said nothing.
fn tokens_left(candidate: &Candidate, size: u64) -> Option<u64> {
    let under_way = u64::from(candidate.stats.in_flight).saturating_mul(size);
    Some(candidate.stats.remaining_tokens?.saturating_sub(under_way))
}

fn has_requests(candidate: &Candidate) -> bool {
    let stats = &candidate.stats;
    stats.remaining_requests.is_none_or(|left| left > u64::from(stats.in_flight))
}

brokle_plugin::export!(routing_policy: Usage);
brokle_plugin::no_std!();
