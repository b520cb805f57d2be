//! From a whole canonical answer to a message.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use alloc::{format, vec};

use brokle_plugin::Problem;
use brokle_plugin::dialect::answer::{Answer, Choice, Usage as Canonical};
use serde::Serialize;
use serde_json::value::RawValue;

/// A message.
#[derive(Serialize)]
pub(crate) struct Message<'a> {
    pub(crate) id: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) role: &'static str,
    pub(crate) model: &'a str,
    pub(crate) content: Vec<Block>,
    pub(crate) stop_reason: Option<&'static str>,
    pub(crate) stop_sequence: Option<&'a str>,
    pub(crate) usage: Usage,
}

/// One block of its content.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Block {
    Raw(Box<RawValue>),
    Made(Made),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Made {
    Text { text: String },
    Thinking { thinking: String, signature: &'static str },
    ToolUse { id: String, name: String, input: Box<RawValue> },
}

/// Token counts, the cached ones beside the input.
#[derive(Serialize, Default)]
pub(crate) struct Usage {
    input_tokens: u64,
    cache_creation_input_tokens: u64,
    cache_read_input_tokens: u64,
    output_tokens: u64,
}

impl Usage {
    pub(crate) fn of(usage: &Canonical) -> Self {
        let (read, written) = (usage.cached(), usage.cache_written());
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(read + written),
            cache_creation_input_tokens: written,
            cache_read_input_tokens: read,
            output_tokens: usage.completion_tokens,
        }
    }
}

/// The message's id, from the call's.
pub(crate) fn id(request_id: &str) -> String {
    format!("msg_{request_id}")
}

/// A call's input: the object that the model wrote. What isn't one is kept, as the text that it is.
pub(crate) fn input(arguments: &str) -> Box<RawValue> {
    let text = arguments.trim();
    let text = if text.is_empty() { "{}" } else { text };
    let object = RawValue::from_string(text.into()).ok().filter(|value| value.get().starts_with('{'));
    object.unwrap_or_else(|| {
        let quoted = serde_json::to_string(arguments).unwrap_or_default();
        RawValue::from_string(format!(r#"{{"arguments":{quoted}}}"#)).unwrap_or_default()
    })
}

pub(crate) fn stop_reason(finish: Option<&str>, native: Option<&str>, calls: bool) -> &'static str {
    match (native, finish) {
        (Some("stop_sequence"), _) => "stop_sequence",
        (Some("pause_turn"), _) => "pause_turn",
        (Some("model_context_window_exceeded"), _) => "model_context_window_exceeded",
        (_, Some("length")) => "max_tokens",
        (_, Some("content_filter")) => "refusal",
        (_, Some("tool_calls" | "function_call")) => "tool_use",
        _ if calls => "tool_use",
        _ => "end_turn",
    }
}

pub(crate) fn whole(request_id: &str, state: &[u8], answer: &[u8]) -> Result<Vec<u8>, Problem> {
    let (choice, model, usage) = Answer::parse(answer)?;
    let Choice { message, finish_reason, native_finish_reason, stop_sequence } = choice;
    let mut content = Vec::new();
    match message.thinking_blocks {
        Some(blocks) if !blocks.is_empty() => content.extend(blocks.into_iter().map(Block::Raw)),
        _ => {
            let thinking = message.reasoning_content.filter(|text| !state.is_empty() && !text.is_empty());
            content.extend(thinking.map(|thinking| Block::Made(Made::Thinking { thinking, signature: "" })));
        }
    }
    for text in [message.content, message.refusal].into_iter().flatten().filter(|text| !text.is_empty()) {
        content.push(Block::Made(Made::Text { text }));
    }
    let calls = message.tool_calls.unwrap_or_default();
    let calling = !calls.is_empty();
    for (index, call) in calls.into_iter().enumerate() {
        content.push(Block::Made(Made::ToolUse {
            id: call.id.unwrap_or_else(|| format!("toolu_{request_id}_{index}")),
            name: call.function.name.unwrap_or_default(),
            input: input(&call.function.arguments.unwrap_or_default()),
        }));
    }
    if content.is_empty() {
        content = vec![Block::Made(Made::Text { text: String::new() })];
    }
    let reason = stop_reason(finish_reason.as_deref(), native_finish_reason.as_deref(), calling);
    let message = Message {
        id: id(request_id),
        kind: "message",
        role: "assistant",
        model: &model,
        content,
        stop_reason: Some(reason),
        stop_sequence: stop_sequence.as_deref(),
        usage: Usage::of(&usage),
    };
    serde_json::to_vec(&message).map_err(Problem::bad_answer)
}
