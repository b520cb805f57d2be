//! The connection's options; `plugin.json` documents each.

use brokle_plugin::Problem;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) version: Option<String>,
    pub(crate) beta: Vec<String>,
    pub(crate) max_tokens: Option<u64>,
    pub(crate) thinking: ThinkingMode,
    pub(crate) thinking_display: Option<String>,
    pub(crate) unsupported_parameters: Unsupported,
    pub(crate) path_prefix: Option<String>,
}

/// How `reasoning_effort` is told to the vendor.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ThinkingMode {
    /// By the model's name.
    #[default]
    Auto,
    /// `thinking: {"type": "adaptive"}` and `output_config.effort`.
    Adaptive,
    /// `thinking: {"type": "enabled", "budget_tokens": …}`.
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

impl Options {
    /// `{}` is by far the most frequent, and needs no parser.
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Problem> {
        if json == b"{}" {
            return Ok(Self::default());
        }
        serde_json::from_slice(json)
            .map_err(|error| Problem::invalid("", format!("The connection's options: {error}.")))
    }

    /// What stands before `/messages`, given the path of the connection's base URL.
    pub(crate) fn prefix(&self, base_path: Option<&str>) -> &str {
        match (&self.path_prefix, base_path) {
            (Some(prefix), _) => prefix.trim_end_matches('/'),
            (None, Some(base)) if base.trim_end_matches('/').ends_with("/v1") => "",
            (None, _) => "/v1",
        }
    }

    /// An error for a parameter that the vendor lacks, unless such are to be dropped.
    pub(crate) fn lacks(&self, param: &str, message: &str) -> Result<(), Problem> {
        match self.unsupported_parameters {
            Unsupported::Drop => Ok(()),
            Unsupported::Refuse => Err(Problem::unsupported(param, message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_may_bring_the_version_segment() {
        let options = Options::default();
        assert_eq!(options.prefix(None), "/v1");
        assert_eq!(options.prefix(Some("/")), "/v1");
        assert_eq!(options.prefix(Some("/v1/")), "");
        assert_eq!(options.prefix(Some("/proxy/anthropic/v1")), "");
        assert_eq!(options.prefix(Some("/proxy/anthropic")), "/v1");
        let fixed = Options { path_prefix: Some("/api/".into()), ..Options::default() };
        assert_eq!(fixed.prefix(Some("/v1")), "/api");
    }
}
