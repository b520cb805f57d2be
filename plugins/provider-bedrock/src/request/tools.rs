//! Tools and the choice among them.
//!
//! The API has no choice `none`. Without calls in the conversation the tools stay away then; with them the vendor wants
//! to know the tools, and there is no way to say it.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared_canonical::{Fields, parse};

use super::blocks::CachePoint;
use crate::ANSWER_TOOL;
use crate::options::Options;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolConfig<'a> {
    tools: Vec<Tool<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tool_choice: Option<Choice>,
}

/// A tool, by its only member; or one of the vendor's own as it came.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum Tool<'a> {
    ToolSpec(ToolSpec<'a>),
    CachePoint(CachePoint),
    #[serde(untagged)]
    Raw(&'a RawValue),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToolSpec<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    input_schema: InputSchema<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    strict: Option<bool>,
}

#[derive(Serialize)]
struct InputSchema<'a> {
    json: &'a RawValue,
}

/// Which tool is to be called.
#[derive(Serialize, Clone, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Choice {
    Auto {},
    Any {},
    Tool { name: String },
}

impl ToolConfig<'_> {
    /// Whether the model must call a tool.
    pub(crate) fn is_forced(&self) -> bool {
        self.tool_choice.as_ref().is_some_and(|choice| *choice != Choice::Auto {})
    }

    /// Leaves the choice to the model, where it was ours.
    pub(crate) fn relax(&mut self, ours: bool) {
        self.tool_choice = self.tool_choice.take().filter(|_| !ours);
    }
}

#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(rename = "type", default)]
    kind: Option<String>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
    #[serde(borrow, default)]
    cache_control: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Function<'a> {
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

#[derive(Deserialize)]
struct Named {
    function: Name,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// The caller's tools, and the one that stands in for a schema, which must be called then.
pub(crate) fn config<'a>(
    fields: &Fields<'a>,
    options: &Options,
    schema: Option<&'a RawValue>,
    has_calls: bool,
) -> Result<Option<ToolConfig<'a>>, Problem> {
    let mut tools = definitions(fields, options)?;
    let mut tool_choice = choice(fields)?;
    if matches!(tool_choice, Wanted::None) && !tools.is_empty() {
        match has_calls {
            false => tools.clear(),
            true => {
                options.lacks("tool_choice", "Bedrock has no choice 'none' once tools have been called.")?;
            }
        }
    }
    if let Some(schema) = schema {
        tool_choice = match tools.is_empty() {
            true => Wanted::Choice(Choice::Tool { name: ANSWER_TOOL.into() }),
            false => Wanted::Choice(Choice::Any {}),
        };
        tools.push(Tool::ToolSpec(ToolSpec {
            name: ANSWER_TOOL.into(),
            description: Some("Gives the answer. Call it once, with the whole answer.".into()),
            input_schema: InputSchema { json: schema },
            strict: None,
        }));
    }
    let tool_choice = match tool_choice {
        Wanted::Choice(choice) => Some(choice),
        Wanted::Nothing | Wanted::None => None,
    };
    Ok((!tools.is_empty()).then_some(ToolConfig { tools, tool_choice }))
}

fn definitions<'a>(fields: &Fields<'a>, options: &Options) -> Result<Vec<Tool<'a>>, Problem> {
    let mut tools = Vec::new();
    for (index, raw) in fields.get::<Vec<&'a RawValue>>("tools")?.into_iter().flatten().enumerate() {
        let param = format!("tools[{index}]");
        let definition: Definition<'a> = parse(raw, &param)?;
        match (definition.kind.as_deref(), definition.function) {
            (Some("function"), Some(function)) => {
                if function.name == ANSWER_TOOL {
                    let message = format!("'{ANSWER_TOOL}' is a name of the gateway's own.");
                    return Err(Problem::invalid(format!("{param}.function.name"), message));
                }
                let cache_control = definition.cache_control.or(function.cache_control);
                let point = CachePoint::of(cache_control, &format!("{param}.cache_control"))?;
                tools.push(Tool::ToolSpec(ToolSpec {
                    name: function.name,
                    description: function.description.filter(|text| !text.is_empty()),
                    input_schema: InputSchema {
                        json: function.parameters.unwrap_or_else(|| no_parameters()),
                    },
                    strict: function.strict.filter(|strict| *strict),
                }));
                tools.extend(point.map(Tool::CachePoint));
            }
            (Some("function"), None) => {
                return Err(Problem::invalid(format!("{param}.function"), "A function is required."));
            }
            (None, None) => tools.push(Tool::Raw(raw)),
            (kind, _) => {
                let message = format!("Bedrock has no tools of type '{}'.", kind.unwrap_or("function"));
                options.lacks(&format!("{param}.type"), &message)?;
            }
        }
    }
    Ok(tools)
}

/// The schema of a function without parameters: the vendor wants one.
fn no_parameters() -> &'static RawValue {
    // A literal of ours always parses.
    serde_json::from_str(r#"{"type":"object","properties":{}}"#).unwrap_or(RawValue::NULL)
}

enum Wanted {
    Nothing,
    None,
    Choice(Choice),
}

fn choice(fields: &Fields<'_>) -> Result<Wanted, Problem> {
    let Some(raw) = fields.raw("tool_choice") else { return Ok(Wanted::Nothing) };
    Ok(match raw.get() {
        r#""auto""# => Wanted::Choice(Choice::Auto {}),
        r#""none""# => Wanted::None,
        r#""required""# => Wanted::Choice(Choice::Any {}),
        text if text.starts_with('{') => {
            Wanted::Choice(Choice::Tool { name: parse::<Named>(raw, "tool_choice")?.function.name })
        }
        other => {
            let message = format!("'tool_choice' must be auto, none, required or a function, not {other}.");
            return Err(Problem::invalid("tool_choice", message));
        }
    })
}
