//! OpenAI, and every server that speaks its API.
//!
//! The canonical form is OpenAI's own, so nothing is translated: the body goes out as it came,
//! but for the model's name and, in streams, `stream_options.include_usage`, without which a
//! stream has no token counts (the host takes the extra chunk out again when the caller didn't
//! ask for it). Answers are relayed untouched. Source: OpenAI's API reference.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

use alloc::string::String;
use alloc::{format, vec};

use brokle_plugin::provider::{Body, Call, Edit, NoDecoder, Preparation, Provider, UpstreamRequest};
use brokle_plugin::{Description, Problem};

struct OpenAi;

/// The dialect that needs no translation either.
const RESPONSES: &str = "openai.responses";

/// The connection's options; see `plugin.json`.
#[derive(serde::Deserialize)]
#[serde(default)]
struct Options {
    organization: Option<String>,
    project: Option<String>,
    stream_usage: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { organization: None, project: None, stream_usage: true }
    }
}

impl Provider for OpenAi {
    type Decoder = NoDecoder;

    fn describe() -> Description {
        Description::provider([
            (
                "chat.completions",
                &[
                    "stream",
                    "tools",
                    "parallel_tool_calls",
                    "vision",
                    "json_schema",
                    "reasoning",
                    "audio",
                    "logprobs",
                ][..],
            ),
            ("completions", &["stream", "logprobs"]),
            ("embeddings", &["base64", "dimensions"]),
            ("models", &[]),
        ])
        .native_dialects([RESPONSES])
    }

    fn self_test() -> Result<(), Problem> {
        match path("chat.completions") {
            Some("/chat/completions") => Ok(()),
            other => Err(Problem::bad_answer(format!("chat completions are at {other:?}"))),
        }
    }

    fn prepare(call: &Call, _body: &Body) -> Result<Preparation, Problem> {
        let options = options(&call.options)?;
        if call.operation == "models" {
            return Ok(options.identify(UpstreamRequest::get("/models").native()).into());
        }
        if call.format == RESPONSES {
            // Its streams count without being asked.
            let edits = [Edit::set("/model", &call.model)];
            return Ok(options.identify(UpstreamRequest::post("/responses").edits(edits).native()).into());
        }
        let path = path(&call.operation).ok_or_else(|| Problem::unsupported_operation(call))?;
        let mut edits = vec![Edit::set("/model", &call.model)];
        if call.streaming && options.stream_usage && call.operation != "embeddings" {
            edits.push(Edit::set("/stream_options/include_usage", &true));
        }
        Ok(options.identify(UpstreamRequest::post(path).edits(edits).native()).into())
    }
}

impl Options {
    /// Says for whom the call is paid.
    fn identify(self, mut request: UpstreamRequest) -> UpstreamRequest {
        if let Some(organization) = self.organization {
            request = request.header("openai-organization", organization);
        }
        if let Some(project) = self.project {
            request = request.header("openai-project", project);
        }
        request
    }
}

fn path(operation: &str) -> Option<&'static str> {
    match operation {
        "chat.completions" => Some("/chat/completions"),
        "completions" => Some("/completions"),
        "embeddings" => Some("/embeddings"),
        _ => None,
    }
}

/// `{}` is by far the most frequent, and needs no parser.
fn options(json: &[u8]) -> Result<Options, Problem> {
    if json == b"{}" {
        return Ok(Options::default());
    }
    serde_json::from_slice(json)
        .map_err(|error| Problem::invalid("", format!("The connection's options: {error}.")))
}

brokle_plugin::export!(provider: OpenAi);
brokle_plugin::no_std!();
