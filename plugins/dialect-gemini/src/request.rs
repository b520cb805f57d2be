//! From a `generateContent` request to a canonical one.
//!
//! Members have two spellings, as Google's APIs take both: `systemInstruction` and `system_instruction`.

mod contents;
mod schema;

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::request::{ChatRequest, Function, JsonSchema, ResponseFormat, Tool, ToolChoice};
use brokle_plugin::dialect::{Fields, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Config<'a> {
    temperature: Option<f64>,
    #[serde(alias = "top_p")]
    top_p: Option<f64>,
    #[serde(alias = "max_output_tokens")]
    max_output_tokens: Option<u64>,
    #[serde(alias = "stop_sequences")]
    stop_sequences: Option<Vec<String>>,
    #[serde(alias = "candidate_count")]
    candidate_count: Option<u64>,
    seed: Option<i64>,
    #[serde(alias = "presence_penalty")]
    presence_penalty: Option<f64>,
    #[serde(alias = "frequency_penalty")]
    frequency_penalty: Option<f64>,
    #[serde(alias = "response_mime_type")]
    response_mime_type: Option<String>,
    #[serde(borrow, alias = "response_schema")]
    response_schema: Option<&'a RawValue>,
    #[serde(borrow, alias = "response_json_schema")]
    response_json_schema: Option<&'a RawValue>,
    #[serde(alias = "response_modalities")]
    response_modalities: Option<Vec<String>>,
    #[serde(alias = "response_logprobs")]
    response_logprobs: Option<bool>,
    #[serde(alias = "thinking_config")]
    thinking_config: Option<Thinking>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Thinking {
    #[serde(alias = "thinking_budget")]
    thinking_budget: Option<i64>,
    #[serde(alias = "thinking_level")]
    thinking_level: Option<String>,
    #[serde(alias = "include_thoughts")]
    include_thoughts: Option<bool>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ToolConfig {
    #[serde(alias = "function_calling_config")]
    function_calling_config: Option<Calling>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Calling {
    mode: Option<String>,
    #[serde(alias = "allowed_function_names")]
    allowed_function_names: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Declaration<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "parameters_json_schema")]
    parameters_json_schema: Option<&'a RawValue>,
}

/// A member by either of its spellings.
fn either<'a>(fields: &Fields<'a>, camel: &str, snake: &str) -> Option<&'a RawValue> {
    fields.raw(camel).or_else(|| fields.raw(snake))
}

/// The canonical body, and whether the caller wants to see thoughts.
pub(crate) fn translate(body: &[u8], model: &str, streaming: bool) -> Result<(Vec<u8>, bool), Problem> {
    let fields = Fields::parse(body)?;
    if either(&fields, "cachedContent", "cached_content").is_some() {
        let message = "Cached contents are kept by Google only, and the model isn't served by Google.";
        return Err(Problem::unsupported("cachedContent", message));
    }
    let mut request = ChatRequest { model, ..ChatRequest::default() };
    let system = either(&fields, "systemInstruction", "system_instruction");
    request.messages = contents::translate(&fields, system)?;
    request.tools = tools(&fields)?;
    if let Some(raw) = either(&fields, "toolConfig", "tool_config") {
        let config: ToolConfig = parse(raw, "toolConfig")?;
        request.tool_choice = config.function_calling_config.and_then(choice);
    }
    let config = either(&fields, "generationConfig", "generation_config");
    let config: Config<'_> =
        config.map(|raw| parse(raw, "generationConfig")).transpose()?.unwrap_or_default();
    let thinks = configure(config, &mut request)?;
    request.streamed(streaming);
    Ok((request.to_json(), thinks))
}

