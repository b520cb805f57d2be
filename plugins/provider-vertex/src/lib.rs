//! Vertex AI of Google Cloud behind OpenAI's Chat Completions and Embeddings.
//!
//! Gemini and Claude are translated by the libraries that `provider-gemini` and `provider-anthropic` are made of; open
//! models as a service speak OpenAI's format already and are relayed; `embeddings` does text embeddings. `publisher` says
//! which is which. `README.md` has the table. Source: Vertex AI's REST reference (`v1`), its pages on Claude and on
//! OpenAI's libraries, Anthropic's page on Vertex AI.
//!
//! **Base URL.** `https://aiplatform.googleapis.com` is the location `global`; others have their own. Paths begin with
//! `/v1` unless the call's `base_path` ends in `/v1` or `/v1beta1`.
//!
//! **Credential.** A service account's key file: the host signs an assertion with it and buys tokens.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

mod embeddings;
mod options;
mod publisher;

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::{
    Auth, Body, BodyPlan, Call, Decoder, Edit, Ending, ErrorOutcome, Frame, HeaderAuth, Output, Payload,
    Preparation, Provider, ResponseHead, ServiceAccountAuth, UpstreamRequest,
};
use brokle_plugin::{Description, Problem};
use shared_anthropic::Destination;
use shared_canonical::url::segment;

use options::{Authorization, Options};
use publisher::Publisher;

/// The version of Anthropic's API that Vertex AI has.
const ANTHROPIC_VERSION: &str = "vertex-2023-10-16";
/// What tokens are bought for.
const SCOPE: &str = "https://www.googleapis.com/auth/cloud-platform";

struct Vertex;

impl Provider for Vertex {
    type Decoder = Decoding;

