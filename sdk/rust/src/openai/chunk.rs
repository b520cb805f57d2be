//! Streamed answers.

use crate::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Extra, Usage};

/// One `chat.completion.chunk`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChatChunk {
    /// The same in every chunk of an answer.
    pub id: String,
    /// `chat.completion.chunk`.
    pub object: String,
    /// Seconds since the Unix epoch, the same in every chunk.
    pub created: u64,
    /// The model that answers.
    pub model: String,
    /// What is new; empty in the chunk that carries usage.
    pub choices: Vec<ChunkChoice>,
    /// Token counts, in the last chunk, when the caller asked for them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// Everything else.
    #[serde(flatten)]
    pub extra: Extra,
}

/// What is new in one of the answers.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ChunkChoice {
    /// 0 to `n` - 1.
    pub index: u32,
    /// What is new.
    pub delta: Delta,
    /// Set in the answer's last chunk.
    pub finish_reason: Option<String>,
    /// Token probabilities; null unless asked for.
    #[serde(default)]
    pub logprobs: Option<Value>,
}

/// What is new.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Delta {
    /// In the first chunk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// More text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// More of the calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCallDelta>,
    /// Everything else (`reasoning_content`, `thinking_blocks`).
    #[serde(flatten)]
    pub extra: Extra,
}

/// More of one call.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ToolCallDelta {
    /// Which call of this turn.
    pub index: u32,
    /// In the call's first delta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// In the call's first delta.
    #[serde(rename = "type", default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Name first, then arguments piece by piece.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<FunctionDelta>,
}

/// More of a call's name or arguments.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FunctionDelta {
    /// In the call's first delta.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON text, in pieces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}
