//! Ollama's own API behind OpenAI's Chat Completions and Embeddings.
//!
//! What its compatible endpoint (the preset `ollama-v1`) can't say: the context window, how long a model stays loaded,
//! thinking by level. `request` turns a canonical request into `/api/chat`'s or `/api/embed`'s, `answer` and
//! `embeddings` turn answers back; a whole answer is the one line of a stream. Source: Ollama's API reference.
//!
//! A server of one's own needs no key; with one (Ollama's cloud) it goes as a bearer token.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod embeddings;
mod options;
mod request;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Auth, Body, BodyPlan, Call, Decoder, Ending, ErrorOutcome, Frame, Output, Payload, Preparation, Provider,
    ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};

use answer::AnswerDecoder;
use embeddings::EmbeddingsDecoder;
use options::Options;

struct Ollama;

impl Provider for Ollama {
    type Decoder = Decoding;

    fn describe() -> Description {
        Description::provider([
            (
                "chat.completions",
                &["stream", "tools", "parallel_tool_calls", "vision", "json_schema", "reasoning"][..],
            ),
            ("embeddings", &["base64", "dimensions"]),
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
        let bytes = body.abridged();
        upstream(call, &bytes).map(Into::into)
    }

    /// `{"error": "text"}`.
    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        #[derive(serde::Deserialize)]
        struct Document {
            error: String,
        }
        let message = match serde_json::from_slice(&body) {
            Ok(Document { error }) => error,
            Err(_) => String::from_utf8_lossy(&body).trim().chars().take(500).collect(),
        };
        let message = match message.is_empty() {
            true => format!("Ollama answered {} without a message.", head.status),
            false => message,
        };
        let mut problem = Problem::new(Problem::kind_of_status(head.status), message);
        problem.status = (400..500).contains(&head.status).then_some(head.status);
        problem.retry_after_ms = head.retry_after_ms();
        ErrorOutcome::Problem(problem)
    }
}

fn upstream(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let options = Options::parse(&call.options)?;
    let keyless = call.attributes.iter().any(|(name, value)| name == "credential" && value == "none");
    let auth = if keyless { Auth::None } else { Auth::Bearer };
    let (path, data) = match call.operation.as_str() {
        "raw" => return Ok(UpstreamRequest::raw().auth(auth)),
        "chat.completions" => ("/api/chat", request::chat(body, &call.model, call.streaming, &options)?),
        "embeddings" => ("/api/embed", embeddings::request(body, &call.model, &options)?),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    let mut request =
        UpstreamRequest::post(path).auth(auth).decoded(if call.streaming { "ndjson" } else { "whole" });
    request.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
    Ok(request)
}

/// One answer, by its operation.
enum Decoding {
    Chat(AnswerDecoder),
    Embeddings(EmbeddingsDecoder),
}

impl Decoder for Decoding {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        match call.operation.as_str() {
            "embeddings" => Self::Embeddings(EmbeddingsDecoder::new(call.model)),
            _ => Self::Chat(AnswerDecoder::new(&call)),
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::with_capacity(frames.len());
        for frame in frames.iter().filter(|frame| !frame.data.is_empty()) {
            match self {
                Self::Chat(decoder) => decoder.line(&frame.data, &mut outputs)?,
                Self::Embeddings(decoder) => decoder.document(&frame.data, &mut outputs)?,
            }
        }
        Ok(outputs)
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        let complete = match self {
            Self::Chat(decoder) => decoder.is_complete(),
            Self::Embeddings(decoder) => decoder.is_complete(),
        };
        match complete {
            true => Ok(Ending { outputs: Vec::new(), next: None }),
            false => Err(Problem::bad_answer("it ended before the message did")),
        }
    }
}

brokle_plugin::export!(provider: Ollama);
brokle_plugin::no_std!();
