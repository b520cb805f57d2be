//! Tools and the choice among them.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::options::Options;
use shared_canonical::{Fields, parse};

/// A tool: a function of the caller's, or one of the vendor's own as it came.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Tool<'a> {
    Raw(&'a RawValue),
    Function(Function<'a>),
}

#[derive(Serialize)]
pub(crate) struct Function<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    input_schema: &'a RawValue,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow, default)]
    function: Option<FunctionDefinition<'a>>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
    #[serde(borrow, default)]
    custom: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct FunctionDefinition<'a> {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
    #[serde(default)]
    strict: Option<bool>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
}

/// The tools. A type other than `function` is one of the vendor's (`web_search_20250305`), except
/// OpenAI's `custom`, which has no counterpart.
pub(crate) fn definitions<'a>(fields: &Fields<'a>, options: &Options) -> Result<Vec<Tool<'a>>, Problem> {
    let mut tools = Vec::new();
    for (index, raw) in fields.get::<Vec<&'a RawValue>>("tools")?.into_iter().flatten().enumerate() {
        let param = format!("tools[{index}]");
        let definition: Definition<'a> = parse(raw, &param)?;
        match (definition.kind.as_str(), definition.function) {
            ("function", Some(function)) => tools.push(Tool::Function(Function {
                name: function.name,
                description: function.description,
                input_schema: function.parameters.unwrap_or_else(|| no_parameters()),
                strict: function.strict,
                cache_control: definition.cache_control.or(function.cache_control),
            })),
            ("function", None) => {
                return Err(Problem::invalid(format!("{param}.function"), "A function is required."));
            }
            ("custom", _) if definition.custom.is_some() => {
                options.lacks(
                    &format!("{param}.type"),
                    "Anthropic has no tools of free-form input ('custom').",
                )?;
            }
            _ => tools.push(Tool::Raw(raw)),
        }
    }
    Ok(tools)
}

/// The schema of a function without parameters: the vendor wants one.
fn no_parameters() -> &'static RawValue {
    // A literal of ours always parses.
    serde_json::from_str(r#"{"type":"object","properties":{}}"#).unwrap_or(RawValue::NULL)
}

#[derive(Serialize)]
pub(crate) struct ToolChoice {
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "core::ops::Not::not")]
    disable_parallel_tool_use: bool,
}

impl ToolChoice {
    /// Whether the model must call a tool, which excludes thinking by a budget.
    pub(crate) fn is_forced(&self) -> bool {
        matches!(self.kind, "any" | "tool")
    }
}

#[derive(Deserialize)]
struct Named {
    function: Name,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// `tool_choice` and `parallel_tool_calls` are one object at the vendor's. Without tools there is
/// nothing to choose, and the vendor refuses a choice.
pub(crate) fn choice(fields: &Fields<'_>, any_tools: bool) -> Result<Option<ToolChoice>, Problem> {
    let one_at_a_time = fields.get::<bool>("parallel_tool_calls")? == Some(false);
    let made =
        |kind| ToolChoice { kind, name: None, disable_parallel_tool_use: one_at_a_time && kind != "none" };
    let choice = match fields.raw("tool_choice") {
        None => one_at_a_time.then(|| made("auto")),
        Some(raw) => Some(match raw.get() {
            r#""auto""# => made("auto"),
            r#""none""# => made("none"),
            r#""required""# => made("any"),
            text if text.starts_with('{') => {
                ToolChoice { name: Some(parse::<Named>(raw, "tool_choice")?.function.name), ..made("tool") }
            }
            other => {
                let message =
                    format!("'tool_choice' must be auto, none, required or a function, not {other}.");
                return Err(Problem::invalid("tool_choice", message));
            }
        }),
    };
    Ok(choice.filter(|_| any_tools))
}
