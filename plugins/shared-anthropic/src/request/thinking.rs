//! How much the model is to think.
//!
//! The caller's `thinking` goes through as it came. Else `reasoning_effort` decides; it is a wish,
//! so where the vendor would refuse it, it gives way: to a forced tool call (no thinking then),
//! and in the form of a budget to a small `max_tokens` (thinking takes at most four fifths, and
//! needs 1,024) and to an earlier turn that called tools without thinking.

use alloc::format;
use alloc::string::String;

use brokle_plugin::Problem;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::Model;
use crate::options::Options;
use shared_canonical::Fields;

/// The least that the vendor takes for a budget.
const LEAST_BUDGET: u64 = 1024;

/// The `thinking` object.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum Thinking<'a> {
    /// The caller's own.
    Raw(&'a RawValue),
    /// What `reasoning_effort` comes to.
    Made(Config),
}

/// A `thinking` object that is made here.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Config {
    /// As much as the model finds right.
    Adaptive {
        /// Whether the thoughts are shown.
        #[serde(skip_serializing_if = "Option::is_none")]
        display: Option<String>,
    },
    /// At most so much.
    Enabled {
        /// In tokens.
        budget_tokens: u64,
    },
    /// None.
    Disabled,
}

/// The `output_config` object.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum OutputConfig<'a> {
    /// The caller's own.
    Raw(&'a RawValue),
    /// What the request comes to.
    Made {
        #[serde(skip_serializing_if = "Option::is_none")]
        /// How much the model is to think.
        effort: Option<&'static str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        /// What the answer is held to.
        format: Option<Format<'a>>,
    },
}

/// A form for answers.
#[derive(Debug, Serialize)]
pub struct Format<'a> {
    /// `json_schema`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The JSON Schema.
    pub schema: &'a RawValue,
}

impl Thinking<'_> {
    /// Whether thinking is switched on, which excludes other sampling than the default.
    pub fn is_on(&self) -> bool {
        match self {
            Self::Raw(raw) => !raw.get().contains("\"disabled\""),
            Self::Made(config) => !matches!(config, Config::Disabled),
        }
    }
}

/// What else in the request bears on thinking.
#[derive(Debug, Clone, Copy)]
pub struct Request {
    /// The limit, in tokens.
    pub max_tokens: u64,
    /// Whether the model must call a tool.
    pub forced_tool: bool,
    /// Whether the last assistant turn called tools without thinking before.
    pub bare_tool_turn: bool,
}

/// The `thinking` object and the effort to ask for.
///
/// # Errors
/// `reasoning_effort` is none that there is.
pub fn decide<'a>(
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
