//! Answers that are Google's own: counts, model, how they end.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::{self, Call, Frame, Reading};
use serde::Deserialize;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Answer {
    candidates: Vec<Candidate>,
    usage_metadata: Option<Usage>,
    model_version: Option<String>,
    prompt_feedback: Option<Feedback>,
    error: Option<Failure>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Candidate {
    finish_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Feedback {
    block_reason: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Failure {
    message: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Usage {
    prompt_token_count: Option<u64>,
    tool_use_prompt_token_count: Option<u64>,
    candidates_token_count: Option<u64>,
    thoughts_token_count: Option<u64>,
    cached_content_token_count: Option<u64>,
}

impl Answer {
    fn tell(self, reading: &mut Reading) {
        reading.model = self.model_version.or(reading.model.take());
        if let Some(usage) = self.usage_metadata {
            let sum = |a: Option<u64>, b: Option<u64>| a.map(|a| a + b.unwrap_or(0)).or(b);
            reading.usage.clear();
            reading.count("input", sum(usage.prompt_token_count, usage.tool_use_prompt_token_count));
            reading.count("output", sum(usage.candidates_token_count, usage.thoughts_token_count));
            reading.count("reasoning", usage.thoughts_token_count);
            reading.count("cached_read", usage.cached_content_token_count);
        }
        let finish = self.candidates.into_iter().find_map(|candidate| candidate.finish_reason);
        let blocked = self.prompt_feedback.is_some_and(|feedback| feedback.block_reason.is_some());
        reading.complete |= blocked || finish.is_some();
        let finish = finish.map(|finish| match finish.as_str() {
            "STOP" => "stop",
            "MAX_TOKENS" => "length",
            "SAFETY" | "RECITATION" | "BLOCKLIST" | "PROHIBITED_CONTENT" | "SPII" => "content_filter",
            _ => "stop",
        });
        let finish = if blocked { Some("content_filter") } else { finish };
        reading.finish_reason = finish.map(ToOwned::to_owned).or(reading.finish_reason.take());
        reading.failure = self.error.map(|error| error.message).or(reading.failure.take());
    }
}

pub(crate) fn whole(answer: &[u8]) -> Reading {
    let mut reading = Reading::default();
    serde_json::from_slice::<Answer>(answer).unwrap_or_default().tell(&mut reading);
    reading.complete = true;
    reading
}

/// One stream.
pub(crate) struct Reader {
    events: bool,
    seen: bool,
}

impl dialect::Reader for Reader {
    fn new(call: Call) -> Self {
        Self { events: crate::asks_for_events(&call), seen: false }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Reading {
        let mut reading = Reading::default();
        for frame in frames {
            self.seen = true;
            if let Ok(answer) = serde_json::from_slice::<Answer>(&frame.data) {
                answer.tell(&mut reading);
            }
        }
        reading
    }

    fn failed(&mut self, status: u16, problem: &Problem) -> Vec<u8> {
        let mut out = Vec::new();
        crate::stream::element(&mut out, self.events, self.seen, &crate::error::whole(status, problem));
        if !self.events {
            out.push(b']');
        }
        out
    }
}
