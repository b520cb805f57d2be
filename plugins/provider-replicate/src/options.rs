//! The connection's options; `plugin.json` documents each.

use alloc::format;

use brokle_plugin::Problem;

#[derive(Debug, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    /// In seconds.
    pub(crate) wait: u8,
    pub(crate) unsupported_parameters: Unsupported,
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
        Self { wait: 30, unsupported_parameters: Unsupported::default() }
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
