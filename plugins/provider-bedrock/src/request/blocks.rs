//! The vendor's content blocks, and the turns that they make up.

use alloc::borrow::Cow;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared_canonical::{Text, parse};

/// One content block, by its only member; or the caller's own bytes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Block<'a> {
    Text(Text<'a>),
    Image(Media<'a>),
    Video(Media<'a>),
    Document(Document<'a>),
    ToolUse(ToolUse),
    ToolResult(ToolResult<'a>),
    ReasoningContent(Reasoning<'a>),
    GuardContent(Guarded<'a>),
    CachePoint(CachePoint),
    #[serde(untagged)]
    Raw(&'a RawValue),
}

#[derive(Serialize)]
pub(crate) struct Media<'a> {
    pub(crate) format: &'static str,
    pub(crate) source: Source<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Source<'a> {
    /// In base64.
    Bytes(Cow<'a, str>),
    S3Location {
        uri: Cow<'a, str>,
    },
}

#[derive(Serialize)]
pub(crate) struct Document<'a> {
    pub(crate) format: &'static str,
    pub(crate) name: String,
    pub(crate) source: Source<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) citations: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolUse {
    pub(crate) tool_use_id: String,
    pub(crate) name: String,
    pub(crate) input: Box<RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolResult<'a> {
    pub(crate) tool_use_id: String,
    pub(crate) content: Vec<Block<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<&'static str>,
}

/// What a model thought, with its signature.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Reasoning<'a> {
    ReasoningText {
        text: &'a RawValue,
        #[serde(skip_serializing_if = "Option::is_none")]
        signature: Option<&'a RawValue>,
    },
    RedactedContent(&'a RawValue),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Guarded<'a> {
    Text { text: Text<'a> },
}

/// Everything before it is to be cached.
#[derive(Serialize)]
pub(crate) struct CachePoint {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    ttl: Option<String>,
}

/// One turn; neighbors have different roles.
#[derive(Serialize)]
pub(crate) struct Turn<'a> {
    pub(crate) role: &'static str,
    pub(crate) content: Vec<Block<'a>>,
}

#[derive(Deserialize)]
struct CacheControl {
    #[serde(default)]
    ttl: Option<String>,
}

impl CachePoint {
    /// Anthropic's `cache_control` in the vendor's words; none for none.
    pub(crate) fn of(cache_control: Option<&RawValue>, param: &str) -> Result<Option<Self>, Problem> {
        let Some(raw) = cache_control.filter(|raw| raw.get() != "null") else { return Ok(None) };
        let CacheControl { ttl } = parse(raw, param)?;
        // Five minutes is what there is without a word, and not every model knows the word.
        Ok(Some(Self { kind: "default", ttl: ttl.filter(|ttl| ttl != "5m") }))
    }
}
