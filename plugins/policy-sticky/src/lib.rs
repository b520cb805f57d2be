//! Calls that belong together go to the same candidate: rendezvous hashing on the request's affinity.
//!
//! Each candidate gets a number from the affinity and its own name, and the order is that of the numbers. So when a
//! candidate leaves or cools down, only its own sessions move, each to its next; when it comes back, they come back. Weights
//! are shares of the sessions: a number is -log₂ of a hash in (0, 1], divided by the weight. A call without affinity goes
//! anywhere, in the same shares. Lower priorities come first.

#![cfg_attr(target_arch = "wasm32", no_std)]

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Draws, Plan, Refusal, Request, RoutingPolicy};

struct Sticky;

impl RoutingPolicy for Sticky {
    fn describe() -> Description {
        Description::routing_policy(["affinity", "weight", "priority", "available", "entropy"])
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let (key, reason) = match request.affinity {
            Some(affinity) => (affinity, "where its session is"),
            None => (request.entropy, "no session: by weight"),
        };
        let distance =
            |index: &u32| candidates.get(*index as usize).map_or(f64::MAX, |one| distance(key, one));
        let arrange = |group: &mut [u32]| group.sort_by(|a, b| distance(a).total_cmp(&distance(b)));
        Ok(Plan::by_group(candidates, arrange, reason))
    }
}

/// The smaller, the sooner.
fn distance(key: u64, candidate: &Candidate) -> f64 {
    if candidate.weight == 0 {
        return f64::MAX;
    }
    // FNV-1a of the name, which two candidates don't share.
    let name = candidate.connection.bytes().chain([0]).chain(candidate.model.bytes());
    let name = name.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let hash = Draws::new(name ^ Draws::new(key).draw()).draw();
    (64.0 - log2(hash)) / f64::from(candidate.weight)
}

/// The binary logarithm, digit by digit: `core` has none. 0 counts as 1.
fn log2(number: u64) -> f64 {
    let number = number.max(1);
    let whole = number.ilog2();
    let mut rest = number as f64 / (1_u64 << whole) as f64;
    let (mut log, mut digit) = (f64::from(whole), 0.5);
    for _ in 0..32 {
        rest *= rest;
        if rest >= 2.0 {
            rest /= 2.0;
            log += digit;
        }
        digit /= 2.0;
    }
    log
}

brokle_plugin::export!(routing_policy: Sticky);
brokle_plugin::no_std!();
