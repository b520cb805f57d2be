//! `generationConfig`, and what the API doesn't have.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::options::{Options, ThinkingMode};
use shared_canonical::{Fields, parse};

#[derive(Serialize, Default)]
#[serde(rename_all = "camelCase")]
pub(crate) struct GenerationConfig<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_p: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    top_k: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_output_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stop_sequences: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    candidate_count: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    presence_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    frequency_penalty: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_mime_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_json_schema: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    response_modalities: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_config: Option<Thinking<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Thinking<'a> {
    Raw(&'a RawValue),
    Made(ThinkingConfig),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ThinkingConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_level: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thinking_budget: Option<u32>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    include_thoughts: bool,
}

#[derive(Deserialize)]
struct ResponseFormat<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    json_schema: Option<JsonSchema<'a>>,
}

#[derive(Deserialize)]
struct JsonSchema<'a> {
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
}

/// Refuses what the vendor lacks and what would change the answer, by name.
pub(crate) fn refuse_unsupported(fields: &Fields<'_>, options: &Options) -> Result<(), Problem> {
    if fields.get::<bool>("logprobs")? == Some(true) {
        options.lacks("logprobs", "This adapter gives no token probabilities.")?;
    }
    if fields.get::<BTreeMap<String, f64>>("logit_bias")?.is_some_and(|bias| !bias.is_empty()) {
        options.lacks("logit_bias", "Gemini has no 'logit_bias'.")?;
    }
    let has_tools = fields.get::<Vec<&RawValue>>("tools")?.is_some_and(|tools| !tools.is_empty());
    if has_tools && fields.get::<bool>("parallel_tool_calls")? == Some(false) {
        options.lacks("parallel_tool_calls", "Gemini can't be held to one tool call a turn.")?;
    }
    for (name, instead) in [
        ("functions", "use 'tools'"),
        ("function_call", "use 'tool_choice'"),
        ("audio", "speech isn't offered here"),
        ("web_search_options", "give {\"google_search\": {}} in 'tools'"),
    ] {
        if fields.raw(name).is_some() {
            options.lacks(name, &format!("Gemini has no '{name}': {instead}."))?;
        }
    }
    Ok(())
}

pub(crate) fn config<'a>(
    fields: &Fields<'a>,
    model: &str,
    thinking: Option<&'a RawValue>,
    options: &Options,
) -> Result<GenerationConfig<'a>, Problem> {
    let newer = fields.get("max_completion_tokens")?;
    let (response_mime_type, response_json_schema) = format(fields)?;
    Ok(GenerationConfig {
        temperature: fields.get("temperature")?,
        top_p: fields.get("top_p")?,
        top_k: fields.raw("top_k"),
        max_output_tokens: newer.or(fields.get("max_tokens")?),
        stop_sequences: match fields.raw("stop") {
            None => Vec::new(),
            Some(raw) if raw.get().starts_with('"') => vec![parse(raw, "stop")?],
            Some(raw) => parse(raw, "stop")?,
        },
        candidate_count: fields.get::<u32>("n")?.filter(|n| *n != 1),
        presence_penalty: fields.get("presence_penalty")?,
        frequency_penalty: fields.get("frequency_penalty")?,
        seed: fields.get("seed")?,
        response_mime_type,
        response_json_schema,
        response_modalities: modalities(fields, options)?,
        thinking_config: match thinking {
            Some(raw) => Some(Thinking::Raw(raw)),
            None => effort(fields, model, options)?.map(Thinking::Made),
        },
    })
}

type Format<'a> = (Option<&'static str>, Option<&'a RawValue>);

fn format<'a>(fields: &Fields<'a>) -> Result<Format<'a>, Problem> {
    match fields.get::<ResponseFormat<'a>>("response_format")? {
        None => Ok((None, None)),
        Some(ResponseFormat { kind, json_schema }) => {
            match (kind.as_str(), json_schema.and_then(|j| j.schema)) {
                ("text", _) => Ok((None, None)),
                ("json_object", _) => Ok((Some("application/json"), None)),
                ("json_schema", Some(schema)) => Ok((Some("application/json"), Some(schema))),
                ("json_schema", None) => {
                    Err(Problem::invalid("response_format.json_schema.schema", "A schema is required."))
                }
                (other, _) => {
                    let message = format!("There is no response format '{other}'.");
                    Err(Problem::invalid("response_format.type", message))
                }
            }
        }
    }
}

fn modalities(fields: &Fields<'_>, options: &Options) -> Result<Vec<&'static str>, Problem> {
    let mut wanted = Vec::new();
    for modality in fields.get::<Vec<Cow<'_, str>>>("modalities")?.into_iter().flatten() {
        match modality.as_ref() {
            "text" => wanted.push("TEXT"),
            "image" => wanted.push("IMAGE"),
            _ => options.lacks("modalities", "This adapter answers in text and images.")?,
        }
    }
    // Text alone is the default.
    Ok(if wanted == ["TEXT"] { Vec::new() } else { wanted })
}

/// `reasoning_effort` as a level or a budget, as Google's own compatible endpoint maps it. A level can't be none:
/// there `minimal` is the least; Gemini 2.5 Pro has no budget under 128.
fn effort(fields: &Fields<'_>, model: &str, options: &Options) -> Result<Option<ThinkingConfig>, Problem> {
    let Some(effort) = fields.get::<Cow<'_, str>>("reasoning_effort")? else { return Ok(None) };
    let (level, budget) = match effort.as_ref() {
        "none" if model.contains("pro") => ("minimal", 128),
        "none" => ("minimal", 0),
        "minimal" => ("minimal", 1024),
        "low" => ("low", 1024),
        "medium" => ("medium", 8192),
        "high" | "xhigh" | "max" => ("high", 24_576),
        other => {
            let message = format!(
                "'reasoning_effort' must be none, minimal, low, medium, high, xhigh or max, not '{other}'."
            );
            return Err(Problem::invalid("reasoning_effort", message));
        }
    };
    let by_level = match options.thinking {
        ThinkingMode::Auto => super::generation(model) >= 3,
        ThinkingMode::Level => true,
        ThinkingMode::Budget => false,
    };
    Ok(Some(ThinkingConfig {
        thinking_level: by_level.then_some(level),
        thinking_budget: (!by_level).then_some(budget),
        include_thoughts: options.include_thoughts && effort != "none",
    }))
}
