//! The vendor's content blocks, and the turns that they make up.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use alloc::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;
use shared_canonical::Text;

/// One content block: made here, or the caller's own bytes.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Block<'a> {
    Raw(&'a RawValue),
    Made(Made<'a>),
}

#[derive(Serialize)]
pub(crate) struct Made<'a> {
    #[serde(flatten)]
    pub(crate) kind: Kind<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cache_control: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Kind<'a> {
    Text {
        text: Text<'a>,
    },
    Image {
        source: Source<'a>,
    },
    Document {
        source: Source<'a>,
        #[serde(skip_serializing_if = "Option::is_none")]
        title: Option<String>,
        #[serde(skip_serializing_if = "Option::is_none")]
        citations: Option<&'a RawValue>,
    },
    ToolUse {
        id: String,
        name: String,
        input: Box<RawValue>,
    },
    ToolResult {
        tool_use_id: String,
        content: Vec<Block<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        is_error: Option<bool>,
    },
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Source<'a> {
    Base64 { media_type: Cow<'a, str>, data: Cow<'a, str> },
    Url { url: Cow<'a, str> },
    File { file_id: String },
    Text { media_type: &'static str, data: String },
}

/// One turn; neighbors have different roles.
#[derive(Serialize)]
pub(crate) struct Turn<'a> {
    pub(crate) role: &'static str,
    pub(crate) content: Vec<Block<'a>>,
}

impl<'a> Block<'a> {
    pub(crate) fn made(kind: Kind<'a>, cache_control: Option<&'a RawValue>) -> Self {
        Self::Made(Made { kind, cache_control })
    }

    pub(crate) fn text(text: Text<'a>) -> Self {
        Self::made(Kind::Text { text }, None)
    }

    /// Sets the breakpoint that stood at the message, unless the block has its own.
    pub(crate) fn cache_from(&mut self, cache_control: Option<&'a RawValue>) {
        if let Self::Made(made) = self {
            made.cache_control = made.cache_control.or(cache_control);
        }
    }
}
