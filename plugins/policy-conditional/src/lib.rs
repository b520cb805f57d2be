//! The first rule whose condition holds says who is asked first.
//!
//! Conditions are those of routes (`brokle-expression`), read when the configuration is checked: a bad one is refused with its
//! place. `use` names connections or providers, with a model behind a slash or for any of their models; those that it names come
//! in its order, the others after them by priority. What cools down comes last. Without a rule that holds `otherwise` says
//! so, and without that the order is the operator's.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use brokle_expression::{Expression, Facts, Value};
use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};
use brokle_plugin::{ConfigProblem, Description};
use serde::Deserialize;

#[derive(Deserialize)]
struct Config {
    rules: Vec<Rule>,
    #[serde(default)]
    otherwise: Vec<String>,
}

#[derive(Deserialize)]
struct Rule {
    when: String,
    #[serde(rename = "use")]
    wanted: Vec<String>,
}

struct Conditional;

impl RoutingPolicy for Conditional {
    fn describe() -> Description {
        let facts = [
            "operation",
            "model",
            "streaming",
            "features",
            "body-size",
            "input-tokens",
            "max-output-tokens",
            "attributes",
            "connection",
            "provider",
            "priority",
            "available",
        ];
        Description::routing_policy(facts)
    }

    fn check_config(config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        let rules = config.get("rules").and_then(serde_json::Value::as_array);
        let problem = |(at, rule): (usize, &serde_json::Value)| {
            let error = Expression::read(rule.get("when")?.as_str()?).err()?;
            Some(ConfigProblem { pointer: format!("/rules/{at}/when"), message: error.to_string() })
        };
        let problems: Vec<_> = rules.into_iter().flatten().enumerate().filter_map(problem).collect();
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let config: Config =
            brokle_plugin::host::config().map_err(|_| Refusal::Misconfigured("rules are expected".into()))?;
        for rule in &config.rules {
            let when = Expression::read(&rule.when);
            let when = when.map_err(|error| Refusal::Misconfigured(error.to_string()))?;
            if when.holds(&Said(request)) {
                return Ok(plan(candidates, &rule.wanted, when.text()));
            }
        }
        Ok(plan(candidates, &config.otherwise, "no condition holds"))
    }
}

fn plan(candidates: &[Candidate], wanted: &[String], reason: &str) -> Plan {
    let place = |one: &Candidate| wanted.iter().position(|name| one.is_named(name)).unwrap_or(usize::MAX);
    let mut order = (0..).zip(candidates).collect::<Vec<(u32, &Candidate)>>();
    order.sort_by_key(|(_, one)| (!one.available, place(one), one.priority));
    Plan { order: order.into_iter().map(|(index, _)| index).collect(), reason: reason.into() }
}

/// A request, as conditions ask for it.
struct Said<'a>(&'a Request);

impl Facts for Said<'_> {
    fn get(&self, name: &str) -> Option<Value<'_>> {
        let request = self.0;
        let flag = |feature: &str| Some(Value::Flag(request.features.iter().any(|one| one == feature)));
        let said = || request.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        match name {
            "body_size" => Some(Value::Number(request.body_size as f64)),
            "endpoint" => Some(Value::Text(Cow::Borrowed(&request.operation))),
            "images" => flag("vision"),
            "input_tokens" => Some(Value::Number(request.input_tokens as f64)),
            "json_schema" | "reasoning" | "tools" => flag(name),
            "max_output_tokens" => Some(Value::Number(request.max_output_tokens? as f64)),
            "model" => Some(Value::Text(Cow::Borrowed(&request.model))),
            "stream" => Some(Value::Flag(request.streaming)),
            "tags" => Some(Value::List(Cow::Borrowed(said()?))),
            _ => Some(Value::Text(Cow::Borrowed(said()?))),
        }
    }
}

brokle_plugin::export!(routing_policy: Conditional);
brokle_plugin::no_std!();
