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
use shared_canonical::kept::{self, plain};
use shared_canonical::media;

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
            ("images.generations", &["stream"]),
            ("images.edits", &["stream"]),
            ("audio.speech", &["stream"]),
            ("audio.transcriptions", &["stream"]),
            ("audio.translations", &[]),
            ("moderations", &[]),
            ("realtime", &["audio", "tools"]),
            ("files", &[]),
            ("batches", &[]),
            ("models", &[]),
            ("raw", &[]),
        ])
        .native_dialects([RESPONSES])
    }

    fn self_test() -> Result<(), Problem> {
        match path("chat.completions") {
            Some("/chat/completions") => Ok(()),
            other => Err(Problem::bad_answer(format!("chat completions are at {other:?}"))),
        }
    }

    fn prepare(call: &Call, body: &Body) -> Result<Preparation, Problem> {
        let options = options(&call.options)?;
        if call.operation == "models" {
            return Ok(options.identify(UpstreamRequest::get("/models").native()).into());
        }
        if call.operation == "raw" {
            return Ok(options.identify(UpstreamRequest::raw()).into());
        }
        if call.operation == "realtime" {
            return Ok(options.identify(realtime(call)?).into());
        }
        if kept::is_one(&call.operation) {
            return Ok(options.identify(kept::request(call)?).into());
        }
        if call.format == RESPONSES {
            return Ok(options.identify(responses(call)?.native()).into());
        }
        if let Some(path) = media::path(&call.operation).filter(|_| call.operation != "rerank") {
            let format = body.form_field("response_format");
            let request = media::request(call, UpstreamRequest::post(path), &call.model, format.as_deref());
            return Ok(options.identify(request).into());
        }
        let path = path(&call.operation).ok_or_else(|| Problem::unsupported_operation(call))?;
        let request = UpstreamRequest::post(path);
        let mut edits = vec![Edit::set("/model", &call.model)];
        if call.streaming && options.stream_usage {
            edits.push(Edit::set("/stream_options/include_usage", &true));
        }
        Ok(options.identify(request.edits(edits).native()).into())
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

/// The Realtime API: the host upgrades the request to a WebSocket, whose messages pass as they are.
fn realtime(call: &Call) -> Result<UpstreamRequest, Problem> {
    if !plain(&call.model) {
        return Err(Problem::invalid("model", "That is no realtime model's name."));
    }
    Ok(UpstreamRequest::get(format!("/realtime?model={}", call.model)).native())
}

/// The Responses API: what makes one, whose streams count without being asked, and what is done with one that is kept.
fn responses(call: &Call) -> Result<UpstreamRequest, Problem> {
    if call.operation == "responses" {
        return Ok(UpstreamRequest::post("/responses").edits([Edit::set("/model", &call.model)]));
    }
    let attribute = |wanted: &str| call.attributes.iter().find(|(name, _)| name == wanted);
    let id = attribute("object").map(|(_, id)| id.as_str()).filter(|id| plain(id));
    let id = id.ok_or_else(|| Problem::invalid("response_id", "That is no response's id."))?;
    let (method, end) = match call.operation.as_str() {
        "responses.get" => ("GET", ""),
        "responses.delete" => ("DELETE", ""),
        "responses.cancel" => ("POST", "/cancel"),
        "responses.input-items" => ("GET", "/input_items"),
        _ => return Err(Problem::unsupported_operation(call)),
    };
    let mut path = format!("/responses/{id}{end}");
    let mut before = '?';
    for (name, value) in &call.attributes {
        let Some(name) = name.strip_prefix("query.") else { continue };
        let known = ["after", "before", "include", "include[]", "limit", "order", "starting_after", "stream"];
        if known.contains(&name) && plain(value) {
            path.push_str(&format!("{before}{name}={value}"));
            before = '&';
        }
    }
    Ok(UpstreamRequest { method: method.into(), ..UpstreamRequest::get(path) })
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
