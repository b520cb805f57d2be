//! The cheapest candidate that answers fast enough.

use brokle_plugin::routing::{Candidate, Plan, Refusal, Request, RoutingPolicy};
use brokle_plugin::{ConfigProblem, Description, host};
use serde::Deserialize;

/// What an operator may set; the schema is in `plugin.json`.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    max_first_token_ms: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { max_first_token_ms: 2_000.0 }
    }
}

struct Acme;

impl RoutingPolicy for Acme {
    fn describe() -> Description {
        Description::routing_policy(["available", "input-price", "output-price", "first-token-ms"])
    }

    // What the schema can't say. This one could: it is here to show where such checks go.
    fn check_config(config: serde_json::Value) -> Result<(), Vec<ConfigProblem>> {
        match serde_json::from_value::<Config>(config) {
            Ok(config) if config.max_first_token_ms > 0.0 => Ok(()),
            Ok(_) => Err(vec![ConfigProblem {
                pointer: "/max_first_token_ms".into(),
                message: "Must be more than 0.".into(),
            }]),
            Err(error) => Err(vec![ConfigProblem { pointer: String::new(), message: error.to_string() }]),
        }
    }

    fn decide(request: &Request, candidates: &[Candidate]) -> Result<Plan, Refusal> {
        let config: Config = host::config().map_err(|error| Refusal::Misconfigured(error.to_string()))?;
        let cost = |candidate: &Candidate| {
            // Dollars for a million calls like this one; unknown prices come after known ones.
            let (Some(input), Some(output)) = (candidate.input_price, candidate.output_price) else { return f64::MAX };
            input * request.input_tokens as f64 + output * request.max_output_tokens.unwrap_or(256) as f64
        };
        let slow = |candidate: &Candidate| {
            candidate.stats.first_token_ms.is_some_and(|time| time > config.max_first_token_ms)
        };
        // The unavailable come last in any case, so that no request is refused while all are cooling down.
        Ok(Plan::by_key(
            candidates,
            |candidate| if slow(candidate) { f64::INFINITY } else { cost(candidate) },
            "cheapest that is fast enough",
        ))
    }
}

brokle_plugin::export!(routing_policy: Acme);
