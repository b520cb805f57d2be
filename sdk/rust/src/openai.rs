//! OpenAI's JSON, typed, with unknown fields kept.
//!
//! For adapters whose vendor speaks another language. A type here reads what matters for
//! translation and carries the rest in `extra`, so that a field that OpenAI adds tomorrow isn't
//! lost on the way. Source: OpenAI's API description, the chat completions and embeddings
//! sections.

use crate::prelude::*;
mod chat;
mod chunk;

pub use chat::{
    AssistantMessage, ChatCompletion, ChatRequest, Choice, Content, FunctionCall, ImageUrl, Message, Part,
    Tool, ToolCall, ToolFunction,
};
pub use chunk::{ChatChunk, ChunkChoice, Delta, FunctionDelta, ToolCallDelta};

/// JSON members that a type doesn't name.
pub type Extra = serde_json::Map<String, serde_json::Value>;

/// Token counts, in OpenAI's form.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Usage {
    /// All prompt tokens, cached ones included.
    pub prompt_tokens: u64,
    /// All completion tokens, reasoning included.
    pub completion_tokens: u64,
    /// Their sum.
    pub total_tokens: u64,
    /// `prompt_tokens_details`, `completion_tokens_details` and the vendor's own counts.
    #[serde(flatten)]
    pub extra: Extra,
}
