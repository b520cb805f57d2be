//! A canonical chat request, to be written.
//!
//! Only what dialects say. Members that are raw JSON go through as they came.

use alloc::borrow::Cow;
use alloc::boxed::Box;

use serde::Serialize;
use serde_json::value::RawValue;

use crate::prelude::*;

/// A canonical chat request. The model's name is the caller's.
#[derive(Debug, Default, Serialize)]
pub struct ChatRequest<'a> {
    /// The model.
    pub model: &'a str,
    /// The conversation.
    pub messages: Vec<Message<'a>>,
    /// Functions that the model may call.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<Tool<'a>>,
    /// Which of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_choice: Option<ToolChoice>,
    /// Whether several calls may come in one turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parallel_tool_calls: Option<bool>,
    /// The most tokens to generate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_completion_tokens: Option<u64>,
    /// 0 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// 0 to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f64>,
    /// Where to stop.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stop: Vec<String>,
    /// How many answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub n: Option<u64>,
    /// For the same answer again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
    /// -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f64>,
    /// -2 to 2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f64>,
    /// Text, JSON, or JSON of a schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response_format: Option<ResponseFormat<'a>>,
    /// `minimal`, `low`, `medium`, `high`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_effort: Option<Cow<'a, str>>,
    /// The caller's own name for its end user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Whether a stream is wanted.
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    pub stream: bool,
    /// Asks for the usage chunk.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stream_options: Option<StreamOptions>,
    /// Members of the caller's that are canonical already.
    #[serde(flatten)]
    pub more: alloc::collections::BTreeMap<&'static str, &'a RawValue>,
}

/// `{"include_usage": true}`
#[derive(Debug, Serialize)]
pub struct StreamOptions {
    /// Always true.
    pub include_usage: bool,
}

impl ChatRequest<'_> {
    /// Asks for a stream, its usage included.
    pub fn streamed(&mut self, wanted: bool) {
        self.stream = wanted;
        self.stream_options = wanted.then_some(StreamOptions { include_usage: true });
    }

    /// The JSON.
    pub fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// One message.
#[derive(Debug, Default, Serialize)]
pub struct Message<'a> {
    /// `system`, `developer`, `user`, `assistant`, `tool`.
    pub role: &'static str,
    /// Text or parts; null for an assistant that only called tools.
    pub content: Content<'a>,
    /// The calls that an assistant made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall<'a>>,
    /// The call that a tool message answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<Cow<'a, str>>,
    /// The tool message tells of a failure.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_error: Option<bool>,
    /// Signed thinking, byte for byte.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub thinking_blocks: Vec<&'a RawValue>,
    /// What belongs to a vendor, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_content: Option<Box<RawValue>>,
    /// A prompt cache's marker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<&'a RawValue>,
}

/// A message's content.
#[derive(Debug, Default, Serialize)]
#[serde(untagged)]
pub enum Content<'a> {
    /// Null.
    #[default]
    None,
    /// Plain text.
    Text(Cow<'a, str>),
    /// Typed parts.
    Parts(Vec<Part<'a>>),
}

impl<'a> Content<'a> {
    /// The plainest form that these parts have: nothing, one text, or parts.
    pub fn of(mut parts: Vec<Part<'a>>) -> Self {
        match (parts.len(), parts.pop()) {
            (_, None) => Self::None,
            (1, Some(Part::Text { text, cache_control: None })) => Self::Text(text),
            (_, Some(last)) => {
                parts.push(last);
                Self::Parts(parts)
            }
        }
    }
}

/// One part of a message.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Part<'a> {
    /// Text.
    Text {
        /// The text.
        text: Cow<'a, str>,
        /// A prompt cache's marker.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a RawValue>,
    },
    /// An image.
    ImageUrl {
        /// Where it is.
        image_url: ImageUrl<'a>,
        /// A prompt cache's marker.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a RawValue>,
    },
    /// A document.
    File {
        /// The document.
        file: File<'a>,
        /// A prompt cache's marker.
        #[serde(skip_serializing_if = "Option::is_none")]
        cache_control: Option<&'a RawValue>,
    },
    /// Sound.
    InputAudio {
        /// The sound.
        input_audio: Audio<'a>,
    },
}

