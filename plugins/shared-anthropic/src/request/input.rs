//! The canonical forms, as far as translation reads them.

use alloc::string::String;
use alloc::vec::Vec;

use alloc::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared_canonical::Text;

#[derive(Deserialize)]
pub(crate) struct Message<'a> {
    #[serde(borrow)]
    pub(crate) role: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(crate) content: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(default)]
    pub(crate) tool_call_id: Option<String>,
    /// Whether a tool message tells of a failure; Anthropic's own member.
    #[serde(default)]
    pub(crate) is_error: Option<bool>,
    #[serde(borrow, default)]
    pub(crate) thinking_blocks: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    pub(crate) anthropic_blocks: Option<Vec<&'a RawValue>>,
    #[serde(borrow, default)]
    pub(crate) cache_control: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) function_call: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct ToolCall<'a> {
    pub(crate) id: String,
    #[serde(rename = "type", default)]
    pub(crate) kind: Option<String>,
    #[serde(default)]
    pub(crate) function: Option<FunctionCall>,
    #[serde(borrow, default)]
    pub(crate) cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct FunctionCall {
    pub(crate) name: String,
    #[serde(default)]
    pub(crate) arguments: String,
}

#[derive(Deserialize)]
pub(crate) struct Part<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(borrow, default)]
    pub(crate) text: Text<'a>,
    #[serde(borrow, default)]
    pub(crate) refusal: Text<'a>,
    #[serde(borrow, default)]
    pub(crate) image_url: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(crate) file: Option<File<'a>>,
    #[serde(borrow, default)]
    pub(crate) cache_control: Option<&'a RawValue>,
    /// Anthropic's own, beside a text or document.
    #[serde(borrow, default)]
    pub(crate) citations: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(crate) struct ImageUrl<'a> {
    #[serde(borrow)]
    pub(crate) url: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(crate) struct File<'a> {
    #[serde(borrow, default)]
    pub(crate) file_data: Cow<'a, str>,
    #[serde(default)]
    pub(crate) file_id: Option<String>,
    #[serde(default)]
    pub(crate) filename: Option<String>,
}
