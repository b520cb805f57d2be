//! Amazon Bedrock's runtime behind OpenAI's Chat Completions and Embeddings.
//!
//! `request` turns a canonical chat request into `Converse`'s; `answer` turns the whole answer or the events of
//! `ConverseStream` back; `embeddings` does both for Titan's and Cohere's models through `InvokeModel`; `error` says what
//! an error means, in an answer and in a stream. `README.md` has the tables. Source: the Amazon Bedrock API reference
//! (Converse, ConverseStream, InvokeModel), its user guide on inference parameters, prompt caching and guardrails.
//!
//! **Base URL.** `https://bedrock-runtime.REGION.amazonaws.com`, said by the connection. The model's id, an inference
//! profile's id or an ARN stands in the path, percent-encoded.
//!
//! **Credential.** An access key that requests are signed with, or, with the option `auth`, a Bedrock API key.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod answer;
mod embeddings;
mod error;
mod family;
mod options;
mod request;

use alloc::boxed::Box;
use alloc::format;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Auth, Body, BodyPlan, Call, Decoder, Ending, ErrorOutcome, Frame, Output, Payload, Preparation, Provider,
    ResponseHead, Sigv4Auth, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};
use shared_canonical::url::segment;

use answer::AnswerDecoder;
use embeddings::EmbeddingsDecoder;
use options::{Authorization, Options};

struct Bedrock;

impl Provider for Bedrock {
    type Decoder = Decoding;

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
        Description::provider([
            ("chat.completions", &chat[..]),
            ("embeddings", &["base64", "dimensions"]),
            ("raw", &[]),
        ])
    }

    fn self_test() -> Result<(), Problem> {
        let sample = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let body = request::translate(sample, "anthropic.claude-sample-9", false, &Options::default())?;
        let answer = br#"{"output":{"message":{"role":"assistant","content":[{"text":"hi"}]}},"stopReason":"end_turn","usage":{"inputTokens":1,"outputTokens":1}}"#;
        match (body.is_empty(), answer::whole(answer)?.len()) {
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

fn auth(options: &Options) -> Auth {
    match options.auth {
        Authorization::ApiKey => Auth::Bearer,
        Authorization::Sigv4 => {
            let region = options.region.clone().unwrap_or_default();
            Auth::Sigv4(Sigv4Auth { service: "bedrock".into(), region })
        }
    }
}

/// The request for a canonical body.
fn upstream(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let options = Options::parse(&call.options)?;
    let (action, framing, data) = match (call.operation.as_str(), call.streaming) {
        ("chat.completions", streaming) => {
            let data = request::translate(body, &call.model, streaming, &options)?;
            match streaming {
                true => ("converse-stream", "aws-event-stream", data),
                false => ("converse", "whole", data),
            }
        }
        ("embeddings", _) => ("invoke", "whole", embeddings::request(body, &call.model, &options)?),
        ("raw", _) => return Ok(UpstreamRequest::raw().auth(auth(&options))),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    let mut request = UpstreamRequest::post(format!("/model/{}/{action}", segment(&call.model)))
        .auth(auth(&options))
        .decoded(framing);
    request.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
    Ok(request)
}

/// One answer, by its operation.
enum Decoding {
    Chat(Box<AnswerDecoder>),
    Embeddings(EmbeddingsDecoder),
}

impl Decoder for Decoding {
    fn new(call: Call, head: ResponseHead, _state: Vec<u8>) -> Self {
        match call.operation.as_str() {
            "embeddings" => Self::Embeddings(EmbeddingsDecoder::new(call.model, &head)),
            _ => Self::Chat(Box::new(AnswerDecoder::new(&call))),
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        let mut outputs = Vec::with_capacity(frames.len());
        for frame in frames {
            match self {
                Self::Chat(decoder) => decoder.frame(&frame, &mut outputs)?,
                Self::Embeddings(decoder) => outputs.extend(decoder.document(&frame.data)?),
            }
        }
        Ok(outputs)
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        let mut outputs = Vec::new();
        match self {
            Self::Chat(decoder) => decoder.finish(&mut outputs)?,
            Self::Embeddings(decoder) => decoder.finish()?,
        }
        Ok(Ending { outputs, next: None })
    }
}

/// The tool that stands in for a JSON Schema where the model has no such mode: its arguments are the answer.
const ANSWER_TOOL: &str = "brokle_structured_answer";

brokle_plugin::export!(provider: Bedrock);
brokle_plugin::no_std!();
