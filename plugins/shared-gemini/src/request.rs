//! From a canonical chat request to a `GenerateContentRequest`.
//!
//! The canonical body is read member by member; schemas and earlier arguments are carried as the bytes that they came
//! in. A member that is there and doesn't fit is a problem with its name as `param`; a member that this adapter doesn't
//! know is left out. The vendor's own go through: `safety_settings`, `cached_content`, `thinking_config`, `top_k`, at
//! the top or in `extra_body.google`, where Google's own compatible endpoint has them.

mod generation;
mod messages;
mod parts;
mod tools;

use alloc::format;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::options::Options;
use messages::Content;
use shared_canonical::Fields;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct GenerateContentRequest<'a> {
    contents: Vec<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    system_instruction: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tools: Vec<tools::Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_config: Option<tools::ToolConfig>,
    generation_config: generation::GenerationConfig<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    safety_settings: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cached_content: Option<&'a RawValue>,
}

/// What Google's own compatible endpoint takes beside OpenAI's members.
#[derive(Deserialize, Default)]
#[serde(default)]
struct ExtraBody<'a> {
    #[serde(borrow)]
    google: Google<'a>,
}

/// The vendor's own members.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Google<'a> {
    #[serde(borrow)]
    thinking_config: Option<&'a RawValue>,
    #[serde(borrow)]
    cached_content: Option<&'a RawValue>,
    #[serde(borrow)]
    safety_settings: Option<&'a RawValue>,
}

/// The body for this model.
///
/// # Errors
/// What can't be served as written, with its `param`.
pub fn translate(body: &[u8], model: &str, options: &Options) -> Result<Vec<u8>, Problem> {
    let fields = Fields::parse(body)?;
    generation::refuse_unsupported(&fields, options)?;
    let google = fields.get::<ExtraBody<'_>>("extra_body")?.unwrap_or_default().google;
    let conversation = messages::translate(&fields, generation(model) >= 3)?;
    let tools = tools::definitions(&fields, options)?;
    let tool_config = tools::config(&fields, options, !tools.is_empty())?;
    let thinking = fields.raw("thinking_config").or(google.thinking_config);
    let request = GenerateContentRequest {
        contents: conversation.contents,
        system_instruction: conversation.system,
        tools,
        tool_config,
        generation_config: generation::config(&fields, model, thinking, options)?,
        safety_settings: fields
            .raw("safety_settings")
            .or(google.safety_settings)
            .or(options.safety_settings.as_deref()),
        cached_content: fields.raw("cached_content").or(google.cached_content),
    };
    serde_json::to_vec(&request)
        .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))
}

/// The number in a model's name: 2 for `gemini-2.5-pro`. A name without one is taken for the newest.
fn generation(model: &str) -> u32 {
    let after = model.split_once("gemini-").map_or("", |(_, rest)| rest);
    let digits = after.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    digits.parse().unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_a_signature_or_a_cache_sees_stay() {
        let body = br#"{"model":"x","messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"c","type":"function","function":{"name":"f","arguments":"{\"b\": 1.50, \"a\":2}"},"extra_content":{"google":{"thought_signature":"s\/+=\u003d"}}}]}],"tools":[{"type":"function","function":{"name":"f","parameters":{"type":"object","properties":{"z":{}, "a":{}}}}}]}"#;
        let sent = translate(body, "gemini-3-pro", &Options::default()).ok();
        let sent = sent.and_then(|bytes| alloc::string::String::from_utf8(bytes).ok()).unwrap_or_default();
        for part in [
            r#""thoughtSignature":"s\/+=\u003d""#,
            r#""args":{"b": 1.50, "a":2}"#,
            r#""parametersJsonSchema":{"type":"object","properties":{"z":{}, "a":{}}}"#,
        ] {
            assert!(sent.contains(part), "{part} in {sent}");
        }
    }

    #[test]
    fn names_tell_generations() {
        assert_eq!(generation("gemini-2.5-pro"), 2);
        assert_eq!(generation("gemini-3-flash-preview"), 3);
        assert_eq!(generation("tunedModels/mine"), u32::MAX);
    }
}
