//! Responses that a provider made itself: counts, model, id, how they end.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::{self, Call, Frame, Reading, event};
use serde::{Deserialize, Serialize};

#[derive(Deserialize, Default)]
struct Response {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    status: Option<String>,
    #[serde(default)]
    store: Option<bool>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    incomplete_details: Option<Details>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Details {
    #[serde(default)]
    reason: Option<String>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: Option<String>,
}

#[derive(Deserialize)]
struct Usage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
    #[serde(default)]
    input_tokens_details: Option<InputDetails>,
    #[serde(default)]
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Deserialize)]
struct InputDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct OutputDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    response: Option<Response>,
    #[serde(default)]
    message: Option<String>,
}

impl Response {
    fn tell(self, reading: &mut Reading) {
        // One that isn't kept can't be asked for.
        reading.id = self.id.filter(|_| self.store != Some(false)).or(reading.id.take());
        reading.model = self.model.or(reading.model.take());
        if let Some(usage) = self.usage {
            reading.count("input", usage.input_tokens);
            reading.count("output", usage.output_tokens);
            reading
                .count("cached_read", usage.input_tokens_details.and_then(|details| details.cached_tokens));
            reading
                .count("reasoning", usage.output_tokens_details.and_then(|details| details.reasoning_tokens));
        }
        let reason = self.incomplete_details.and_then(|details| details.reason);
        let finish = match (self.status.as_deref(), reason.as_deref()) {
            (Some("completed"), _) => Some("stop"),
            (Some("incomplete"), Some("content_filter")) => Some("content_filter"),
            (Some("incomplete"), _) => Some("length"),
            _ => None,
        };
        reading.finish_reason = finish.map(ToOwned::to_owned).or(reading.finish_reason.take());
        if self.status.as_deref() == Some("failed") {
            let message = self.error.and_then(|error| error.message);
            reading.failure = Some(message.unwrap_or_else(|| "The response failed.".to_owned()));
        }
    }
}

pub(crate) fn whole(answer: &[u8]) -> Reading {
    let mut reading = Reading { complete: true, ..Reading::default() };
    serde_json::from_slice::<Response>(answer).unwrap_or_default().tell(&mut reading);
    reading
}

/// One stream.
pub(crate) struct Reader {
    seen: u64,
}

impl dialect::Reader for Reader {
    fn new(_call: Call) -> Self {
        Self { seen: 0 }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Reading {
        let mut reading = Reading::default();
        for frame in frames {
            self.seen += 1;
            // Most events are deltas, and tell nothing.
            let told = match frame.event.as_str() {
                "" => true,
                name => matches!(
                    name,
                    "error"
                        | "response.created"
                        | "response.completed"
                        | "response.incomplete"
                        | "response.failed"
                ),
            };
            if !told {
                continue;
            }
            let Ok(event) = serde_json::from_slice::<Event>(&frame.data) else { continue };
            if let Some(response) = event.response {
                response.tell(&mut reading);
            }
            match event.kind.as_str() {
                "response.completed" | "response.incomplete" | "response.failed" => reading.complete = true,
                "error" => reading.failure = Some(event.message.unwrap_or_default()),
                _ => {}
            }
        }
        reading
    }

    fn failed(&mut self, _status: u16, problem: &Problem) -> Vec<u8> {
        let mut out = Vec::new();
        in_stream(&mut out, problem, self.seen);
        out
    }
}

/// `error`, the last event of a stream that broke off.
pub(crate) fn in_stream(out: &mut Vec<u8>, problem: &Problem, sequence_number: u64) {
    #[derive(Serialize)]
    struct Failed<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        code: Option<&'a str>,
        message: &'a str,
        param: Option<&'a str>,
        sequence_number: u64,
    }
    let failed = Failed {
        kind: "error",
        code: problem.code.as_deref(),
        message: &problem.message,
        param: problem.param.as_deref(),
        sequence_number,
    };
    event(out, "error", &failed);
}
