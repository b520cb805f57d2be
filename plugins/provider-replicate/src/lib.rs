//! Replicate's predictions behind OpenAI's Chat Completions.
//!
//! `input` makes a model's input of a canonical chat request; `prediction` reads predictions, asks again while they run,
//! and turns their output into an answer; `error` says what an error means. `README.md` has the tables. Source:
//! Replicate's HTTP API reference, the input schemas of its official language models.
//!
//! **Whole answers.** The vendor holds the call open for a while (`Prefer: wait`), then is asked again.
//!
//! **Streams.** The vendor's event streams are on another host name, where the host puts no credential. So the prediction
//! is asked again while it runs, and what its output has grown by is passed on.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod error;
mod input;
mod options;
mod prediction;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Body, Call, ErrorOutcome, Preparation, Provider, ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};
use serde_json::{Value, json};
use shared_canonical::url::segment;

use options::Options;
use prediction::PredictionDecoder;

struct Replicate;

impl Provider for Replicate {
    type Decoder = PredictionDecoder;

    fn describe() -> Description {
        Description::provider([("chat.completions", &["stream", "vision", "reasoning"][..]), ("raw", &[])])
    }

    fn self_test() -> Result<(), Problem> {
        let sample = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        match input::translate(sample, "meta/sample", &Options::default())?.get("prompt") {
            Some(prompt) if prompt == "hi" => Ok(()),
            other => Err(Problem::bad_answer(format!("the sample gave the prompt {other:?}"))),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        let bytes = body.abridged();
        upstream(call, &bytes).map(Into::into)
    }

    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        ErrorOutcome::Problem(error::from_answer(head, &body))
    }
}

/// The request that makes a prediction.
fn upstream(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    match call.operation.as_str() {
        "chat.completions" => {}
        "raw" => return Ok(UpstreamRequest::raw()),
        _ => return Err(Problem::unsupported_operation(call)),
    }
    let options = Options::parse(&call.options)?;
    let input = input::translate(body, &call.model, &options)?;
    let (path, version) = target(&call.model)?;
    let mut made = json!({ "input": Value::Object(input) });
    if let (Some(made), Some(version)) = (made.as_object_mut(), version) {
        made.insert("version".into(), version.into());
    }
    let request = UpstreamRequest::post(format!("{}{path}", prefix(call))).json(&made);
    Ok(match (call.streaming, options.wait) {
        (true, _) | (false, 0) => request,
        (false, seconds) => request.header("prefer", format!("wait={seconds}")),
    })
}

/// `/v1`, unless the base URL brings it.
fn prefix(call: &Call) -> &'static str {
    let base = call.attributes.iter().find(|(name, _)| name == "base_path").map(|(_, path)| path.as_str());
    if base.unwrap_or_default().trim_end_matches('/').ends_with("/v1") { "" } else { "/v1" }
}

/// Path and version: `OWNER/NAME` is an official model, `OWNER/NAME:VERSION` a community's, `deployments/OWNER/NAME` one's
/// own.
fn target(model: &str) -> Result<(String, Option<&str>), Problem> {
    let path = |kind: &str, owner: &str, name: &str| {
        format!("/{kind}/{}/{}/predictions", segment(owner), segment(name))
    };
    let parts: Vec<&str> = model.split('/').collect();
    match (parts.as_slice(), model.split_once(':')) {
        ([_, _], Some((_, version))) if !version.is_empty() => Ok(("/predictions".into(), Some(version))),
        (["deployments", owner, name], _) => Ok((path("deployments", owner, name), None)),
        ([owner, name], None) if !owner.is_empty() && !name.is_empty() => {
            Ok((path("models", owner, name), None))
        }
        _ => {
            let message = format!(
                "'{model}' is no model of Replicate's: OWNER/NAME, OWNER/NAME:VERSION or deployments/OWNER/NAME is."
            );
            Err(Problem { kind: brokle_plugin::ProblemKind::NotFound, ..Problem::invalid("model", message) })
        }
    }
}

brokle_plugin::export!(provider: Replicate);
brokle_plugin::no_std!();
