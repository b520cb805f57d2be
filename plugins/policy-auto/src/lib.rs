//! The cheapest tier of models that fits the request.
//!
//! **A request's tier** is the highest that one of these says, by default:
//!
//! | tier | prompt | or it needs |
//! |---|---|---|
//! | small | anything else | |
//! | medium | over 2,000 tokens | `tools`, `json_schema`, `vision`, `audio` |
//! | large | over 16,000 tokens | `reasoning` |
//!
//! **A candidate's tier** is the one whose `tiers` name it; with `tiers` whoever isn't named is large. Without, tiers are made of
//! what candidates cost for this request: of their different prices the lowest third is small, the next one medium, the rest
//! large; one price is small, two are small and medium. Who has no known price is large.
//!
//! **Order**: those that are known to be able to serve the request, as `cost` has it; of these the available ones; then by tier: the
//! request's own, those above it from below, those beneath it from above; in a tier the cheapest first, then by priority.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Description;
use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};
use serde::Deserialize;

/// What is expected back when nobody says.
const OUTPUT_TOKENS: u64 = 512;

#[derive(Default, Deserialize)]
#[serde(default)]
struct Config {
    medium: Limits,
    large: Limits,
    tiers: Option<Tiers>,
    output_tokens: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Limits {
    input_tokens: Option<u64>,
    features: Option<Vec<String>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tiers {
    small: Vec<String>,
    medium: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Tier {
    Small,
    Medium,
    Large,
}

struct Auto;

impl RoutingPolicy for Auto {
    fn describe() -> Description {
        let facts = [
            "connection",
            "provider",
            "model",
            "input-tokens",
            "max-output-tokens",
            "features",
            "input-price",
            "output-price",
            "context-window",
            "priority",
            "available",
        ];
        Description::routing_policy(facts)
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let config: Config = brokle_plugin::host::config()
            .map_err(|_| Refusal::Misconfigured("an object is expected".into()))?;
        let output = request.max_output_tokens.or(config.output_tokens).unwrap_or(OUTPUT_TOKENS);
        let price = |one: &Candidate| one.cost(request, output).unwrap_or(f64::MAX);
        let (wanted, because) = wanted(request, &config);
        let mut prices: Vec<f64> = candidates.iter().map(price).filter(|price| *price < f64::MAX).collect();
        prices.sort_by(f64::total_cmp);
        prices.dedup();
        let tier = |one: &Candidate| match &config.tiers {
            Some(tiers) => tiers.of(one),
            None => by_price(&prices, price(one)),
        };
        let mut order = (0..).zip(candidates).collect::<Vec<(u32, &Candidate)>>();
        order.sort_by(|(_, a), (_, b)| {
            b.can_serve(request)
                .cmp(&a.can_serve(request))
                .then(b.available.cmp(&a.available))
                .then(away(tier(a), wanted).cmp(&away(tier(b), wanted)))
                .then(price(a).total_cmp(&price(b)))
                .then(a.priority.cmp(&b.priority))
        });
        let reason = match order.first() {
            Some((_, first)) if first.can_serve(request) => format!("{} ({because})", tier(first).name()),
            _ => format!("{} ({because}); none is known to serve it", wanted.name()),
        };
        Ok(Plan { order: order.into_iter().map(|(index, _)| index).collect(), reason })
    }
}

/// The request's tier, and what made it so.
fn wanted(request: &Request, config: &Config) -> (Tier, String) {
    let rules = [
        (Tier::Large, &config.large, 16_000, &["reasoning"][..]),
        (Tier::Medium, &config.medium, 2_000, &["tools", "json_schema", "vision", "audio"]),
    ];
    for (tier, limits, usual_tokens, usual_features) in rules {
        let needs = |feature: &&String| match &limits.features {
            Some(features) => features.contains(*feature),
            None => usual_features.contains(&feature.as_str()),
        };
        if let Some(feature) = request.features.iter().find(needs) {
            return (tier, feature.clone());
        }
        if request.input_tokens > limits.input_tokens.unwrap_or(usual_tokens) {
            return (tier, format!("{} tokens", request.input_tokens));
        }
    }
    (Tier::Small, "nothing special".into())
}

impl Tiers {
    fn of(&self, candidate: &Candidate) -> Tier {
        let named = |list: &[String]| list.iter().any(|name| candidate.is_named(name));
        match () {
            () if named(&self.small) => Tier::Small,
            () if named(&self.medium) => Tier::Medium,
            () => Tier::Large,
        }
    }
}

impl Tier {
    fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Medium => "medium",
            Self::Large => "large",
        }
    }
}

/// In which third of the different prices it is.
fn by_price(prices: &[f64], price: f64) -> Tier {
    match prices.iter().position(|one| *one == price).map(|place| place * 3 / prices.len()) {
        Some(0) => Tier::Small,
        Some(1) => Tier::Medium,
        _ => Tier::Large,
    }
}

/// How far off a tier is: above the wanted one from below, then beneath it from above.
fn away(tier: Tier, wanted: Tier) -> (bool, u8) {
    (tier < wanted, (tier as u8).abs_diff(wanted as u8))
}

brokle_plugin::export!(routing_policy: Auto);
brokle_plugin::no_std!();
