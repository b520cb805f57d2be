//! Which tools the answer calls.
//!
//! A line `call NAME {json}` in the user's text calls that tool with those arguments (without
//! JSON: with arguments that fit the tool's schema). `tool_choice` can demand a call: of the
//! named tool, or with `required` of the first one when no line asks.

use brokle_plugin::Problem;
use brokle_plugin::openai::{ChatRequest, ToolFunction};
use serde_json::Value;

use crate::schema;

/// One call to make.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) name: String,
    pub(crate) arguments: String,
}

/// The calls that the request asks for; none: answer with text.
pub(crate) fn wanted(request: &ChatRequest, prompt: &str) -> Result<Vec<Wanted>, Problem> {
    let functions: Vec<_> =
        request.tools.iter().flatten().filter_map(|tool| tool.function.as_ref()).collect();
    let choice = request.tool_choice.as_ref();
    if functions.is_empty() || choice.and_then(Value::as_str) == Some("none") {
        return Ok(Vec::new());
    }
    let named = choice.and_then(|choice| choice.pointer("/function/name")).and_then(Value::as_str);
    if let Some(name) = named {
        let Some(function) = functions.iter().find(|function| function.name == name) else {
            return Err(Problem::invalid("tool_choice", format!("There is no tool '{name}'.")));
        };
        let asked = lines(prompt, &functions).into_iter().find(|call| call.name == name);
        return Ok(vec![asked.unwrap_or_else(|| fitting(function))]);
    }
    let mut calls = lines(prompt, &functions);
    if calls.is_empty() && choice.and_then(Value::as_str) == Some("required") {
        calls.extend(functions.first().map(|function| fitting(function)));
    }
    if request.parallel_tool_calls == Some(false) {
        calls.truncate(1);
    }
    Ok(calls)
}

/// The `call` lines that name a tool.
fn lines(prompt: &str, functions: &[&ToolFunction]) -> Vec<Wanted> {
    let line = |line: &str| {
        let rest = line.trim().strip_prefix("call ")?.trim();
        let (name, arguments) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
        let function = functions.iter().find(|function| function.name == name)?;
        let arguments = arguments.trim();
        match arguments.is_empty() {
            true => Some(fitting(function)),
            false => {
                serde_json::from_str::<Value>(arguments).ok()?;
                Some(Wanted { name: name.to_owned(), arguments: arguments.to_owned() })
            }
        }
    };
    prompt.lines().filter_map(line).collect()
}

fn fitting(function: &ToolFunction) -> Wanted {
    let arguments =
        function.parameters.as_ref().map_or_else(|| "{}".to_owned(), |it| schema::document(it).to_string());
    Wanted { name: function.name.clone(), arguments }
}
