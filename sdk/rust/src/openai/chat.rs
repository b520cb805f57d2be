//! Requests and whole answers.

use crate::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Extra, Usage};

/// `POST /v1/chat/completions`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatRequest {
    /// The model, as the caller named it.
    pub model: String,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Whether a stream is wanted.
    #[serde(default)]
    pub stream: Option<bool>,
    /// Functions that the model may call.
    #[serde(default)]
    pub tools: Option<Vec<Tool>>,
    /// `"auto"`, `"none"`, `"required"` or one function.
    #[serde(default)]
    pub tool_choice: Option<Value>,
    /// Whether several calls may come in one turn.
    #[serde(default)]
    pub parallel_tool_calls: Option<bool>,
    /// The older name of `max_completion_tokens`.
    #[serde(default)]
    pub max_tokens: Option<u64>,
    /// The most tokens to generate, reasoning included.
    #[serde(default)]
    pub max_completion_tokens: Option<u64>,
    /// 0 to 2.
    #[serde(default)]
    pub temperature: Option<f64>,
    /// 0 to 1.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// One sequence, or up to four.
    #[serde(default)]
    pub stop: Option<Value>,
    /// How many answers.
    #[serde(default)]
    pub n: Option<u64>,
    /// `{"type": "json_schema", …}` and the like.
    #[serde(default)]
    pub response_format: Option<Value>,
    /// `none`, `minimal`, `low`, `medium`, `high`, …
    #[serde(default)]
    pub reasoning_effort: Option<String>,
    /// The caller's own id for its user.
    #[serde(default)]
    pub user: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One message, of any role.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    /// `system`, `developer`, `user`, `assistant`, `tool`, `function`.
    pub role: String,
    /// Text or parts; null for an assistant that only called tools.
    #[serde(default)]
    pub content: Option<Content>,
    /// The calls that an assistant made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_calls: Option<Vec<ToolCall>>,
    /// The call that a tool message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A message's content.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Content {
    /// Plain text.
    Text(String),
    /// Typed parts.
    Parts(Vec<Part>),
}

/// One part of a message.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Part {
    /// `text`, `image_url`, `input_audio`, `file`, `refusal`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// For `text`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// For `image_url`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_url: Option<ImageUrl>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// Where an image is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ImageUrl {
    /// `https:` or `data:`.
    pub url: String,
    /// Everything else (`detail`).
    #[serde(flatten)]
    pub extra: Extra,
}

/// Something that the model may call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tool {
    /// `function`, `custom`.
    #[serde(rename = "type")]
    pub kind: String,
    /// For `function`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<ToolFunction>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// A function's description.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolFunction {
    /// Its name.
    pub name: String,
    /// What it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// JSON Schema of its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
    /// Everything else (`strict`).
    #[serde(flatten)]
    pub extra: Extra,
}

/// A call that an assistant made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolCall {
    /// The call's id.
    pub id: String,
    /// `function`.
    #[serde(rename = "type", default = "function")]
    pub kind: String,
    /// What was called.
    pub function: FunctionCall,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

fn function() -> String {
    "function".to_owned()
}

/// A function's name and arguments.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FunctionCall {
    /// Its name.
    pub name: String,
    /// JSON text, as the model wrote it.
    pub arguments: String,
}

/// A whole answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatCompletion {
    /// The answer's id.
    pub id: String,
    /// `chat.completion`.
    pub object: String,
    /// Seconds since the Unix epoch.
    pub created: u64,
    /// The model that answered.
    pub model: String,
    /// One for each of `n`.
    pub choices: Vec<Choice>,
    /// Token counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// One of the answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Choice {
    /// 0 to `n` - 1.
    pub index: u32,
    /// What the assistant said.
    pub message: AssistantMessage,
    /// `stop`, `length`, `tool_calls`, `content_filter`, …
    pub finish_reason: Option<String>,
    /// Token probabilities; null unless asked for.
    #[serde(default)]
    pub logprobs: Option<Value>,
}

/// What the assistant said.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct AssistantMessage {
    /// `assistant`.
    pub role: String,
    /// Its text.
    pub content: Option<String>,
    /// The calls it made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Why it wouldn't answer.
    #[serde(default)]
    pub refusal: Option<String>,
    /// Everything else (`reasoning_content`, `thinking_blocks`, `annotations`).
    #[serde(flatten)]
    pub extra: Extra,
}
