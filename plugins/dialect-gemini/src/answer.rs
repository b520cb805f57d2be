//! Answers, and how a whole canonical one becomes one.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::answer::{Answer as Canonical, Call, Usage as Counted};
use serde::Serialize;
use serde_json::value::RawValue;

/// An answer, or a piece of a streamed one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer<'a> {
    pub(crate) candidates: Vec<Candidate>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) usage_metadata: Option<Usage>,
    pub(crate) model_version: &'a str,
    pub(crate) response_id: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Candidate {
    pub(crate) content: Content,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) finish_reason: Option<&'static str>,
    pub(crate) index: u32,
}

#[derive(Serialize)]
pub(crate) struct Content {
    pub(crate) parts: Vec<Part>,
    pub(crate) role: &'static str,
}

/// One part of a candidate's content.
#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Part {
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    thought: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_call: Option<FunctionCall>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thought_signature: Option<String>,
}

#[derive(Serialize)]
struct FunctionCall {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    name: String,
    args: Box<RawValue>,
}

impl Part {
    pub(crate) fn text(text: String) -> Self {
        Self { text: Some(text), ..Self::default() }
    }

    pub(crate) fn thought(text: String) -> Self {
        Self { text: Some(text), thought: true, ..Self::default() }
    }

    pub(crate) fn signed(mut self, signature: Option<String>) -> Self {
        self.thought_signature = signature;
        self
    }

    /// A whole call. Arguments that are no object are kept, as the text that they are.
    pub(crate) fn call(call: Call) -> Self {
        let arguments = call.function.arguments.unwrap_or_default();
        let text = if arguments.trim().is_empty() { "{}" } else { arguments.trim() };
        let object = RawValue::from_string(text.into()).ok().filter(|value| value.get().starts_with('{'));
        let args = object.unwrap_or_else(|| {
            let quoted = serde_json::to_string(&arguments).unwrap_or_default();
            RawValue::from_string(format!(r#"{{"arguments":{quoted}}}"#)).unwrap_or_default()
        });
        let name = call.function.name.unwrap_or_default();
        Self { function_call: Some(FunctionCall { id: call.id, name, args }), ..Self::default() }
            .signed(call.extra_content.and_then(brokle_plugin::dialect::answer::ExtraContent::signature))
    }
}

/// Token counts, thoughts beside the answer's.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Usage {
    prompt_token_count: u64,
    candidates_token_count: u64,
    total_token_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    thoughts_token_count: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content_token_count: Option<u64>,
}

impl Usage {
    pub(crate) fn of(usage: &Counted) -> Self {
        Self {
            prompt_token_count: usage.prompt_tokens,
            candidates_token_count: usage.completion_tokens.saturating_sub(usage.reasoning()),
            total_token_count: usage.prompt_tokens + usage.completion_tokens,
            thoughts_token_count: Some(usage.reasoning()).filter(|&count| count > 0),
            cached_content_token_count: Some(usage.cached()).filter(|&count| count > 0),
        }
    }
}

pub(crate) fn finish_reason(finish: Option<&str>) -> &'static str {
    match finish {
        Some("length") => "MAX_TOKENS",
        Some("content_filter") => "SAFETY",
        _ => "STOP",
    }
}

pub(crate) fn whole(request_id: &str, state: &[u8], answer: &[u8]) -> Result<Vec<u8>, Problem> {
    let canonical: Canonical = serde_json::from_slice(answer).map_err(Problem::bad_answer)?;
    let mut candidates = Vec::new();
    for (index, choice) in (0..).zip(canonical.choices) {
        let said = choice.message;
        let mut parts = Vec::new();
        let thought = said.reasoning_content.filter(|text| !state.is_empty() && !text.is_empty());
        parts.extend(thought.map(Part::thought));
        let signature = said.extra_content.and_then(brokle_plugin::dialect::answer::ExtraContent::signature);
        let calls = said.tool_calls.unwrap_or_default();
        let text = said.content.filter(|text| !text.is_empty() || calls.is_empty());
        parts.extend(text.map(|text| Part::text(text).signed(signature)));
        parts.extend(said.refusal.filter(|text| !text.is_empty()).map(Part::text));
        parts.extend(calls.into_iter().map(Part::call));
        candidates.push(Candidate {
            content: Content { parts, role: "model" },
            finish_reason: Some(finish_reason(choice.finish_reason.as_deref())),
            index,
        });
    }
    if candidates.is_empty() {
        return Err(Problem::bad_answer("it has no choice"));
    }
    let answer = Answer {
        candidates,
        usage_metadata: canonical.usage.as_ref().map(Usage::of),
        model_version: &canonical.model,
        response_id: request_id,
    };
    serde_json::to_vec(&answer).map_err(Problem::bad_answer)
}
