//! The best by its scores.
//!
//! The host tells each candidate's average of a score lately (`brokle.score.NAME`) and how many there were
//! (`brokle.scores.NAME`), of the caller's project. The best average is first; those within `tolerance` of it are as good, and
//! the cheapest of them is first. The others follow by their averages, then those with fewer than `min_scores` scores, of which
//! nothing is known yet: by weight, as all are while none is known.
//!
//! A share of the calls (`explore`) goes to anybody by weight, so that all are scored and a model that has become better is seen.
//! What cools down comes last; lower priorities come first.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Draws, Plan, Refusal, Request, RoutingPolicy, distance};
use serde::Deserialize;

/// How many scores it takes.
const MIN_SCORES: f64 = 20.0;
/// The share of calls that go to anybody.
const EXPLORE: f64 = 0.05;

#[derive(Deserialize)]
struct Config {
    score: String,
    #[serde(default)]
    lower_is_better: bool,
    min_scores: Option<f64>,
    #[serde(default)]
    tolerance: f64,
    explore: Option<f64>,
}

struct Quality;

impl RoutingPolicy for Quality {
    fn describe() -> Description {
        let facts = [
            "connection",
            "model",
            "attributes",
            "input-tokens",
            "input-price",
            "output-price",
            "weight",
            "priority",
            "available",
            "entropy",
        ];
        Description::routing_policy(facts)
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let config: Config = brokle_plugin::host::config()
            .map_err(|_| Refusal::Misconfigured("the name of a score is expected".into()))?;
        let mut draws = Draws::new(request.entropy);
        // A draw of 53 bits is a number of [0, 1).
        let explores =
            ((draws.draw() >> 11) as f64) < config.explore.unwrap_or(EXPLORE) * (1_u64 << 53) as f64;
        let key = draws.draw();
        let attributes =
            [format!("brokle.score.{}", config.score), format!("brokle.scores.{}", config.score)];
        let scores: Vec<Option<f64>> =
            candidates.iter().map(|one| score(one, &attributes, &config)).collect();
        let score = |index: &u32| *scores.get(*index as usize)?;
        let by_weight = |index: &u32| {
            let far = |one: &Candidate| distance(key, [&*one.connection, &*one.model], one.weight);
            candidates.get(*index as usize).map_or(f64::MAX, far)
        };
        let price = |index: &u32| {
            let known =
                candidates.get(*index as usize).and_then(|one| one.cost(request, request.input_tokens));
            known.unwrap_or(f64::MAX)
        };
        let arrange = |group: &mut [u32]| {
            group.sort_by(|a, b| by_weight(a).total_cmp(&by_weight(b)));
            if explores {
                return;
            }
            let best = group.iter().filter_map(score).fold(f64::MIN, f64::max);
            // As good as the best: 0, then the worse ones, then those of which nothing is known.
            let rank = |index: &u32| match score(index) {
                Some(score) if score >= best - config.tolerance => (0, price(index)),
                Some(score) => (1, -score),
                None => (2, 0.0),
            };
            group.sort_by(|a, b| {
                let (a, b) = (rank(a), rank(b));
                a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
            });
        };
        let reason = match (explores, scores.iter().any(Option::is_some)) {
            (true, _) => "exploring",
            (false, true) => "the best by its scores",
            (false, false) => "none has enough scores: by weight",
        };
        Ok(Plan::by_group(candidates, arrange, reason))
    }
}

/// Higher is better; none: there are too few.
fn score(candidate: &Candidate, [average, count]: &[String; 2], config: &Config) -> Option<f64> {
    let enough = candidate.number(count)? >= config.min_scores.unwrap_or(MIN_SCORES);
    let score = candidate.number(average).filter(|_| enough)?;
    Some(if config.lower_is_better { -score } else { score })
}

brokle_plugin::export!(routing_policy: Quality);
brokle_plugin::no_std!();
