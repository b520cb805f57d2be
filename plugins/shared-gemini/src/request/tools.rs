//! Tools and the choice among them.

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::options::Options;
use shared_canonical::{Fields, parse};

/// A `Tool`: all the functions, or one of the vendor's own as it came.
#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Tool<'a> {
    #[serde(rename_all = "camelCase")]
    Functions {
        #[serde(rename = "functionDeclarations")]
        declarations: Vec<Declaration<'a>>,
    },
    Own(BTreeMap<&'static str, &'a RawValue>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Declaration<'a> {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameters_json_schema: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Definition<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    function: Option<Function<'a>>,
    #[serde(borrow, default, alias = "googleSearch")]
    google_search: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "urlContext")]
    url_context: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "codeExecution")]
    code_execution: Option<&'a RawValue>,
    #[serde(borrow, default, alias = "googleMaps")]
    google_maps: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Function<'a> {
    name: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(borrow, default)]
    parameters: Option<&'a RawValue>,
}

/// The tools: functions together, each of the vendor's own by itself.
pub(crate) fn definitions<'a>(fields: &Fields<'a>, options: &Options) -> Result<Vec<Tool<'a>>, Problem> {
    let mut declarations = Vec::new();
    let mut tools = Vec::new();
    for (index, raw) in fields.get::<Vec<&'a RawValue>>("tools")?.into_iter().flatten().enumerate() {
        let param = format!("tools[{index}]");
        let definition: Definition<'a> = parse(raw, &param)?;
        let own = [
            ("googleSearch", definition.google_search),
            ("urlContext", definition.url_context),
            ("codeExecution", definition.code_execution),
            ("googleMaps", definition.google_maps),
        ];
        let own: BTreeMap<_, _> = own.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
        match (definition.kind.as_deref(), definition.function) {
            _ if !own.is_empty() => tools.push(Tool::Own(own)),
            (Some("function") | None, Some(function)) => declarations.push(Declaration {
                name: function.name,
                description: function.description,
                parameters_json_schema: function.parameters.filter(|schema| schema.get() != "null"),
            }),
            (Some("function") | None, None) => {
                return Err(Problem::invalid(format!("{param}.function"), "A function is required."));
            }
            (Some(other), _) => {
                let message = format!("Gemini has no tools of type '{other}'.");
                options.lacks(&format!("{param}.type"), &message)?;
            }
        }
    }
    if !declarations.is_empty() {
        tools.insert(0, Tool::Functions { declarations });
    }
    Ok(tools)
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ToolConfig {
    function_calling_config: FunctionCalling,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FunctionCalling {
    mode: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_function_names: Vec<String>,
}

#[derive(Deserialize)]
struct Named {
    function: Name,
}

#[derive(Deserialize)]
struct Name {
    name: String,
}

/// `tool_choice`. Without tools there is nothing to choose.
pub(crate) fn config(
    fields: &Fields<'_>,
    options: &Options,
    any_tools: bool,
) -> Result<Option<ToolConfig>, Problem> {
    let made = |mode, allowed_function_names| {
        Some(ToolConfig { function_calling_config: FunctionCalling { mode, allowed_function_names } })
    };
    let Some(raw) = fields.raw("tool_choice").filter(|_| any_tools) else { return Ok(None) };
    match raw.get() {
        r#""auto""# => Ok(made("AUTO", Vec::new())),
        r#""none""# => Ok(made("NONE", Vec::new())),
        r#""required""# => Ok(made("ANY", Vec::new())),
        text if text.starts_with('{') && text.contains("\"allowed_tools\"") => {
            options
                .lacks("tool_choice", "Gemini has no 'allowed_tools': send the allowed ones in 'tools'.")?;
            Ok(None)
        }
        text if text.starts_with('{') => {
            let named: Named = parse(raw, "tool_choice")?;
            Ok(made("ANY", vec![named.function.name]))
        }
        other => {
            let message = format!("'tool_choice' must be auto, none, required or a function, not {other}.");
            Err(Problem::invalid("tool_choice", message))
        }
    }
}
