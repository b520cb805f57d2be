//! Mistral AI, where its API departs from OpenAI's.
//!
//! It refuses (422) every member that it doesn't know, in messages too, so a request is written from those that it
//! knows (`request`). Thinking comes and goes as parts of the content; it becomes `reasoning_content` (`answer`). Ids of
//! calls have nine letters and digits: another vendor's in a conversation that is taken over get one, the same for the
//! same. `seed` is `random_seed`, `max_completion_tokens` is `max_tokens`, and a stream has its counts unasked. `prediction`,
//! `prompt_mode`, `safe_prompt` and `random_seed` go through. Source: Mistral AI's API reference (chat, embeddings,
//! models) and its page on reasoning.
//!
//! Refused by name (dropped with `"unsupported_parameters": "drop"`): `logprobs`, `logit_bias`, audio in `modalities`,
//! `functions`, `function_call`, `web_search_options`. Anything else unknown is dropped.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod batches;
mod options;
mod request;

use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Body, BodyPlan, Call, Decoder, Ending, ErrorOutcome, Frame, Output, Payload, Preparation, Provider,
    ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Description, Problem, ProblemKind};
use serde_json::Value;

use answer::AnswerDecoder;
use batches::BatchDecoder;
use options::Options;
use shared_canonical::kept;

struct Mistral;

/// An answer: a chat's, or something about batches.
enum Answer {
    Chat(AnswerDecoder),
    Batches(BatchDecoder),
}

impl Decoder for Answer {
    fn new(call: Call, head: ResponseHead, state: Vec<u8>) -> Self {
        match kept::is_one(&call.operation) {
            true => Self::Batches(BatchDecoder::new(call, head, state)),
            false => Self::Chat(AnswerDecoder::new(call, head, state)),
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        match self {
            Self::Chat(answer) => answer.push(frames),
            Self::Batches(answer) => answer.push(frames),
        }
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        match self {
            Self::Chat(answer) => answer.finish(),
            Self::Batches(answer) => answer.finish(),
        }
    }
}

impl Provider for Mistral {
    type Decoder = Answer;

    fn describe() -> Description {
        Description::provider([
            (
                "chat.completions",
                &[
                    "stream",
                    "tools",
                    "parallel_tool_calls",
                    "vision",
                    "audio",
                    "pdf",
                    "json_schema",
                    "reasoning",
                    "prompt_caching",
                ][..],
            ),
            ("embeddings", &["base64", "dimensions"]),
            ("models", &[]),
            ("batches", &["lines", "one_model"]),
            ("raw", &[]),
        ])
    }

    fn self_test() -> Result<(), Problem> {
        let sample = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        match request::chat(sample, "sample", false, &Options::default())?.is_empty() {
            false => Ok(()),
            true => Err(Problem::bad_answer("the sample gave no request")),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        if kept::is_one(&call.operation) {
            return batches::prepare(call, body).map(Into::into);
        }
        let bytes = body.abridged();
        upstream(call, &bytes).map(Into::into)
    }

    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        ErrorOutcome::Problem(problem(head, body))
    }
}

fn upstream(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let options = Options::parse(&call.options)?;
    let (mut request, data) = match call.operation.as_str() {
        "models" => return Ok(UpstreamRequest::get("/models").native()),
        "raw" => return Ok(UpstreamRequest::raw()),
        "chat.completions" => {
            let framing = if call.streaming { "sse" } else { "whole" };
            let data = request::chat(body, &call.model, call.streaming, &options)?;
            (UpstreamRequest::post("/chat/completions").decoded(framing), data)
        }
        "embeddings" => {
            (UpstreamRequest::post("/embeddings").native(), request::embeddings(body, &call.model)?)
        }
        _ => return Err(Problem::unsupported_operation(call)),
    };
    request.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
    Ok(request)
}

/// `{"message": "text"}`, `{"message": {"detail": […]}}` or `{"detail": [{"msg", "loc"}]}`.
fn problem(head: &ResponseHead, body: Vec<u8>) -> Problem {
    let places = ["/message", "/message/detail/0/msg", "/detail/0/msg", "/detail"];
    let document: Option<Value> = serde_json::from_slice(&body).ok();
    let told = document.as_ref().and_then(|document| {
        places.iter().find_map(|place| document.pointer(place)?.as_str().map(String::from))
    });
    let Some(message) = told else { return Problem::from_openai(head, body) };
    let kind = match head.status {
        400 | 422 if message.contains("too large for model") => ProblemKind::ContextLength,
        status => Problem::kind_of_status(status),
    };
    let at = document.as_ref().and_then(|document| {
        let place =
            document.pointer("/detail/0/loc").or_else(|| document.pointer("/message/detail/0/loc"))?;
        place.as_array()?.iter().rev().find_map(Value::as_str).map(String::from)
    });
    let mut problem = Problem { param: at, ..Problem::new(kind, message) };
    problem.status = Some(head.status);
    problem.retry_after_ms = head.retry_after_ms();
    problem
}

brokle_plugin::export!(provider: Mistral);
brokle_plugin::no_std!();
