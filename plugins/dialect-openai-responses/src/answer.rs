//! Responses and their items, and how a whole canonical answer becomes one.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::answer::{Answer, Usage as Canonical};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::request::ECHOED;

/// One item of the output.
#[derive(Serialize, Clone)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Item {
    Reasoning { id: String, summary: Vec<Summary> },
    Message { id: String, status: &'static str, role: &'static str, content: Vec<Content> },
    FunctionCall { id: String, call_id: String, name: String, arguments: String, status: &'static str },
}

/// A piece of a summary of thoughts.
#[derive(Serialize, Clone)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Summary {
    SummaryText { text: String },
}

/// A piece of a message.
#[derive(Serialize, Clone)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Content {
    OutputText { text: String, annotations: [(); 0], logprobs: [(); 0] },
    Refusal { refusal: String },
}

impl Content {
    pub(crate) fn text(text: String) -> Self {
        Self::OutputText { text, annotations: [], logprobs: [] }
    }
}

impl Item {
    pub(crate) fn id(&self) -> &str {
        match self {
            Self::Reasoning { id, .. } | Self::Message { id, .. } | Self::FunctionCall { id, .. } => id,
        }
    }

    pub(crate) fn complete(&mut self) {
        match self {
            Self::Reasoning { .. } => {}
            Self::Message { status, .. } | Self::FunctionCall { status, .. } => *status = "completed",
        }
    }
}

/// Ids of a response's parts, all from the call's.
pub(crate) fn item_id(prefix: &str, request_id: &str, index: usize) -> String {
    format!("{prefix}_{request_id}_{index}")
}

#[derive(Serialize)]
struct Usage {
    input_tokens: u64,
    input_tokens_details: InputDetails,
    output_tokens: u64,
    output_tokens_details: OutputDetails,
    total_tokens: u64,
}

#[derive(Serialize)]
struct InputDetails {
    cached_tokens: u64,
}

#[derive(Serialize)]
struct OutputDetails {
    reasoning_tokens: u64,
}

impl Usage {
    fn of(usage: &Canonical) -> Self {
        Self {
            input_tokens: usage.prompt_tokens,
            input_tokens_details: InputDetails { cached_tokens: usage.cached() },
            output_tokens: usage.completion_tokens,
            output_tokens_details: OutputDetails { reasoning_tokens: usage.reasoning() },
            total_tokens: usage.prompt_tokens + usage.completion_tokens,
        }
    }
}

/// A response as far as it is.
pub(crate) struct Response<'a> {
    pub(crate) request_id: &'a str,
    pub(crate) created_at: u64,
    /// What it repeats of its request.
    pub(crate) state: &'a [u8],
    pub(crate) status: &'static str,
    pub(crate) model: &'a str,
    pub(crate) output: &'a [Item],
    pub(crate) usage: Option<&'a Canonical>,
    /// Why it is incomplete.
    pub(crate) incomplete: Option<&'static str>,
    /// Code and message.
    pub(crate) error: Option<(&'a str, &'a str)>,
}

#[derive(Serialize)]
struct Written<'a> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    background: bool,
    error: Option<Failure<'a>>,
    incomplete_details: Option<Details>,
    model: &'a str,
    output: &'a [Item],
    previous_response_id: (),
    store: bool,
    usage: Option<Usage>,
    #[serde(flatten)]
    echoed: BTreeMap<&'a str, &'a RawValue>,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'a str,
    message: &'a str,
}

#[derive(Serialize)]
struct Details {
    reason: &'static str,
}

impl Serialize for Response<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut echoed: BTreeMap<&str, &RawValue> = serde_json::from_slice(self.state).unwrap_or_default();
        for name in ECHOED {
            echoed.entry(name).or_insert_with(|| default(name));
        }
        let written = Written {
            id: format!("resp_{}", self.request_id),
            object: "response",
            created_at: self.created_at,
            status: self.status,
            background: false,
            error: self.error.map(|(code, message)| Failure { code, message }),
            incomplete_details: self.incomplete.map(|reason| Details { reason }),
            model: self.model,
            output: self.output,
            previous_response_id: (),
            store: false,
            usage: self.usage.map(Usage::of),
            echoed,
        };
        written.serialize(serializer)
    }
}

/// What a member is that the request didn't have.
fn default(name: &str) -> &'static RawValue {
    let json = match name {
        "metadata" => "{}",
        "parallel_tool_calls" => "true",
        "reasoning" => r#"{"effort":null,"summary":null}"#,
        "text" => r#"{"format":{"type":"text"}}"#,
        "tool_choice" => r#""auto""#,
        "tools" => "[]",
        "truncation" => r#""disabled""#,
        _ => "null",
    };
    // A literal of ours always parses.
    serde_json::from_str(json).unwrap_or(RawValue::NULL)
}

/// How a response ends: its status, and why it is incomplete.
pub(crate) fn ending(finish: Option<&str>) -> (&'static str, Option<&'static str>) {
    match finish {
        Some("length") => ("incomplete", Some("max_output_tokens")),
        Some("content_filter") => ("incomplete", Some("content_filter")),
        _ => ("completed", None),
    }
}

pub(crate) fn whole(
    request_id: &str,
    created_at: u64,
    state: &[u8],
    answer: &[u8],
) -> Result<Vec<u8>, Problem> {
    let (choice, model, usage) = Answer::parse(answer)?;
    let said = choice.message;
    let mut output = Vec::new();
    if let Some(text) = said.reasoning_content.filter(|text| !text.is_empty()) {
        let summary = Vec::from([Summary::SummaryText { text }]);
        output.push(Item::Reasoning { id: item_id("rs", request_id, 0), summary });
    }
    let mut content = Vec::new();
    content.extend(said.content.filter(|text| !text.is_empty()).map(Content::text));
    content.extend(said.refusal.filter(|text| !text.is_empty()).map(|refusal| Content::Refusal { refusal }));
    let calls = said.tool_calls.unwrap_or_default();
    if !content.is_empty() || calls.is_empty() {
        if content.is_empty() {
            content.push(Content::text(String::new()));
        }
        let id = item_id("msg", request_id, output.len());
        output.push(Item::Message { id, status: "completed", role: "assistant", content });
    }
    for call in calls {
        let id = item_id("fc", request_id, output.len());
        output.push(Item::FunctionCall {
            call_id: call.id.unwrap_or_else(|| item_id("call", request_id, output.len())),
            id,
            name: call.function.name.unwrap_or_default(),
            arguments: call.function.arguments.unwrap_or_default(),
            status: "completed",
        });
    }
    let (status, incomplete) = ending(choice.finish_reason.as_deref());
    let response = Response {
        request_id,
        created_at,
        state,
        status,
        model: &model,
        output: &output,
        usage: Some(&usage),
        incomplete,
        error: None,
    };
    serde_json::to_vec(&response).map_err(Problem::bad_answer)
}
