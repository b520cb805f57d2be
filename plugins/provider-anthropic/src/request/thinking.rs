//! How much the model is to think.
//!
//! The caller's `thinking` goes through as it came. Else `reasoning_effort` decides; it is a wish,
//! so where the vendor would refuse it, it gives way: to a forced tool call (no thinking then),
//! and in the form of a budget to a small `max_tokens` (thinking takes at most four fifths, and
//! needs 1,024) and to an earlier turn that called tools without thinking.

use brokle_plugin::Problem;
use serde::Serialize;
use serde_json::value::RawValue;

use super::fields::Fields;
use crate::model::Model;
use crate::options::Options;

/// The least that the vendor takes for a budget.
const LEAST_BUDGET: u64 = 1024;

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum Thinking<'a> {
    Raw(&'a RawValue),
    Made(Config),
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Config {
    Adaptive {
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<String>,
    },
    Enabled {
        budget_tokens: u64,
    },
    Disabled,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(crate) enum OutputConfig<'a> {
    Raw(&'a RawValue),
    Made {
        #[serde(skip_serializing_if = "Option::is_none")]
        effort: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        format: Option<Format<'a>>,
    },
}

#[derive(Serialize)]
pub(crate) struct Format<'a> {
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) schema: &'a RawValue,
}

impl Thinking<'_> {
    /// Whether thinking is switched on, which excludes other sampling than the default.
    pub(crate) fn is_on(&self) -> bool {
        match self {
            Self::Raw(raw) => !raw.get().contains("\"disabled\""),
            Self::Made(config) => !matches!(config, Config::Disabled),
        }
    }
}

/// What else in the request bears on thinking.
pub(crate) struct Request {
    pub(crate) max_tokens: u64,
    pub(crate) forced_tool: bool,
    pub(crate) bare_tool_turn: bool,
}

/// The `thinking` object and the effort to ask for.
pub(crate) fn decide<'a>(
    fields: &Fields<'a>,
    model: Model,
    options: &Options,
    request: &Request,
) -> Result<(Option<Thinking<'a>>, Option<&'static str>), Problem> {
    let asked = fields.get::<String>("reasoning_effort")?;
    let asked = asked.as_deref();
    if let Some(effort) = asked.filter(|effort| *effort != "none" && Model::budget(effort).is_none()) {
        let message = format!(
            "'reasoning_effort' must be none, minimal, low, medium, high, xhigh or max, not '{effort}'."
        );
        return Err(Problem::invalid("reasoning_effort", message));
    }
    let adaptive = model.adaptive(options.thinking);
    let effort = asked.filter(|_| adaptive).and_then(|effort| model.effort(effort));
    if let Some(raw) = fields.raw("thinking") {
        return Ok((Some(Thinking::Raw(raw)), effort));
    }
    let config = match asked {
        None => None,
        Some("none") => adaptive.then_some(Config::Disabled),
        Some(_) if request.forced_tool => None,
        Some(_) if adaptive => Some(Config::Adaptive { display: options.thinking_display.clone() }),
        Some(_) if request.bare_tool_turn => None,
        Some(effort) => Model::budget(effort)
            .map(|budget| budget.min(request.max_tokens.saturating_mul(4) / 5))
            .filter(|budget| *budget >= LEAST_BUDGET)
            .map(|budget_tokens| Config::Enabled { budget_tokens }),
    };
    Ok((config.map(Thinking::Made), effort))
}