    fn describe() -> Description {
        let chat = [
            "stream",
            "tools",
            "parallel_tool_calls",
            "vision",
            "audio",
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
        let (gemini, claude) = (shared_gemini::Options::default(), shared_anthropic::Options::default());
        let one = shared_gemini::translate(sample, "gemini-sample", &gemini)?;
        let destination = Destination::Cloud(ANTHROPIC_VERSION);
        let other = shared_anthropic::translate(sample, "claude-sample-9", false, &claude, destination)?;
        match one.is_empty() || other.body.is_empty() {
            false => Ok(()),
            true => Err(Problem::bad_answer("the samples gave no requests")),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        let read = || body.abridged();
        upstream(call, read).map(Into::into)
    }

    /// Claude's own errors are Anthropic's; what Vertex AI itself refuses is in Google's form.
    fn map_error(_call: &Call, head: &ResponseHead, body: Vec<u8>) -> ErrorOutcome {
        #[derive(serde::Deserialize)]
        struct Kind {
            #[serde(rename = "type", default)]
            kind: Option<String>,
        }
        let kind = serde_json::from_slice::<Kind>(&body).ok().and_then(|document| document.kind);
        ErrorOutcome::Problem(match kind.as_deref() {
            Some("error") => shared_anthropic::problem_of_answer(head, &body),
            _ => shared_gemini::problem_of_answer(head, &body),
        })
    }
}

/// The request for a canonical body, which is read only where it is translated.
fn upstream(call: &Call, read: impl Fn() -> Vec<u8>) -> Result<UpstreamRequest, Problem> {
    let options = Options::parse(&call.options)?;
    let auth = || match options.auth {
        Authorization::ApiKey => {
            Auth::Header(HeaderAuth { name: "x-goog-api-key".into(), prefix: String::new() })
        }
        Authorization::ServiceAccount => Auth::ServiceAccount(ServiceAccountAuth {
            token_url: "https://oauth2.googleapis.com/token".into(),
            scope: SCOPE.into(),
            audience: String::new(),
        }),
    };
    if call.operation == "raw" {
        return Ok(UpstreamRequest::raw().auth(auth()));
    }
    let base = call.attributes.iter().find(|(name, _)| name == "base_path").map(|(_, path)| path.as_str());
    let base = base.unwrap_or_default().trim_end_matches('/');
    let version = if base.ends_with("/v1") || base.ends_with("/v1beta1") { "" } else { "/v1" };
    let place = format!("{version}/{}", options.place()?);
    let publisher = Publisher::of(&call.model);
    let resource = format!("{place}{}", publisher.resource(&call.model));
    let framing = if call.streaming { "sse" } else { "whole" };
    let post = |path: String, data: Vec<u8>| {
        let mut request = UpstreamRequest::post(path).auth(auth()).decoded(framing);
        request.body = BodyPlan::Replaced(Payload { content_type: "application/json".into(), data });
        request
    };
    match (call.operation.as_str(), publisher) {
        ("chat.completions", Publisher::Google) => {
            let data = shared_gemini::translate(&read(), &call.model, &options.gemini()?)?;
            let method = if call.streaming { "streamGenerateContent?alt=sse" } else { "generateContent" };
            Ok(post(format!("{resource}:{method}"), data))
        }
        ("chat.completions", Publisher::Anthropic) => {
            let destination = Destination::Cloud(ANTHROPIC_VERSION);
            let claude = options.anthropic()?;
            let made =
                shared_anthropic::translate(&read(), &call.model, call.streaming, &claude, destination)?;
            let method = if call.streaming { "streamRawPredict" } else { "rawPredict" };
            let request = post(format!("{resource}:{method}"), made.body);
            Ok(match made.beta {
                Some(beta) => request.header("anthropic-beta", beta),
                None => request,
            })
        }
        ("chat.completions", Publisher::Open) => {
            let usage = call.streaming.then(|| Edit::set("/stream_options/include_usage", &true));
            let edits = [Edit::set("/model", &call.model)].into_iter().chain(usage);
            let path = format!("{resource}/chat/completions");
            Ok(UpstreamRequest::post(path).auth(auth()).edits(edits).native())
        }
        ("embeddings", _) => {
            let model = segment(call.model.strip_prefix("google/").unwrap_or(&call.model));
            let path = format!("{place}publishers/google/models/{model}:predict");
            let mut request = post(path, embeddings::request(&read(), &options)?);
            request = request.decoded("whole");
            Ok(request)
        }
        _ => Err(Problem::unsupported_operation(call)),
    }
}

/// One answer, by operation and publisher.
enum Decoding {
    Gemini(Box<shared_gemini::AnswerDecoder>),
    Claude(shared_anthropic::AnswerDecoder),
    Embeddings { model: String, seen: bool },
}

impl Decoder for Decoding {
    fn new(call: Call, head: ResponseHead, state: Vec<u8>) -> Self {
        match (call.operation.as_str(), Publisher::of(&call.model)) {
            ("embeddings", _) => Self::Embeddings { model: call.model, seen: false },
            (_, Publisher::Anthropic) => {
                Self::Claude(shared_anthropic::AnswerDecoder::new(call, head, state))
            }
            _ => Self::Gemini(Box::new(shared_gemini::AnswerDecoder::new(&call))),
        }
    }

    fn push(&mut self, frames: Vec<Frame>) -> Result<Vec<Output>, Problem> {
        match self {
            Self::Gemini(decoder) => decoder.push(&frames),
            Self::Claude(decoder) => decoder.push(frames),
            Self::Embeddings { model, seen } => {
                let mut outputs = Vec::new();
                for frame in frames {
                    *seen = true;
                    outputs.extend(embeddings::answer(&frame.data, model)?);
                }
                Ok(outputs)
            }
        }
    }

    fn finish(&mut self) -> Result<Ending, Problem> {
        match self {
            Self::Gemini(decoder) => Ok(Ending { outputs: decoder.finish()?, next: None }),
            Self::Claude(decoder) => decoder.finish(),
            Self::Embeddings { seen: true, .. } => Ok(Ending { outputs: Vec::new(), next: None }),
            Self::Embeddings { seen: false, .. } => Err(Problem::bad_answer("it is empty")),
        }
    }
}

brokle_plugin::export!(provider: Vertex);
brokle_plugin::no_std!();
