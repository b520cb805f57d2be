//! Canonical answers, to be read: what dialects make of them, and nothing that they don't.

use alloc::boxed::Box;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::Problem;
use crate::prelude::*;

/// A whole answer.
#[derive(Debug, Deserialize)]
pub struct Answer {
    /// The model that answered.
    #[serde(default)]
    pub model: String,
    /// One for each of `n`.
    #[serde(default)]
    pub choices: Vec<Choice>,
    /// Token counts.
    #[serde(default)]
    pub usage: Option<Usage>,
}

/// One of the answers.
#[derive(Debug, Deserialize)]
pub struct Choice {
    /// What the assistant said.
    pub message: Said,
    /// `stop`, `length`, `tool_calls`, `content_filter`.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// The vendor's own word for it.
    #[serde(default)]
    pub native_finish_reason: Option<String>,
    /// The sequence at which it stopped.
    #[serde(default)]
    pub stop_sequence: Option<String>,
}

/// A piece of a stream.
#[derive(Debug, Deserialize)]
pub struct Chunk {
    /// The model that answers.
    #[serde(default)]
    pub model: String,
    /// What is new; empty in the chunk that carries usage.
    #[serde(default)]
    pub choices: Vec<ChunkChoice>,
    /// Token counts.
    #[serde(default)]
    pub usage: Option<Usage>,
}

/// What is new in one of the answers.
#[derive(Debug, Deserialize)]
pub struct ChunkChoice {
    /// 0 to `n` - 1.
    #[serde(default)]
    pub index: u32,
    /// What is new.
    #[serde(default)]
    pub delta: Said,
    /// Set in the answer's last chunk.
    #[serde(default)]
    pub finish_reason: Option<String>,
    /// The vendor's own word for it.
    #[serde(default)]
    pub native_finish_reason: Option<String>,
    /// The sequence at which it stopped.
    #[serde(default)]
    pub stop_sequence: Option<String>,
}

/// What an assistant said, whole or a piece of it.
#[derive(Debug, Default, Deserialize)]
pub struct Said {
    /// Its text.
    #[serde(default)]
    pub content: Option<String>,
    /// Why it wouldn't answer.
    #[serde(default)]
    pub refusal: Option<String>,
    /// What it thought.
    #[serde(default)]
    pub reasoning_content: Option<String>,
    /// The calls it made.
    #[serde(default)]
    pub tool_calls: Option<Vec<Call>>,
    /// Signed thinking, byte for byte.
    #[serde(default)]
    pub thinking_blocks: Option<Vec<Box<RawValue>>>,
    /// What belongs to a vendor.
    #[serde(default)]
    pub extra_content: Option<ExtraContent>,
}

/// A call of a tool, whole or a piece of it.
#[derive(Debug, Default, Deserialize)]
pub struct Call {
    /// Which call of this turn, in a stream.
    #[serde(default)]
    pub index: u32,
    /// The call's id.
    #[serde(default)]
    pub id: Option<String>,
    /// What is called.
    #[serde(default)]
    pub function: Function,
    /// What belongs to a vendor.
    #[serde(default)]
    pub extra_content: Option<ExtraContent>,
}

/// A function's name and arguments.
#[derive(Debug, Default, Deserialize)]
pub struct Function {
    /// Its name.
    #[serde(default)]
    pub name: Option<String>,
    /// JSON text.
    #[serde(default)]
    pub arguments: Option<String>,
}

/// What belongs to a vendor.
#[derive(Debug, Default, Deserialize)]
pub struct ExtraContent {
    /// Google's.
    #[serde(default)]
    pub google: Option<Google>,
}

/// What belongs to Google.
#[derive(Debug, Default, Deserialize)]
pub struct Google {
    /// A thought's signature, byte for byte.
    #[serde(default)]
    pub thought_signature: Option<String>,
}

impl ExtraContent {
    /// Google's signature of a thought.
    pub fn signature(self) -> Option<String> {
        self.google?.thought_signature
    }
}

/// Token counts.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub struct Usage {
    /// All prompt tokens, cached ones included.
    #[serde(default)]
    pub prompt_tokens: u64,
    /// All completion tokens, reasoning included.
    #[serde(default)]
    pub completion_tokens: u64,
    #[serde(default)]
    prompt_tokens_details: Option<PromptDetails>,
    #[serde(default)]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
struct PromptDetails {
    #[serde(default)]
    cached_tokens: Option<u64>,
    #[serde(default)]
    cache_write_tokens: Option<u64>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
struct CompletionDetails {
    #[serde(default)]
    reasoning_tokens: Option<u64>,
}

impl Usage {
    /// Prompt tokens read from a cache.
    pub fn cached(&self) -> u64 {
        self.prompt_tokens_details.unwrap_or_default().cached_tokens.unwrap_or(0)
    }

    /// Prompt tokens written to a cache.
    pub fn cache_written(&self) -> u64 {
        self.prompt_tokens_details.unwrap_or_default().cache_write_tokens.unwrap_or(0)
    }

    /// Completion tokens that were thinking.
    pub fn reasoning(&self) -> u64 {
        self.completion_tokens_details.unwrap_or_default().reasoning_tokens.unwrap_or(0)
    }
}

impl Answer {
    /// Reads a canonical answer: its first choice, model and counts.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(answer: &[u8]) -> Result<(Choice, String, Usage), Problem> {
        let answer: Self = serde_json::from_slice(answer).map_err(Problem::bad_answer)?;
        let choice = answer.choices.into_iter().next();
        let choice = choice.ok_or_else(|| Problem::bad_answer("it has no choice"))?;
        Ok((choice, answer.model, answer.usage.unwrap_or_default()))
    }
}

impl Chunk {
    /// Reads a canonical chunk.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(chunk: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(chunk).map_err(Problem::bad_answer)
    }
}
