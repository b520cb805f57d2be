//! Guardrails: what may go to a model, and what may come back.

use super::limits::ids;
use brokle_gateway::guardrails::{Mode, NewGuardrail, OnFailure, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A guardrail, in the order in which they rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guardrail {
    /// What traces and errors call it; unique. The plugin's name, if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) name: Option<String>,
    /// The plugin's short name or id.
    pub(crate) plugin: String,
    /// `enforce`, or `shadow`: noted on the trace, without an effect.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(crate) mode: Mode,
    /// `closed`: a call is refused when the guardrail fails. `open`: it goes on.
    #[serde(default)]
    #[schemars(with = "String")]
    pub(crate) on_failure: OnFailure,
    /// `request`, `response`, `storage`; none named: of the first two all that the plugin has rules for.
    #[serde(default)]
    pub(crate) stages: Vec<String>,
    /// The plugin's configuration; without it, what `brokle plugin config` set in the caller's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<serde_json::Map<String, serde_json::Value>>,
    /// The most that is held back of each text of a stream, in bytes: 512.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold_back_bytes: Option<usize>,
    /// Only calls of these organizations, by id; with `projects` and `keys`: of any of them. None named: all calls.
    #[serde(default)]
    pub(crate) organizations: Vec<String>,
    /// Only calls of these projects, by id.
    #[serde(default)]
    pub(crate) projects: Vec<String>,
    /// Only calls with these API keys, by id.
    #[serde(default)]
    pub(crate) keys: Vec<String>,
    /// Only calls for a route that names it in `guardrails`.
    #[serde(default)]
    pub(crate) by_route: bool,
}

impl Guardrail {
    /// What traces and errors call it.
    pub(crate) fn name(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.plugin)
    }

    /// As the gateway takes it.
    ///
    /// # Errors
    /// An id that is none, with its key.
    pub(crate) fn to_new(&self) -> Result<NewGuardrail, String> {
        Ok(NewGuardrail {
            name: self.name().to_owned(),
            plugin: self.plugin.clone(),
            mode: self.mode,
            on_failure: self.on_failure,
            stages: self.stages.clone(),
            config: self.config.clone().map(serde_json::Value::Object),
            scope: Scope {
                organizations: ids("organizations", &self.organizations)?,
                projects: ids("projects", &self.projects)?,
                keys: ids("keys", &self.keys)?,
                by_route: self.by_route,
            },
            hold_back: self.hold_back_bytes,
        })
    }
}

/// Finds what no type can refuse.
pub(super) fn check(guardrails: &[Guardrail]) -> Result<(), String> {
    let mut names = std::collections::HashSet::new();
    for (index, guardrail) in guardrails.iter().enumerate() {
        if !names.insert(guardrail.name()) {
            let name = guardrail.name();
            return Err(format!("guardrails.{index}.name: there are two guardrails '{name}'"));
        }
        guardrail.to_new().map_err(|problem| format!("guardrails.{index}.{problem}"))?;
    }
    Ok(())
}
