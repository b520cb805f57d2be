//! Shares: of the candidates of one priority, each is first as often as its weight says.
//!
//! The rest follow, drawn the same way from those that are left, so that a failed call's next try is shared out too. A
//! weight of 0 is never first while another has one. What cools down comes last; lower priorities come first.

#![cfg_attr(target_arch = "wasm32", no_std)]

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Draws, Plan, Refusal, Request, RoutingPolicy};

struct Weighted;

impl RoutingPolicy for Weighted {
    fn describe() -> Description {
        Description::routing_policy(["weight", "priority", "available", "entropy"])
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let mut draws = Draws::new(request.entropy);
        Ok(Plan::by_group(candidates, |group| arrange(group, candidates, &mut draws), "by weight"))
    }
}

/// Draws one by one, without putting back.
fn arrange(group: &mut [u32], candidates: &[Candidate], draws: &mut Draws) {
    let weight = |index: &u32| candidates.get(*index as usize).map_or(0, |one| u64::from(one.weight));
    let mut left = group;
    loop {
        let total: u64 = left.iter().map(weight).sum();
        if total == 0 {
            return;
        }
        let mut drawn = draws.below(total);
        let chosen = left.iter().position(|index| match drawn.checked_sub(weight(index)) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        });
        let Some(head) = left.get_mut(..=chosen.unwrap_or_default()) else { return };
        head.rotate_right(1);
        let Some((_, rest)) = left.split_first_mut() else { return };
        left = rest;
    }
}

brokle_plugin::export!(routing_policy: Weighted);
brokle_plugin::no_std!();
