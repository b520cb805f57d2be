//! The connection's options; `plugin.json` documents each.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::String;

use brokle_plugin::Problem;
use serde_json::value::RawValue;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) project: Option<String>,
    pub(crate) location: Option<String>,
    pub(crate) auth: Authorization,
    pub(crate) task_type: Option<String>,
    gemini: Option<Box<RawValue>>,
    anthropic: Option<Box<RawValue>>,
}

/// What the connection's credential is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Authorization {
    /// A key file, with which tokens are bought.
    #[default]
    ServiceAccount,
    /// A key that is sent as it is.
    ApiKey,
}

impl Options {
    pub(crate) fn parse(json: &[u8]) -> Result<Self, Problem> {
        serde_json::from_slice(json)
            .map_err(|error| Problem::invalid("", format!("The connection's options: {error}.")))
    }

    pub(crate) fn gemini(&self) -> Result<shared_gemini::Options, Problem> {
        shared_gemini::Options::parse(json(self.gemini.as_deref()))
    }

    pub(crate) fn anthropic(&self) -> Result<shared_anthropic::Options, Problem> {
        shared_anthropic::Options::parse(json(self.anthropic.as_deref()))
    }

    /// What paths begin with: the project and the location; nothing for an API key without a project.
    pub(crate) fn place(&self) -> Result<String, Problem> {
        let location = self.location.as_deref().unwrap_or("global");
        match (&self.project, self.auth) {
            (Some(project), _) => Ok(format!("projects/{project}/locations/{location}/")),
            (None, Authorization::ApiKey) => Ok(String::new()),
            (None, Authorization::ServiceAccount) => {
                let message = "The connection names no project: write it into its options as 'project'.";
                Err(Problem::invalid("", message))
            }
        }
    }
}

fn json(raw: Option<&RawValue>) -> &[u8] {
    raw.map_or(b"{}", |raw| raw.get().as_bytes())
}
