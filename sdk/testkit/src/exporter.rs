//! Fixtures of exporters: batches, what must be sent of them, and what the receiver's answer comes to.

use std::path::Path;
use std::sync::Arc;

use brokle_runtime::exporting::{Batch, Failure};
use brokle_runtime::{ExporterPlugin, Observer};
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
    #[serde(default = "first")]
    attempt: u32,
    /// What isn't said of one is as in [`call`].
    observations: Vec<Map<String, Value>>,
    expect: Value,
}

fn first() -> u32 {
    1
}

/// A small call, as the API answers it in a trace.
fn call() -> Map<String, Value> {
    let call = json!({
        "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331", "parent_span_id": null,
        "name": "chat gpt-4o-mini", "type": "generation", "operation": "chat",
        "start_time": "2026-01-01T00:00:00.000000Z", "duration_ms": 1500.25, "time_to_first_token_ms": 250.5,
        "model": "smart", "model_served": "gpt-4o-mini-2024-07-18", "provider": "openai", "connection_id": "openai",
        "usage": {
            "input": 12, "output": 5, "cached_read": 4, "cache_write": 0, "reasoning": 0, "audio_input": 0,
            "audio_output": 0, "image_input": 0, "image_output": 0, "estimated": false, "total": 17
        },
        "cost": "0.000005", "streaming": true, "status": "ok", "status_code": 200, "finish_reason": "stop",
        "error": null, "user": null, "session": null, "tags": [],
        "environment_id": "01JTESTKIT0000000000000003", "key_id": null, "request_id": "01JTESTKIT0000000000000004",
        "attributes": {}, "input": null, "output": null, "children": []
    });
    match call {
        Value::Object(call) => call,
        _ => Map::new(),
    }
}

impl Case {
    fn batch(&self) -> Batch {
        let observation = |said: &Map<String, Value>| {
            let mut whole = call();
            whole.extend(said.clone());
            Value::Object(whole).to_string().into_bytes()
        };
        Batch {
            id: "5f4dcc3b5aa765d61d8327deb882cf995f4dcc3b5aa765d61d8327deb882cf99".into(),
            organization_id: "01JTESTKIT0000000000000001".into(),
            project_id: "01JTESTKIT0000000000000002".into(),
            attempt: self.attempt,
            observations: self.observations.iter().map(observation).collect(),
            attributes: Vec::new(),
        }
    }
}

/// Plays one fixture; how often, and what differs.
pub(crate) async fn play(
    plugin: &ExporterPlugin,
    path: &Path,
    heard: &Arc<dyn Observer>,
) -> Result<(usize, Vec<String>), Error> {
    let case: Case = fixture::read(path)?;
    match plugin.check_config(case.host.config.to_string().as_bytes()).await {
        Err(error) => return Ok((1, vec![error.to_string()])),
        Ok(problems) => {
            if let Some(came) = fixture::config_problems(&problems) {
                return Ok((1, diff(&case.expect, &came)));
            }
        }
    }
    let (came, mut differences) = match export(plugin, &case, heard).await {
        Ok(outcome) => outcome,
        Err(failure) => return Ok((1, vec![failure])),
    };
    differences.splice(0..0, diff(&case.expect, &came));
    match export(plugin, &case, heard).await {
        Ok((again, _)) if again == came => {}
        Ok((again, _)) => differences.push(format!("played again, something else came: {again}")),
        Err(failure) => differences.push(format!("played again: {failure}")),
    }
    Ok((2, differences))
}

async fn export(
    plugin: &ExporterPlugin,
    case: &Case,
    heard: &Arc<dyn Observer>,
) -> Result<(Value, Vec<String>), String> {
    let stage = case.host.stage(plugin.manifest(), heard)?;
    let exported =
        plugin.export(stage.context.clone(), &case.batch()).await.map_err(|error| error.to_string())?;
    let mut outcome = Map::new();
    let (name, value) = match exported {
        Ok(receipt) => ("receipt", json!({ "rejected": receipt.rejected, "message": receipt.message })),
        Err(failure) => ("failure", told(&failure)),
    };
    outcome.insert(name.into(), value);
    let differences = stage.close(&mut outcome);
    Ok((outcome.into(), differences))
}

fn told(failure: &Failure) -> Value {
    match failure {
        Failure::Retry(delay) => json!({"retry": {"reason": delay.reason, "after_ms": delay.after_ms}}),
        Failure::Refused(detail) => json!({"refused": detail}),
        Failure::Misconfigured(detail) => json!({"misconfigured": detail}),
        Failure::Other(detail) => json!({"other": detail}),
    }
}
