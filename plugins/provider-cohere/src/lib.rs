//! Cohere's v2 API behind OpenAI's Chat Completions, Embeddings, and the rerank form.
//!
//! `request` turns a canonical request into Cohere's, `answer` and `lists` turn answers back, `error` says what an
//! error means. A whole chat answer is the deltas of a stream, joined: the two can't differ. `README.md` has the
//! tables. Source: Cohere's API reference, v2 (chat, chat with streaming, embed, rerank, errors).
//!
//! **Base URL.** `https://api.cohere.com`, with or without `/v2`.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod error;
mod lists;
mod options;
mod request;

use alloc::format;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Body, BodyPlan, Call, Decoder, Ending, ErrorOutcome, Frame, Output, Payload, Preparation, Provider,
    ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};

use answer::AnswerDecoder;
use lists::ListDecoder;
use options::Options;

struct Cohere;

impl Provider for Cohere {
    type Decoder = Decoding;

    fn describe() -> Description {
        Description::provider([
            (
                "chat.completions",
                &["stream", "tools", "parallel_tool_calls", "vision", "json_schema", "reasoning"][..],
            ),
            ("embeddings", &["base64", "dimensions"]),
            ("rerank", &[]),
            ("raw", &[]),
        ])
    }

    fn self_test() -> Result<(), Problem> {
        let sample = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let body = request::chat(sample, "command-sample", false, &Options::default())?;
        let answer = br#"{"id":"1","finish_reason":"COMPLETE","message":{"role":"assistant","content":[{"type":"text","text":"hi"}]},"usage":{"tokens":{"input_tokens":1,"output_tokens":1}}}"#;
        match (body.is_empty(), answer::whole(answer, 0, "m")?.len()) {
            (false, 2) => Ok(()),
            (_, outputs) => Err(Problem::bad_answer(format!("the sample gave {outputs} outputs"))),
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

/// The request for a canonical body.
fn upstream(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let options = Options::parse(&call.options)?;
    let (name, data) = match call.operation.as_str() {
        "chat.completions" => ("chat", request::chat(body, &call.model, call.streaming, &options)?),
        "embeddings" => ("embed", request::embed(body, &call.model, &options)?),
        "rerank" => ("rerank", request::rerank(body, &call.model, &options)?),
        "raw" => return Ok(UpstreamRequest::raw()),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    let base = call.attributes.iter().find(|(name, _)| name == "base_path").map(|(_, path)| path.as_str());
    let version = if base.unwrap_or_default().trim_end_matches('/').ends_with("/v2") { "" } else { "/v2" };
    let mut request = UpstreamRequest::post(format!("{version}/{name}")).decoded(if call.streaming {
        "sse"
    } else {
        "whole"
    });
    request.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
    Ok(request)
}

/// One answer, by its operation.
enum Decoding {
    Chat(AnswerDecoder),
    List(ListDecoder),
}

impl Decoder for Decoding {
    fn new(call: Call, _head: ResponseHead, _state: Vec<u8>) -> Self {
        match call.operation.as_str() {
            "chat.completions" => Self::Chat(AnswerDecoder::new(&call)),
            _ => Self::List(ListDecoder::new(call)),
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::with_capacity(frames.len());
        for frame in frames.iter().filter(|frame| !frame.data.is_empty()) {
            match self {
                Self::Chat(decoder) => decoder.document(&frame.data, &mut outputs)?,
                Self::List(decoder) => decoder.document(&frame.data, &mut outputs)?,
            }
        }
        Ok(outputs)
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        let complete = match self {
            Self::Chat(decoder) => decoder.is_complete(),
            Self::List(decoder) => decoder.is_complete(),
        };
        match complete {
            true => Ok(Ending { outputs: Vec::new(), next: None }),
            false => Err(Problem::bad_answer("it ended before the message did")),
        }
    }
}

brokle_plugin::export!(provider: Cohere);
brokle_plugin::no_std!();
