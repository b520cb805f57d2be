//! `additionalModelRequestFields`: what isn't common to all models is told each maker's way.
//!
//! | | Claude | Nova 2 | OpenAI's |
//! |---|---|---|---|
//! | `reasoning_effort` | `thinking`, `output_config.effort` | `reasoningConfig` | `reasoning_effort` |
//! | `parallel_tool_calls: false` | `tool_choice` | | |
//! | `top_k` | `top_k` | `inferenceConfig.topK` | |
//!
//! The caller's own object goes through, and wins.

use alloc::borrow::ToOwned;
use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;

use brokle_plugin::Problem;
use serde::Serialize;
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};
use shared_anthropic::{Thinking, ThinkingContext, decide_thinking};
use shared_canonical::Fields;

use super::tools::{Choice, ToolConfig};
use crate::family::Family;
use crate::options::Options;

/// The members, by name.
#[derive(Default)]
pub(crate) struct ModelFields<'a> {
    given: BTreeMap<String, &'a RawValue>,
    made: BTreeMap<String, Box<RawValue>>,
}

impl Serialize for ModelFields<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let made = self.made.iter().filter(|(name, _)| !self.given.contains_key(*name));
        let all = made.map(|(name, value)| (name, value.as_ref()));
        serializer.collect_map(all.chain(self.given.iter().map(|(name, value)| (name, *value))))
    }
}

/// What else in the request bears on reasoning.
pub(crate) struct Around {
    /// The caller's limit, in tokens.
    pub(crate) limit: Option<u64>,
    pub(crate) forced_tool: bool,
    pub(crate) bare_tool_turn: bool,
}

/// What reasoning does to the rest of the request.
#[derive(Default)]
pub(crate) struct Reasoning {
    pub(crate) is_on: bool,
    pub(crate) is_high: bool,
    /// The limit that goes with it, where the caller has none.
    pub(crate) max_tokens: Option<u64>,
}

impl<'a> ModelFields<'a> {
    pub(crate) fn is_empty(&self) -> bool {
        self.given.is_empty() && self.made.is_empty()
    }

    /// The caller's own.
    pub(crate) fn of_caller(fields: &Fields<'a>) -> Result<Self, Problem> {
        let one = fields.get("additional_model_request_fields")?;
        let other = fields.get("additionalModelRequestFields")?;
        Ok(Self { given: one.or(other).unwrap_or_default(), made: BTreeMap::new() })
    }

    fn set(&mut self, name: &str, value: &impl Serialize) -> Result<(), Problem> {
        let value = to_raw_value(value)
            .map_err(|error| Problem::invalid("", format!("The request can't be written: {error}.")))?;
        self.made.insert(name.to_owned(), value);
        Ok(())
    }

    /// `reasoning_effort`, or the caller's `thinking`. A wish: models that don't reason don't hear of it.
    pub(crate) fn reason(
        &mut self,
        fields: &Fields<'a>,
        family: Family,
        options: &Options,
        around: &Around,
    ) -> Result<Reasoning, Problem> {
        match family {
            Family::Claude(model) => {
                let claude = options.claude();
                let max_tokens = around.limit.unwrap_or_else(|| model.default_max_tokens());
                let (forced_tool, bare_tool_turn) = (around.forced_tool, around.bare_tool_turn);
                let context = ThinkingContext { max_tokens, forced_tool, bare_tool_turn };
                let (thinking, effort) = decide_thinking(fields, model, &claude, &context)?;
                let is_on =
                    thinking.as_ref().is_some_and(Thinking::is_on) || self.given.contains_key("thinking");
                if let Some(thinking) = &thinking {
                    self.set("thinking", thinking)?;
                }
                match (fields.raw("output_config"), effort) {
                    (Some(raw), _) => self.set("output_config", &raw)?,
                    (None, Some(effort)) => self.set("output_config", &json!({ "effort": effort }))?,
                    (None, None) => {}
                }
                Ok(Reasoning { is_on, is_high: false, max_tokens: is_on.then_some(max_tokens) })
            }
            Family::Nova2 => {
                let level = match effort(fields)?.as_deref() {
                    None => return Ok(Reasoning::default()),
                    Some("none") => {
                        self.set("reasoningConfig", &json!({"type": "disabled"}))?;
                        return Ok(Reasoning::default());
                    }
                    Some("minimal" | "low") => "low",
                    Some("medium") => "medium",
                    Some(_) => "high",
                };
                self.set("reasoningConfig", &json!({"type": "enabled", "maxReasoningEffort": level}))?;
                Ok(Reasoning { is_on: true, is_high: level == "high", max_tokens: None })
            }
            Family::OpenAi => {
                if let Some(effort) = effort(fields)? {
                    self.set("reasoning_effort", &effort)?;
                }
                Ok(Reasoning::default())
            }
            Family::Nova | Family::Plain | Family::Other => Ok(Reasoning::default()),
        }
    }

    /// `parallel_tool_calls: false`: Claude has it at the choice among tools, in its own words.
    pub(crate) fn one_call_at_a_time(
        &mut self,
        fields: &Fields<'_>,
        family: Family,
        options: &Options,
        config: Option<&mut ToolConfig<'_>>,
    ) -> Result<(), Problem> {
        let Some(config) = config else { return Ok(()) };
        if fields.get::<bool>("parallel_tool_calls")? != Some(false) {
            return Ok(());
        }
        if !matches!(family, Family::Claude(_)) {
            return options.lacks("parallel_tool_calls", "This model can't be held to one call a turn.");
        }
        let mut choice = match config.tool_choice.take() {
            None | Some(Choice::Auto {}) => json!({"type": "auto"}),
            Some(Choice::Any {}) => json!({"type": "any"}),
            Some(Choice::Tool { name }) => json!({"type": "tool", "name": name}),
        };
        if let Some(choice) = choice.as_object_mut() {
            choice.insert("disable_parallel_tool_use".into(), true.into());
        }
        self.set("tool_choice", &choice)
    }

    /// `top_k`, where the maker has it.
    pub(crate) fn top_k(&mut self, fields: &Fields<'_>, family: Family) -> Result<(), Problem> {
        let Some(top_k) = fields.raw("top_k") else { return Ok(()) };
        match family {
            Family::Claude(model) if model.samples() => self.set("top_k", &top_k),
            Family::Nova | Family::Nova2 => {
                self.set("inferenceConfig", &json!({ "topK": fields.get::<u64>("top_k")? }))
            }
            _ => Ok(()),
        }
    }
}

/// `reasoning_effort`, if it is one that there is.
fn effort(fields: &Fields<'_>) -> Result<Option<String>, Problem> {
    let Some(effort) = fields.get::<String>("reasoning_effort")? else { return Ok(None) };
    match effort.as_str() {
        "none" | "minimal" | "low" | "medium" | "high" | "xhigh" | "max" => Ok(Some(effort)),
        _ => {
            let message = format!(
                "'reasoning_effort' must be none, minimal, low, medium, high, xhigh or max, not '{effort}'."
            );
            Err(Problem::invalid("reasoning_effort", message))
        }
    }
}