fn configure<'a>(config: Config<'a>, request: &mut ChatRequest<'a>) -> Result<bool, Problem> {
    let modalities = config.response_modalities.unwrap_or_default();
    if modalities.iter().any(|modality| !modality.eq_ignore_ascii_case("text")) {
        let message = "Only text can be asked for: the model isn't served by Google.";
        return Err(Problem::unsupported("generationConfig.responseModalities", message));
    }
    if config.response_logprobs == Some(true) {
        let message = "Token probabilities aren't translated.";
        return Err(Problem::unsupported("generationConfig.responseLogprobs", message));
    }
    request.temperature = config.temperature;
    request.top_p = config.top_p;
    request.max_completion_tokens = config.max_output_tokens;
    request.stop = config.stop_sequences.unwrap_or_default();
    request.n = config.candidate_count.filter(|&count| count != 1);
    request.seed = config.seed;
    request.presence_penalty = config.presence_penalty;
    request.frequency_penalty = config.frequency_penalty;
    let schema = match (config.response_json_schema, config.response_schema) {
        (Some(schema), _) => Some(Cow::Borrowed(schema)),
        (None, Some(schema)) => {
            Some(Cow::Owned(schema::to_json_schema(schema, "generationConfig.responseSchema")?))
        }
        (None, None) => None,
    };
    request.response_format = match (schema, config.response_mime_type.as_deref()) {
        (Some(schema), _) => {
            let json_schema = JsonSchema { name: "answer".into(), schema, strict: None };
            Some(ResponseFormat::JsonSchema { json_schema })
        }
        (None, Some("application/json")) => Some(ResponseFormat::JsonObject),
        (None, None | Some("text/plain")) => None,
        (None, Some(other)) => {
            let other: String = other.chars().take(60).collect();
            let message = format!("The media type '{}' can't be asked for.", other.escape_debug());
            return Err(Problem::unsupported("generationConfig.responseMimeType", message));
        }
    };
    let thinking = config.thinking_config.unwrap_or_default();
    let level = thinking.thinking_level.map(|level| level.to_ascii_lowercase());
    let budget = thinking.thinking_budget.and_then(|budget| match budget {
        // As much as the model likes.
        ..0 => None,
        0 => Some("none"),
        1..=2048 => Some("low"),
        2049..=8192 => Some("medium"),
        _ => Some("high"),
    });
    request.reasoning_effort = level.map(Cow::Owned).or(budget.map(Cow::Borrowed));
    Ok(thinking.include_thoughts == Some(true))
}

fn tools<'a>(fields: &Fields<'a>) -> Result<Vec<Tool<'a>>, Problem> {
    let mut tools = Vec::new();
    for (index, raw) in fields.get::<Vec<&'a RawValue>>("tools")?.into_iter().flatten().enumerate() {
        let members: alloc::collections::BTreeMap<Cow<'a, str>, &'a RawValue> =
            parse(raw, &format!("tools[{index}]"))?;
        for (name, value) in members {
            if value.get() == "null" {
                continue;
            }
            let param = format!("tools[{index}].{}", name.chars().take(60).collect::<String>());
            if name != "functionDeclarations" && name != "function_declarations" {
                let message = "This tool runs at Google, and the model isn't served by Google.";
                return Err(Problem::unsupported(param, message));
            }
            for declaration in parse::<Vec<Declaration<'a>>>(value, &param)? {
                tools.push(tool(declaration, &param)?);
            }
        }
    }
    Ok(tools)
}

fn tool<'a>(declaration: Declaration<'a>, param: &str) -> Result<Tool<'a>, Problem> {
    let parameters = match (declaration.parameters_json_schema, declaration.parameters) {
        (Some(schema), _) => Some(Cow::Borrowed(schema)),
        (None, Some(schema)) => Some(Cow::Owned(schema::to_json_schema(schema, param)?)),
        (None, None) => None,
    };
    let function = Function {
        name: declaration.name,
        description: declaration.description.map(Cow::Owned),
        parameters,
        strict: None,
    };
    Ok(Tool { kind: "function", function, cache_control: None })
}

fn choice(calling: Calling) -> Option<ToolChoice> {
    let mut allowed = calling.allowed_function_names.unwrap_or_default();
    match calling.mode.as_deref() {
        Some("NONE") => Some(ToolChoice::Mode("none")),
        Some("ANY") => Some(match (allowed.len(), allowed.pop()) {
            (1, Some(name)) => ToolChoice::function(name),
            _ => ToolChoice::Mode("required"),
        }),
        Some("AUTO") => Some(ToolChoice::Mode("auto")),
        _ => None,
    }
}
