//! Answers that are Anthropic's own: counts, model, how they end. Nothing is changed, so nothing is written here but the
//! error at the end of a stream that broke off.

use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::{self, Call, Frame, Reading};
use serde::Deserialize;

#[derive(Deserialize, Default)]
struct Message {
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    stop_reason: Option<String>,
    #[serde(default)]
    usage: Usage,
    /// Of `count_tokens`.
    #[serde(default, rename = "type")]
    kind: Option<String>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    message: Option<Message>,
    #[serde(default)]
    delta: Option<Delta>,
    #[serde(default)]
    usage: Option<Usage>,
    #[serde(default)]
    error: Option<Failure>,
}

#[derive(Deserialize)]
struct Delta {
    #[serde(default)]
    stop_reason: Option<String>,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    message: String,
}

#[derive(Deserialize, Default, Clone, Copy)]
struct Usage {
    #[serde(default)]
    input_tokens: Option<u64>,
    #[serde(default)]
    cache_read_input_tokens: Option<u64>,
    #[serde(default)]
    cache_creation_input_tokens: Option<u64>,
    #[serde(default)]
    output_tokens: Option<u64>,
}

impl Usage {
    /// Later events name only what has grown.
    fn update(&mut self, later: Self) {
        self.input_tokens = later.input_tokens.or(self.input_tokens);
        self.cache_read_input_tokens = later.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.cache_creation_input_tokens =
            later.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.output_tokens = later.output_tokens.or(self.output_tokens);
    }

    /// Cached tokens are counted beside the input; the account's input is all of it.
    fn tell(&self, reading: &mut Reading) {
        let (read, written) = (self.cache_read_input_tokens, self.cache_creation_input_tokens);
        let input = self.input_tokens.map(|input| input + read.unwrap_or(0) + written.unwrap_or(0));
        reading.count("input", input);
        reading.count("output", self.output_tokens);
        reading.count("cached_read", read.filter(|&count| count > 0));
        reading.count("cache_write", written.filter(|&count| count > 0));
    }
}

pub(crate) fn whole(answer: &[u8]) -> Reading {
    let message: Message = serde_json::from_slice(answer).unwrap_or_default();
    let mut reading = Reading { model: message.model, complete: true, ..Reading::default() };
    // A count of tokens is no use of them.
    if message.kind.as_deref() == Some("message") {
        message.usage.tell(&mut reading);
    }
    reading.finish_reason = message.stop_reason.as_deref().map(finish_reason);
    reading
}

/// One stream.
pub(crate) struct Reader {
    usage: Usage,
}

impl dialect::Reader for Reader {
    fn new(_call: Call) -> Self {
        Self { usage: Usage::default() }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Reading {
        let mut reading = Reading::default();
        let before = reading.usage.len();
        let mut counted = false;
        for frame in frames {
            // The deltas are by far the most, and tell nothing.
            if matches!(frame.event.as_str(), "content_block_delta" | "ping") {
                continue;
            }
            let Ok(event) = serde_json::from_slice::<Event>(&frame.data) else { continue };
            match event.kind.as_str() {
                "message_start" => {
                    let message = event.message.unwrap_or_default();
                    self.usage.update(message.usage);
                    counted = true;
                    reading.model = message.model;
                }
                "message_delta" => {
                    self.usage.update(event.usage.unwrap_or_default());
                    counted = true;
                    let stop = event.delta.and_then(|delta| delta.stop_reason);
                    reading.finish_reason = stop.as_deref().map(finish_reason).or(reading.finish_reason);
                }
                "message_stop" => reading.complete = true,
                "error" => reading.failure = Some(event.error.map(|error| error.message).unwrap_or_default()),
                _ => {}
            }
        }
        if counted && reading.usage.len() == before {
            self.usage.tell(&mut reading);
        }
        reading
    }

    fn failed(&mut self, status: u16, problem: &Problem) -> Vec<u8> {
        let mut out = Vec::new();
        crate::error::in_stream(&mut out, status, problem);
        out
    }
}

fn finish_reason(stop: &str) -> String {
    String::from(match stop {
        "max_tokens" | "model_context_window_exceeded" => "length",
        "tool_use" => "tool_calls",
        "refusal" => "content_filter",
        _ => "stop",
    })
}
