//! Google's Gemini API behind OpenAI's Chat Completions and Embeddings.
//!
//! `shared-gemini` translates chats, `embeddings` embeddings; `batches` is about batches of chats. `README.md` has the tables. Source: the Gemini API reference (`v1beta`), its pages
//! on function calling, thinking, thought signatures, and compatibility with OpenAI.
//!
//! **Base URL.** `https://generativelanguage.googleapis.com`, with or without a version: paths begin with `/v1beta`
//! unless the call's `base_path` ends in `/v1beta`, `/v1alpha` or `/v1`.
//!
//! **Thought signatures** come and go byte for byte, where Google's own OpenAI-compatible endpoint has them:
//! `extra_content.google.thought_signature` at a tool call or at the message.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod batches;
mod embeddings;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Auth, Body, BodyPlan, Call, Decoder, Ending, ErrorOutcome, Frame, HeaderAuth, Output, Payload,
    Preparation, Provider, ResponseHead, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};

use batches::BatchDecoder;
use shared_canonical::kept;
use shared_gemini::{AnswerDecoder, Options};

struct Gemini;

/// The dialect whose bytes are this vendor's own.
const DIALECT: &str = "gemini.generate-content";

impl Provider for Gemini {
    type Decoder = Decoding;

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
            ("batches", &["lines", "one_model"]),
            ("raw", &[]),
        ])
        .native_dialects([DIALECT])
    }

    fn self_test() -> Result<(), Problem> {
        let sample = br#"{"model":"m","messages":[{"role":"user","content":"hi"}]}"#;
        let body = shared_gemini::translate(sample, "gemini-sample", &Options::default())?;
        let answer = br#"{"candidates":[{"content":{"parts":[{"text":"hi"}],"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":1,"candidatesTokenCount":1}}"#;
        match (body.is_empty(), shared_gemini::whole(answer, 0, "id")?.len()) {
            (false, 2) => Ok(()),
            (_, outputs) => Err(Problem::bad_answer(format!("the sample gave {outputs} outputs"))),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        if call.format == DIALECT {
            return native(call).map(Into::into);
        }
        if kept::is_one(&call.operation) {
            return batches::prepare(call, body);
        }
        let bytes = body.abridged();
        upstream(call, &bytes).map(Into::into)
    }

    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        ErrorOutcome::Problem(shared_gemini::problem_of_answer(head, &body))
    }
}

/// The request for a canonical body.
fn upstream(call: &Call, body: &[u8]) -> Result<UpstreamRequest, Problem> {
    let options = Options::parse(&call.options)?;
    let (method, data) = match call.operation.as_str() {
        "chat.completions" => {
            let method = if call.streaming { "streamGenerateContent?alt=sse" } else { "generateContent" };
            (method, shared_gemini::translate(body, &call.model, &options)?)
        }
        "embeddings" => embeddings::request(body, &call.model)?,
        "raw" => return Ok(UpstreamRequest::raw().auth(auth())),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    let mut request = post(call, method).decoded(if call.streaming { "sse" } else { "whole" });
    request.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
    Ok(request)
}

/// The request for a body that is Gemini's already: it goes as it came, and the answer, too. The URL asks for events or for
/// an array, as the caller's did.
fn native(call: &Call) -> Result<UpstreamRequest, Problem> {
    let sse = call.attributes.iter().any(|(name, value)| name == "query.alt" && value == "sse");
    let method = match (call.operation.as_str(), call.streaming) {
        ("generate-content", false) => "generateContent",
        ("generate-content", true) if sse => "streamGenerateContent?alt=sse",
        ("generate-content", true) => "streamGenerateContent",
        ("generate-content.count-tokens", _) => "countTokens",
        _ => return Err(Problem::unsupported_operation(call)),
    };
    Ok(post(call, method).native())
}

/// A request for a method of the call's model, its body as it came.
fn post(call: &Call, method: &str) -> UpstreamRequest {
    UpstreamRequest::post(format!("{}/{}:{method}", version(call), resource(&call.model))).auth(auth())
}

/// What paths begin with: the API's version, unless the connection's base URL has one.
fn version(call: &Call) -> &'static str {
    let base = call.attributes.iter().find(|(name, _)| name == "base_path").map(|(_, path)| path.as_str());
    let base = base.unwrap_or_default().trim_end_matches('/');
    let versioned = ["/v1beta", "/v1alpha", "/v1"].iter().any(|version| base.ends_with(version));
    if versioned { "" } else { "/v1beta" }
}

fn auth() -> Auth {
    Auth::Header(HeaderAuth { name: "x-goog-api-key".into(), prefix: String::new() })
}

/// A model's resource name: `models/NAME`, unless the name is one already (`tunedModels/NAME`).
fn resource(model: &str) -> String {
    let mut name = String::with_capacity(model.len() + 7);
    if !model.contains('/') {
        name.push_str("models/");
    }
    for byte in model.bytes() {
        match byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            true => name.push(char::from(byte)),
            false => name.push_str(&format!("%{byte:02X}")),
        }
    }
    name
}

/// One answer, by its operation.
enum Decoding {
    Chat(AnswerDecoder),
    Embeddings(embeddings::EmbeddingsDecoder),
    Batches(BatchDecoder),
}

impl Decoder for Decoding {
    fn new(call: Call, head: ResponseHead, state: Vec<u8>) -> Self {
        match call.operation.as_str() {
            operation if kept::is_one(operation) => Self::Batches(BatchDecoder::new(call, head, state)),
            "embeddings" => Self::Embeddings(embeddings::EmbeddingsDecoder::new(call.model)),
            _ => Self::Chat(AnswerDecoder::new(&call)),
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        match self {
            Self::Chat(decoder) => decoder.push(&frames),
            Self::Embeddings(decoder) => decoder.push(&frames),
            Self::Batches(decoder) => decoder.push(frames),
        }
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        let outputs = match self {
            Self::Chat(decoder) => decoder.finish()?,
            Self::Embeddings(decoder) => decoder.finish()?,
            Self::Batches(decoder) => return decoder.finish(),
        };
        Ok(Ending { outputs, next: None })
    }
}

brokle_plugin::export!(provider: Gemini);
brokle_plugin::no_std!();
