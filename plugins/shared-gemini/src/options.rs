//! What a connection's options say of the translation; the `plugin.json` of each component documents them.

use alloc::boxed::Box;
use alloc::format;

use brokle_plugin::Problem;
use serde_json::value::RawValue;

/// How requests are translated.
#[derive(Debug, serde::Deserialize)]
#[serde(default)]
pub struct Options {
    /// How `reasoning_effort` is told.
    pub thinking: ThinkingMode,
    /// Ask for summaries of thoughts with `reasoning_effort`.
    pub include_thoughts: bool,
    /// Sent as `safetySettings` where the caller sends none.
    pub safety_settings: Option<Box<RawValue>>,
    /// What becomes of a parameter that the vendor lacks and that changes the answer.
    pub unsupported_parameters: Unsupported,
}

/// How `reasoning_effort` is told to the vendor.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ThinkingMode {
    /// By the model's name.
    #[default]
    Auto,
    /// `thinkingConfig.thinkingLevel`.
    Level,
    /// `thinkingConfig.thinkingBudget`.
    Budget,
}

/// What becomes of a parameter that the vendor lacks and that changes the answer.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unsupported {
    /// The call is refused, with its name.
    #[default]
    Refuse,
    /// It is left out.
    Drop,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            thinking: ThinkingMode::default(),
            include_thoughts: true,
            safety_settings: None,
            unsupported_parameters: Unsupported::default(),
        }
    }
}

impl Options {
    /// Reads a JSON object. `{}` is by far the most frequent, and needs no parser.
    ///
    /// # Errors
    /// A member has another form.
    pub fn parse(json: &[u8]) -> Result<Self, Problem> {
        if json == b"{}" {
            return Ok(Self::default());
        }
        serde_json::from_slice(json)
            .map_err(|error| Problem::invalid("", format!("The connection's options: {error}.")))
    }

    /// Nothing, where parameters that the vendor lacks are to be dropped.
    ///
    /// # Errors
    /// The parameter isn't supported.
    pub fn lacks(&self, param: &str, message: &str) -> Result<(), Problem> {
        match self.unsupported_parameters {
            Unsupported::Drop => Ok(()),
            Unsupported::Refuse => Err(Problem::unsupported(param, message)),
        }
    }
}
