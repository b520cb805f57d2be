//! The connection's options that aren't about the translation; `plugin.json` documents each.

use alloc::format;
use alloc::string::String;

use brokle_plugin::Problem;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Address {
    pub(crate) version: Option<String>,
    pub(crate) path_prefix: Option<String>,
}

impl Address {
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_base_url_may_bring_the_version_segment() {
        let options = Address::default();
        assert_eq!(options.prefix(None), "/v1");
        assert_eq!(options.prefix(Some("/")), "/v1");
        assert_eq!(options.prefix(Some("/v1/")), "");
        assert_eq!(options.prefix(Some("/proxy/anthropic/v1")), "");
        assert_eq!(options.prefix(Some("/proxy/anthropic")), "/v1");
        let fixed = Address { path_prefix: Some("/api/".into()), ..Address::default() };
        assert_eq!(fixed.prefix(Some("/v1")), "/api");
    }
}
