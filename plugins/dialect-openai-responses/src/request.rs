//! From a Responses request to a canonical one.

mod input;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::request::{
    ChatRequest, Content, Function, JsonSchema, Message, ResponseFormat, Tool, ToolChoice,
};
use brokle_plugin::dialect::{Fields, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What a response repeats of its request.
pub(crate) const ECHOED: [&str; 15] = [
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "reasoning",
    "safety_identifier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_p",
    "truncation",
    "user",
];
/// The most of it: the host keeps 64 KiB.
const ECHO: usize = 48 << 10;

#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Text<'a> {
    #[serde(borrow, default)]
    format: Option<Format<'a>>,
    #[serde(borrow, default)]
    verbosity: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    #[serde(default)]
    strict: Option<bool>,
}

#[derive(Deserialize)]
struct Reasoning {
    #[serde(default)]
    effort: Option<String>,
}

/// The canonical body, and what the response is to repeat: a JSON object.
pub(crate) fn translate(body: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Problem> {
    let fields = Fields::parse(body)?;
    refuse_unsupported(&fields)?;
    let model: Cow<'_, str> = fields.get("model")?.unwrap_or_default();
    let mut request = ChatRequest { model: &model, ..ChatRequest::default() };
    if let Some(instructions) = fields.raw("instructions") {
        let content = Content::Text(parse(instructions, "instructions")?);
        request.messages.push(Message { role: "system", content, ..Message::default() });
    }
    input::translate(&fields, &mut request.messages)?;
    request.tools = tools(&fields)?;
    request.tool_choice = tool_choice(&fields)?;
    request.parallel_tool_calls =
        fields.get::<bool>("parallel_tool_calls")?.filter(|_| !request.tools.is_empty());
    request.max_completion_tokens = fields.get("max_output_tokens")?;
    request.temperature = fields.get("temperature")?;
    request.top_p = fields.get("top_p")?;
    request.reasoning_effort =
        fields.get::<Reasoning>("reasoning")?.and_then(|reasoning| reasoning.effort).map(Cow::Owned);
    let newer = fields.get("safety_identifier")?;
    request.user = newer.or(fields.get("user")?);
    if let Some(text) = fields.get::<Text<'_>>("text")? {
        request.response_format = text.format.map(format).transpose()?.flatten();
        request
            .more
            .extend(text.verbosity.filter(|value| value.get() != "null").map(|value| ("verbosity", value)));
    }
    request.more.extend(fields.raw("prompt_cache_key").map(|value| ("prompt_cache_key", value)));
    request.streamed(fields.get("stream")? == Some(true));
    Ok((request.to_json(), echo(&fields)))
}

/// What needs a memory, or runs at OpenAI.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), Problem> {
    let lacks = |name: &str, why: &str| {
        let message = format!("'{name}' isn't supported for this model: {why}");
        Err(Problem::unsupported(name, message))
    };
    if fields.raw("previous_response_id").is_some() {
        let why = "its provider keeps no responses. Send the earlier turns in 'input'.";
        return lacks("previous_response_id", why);
    }
    for name in ["store", "background"] {
        if fields.get::<bool>(name)? == Some(true) {
            return lacks(name, "its provider keeps no responses. Leave it out, or set it to false.");
        }
    }
    if fields.raw("prompt").is_some() {
        return lacks(
            "prompt",
            "its provider keeps no prompts. Send the text in 'instructions' and 'input'.",
        );
    }
    if fields.get::<u64>("top_logprobs")?.is_some_and(|count| count > 0) {
        return lacks("top_logprobs", "token probabilities aren't translated.");
    }
    Ok(())
}

fn tools<'a>(fields: &Fields<'a>) -> Result<Vec<Tool<'a>>, Problem> {
    let mut tools = Vec::new();
    for (index, raw) in fields.get::<Vec<&'a RawValue>>("tools")?.into_iter().flatten().enumerate() {
        let param = format!("tools[{index}]");
        let definition: Definition<'a> = parse(raw, &param)?;
        if definition.kind != "function" {
            let kind: String = definition.kind.chars().take(60).collect();
            let message = format!(
                "A tool of type '{}' isn't supported for this model: only functions are.",
                kind.escape_debug()
            );
            return Err(Problem::unsupported(format!("{param}.type"), message));
        }
        tools.push(Tool {
            kind: "function",
            function: Function {
                name: definition.name,
                description: definition.description.map(Cow::Owned),
                parameters: definition.parameters.filter(|value| value.get() != "null").map(Cow::Borrowed),
                strict: definition.strict,
            },
            cache_control: None,
        });
    }
    Ok(tools)
}

fn tool_choice(fields: &Fields<'_>) -> Result<Option<ToolChoice>, Problem> {
    let Some(raw) = fields.raw("tool_choice") else { return Ok(None) };
    let mode = match raw.get() {
        "\"auto\"" => ToolChoice::Mode("auto"),
        "\"none\"" => ToolChoice::Mode("none"),
        "\"required\"" => ToolChoice::Mode("required"),
        _ => match parse::<Choice>(raw, "tool_choice")? {
            Choice { kind, name: Some(name) } if kind == "function" => ToolChoice::function(name),
            Choice { kind, .. } => {
                let kind: String = kind.chars().take(60).collect();
                let message = format!(
                    "A tool choice of type '{}' isn't supported for this model.",
                    kind.escape_debug()
                );
                return Err(Problem::unsupported("tool_choice", message));
            }
        },
    };
    Ok(Some(mode))
}

fn format(format: Format<'_>) -> Result<Option<ResponseFormat<'_>>, Problem> {
    match (format.kind.as_str(), format.schema) {
        ("text", _) => Ok(None),
        ("json_object", _) => Ok(Some(ResponseFormat::JsonObject)),
        ("json_schema", Some(schema)) => {
            let name = format.name.unwrap_or(Cow::Borrowed("answer"));
            let json_schema = JsonSchema { name, schema: Cow::Borrowed(schema), strict: format.strict };
            Ok(Some(ResponseFormat::JsonSchema { json_schema }))
        }
        _ => Err(Problem::invalid(
            "text.format",
            "'text.format' must be text, json_object, or a json_schema with its schema.",
        )),
    }
}

/// What the response repeats, its largest members left out where it is too large.
fn echo(fields: &Fields<'_>) -> Vec<u8> {
    let mut echoed: BTreeMap<&str, &RawValue> =
        ECHOED.iter().filter_map(|name| Some((*name, fields.raw(name)?))).collect();
    for largest in ["", "instructions", "tools", "text", "metadata"] {
        echoed.remove(largest);
        let size: usize = echoed.values().map(|value| value.get().len() + 32).sum();
        if size <= ECHO {
            break;
        }
    }
    serde_json::to_vec(&echoed).unwrap_or_default()
}
