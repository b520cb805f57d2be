//! Variants: who belongs together is asked by the same one each time.
//!
//! A session or user (the request's affinity) is assigned by hash: the same on every server and after every restart, as long
//! as `experiment`, the variants' names and their weights stay. Two experiments with other names assign independently of each
//! other. A variant whose weight grows takes from the others, and gives nothing away: rendezvous hashing. Without a session
//! a call is assigned by chance, in the same shares.
//!
//! The variant is the trace's: `brokle.routing.reason` is `variant NAME`. Its candidates come in its order, the others after
//! them by priority, so that a failure is still answered; the attempts on the trace show who did. What cools down comes last.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy, distance};
use brokle_plugin::{ConfigProblem, Description};
use serde::Deserialize;

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    experiment: String,
    variants: Vec<Variant>,
}

#[derive(Deserialize)]
struct Variant {
    name: String,
    weight: Option<u32>,
    #[serde(rename = "use")]
    wanted: Vec<String>,
}

struct Ab;

impl RoutingPolicy for Ab {
    fn describe() -> Description {
        let facts = ["affinity", "connection", "provider", "model", "entropy", "priority", "available"];
        Description::routing_policy(facts)
    }

    fn check_config(config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        let variants = config.get("variants").and_then(serde_json::Value::as_array);
        let variants: Vec<&serde_json::Value> = variants.into_iter().flatten().collect();
        let name = |variant: &serde_json::Value| variant.get("name").cloned();
        let mut problems = Vec::new();
        for (at, variant) in variants.iter().enumerate() {
            if variants.iter().take(at).any(|before| name(before) == name(variant)) {
                let (pointer, message) = (format!("/variants/{at}/name"), "another variant has it".into());
                problems.push(ConfigProblem { pointer, message });
            }
        }
        let weighs =
            |variant: &&&serde_json::Value| variant.get("weight").and_then(|w| w.as_u64()) != Some(0);
        if !variants.iter().any(|variant| weighs(&variant)) {
            let message = "one of them needs a weight above 0".into();
            problems.push(ConfigProblem { pointer: "/variants".into(), message });
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let config: Config = brokle_plugin::host::config()
            .map_err(|_| Refusal::Misconfigured("variants are expected".into()))?;
        let key = request.affinity.unwrap_or(request.entropy);
        let far = |variant: &&Variant| {
            distance(key, [config.experiment.as_str(), variant.name.as_str()], variant.weight.unwrap_or(1))
        };
        let variant = config.variants.iter().min_by(|a, b| far(a).total_cmp(&far(b)));
        let variant = variant.ok_or_else(|| Refusal::Misconfigured("variants are expected".into()))?;
        let place =
            |one: &Candidate| variant.wanted.iter().position(|name| one.is_named(name)).unwrap_or(usize::MAX);
        let mut order = (0..).zip(candidates).collect::<Vec<(u32, &Candidate)>>();
        order.sort_by_key(|(_, one)| (!one.available, place(one), one.priority));
        let reason = format!("variant {}", variant.name);
        Ok(Plan { order: order.into_iter().map(|(index, _)| index).collect(), reason })
    }
}

brokle_plugin::export!(routing_policy: Ab);
brokle_plugin::no_std!();
