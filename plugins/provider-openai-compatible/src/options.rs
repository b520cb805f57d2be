//! The connection's options, a preset's among them; `plugin.json` documents each.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::provider::{Auth, HeaderAuth};
use shared_canonical::media;

#[derive(Debug, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) preset: Option<String>,
    pub(crate) auth: String,
    pub(crate) account_id: Option<String>,
    pub(crate) path_prefix: String,
    pub(crate) paths: BTreeMap<String, String>,
    pub(crate) operations: Option<Vec<String>>,
    pub(crate) streams: Vec<String>,
    pub(crate) max_tokens: Limit,
    pub(crate) developer_role: DeveloperRole,
    pub(crate) reasoning: ThinkingPlace,
    pub(crate) stream_usage: bool,
    pub(crate) drop: Vec<String>,
    pub(crate) unsupported: Vec<String>,
    pub(crate) unsupported_parameters: Unsupported,
}

/// What the limit of generated tokens is called.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    #[default]
    MaxTokens,
    MaxCompletionTokens,
    Keep,
}

/// What becomes of `developer`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DeveloperRole {
    #[default]
    System,
    Keep,
}

/// Where the model's thinking stands in a message.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ThinkingPlace {
    #[default]
    ReasoningContent,
    Reasoning,
    /// Parts of the content, of the type `reasoning`.
    Parts,
}

/// What becomes of a parameter that the server lacks and that changes the answer.
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
            preset: None,
            auth: "bearer".to_owned(),
            account_id: None,
            path_prefix: String::new(),
            paths: BTreeMap::new(),
            operations: None,
            streams: Vec::new(),
            max_tokens: Limit::default(),
            developer_role: DeveloperRole::default(),
            reasoning: ThinkingPlace::default(),
            stream_usage: true,
            drop: Vec::new(),
            unsupported: Vec::new(),
            unsupported_parameters: Unsupported::default(),
        }
    }
}

impl Options {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Problem> {
        if json == b"{}" {
            return Ok(Self::default());
        }
        serde_json::from_slice(json)
            .map_err(|error| Problem::invalid("", format!("The connection's options: {error}.")))
    }

    /// The server, as messages call it.
    pub(crate) fn vendor(&self) -> &str {
        self.preset.as_deref().unwrap_or("this server")
    }

    /// An operation's path; none when the server hasn't got it.
    ///
    /// # Errors
    /// The path needs an option that isn't set.
    pub(crate) fn path(&self, operation: &str) -> Result<Option<String>, Problem> {
        let usual = match operation {
            "chat.completions" => "/chat/completions",
            "completions" => "/completions",
            "embeddings" => "/embeddings",
            "models" => "/models",
            // Few have them, so they are there where the options name them.
            _ => match media::path(operation).filter(|_| self.operations.is_some()) {
                Some(path) => path,
                None => return Ok(None),
            },
        };
        if self.operations.as_ref().is_some_and(|all| !all.iter().any(|one| one == operation)) {
            return Ok(None);
        }
        self.prefixed(self.paths.get(operation).map_or(usual, String::as_str)).map(Some)
    }

    /// A path of what the vendor keeps, `files` or `batches`; none where the options don't name them.
    ///
    /// # Errors
    /// The path needs an option that isn't set.
    pub(crate) fn kept(&self, kind: &str, path: &str) -> Result<Option<String>, Problem> {
        match self.operations.iter().flatten().any(|one| one == kind) {
            true => self.prefixed(path).map(Some),
            false => Ok(None),
        }
    }

    fn prefixed(&self, own: &str) -> Result<String, Problem> {
        let mut path = self.path_prefix.clone();
        if path.contains("{account_id}") {
            let Some(account) = self.account_id.as_deref().filter(|id| !id.is_empty()) else {
                let message = "The connection's option 'account_id' is missing: it is part of the path.";
                return Err(Problem::invalid("", message));
            };
            path = path.replace("{account_id}", account);
        }
        path.push_str(own);
        Ok(path)
    }

    /// How the key goes in. `has_key` is what the host says of the connection.
    pub(crate) fn auth(&self, has_key: bool) -> Auth {
        match self.auth.as_str() {
            "none" => Auth::None,
            "optional" if !has_key => Auth::None,
            other => match other.strip_prefix("header:") {
                Some(name) => Auth::Header(HeaderAuth { name: name.to_owned(), prefix: String::new() }),
                None => Auth::Bearer,
            },
        }
    }
}
