//! The vendor's answer, as far as it is read here.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// A whole answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Answer<'a> {
    #[serde(borrow)]
    pub(crate) output: Output<'a>,
    #[serde(default)]
    pub(crate) stop_reason: Option<String>,
    #[serde(default)]
    pub(crate) usage: Option<TokenUsage>,
    #[serde(default)]
    pub(crate) trace: Option<Trace>,
}

#[derive(Deserialize)]
pub(crate) struct Output<'a> {
    #[serde(borrow)]
    pub(crate) message: Message<'a>,
}

#[derive(Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow, default)]
    pub(crate) content: Vec<Block<'a>>,
}

/// A content block: one of its members is there.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Block<'a> {
    #[serde(borrow, default)]
    pub(crate) text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) tool_use: Option<ToolUse<'a>>,
    #[serde(borrow, default)]
    pub(crate) reasoning_content: Option<ReasoningContent<'a>>,
    #[serde(borrow, default)]
    pub(crate) citations_content: Option<CitationsContent<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolUse<'a> {
    #[serde(default)]
    pub(crate) tool_use_id: String,
    #[serde(default)]
    pub(crate) name: String,
    #[serde(borrow, default)]
    pub(crate) input: Option<&'a RawValue>,
    /// Set for calls that the vendor itself carries out.
    #[serde(rename = "type", default)]
    pub(crate) kind: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReasoningContent<'a> {
    #[serde(borrow, default)]
    pub(crate) reasoning_text: Option<ReasoningText<'a>>,
    #[serde(borrow, default)]
    pub(crate) redacted_content: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
pub(crate) struct ReasoningText<'a> {
    #[serde(borrow, default)]
    pub(crate) text: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) signature: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(crate) struct CitationsContent<'a> {
    #[serde(borrow, default)]
    pub(crate) content: Vec<Text<'a>>,
    #[serde(default)]
    pub(crate) citations: Vec<Value>,
}

#[derive(Deserialize)]
pub(crate) struct Text<'a> {
    #[serde(borrow, default)]
    pub(crate) text: Cow<'a, str>,
}

#[derive(Deserialize, Default)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct TokenUsage {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_write_input_tokens: u64,
}

impl TokenUsage {
    /// Cached tokens are counted beside `inputTokens`; the canonical input is the sum of the three.
    pub(crate) fn canonical(&self) -> shared_canonical::Usage {
        let (read, write) = (self.cache_read_input_tokens, self.cache_write_input_tokens);
        shared_canonical::Usage {
            input: self.input_tokens.saturating_add(read).saturating_add(write),
            output: self.output_tokens,
            cached_read: read,
            cache_write: write,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct Trace {
    #[serde(default)]
    pub(crate) guardrail: Option<Value>,
}

/// Any event of a stream; its name says which members there are.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event<'a> {
    #[serde(default)]
    pub(crate) content_block_index: u32,
    #[serde(borrow, default)]
    pub(crate) start: Option<Start<'a>>,
    #[serde(borrow, default)]
    pub(crate) delta: Option<Delta<'a>>,
    #[serde(default)]
    pub(crate) stop_reason: Option<String>,
    #[serde(default)]
    pub(crate) usage: Option<TokenUsage>,
    #[serde(default)]
    pub(crate) trace: Option<Trace>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Start<'a> {
    #[serde(borrow, default)]
    pub(crate) tool_use: Option<ToolUse<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Delta<'a> {
    #[serde(borrow, default)]
    pub(crate) text: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub(crate) tool_use: Option<ToolUseDelta<'a>>,
    #[serde(borrow, default)]
    pub(crate) reasoning_content: Option<ReasoningDelta<'a>>,
    #[serde(default)]
    pub(crate) citation: Option<Value>,
}

#[derive(Deserialize)]
pub(crate) struct ToolUseDelta<'a> {
    #[serde(borrow, default)]
    pub(crate) input: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReasoningDelta<'a> {
    #[serde(borrow, default)]
    pub(crate) text: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) signature: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) redacted_content: Cow<'a, str>,
}
