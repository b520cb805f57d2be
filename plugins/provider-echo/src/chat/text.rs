//! What is echoed, and how it is counted.

use brokle_plugin::Problem;
use brokle_plugin::openai::{ChatRequest, Content, Message};
use serde_json::{Value, json};

use crate::{schema, tokens};

/// The text that the answer repeats: the results after tool messages, else the last user
/// message's text, in which a part that isn't text stands as `[image]`, `[input_audio]`, `[file]`.
pub(crate) fn prompt(request: &ChatRequest) -> Result<String, Problem> {
    let results: Vec<_> = latest(request).take_while(|message| message.role == "tool").map(text).collect();
    if !results.is_empty() {
        return Ok(results.into_iter().rev().collect::<Vec<_>>().join("\n"));
    }
    match request.messages.iter().rfind(|message| message.role == "user") {
        Some(message) => Ok(text(message)),
        None if request.messages.is_empty() => {
            Err(Problem::invalid("messages", "'messages' must not be empty."))
        }
        None => Ok(String::new()),
    }
}

/// The messages, last first, but for the system's: agents put some at the end.
pub(crate) fn latest(request: &ChatRequest) -> impl Iterator<Item = &Message> {
    let system = |message: &&Message| matches!(message.role.as_str(), "system" | "developer");
    request.messages.iter().rev().filter(move |message| !system(message))
}

/// The tokens of all messages' texts. A call in the history counts by name and arguments.
pub(crate) fn input_tokens(request: &ChatRequest) -> u64 {
    let calls = |message: &Message| -> u64 {
        let count = |call: &brokle_plugin::openai::ToolCall| {
            tokens::count(&call.function.name) + tokens::count(&call.function.arguments)
        };
        message.tool_calls.iter().flatten().map(count).sum()
    };
    request.messages.iter().map(|message| tokens::count(&text(message)) + calls(message)).sum()
}

/// The document that `response_format` asks for, if it asks for one.
pub(crate) fn format(request: &ChatRequest) -> Result<Option<Value>, Problem> {
    let Some(format) = request.response_format.as_ref().filter(|format| !format.is_null()) else {
        return Ok(None);
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(None),
        Some("json_object") => Ok(Some(json!({"echo": prompt(request)?}))),
        Some("json_schema") => match format.pointer("/json_schema/schema") {
            Some(wanted) => Ok(Some(schema::document(wanted))),
            None => Err(Problem::invalid("response_format.json_schema.schema", "A schema is required.")),
        },
        _ => Err(Problem::invalid("response_format.type", "It must be text, json_object or json_schema.")),
    }
}

fn text(message: &Message) -> String {
    match &message.content {
        None => String::new(),
        Some(Content::Text(text)) => text.clone(),
        Some(Content::Parts(parts)) => {
            let part = |part: &brokle_plugin::openai::Part| match (part.kind.as_str(), &part.text) {
                (_, Some(text)) => text.clone(),
                ("image_url", None) => "[image]".to_owned(),
                (kind, None) => format!("[{kind}]"),
            };
            parts.iter().map(part).collect::<Vec<_>>().join("\n")
        }
    }
}
