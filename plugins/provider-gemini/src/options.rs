//! The connection's options; `plugin.json` documents each.

use alloc::boxed::Box;
use alloc::format;

use brokle_plugin::Problem;
use serde_json::value::RawValue;

#[derive(Debug, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) thinking: ThinkingMode,
    pub(crate) include_thoughts: bool,
    pub(crate) safety_settings: Option<Box<RawValue>>,
    pub(crate) unsupported_parameters: Unsupported,
}

/// How `reasoning_effort` is told to the vendor.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ThinkingMode {
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
pub(crate) enum Unsupported {
    #[default]
    Refuse,
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
    /// `{}` is by far the most frequent, and needs no parser.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Problem> {
        if json == b"{}" {
            return Ok(Self::default());
        }
        serde_json::from_slice(json)
            .map_err(|error| Problem::invalid("", format!("The connection's options: {error}.")))
    }

    /// An error for a parameter that the vendor lacks, unless such are to be dropped.
    pub(crate) fn lacks(&self, param: &str, message: &str) -> Result<(), Problem> {
        match self.unsupported_parameters {
            Unsupported::Drop => Ok(()),
            Unsupported::Refuse => Err(Problem::unsupported(param, message)),
        }
    }
}
