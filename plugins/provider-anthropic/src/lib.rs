//! Anthropic's Messages API behind OpenAI's Chat Completions.
//!
//! `shared-anthropic` translates. `README.md` has the tables: what becomes of each parameter, of
//! each stop reason, of each error. Source: Anthropic's API reference (`anthropic-version: 2023-06-01`).
//!
//! **Base URL.** `https://api.anthropic.com` and `https://api.anthropic.com/v1` both work: the
//! path starts with `/v1` unless the call's `base_path` attribute (the path of the connection's
//! base URL) already ends in it. The `path_prefix` option overrides both.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod batches;
mod native;
mod options;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Auth, Body, BodyPlan, Call, Decoder, Ending, ErrorOutcome, Frame, HeaderAuth, Output, Payload,
    Preparation, Provider, ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};

use batches::BatchDecoder;
use options::Address;
use shared_anthropic::{AnswerDecoder, Destination, Options};
use shared_canonical::kept;

struct Anthropic;

/// An answer: a message, or something about batches.
enum Answer {
    Message(AnswerDecoder),
    Batches(BatchDecoder),
}

impl Decoder for Answer {
    fn new(call: Call, head: ResponseHead, state: Vec<u8>) -> Self {
        match kept::is_one(&call.operation) {
            true => Self::Batches(BatchDecoder::new(call, head, state)),
            false => Self::Message(AnswerDecoder::new(call, head, state)),
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        match self {
            Self::Message(answer) => answer.push(frames),
            Self::Batches(answer) => answer.push(frames),
        }
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        match self {
            Self::Message(answer) => answer.finish(),
            Self::Batches(answer) => answer.finish(),
        }
    }
}

impl Provider for Anthropic {
    type Decoder = Answer;

    fn describe() -> Description {
        let chat = [
            "stream",
            "tools",
            "parallel_tool_calls",
            "vision",
            "pdf",
            "json_schema",
            "reasoning",
            "prompt_caching",
        ];
        let operations =
            [("chat.completions", &chat[..]), ("models", &[]), ("raw", &[]), ("batches", &["lines"])];
        Description::provider(operations).native_dialects([native::DIALECT])
    }

    fn self_test() -> Result<(), Problem> {
        let sample = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let outgoing = shared_anthropic::translate(
            sample,
            "claude-sample-9",
            false,
            &Options::default(),
            Destination::Anthropic,
        )?;
        let answer = br#"{"id":"msg_1","model":"m","content":[{"type":"text","text":"hi"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}"#;
        match (outgoing.body.is_empty(), shared_anthropic::whole(answer, 0)?.len()) {
            (false, 2) => Ok(()),
            (_, outputs) => Err(Problem::bad_answer(format!("the sample gave {outputs} outputs"))),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        if call.format == native::DIALECT {
            return Ok(native::upstream(call)?.into());
        }
        match call.operation.as_str() {
            "chat.completions" => {}
            "models" => return Ok(models(call)?.into()),
            "raw" => return Ok(raw(call)?.into()),
            operation if kept::is_one(operation) => return batches::prepare(call, body),
            _ => return Err(Problem::unsupported_operation(call)),
        }
        let bytes = body.abridged();
        upstream(call, &bytes).map(Into::into)
    }

    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        ErrorOutcome::Problem(shared_anthropic::problem_of_answer(head, &body))
    }
}

/// The vendor's list of models, in its own form.
fn models(call: &Call) -> Result<UpstreamRequest, Problem> {
    let address = Address::parse(&call.options)?;
    let request = UpstreamRequest::get(format!("{}/models", address.prefix(base_path(call)))).native();
    Ok(identified(request, &address))
}

/// What a relayed call needs; the API's version is the caller's, if it says one.
fn raw(call: &Call) -> Result<UpstreamRequest, Problem> {
    let address = Address::parse(&call.options)?;
    let mut request = identified(UpstreamRequest::raw(), &address);
    if call.attributes.iter().any(|(name, _)| name == "header.anthropic-version") {
        request.headers.clear();
    }
    Ok(request)
}

fn base_path(call: &Call) -> Option<&str> {
    call.attributes.iter().find(|(name, _)| name == "base_path").map(|(_, path)| path.as_str())
}

/// With the key's header and the API's version.
fn identified(request: UpstreamRequest, address: &Address) -> UpstreamRequest {
    request
        .auth(Auth::Header(HeaderAuth { name: "x-api-key".into(), prefix: String::new() }))
        .header("anthropic-version", address.version.as_deref().unwrap_or("2023-06-01"))
}

/// The request for a canonical chat body.
fn upstream(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let (address, options) = (Address::parse(&call.options)?, Options::parse(&call.options)?);
    let outgoing =
        shared_anthropic::translate(body, &call.model, call.streaming, &options, Destination::Anthropic)?;

    let path = format!("{}/messages", address.prefix(base_path(call)));
    let mut request = identified(UpstreamRequest::post(path), &address).decoded(if call.streaming {
        "sse"
    } else {
        "whole"
    });
    if let Some(beta) = outgoing.beta {
        request = request.header("anthropic-beta", beta);
    }
    request.body =
        BodyPlan::Replaced(Payload { content_type: "application/json".into(), data: outgoing.body });
    Ok(request)
}

brokle_plugin::export!(provider: Anthropic);
brokle_plugin::no_std!();