impl<'a> Part<'a> {
    /// A text without a marker.
    pub fn text(text: impl Into<Cow<'a, str>>) -> Self {
        Self::Text { text: text.into(), cache_control: None }
    }

    /// An image by URL, `https:` or `data:`.
    pub fn image(url: impl Into<Cow<'a, str>>) -> Self {
        Self::ImageUrl { image_url: ImageUrl { url: url.into(), detail: None }, cache_control: None }
    }
}

/// Where an image is.
#[derive(Debug, Serialize)]
pub struct ImageUrl<'a> {
    /// `https:` or `data:`.
    pub url: Cow<'a, str>,
    /// `low`, `high`, `auto`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Cow<'a, str>>,
}

/// A document.
#[derive(Debug, Default, Serialize)]
pub struct File<'a> {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filename: Option<Cow<'a, str>>,
    /// `data:`, base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_data: Option<Cow<'a, str>>,
}

/// Sound.
#[derive(Debug, Serialize)]
pub struct Audio<'a> {
    /// Base64.
    pub data: Cow<'a, str>,
    /// `wav`, `mp3`.
    pub format: Cow<'a, str>,
}

/// A call that an assistant made.
#[derive(Debug, Serialize)]
pub struct ToolCall<'a> {
    /// The call's id.
    pub id: Cow<'a, str>,
    /// `function`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What was called.
    pub function: FunctionCall<'a>,
    /// What belongs to a vendor, byte for byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub extra_content: Option<Box<RawValue>>,
}

impl<'a> ToolCall<'a> {
    /// A function's call; `arguments` is JSON text.
    pub fn function(
        id: impl Into<Cow<'a, str>>,
        name: impl Into<Cow<'a, str>>,
        arguments: impl Into<Cow<'a, str>>,
    ) -> Self {
        let function = FunctionCall { name: name.into(), arguments: arguments.into() };
        Self { id: id.into(), kind: "function", function, extra_content: None }
    }
}

/// A function's name and arguments.
#[derive(Debug, Serialize)]
pub struct FunctionCall<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// JSON text.
    pub arguments: Cow<'a, str>,
}

/// A function that the model may call.
#[derive(Debug, Serialize)]
pub struct Tool<'a> {
    /// `function`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The function.
    pub function: Function<'a>,
    /// A prompt cache's marker.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_control: Option<&'a RawValue>,
}

/// A function's description.
#[derive(Debug, Default, Serialize)]
pub struct Function<'a> {
    /// Its name.
    pub name: Cow<'a, str>,
    /// What it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<Cow<'a, str>>,
    /// JSON Schema of its arguments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Cow<'a, RawValue>>,
    /// Whether arguments must fit exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}

/// Which tool is to be called.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum ToolChoice {
    /// `auto`, `none`, `required`.
    Mode(&'static str),
    /// This function.
    Function {
        /// `function`
        #[serde(rename = "type")]
        kind: &'static str,
        /// It.
        function: Named,
    },
}

impl ToolChoice {
    /// This function.
    pub fn function(name: impl Into<String>) -> Self {
        Self::Function { kind: "function", function: Named { name: name.into() } }
    }
}

/// A function by name.
#[derive(Debug, Serialize)]
pub struct Named {
    /// Its name.
    pub name: String,
}

/// What form the answer is to have.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ResponseFormat<'a> {
    /// One JSON object.
    JsonObject,
    /// A document that fits.
    JsonSchema {
        /// The schema.
        json_schema: JsonSchema<'a>,
    },
}

/// A schema with a name.
#[derive(Debug, Serialize)]
pub struct JsonSchema<'a> {
    /// Letters, digits, `_` and `-`.
    pub name: Cow<'a, str>,
    /// The schema.
    pub schema: Cow<'a, RawValue>,
    /// Whether the answer must fit exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strict: Option<bool>,
}
