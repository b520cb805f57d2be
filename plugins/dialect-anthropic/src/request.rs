//! From a Messages request to a canonical one.
//!
//! The body is read member by member; schemas, inputs of calls and signed thinking are carried as the bytes that they
//! came in. What has no counterpart and would change the answer is refused by its name; hints are left out.

mod messages;

use alloc::borrow::{Cow, ToOwned};
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::dialect::request::{ChatRequest, Function, JsonSchema, ResponseFormat, Tool, ToolChoice};
use brokle_plugin::dialect::{Fields, parse};
use serde::Deserialize;
use serde_json::value::RawValue;

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    user_id: Option<String>,
}

#[derive(Deserialize)]
struct Thinking {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    budget_tokens: u64,
}

#[derive(Deserialize)]
struct OutputConfig<'a> {
    #[serde(default)]
    effort: Option<String>,
    #[serde(borrow, default)]
    format: Option<Format<'a>>,
}

#[derive(Deserialize)]
struct Format<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(borrow, default)]
    name: Cow<'a, str>,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    input_schema: Option<&'a RawValue>,
    #[serde(default)]
    strict: Option<bool>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    disable_parallel_tool_use: bool,
}

/// The canonical body, and whether the caller wants to see thinking. `answers`: the request is for an answer, not for a
/// count.
pub(crate) fn translate(body: &[u8], answers: bool) -> Result<(Vec<u8>, bool), Problem> {
    let fields = Fields::parse(body)?;
    refuse_unsupported(&fields)?;
    let model: Cow<'_, str> = fields.get("model")?.unwrap_or_default();
    let mut request = ChatRequest { model: &model, ..ChatRequest::default() };
    request.messages = messages::translate(&fields)?;
    request.max_completion_tokens = fields.get("max_tokens")?;
    if answers && request.max_completion_tokens.is_none() {
        return Err(Problem::invalid("max_tokens", "max_tokens: Field required"));
    }
    request.tools = tools(&fields)?;
    if let Some(choice) = fields.get::<Choice>("tool_choice")? {
        let mode = match (choice.kind.as_str(), choice.name) {
            ("auto", _) => ToolChoice::Mode("auto"),
            ("any", _) => ToolChoice::Mode("required"),
            ("none", _) => ToolChoice::Mode("none"),
            ("tool", Some(name)) => ToolChoice::function(name),
            (other, _) => {
                let message = format!("tool_choice: there is no choice '{other}' like this");
                return Err(Problem::invalid("tool_choice", message));
            }
        };
        request.tool_choice = Some(mode);
        request.parallel_tool_calls = choice.disable_parallel_tool_use.then_some(false);
    }
    request.temperature = fields.get("temperature")?;
    request.top_p = fields.get("top_p")?;
    request.stop = fields.get("stop_sequences")?.unwrap_or_default();
    request.user = fields.get::<Metadata>("metadata")?.and_then(|metadata| metadata.user_id);
    let thinks = reasoning(&fields, &mut request)?;
    request.streamed(answers && fields.get("stream")? == Some(true));
    Ok((request.to_json(), thinks))
}

/// What would change the answer, and nobody else has.
fn refuse_unsupported(fields: &Fields<'_>) -> Result<(), Problem> {
    for name in ["mcp_servers", "container"] {
        if fields.raw(name).is_some_and(|value| value.get() != "[]") {
            let message = format!("{name}: only Anthropic has this; the model isn't served by Anthropic");
            return Err(Problem::unsupported(name, message));
        }
    }
    Ok(())
}

fn tools<'a>(fields: &Fields<'a>) -> Result<Vec<Tool<'a>>, Problem> {
    let mut tools = Vec::new();
    for (index, raw) in fields.get::<Vec<&'a RawValue>>("tools")?.into_iter().flatten().enumerate() {
        let param = format!("tools.{index}");
        let definition: Definition<'a> = parse(raw, &param)?;
        if let Some(kind) = definition.kind.as_deref().filter(|kind| *kind != "custom") {
            let message = format!("{param}: '{kind}' runs at Anthropic; the model isn't served by Anthropic");
            return Err(Problem::unsupported(param, message));
        }
        tools.push(Tool {
            kind: "function",
            function: Function {
                name: definition.name,
                description: definition.description.map(Cow::Owned),
                parameters: definition.input_schema.map(Cow::Borrowed),
                strict: definition.strict,
            },
            cache_control: definition.cache_control,
        });
    }
    Ok(tools)
}

/// Thinking as an effort, and the answer's form. Gives whether thinking is wanted.
fn reasoning<'a>(fields: &Fields<'a>, request: &mut ChatRequest<'a>) -> Result<bool, Problem> {
    let config = fields.get::<OutputConfig<'a>>("output_config")?;
    let (effort, format) = config.map_or((None, None), |config| (config.effort, config.format));
    let thinking = fields.get::<Thinking>("thinking")?;
    let thinks = thinking.as_ref().is_some_and(|thinking| thinking.kind != "disabled");
    let budget =
        thinking.filter(|thinking| thinking.kind == "enabled").map(|thinking| match thinking.budget_tokens {
            0..=2048 => "low",
            2049..=8192 => "medium",
            _ => "high",
        });
    let effort = effort.map(|effort| match effort.as_str() {
        "max" => "xhigh".to_owned(),
        _ => effort,
    });
    request.reasoning_effort = effort.map(Cow::Owned).or(budget.map(Cow::Borrowed));
    if let Some(format) = format {
        let schema = format.schema.filter(|_| format.kind == "json_schema").ok_or_else(|| {
            Problem::invalid("output_config.format", "output_config.format: expected a json_schema")
        })?;
        let json_schema =
            JsonSchema { name: "answer".into(), schema: Cow::Borrowed(schema), strict: Some(true) };
        request.response_format = Some(ResponseFormat::JsonSchema { json_schema });
    }
    Ok(thinks)
}
