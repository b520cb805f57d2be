//! Fixtures of routing policies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use brokle_runtime::facts::{Candidate, Plan, Refusal, Request, Stats};
use brokle_runtime::{Observer, PolicyPlugin};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::Error;
use crate::diff::diff;
use crate::fixture::{self, Surroundings};

/// A fixture's file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    /// For people.
    #[serde(default, rename = "about")]
    _about: String,
    #[serde(default)]
    host: Surroundings,
    #[serde(default)]
    request: Told,
    #[serde(default)]
    candidates: Vec<Choice>,
    expect: Value,
}

/// What the policy is told of the request.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Told {
    operation: String,
    model: String,
    streaming: bool,
    body_size: u64,
    input_tokens: u64,
    max_output_tokens: Option<u64>,
    features: Vec<String>,
    affinity: Option<u64>,
    entropy: u64,
    attributes: BTreeMap<String, String>,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            operation: "chat.completions".into(),
            model: "smart".into(),
            streaming: false,
            body_size: 256,
            input_tokens: 64,
            max_output_tokens: None,
            features: Vec::new(),
            affinity: None,
            entropy: 1,
            attributes: BTreeMap::new(),
        }
    }
}

/// A candidate.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    connection: String,
    #[serde(default = "provider")]
    provider: String,
    #[serde(default = "model")]
    model: String,
    #[serde(default)]
    priority: i32,
    #[serde(default = "one")]
    weight: u32,
    #[serde(default = "yes")]
    available: bool,
    #[serde(default)]
    stats: Measured,
    input_price: Option<f64>,
    output_price: Option<f64>,
    context_window: Option<u64>,
    #[serde(default)]
    features: Vec<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// Its live measurements.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Measured {
    latency_ms: Option<f64>,
    first_token_ms: Option<f64>,
    error_rate: Option<f64>,
    in_flight: u32,
    remaining_requests: Option<u64>,
    remaining_tokens: Option<u64>,
}

fn provider() -> String {
    "openai".into()
}

fn model() -> String {
    "gpt-4o-mini".into()
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
}

impl From<Told> for Request {
    fn from(told: Told) -> Self {
        let Told { operation, model, streaming, body_size, input_tokens, max_output_tokens, .. } = told;
        Self {
            operation,
            model,
            streaming,
            body_size,
            input_tokens,
            max_output_tokens,
            features: told.features,
            affinity: told.affinity,
            entropy: told.entropy,
            attributes: told.attributes.into_iter().collect(),
        }
    }
}

impl From<Choice> for Candidate {
    fn from(choice: Choice) -> Self {
        let Choice { connection, provider, model, priority, weight, available, stats, .. } = choice;
        let stats = Stats {
            latency_ms: stats.latency_ms,
            first_token_ms: stats.first_token_ms,
            error_rate: stats.error_rate,
            in_flight: stats.in_flight,
            remaining_requests: stats.remaining_requests,
            remaining_tokens: stats.remaining_tokens,
        };
        Self {
            connection,
            provider,
            model,
            priority,
            weight,
            available,
            stats,
            input_price: choice.input_price,
            output_price: choice.output_price,
            context_window: choice.context_window,
            features: choice.features,
            attributes: choice.attributes.into_iter().collect(),
        }
    }
}

/// Plays one fixture; how often, and what differs.
pub(crate) async fn play(
    plugin: &PolicyPlugin,
    path: &Path,
    heard: &Arc<dyn Observer>,
) -> Result<(usize, Vec<String>), Error> {
    let case: Case = fixture::read(path)?;
    let candidates: Vec<Candidate> = case.candidates.iter().cloned().map(Into::into).collect();
    let request = case.request.clone().into();
    match plugin.check_config(case.host.config.to_string().as_bytes()).await {
        Err(error) => return Ok((1, vec![error.to_string()])),
        Ok(problems) => {
            if let Some(came) = fixture::config_problems(&problems) {
                return Ok((1, diff(&case.expect, &came)));
            }
        }
    }
    let decide = || decide(plugin, &case.host, heard, &request, &candidates);
    let (came, mut differences) = match decide().await {
        Ok(outcome) => outcome,
        Err(failure) => return Ok((1, vec![failure])),
    };
    differences.splice(0..0, diff(&case.expect, &came));
    match decide().await {
        Ok((again, _)) if again == came => {}
        Ok((again, _)) => differences.push(format!("played again, something else came: {again}")),
        Err(failure) => differences.push(format!("played again: {failure}")),
    }
    Ok((2, differences))
}

async fn decide(
    plugin: &PolicyPlugin,
    host: &Surroundings,
    heard: &Arc<dyn Observer>,
    request: &Request,
    candidates: &[Candidate],
) -> Result<(Value, Vec<String>), String> {
    let stage = host.stage(plugin.manifest(), heard)?;
    let failed = |error: brokle_runtime::PluginError| error.to_string();
    let mut outcome = Map::new();
    let mut differences = Vec::new();
    let decided = plugin.decide(stage.context.clone(), request, candidates).await.map_err(failed)?;
    match decided.0 {
        Ok(Plan { order, reason }) => {
            outcome.insert("order".into(), names(&order, candidates, &mut differences).into());
            outcome.insert("reason".into(), reason.into());
        }
        Err(Refusal::Misconfigured(detail)) => {
            outcome.insert("refusal".into(), json!({ "misconfigured": detail }));
        }
        Err(Refusal::Other(detail)) => {
            outcome.insert("refusal".into(), json!({ "other": detail }));
        }
    }
    differences.extend(stage.close(&mut outcome));
    Ok((outcome.into(), differences))
}

/// The order by the candidates' names: the connection's, with the model where a connection has several candidates.
fn names(order: &[u32], candidates: &[Candidate], differences: &mut Vec<String>) -> Vec<String> {
    let mut names = Vec::new();
    for index in order {
        let Some(candidate) = usize::try_from(*index).ok().and_then(|index| candidates.get(index)) else {
            differences
                .push(format!("order: {index} is no candidate; there are {}, from 0 on", candidates.len()));
            continue;
        };
        let alone = candidates.iter().filter(|other| other.connection == candidate.connection).count() == 1;
        let name = match alone {
            true => candidate.connection.clone(),
            false => format!("{}/{}", candidate.connection, candidate.model),
        };
        if names.contains(&name) {
            differences.push(format!("order: {name} is in it twice"));
        }
        names.push(name);
    }
    names
}
