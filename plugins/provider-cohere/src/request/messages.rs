//! The conversation: OpenAI's, but for the role `developer`, what an assistant thought and planned, and the parts.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::Object;
use shared_canonical::{Fields, parse};

#[derive(Deserialize)]
struct Message<'a> {
    role: String,
    #[serde(borrow, default)]
    content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(default)]
    tool_call_id: Option<String>,
    #[serde(borrow, default)]
    tool_plan: Option<&'a RawValue>,
    #[serde(borrow, default)]
    citations: Option<&'a RawValue>,
    #[serde(default)]
    reasoning_content: Option<String>,
}

#[derive(Deserialize, Serialize)]
struct ToolCall<'a> {
    id: String,
    #[serde(rename = "type", default = "function")]
    kind: String,
    #[serde(borrow)]
    function: &'a RawValue,
}

fn function() -> String {
    "function".into()
}

#[derive(Deserialize)]
struct Part<'a> {
    #[serde(rename = "type", borrow)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    image_url: Option<&'a RawValue>,
}

pub(super) fn translate(fields: &Fields<'_>) -> Result<Vec<Object>, Problem> {
    let Some(messages) = fields.get::<Vec<&RawValue>>("messages")? else {
        return Err(Problem::invalid("messages", "'messages' is required."));
    };
    let translated = messages.into_iter().enumerate().map(|(index, raw)| {
        let param = format!("messages[{index}]");
        message(parse(raw, &param)?, &param)
    });
    translated.collect()
}

fn message(given: Message<'_>, param: &str) -> Result<Object, Problem> {
    let mut made = Object::default();
    let content = given.content.filter(|content| content.get() != "null");
    match given.role.as_str() {
        "system" | "developer" => made.set("role", &"system"),
        "user" => made.set("role", &"user"),
        "assistant" => {
            made.set("role", &"assistant");
            if let Some(calls) = given.tool_calls.filter(|calls| !calls.is_empty()) {
                made.set("tool_calls", &calls);
            }
            made.set_raw("tool_plan", given.tool_plan);
            made.set_raw("citations", given.citations);
            if let Some(thinking) = given.reasoning_content.filter(|text| !text.is_empty()) {
                made.set("content", &with_thinking(&thinking, content, param)?);
                return Ok(made);
            }
        }
        "tool" => {
            let Some(id) = given.tool_call_id else {
                let text = "A tool message needs a 'tool_call_id'.";
                return Err(Problem::invalid(format!("{param}.tool_call_id"), text));
            };
            made.set("role", &"tool");
            made.set("tool_call_id", &id);
        }
        other => {
            let message = format!("Cohere has no role '{other}'.");
            return Err(Problem::unsupported(format!("{param}.role"), message));
        }
    }
    match content {
        Some(content) if content.get().starts_with('[') => {
            made.set("content", &parts(content, &format!("{param}.content"))?);
        }
        content => made.set_raw("content", content),
    }
    Ok(made)
}

/// Thinking first, then the text.
fn with_thinking(
    thinking: &str,
    content: Option<&RawValue>,
    param: &str,
) -> Result<Vec<serde_json::Value>, Problem> {
    let mut blocks = Vec::from([json!({"type": "thinking", "thinking": thinking})]);
    match content {
        None => {}
        Some(content) if content.get().starts_with('[') => {
            for part in parts(content, &format!("{param}.content"))? {
                blocks.push(parse(part, param)?);
            }
        }
        Some(content) => blocks.push(json!({"type": "text", "text": parse::<String>(content, param)?})),
    }
    Ok(blocks)
}

/// Texts, images and the vendor's documents as they came.
fn parts<'a>(content: &'a RawValue, param: &str) -> Result<Vec<&'a RawValue>, Problem> {
    let parts: Vec<&RawValue> = parse(content, param)?;
    for (index, raw) in parts.iter().enumerate() {
        let param = format!("{param}[{index}]");
        let part: Part<'_> = parse(raw, &param)?;
        match part.kind.as_ref() {
            "text" | "document" => {}
            "image_url" if part.image_url.is_some() => {}
            other => {
                let message = format!("Cohere takes no part of type '{other}'.");
                return Err(Problem::unsupported(format!("{param}.type"), message));
            }
        }
    }
    Ok(parts)
}
