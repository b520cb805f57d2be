//! The connection's options; `plugin.json` documents each.

use alloc::format;
use alloc::string::String;

use brokle_plugin::Problem;
use shared_anthropic::{ThinkingMode, Unsupported};

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) region: Option<String>,
    pub(crate) auth: Authorization,
    pub(crate) guardrail: Option<Guardrail>,
    pub(crate) json_schema: SchemaMode,
    pub(crate) thinking: ThinkingMode,
    pub(crate) input_type: Option<String>,
    pub(crate) unsupported_parameters: Unsupported,
}

/// What the connection's credential is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Authorization {
    /// An access key.
    #[default]
    Sigv4,
    /// A Bedrock API key.
    ApiKey,
}

/// How an answer is held to a JSON Schema.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SchemaMode {
    /// By the model's name.
    #[default]
    Auto,
    /// `outputConfig.textFormat`.
    Native,
    /// A tool that must be called.
    Tool,
}

/// The operator's guardrail.
#[derive(Debug, serde::Deserialize)]
pub(crate) struct Guardrail {
    pub(crate) id: String,
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) trace: Option<String>,
    #[serde(default)]
    pub(crate) stream_mode: Option<String>,
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

    /// What Claude's own translation of thinking goes by.
    pub(crate) fn claude(&self) -> shared_anthropic::Options {
        shared_anthropic::Options {
            thinking: self.thinking,
            unsupported_parameters: self.unsupported_parameters,
            ..shared_anthropic::Options::default()
        }
    }
}
