//! What may go to a model and what may come back.

use std::collections::{BTreeMap, HashSet};

use brokle_core::ids::{ApiKeyId, OrganizationId, ProjectId};
use brokle_gateway::guardrails::{Mode, NewGuardrail, OnFailure, Scope};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One guardrail. Those of the list rule in its order, each on what the one before left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Guardrail {
    /// What traces and errors call it; unique.
    pub(crate) name: String,
    /// The component's short name or id.
    pub(crate) plugin: String,
    /// Whether its rulings count.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["enforce", "shadow"]))]
    pub(crate) mode: Mode,
    /// What becomes of a call when it fails.
    #[serde(default)]
    #[schemars(with = "String", extend("enum" = ["closed", "open"]))]
    pub(crate) on_failure: OnFailure,
    /// `request`, `response`; none named: all that the plugin has rules for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) stages: Vec<String>,
    /// By the plugin's schema; without it what the plugin is configured with in the caller's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<BTreeMap<String, serde_json::Value>>,
    /// Whose calls, by organization.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) organizations: Vec<String>,
    /// Whose calls, by project.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) projects: Vec<String>,
    /// Whose calls, by the API key's id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) keys: Vec<String>,
    /// The most that is held back of each text of a stream, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) hold_back_bytes: Option<usize>,
}

impl Guardrail {
    /// For the gateway. Ids that [`check`] has seen are good.
    pub(crate) fn settings(&self) -> NewGuardrail {
        fn ids<T: std::str::FromStr>(texts: &[String]) -> Vec<T> {
            texts.iter().filter_map(|text| text.parse().ok()).collect()
        }
        NewGuardrail {
            name: self.name.clone(),
            plugin: self.plugin.clone(),
            mode: self.mode,
            on_failure: self.on_failure,
            stages: self.stages.clone(),
            config: self
                .config
                .clone()
                .map(|config| config.into_iter().collect::<serde_json::Map<_, _>>().into()),
            scope: Scope {
                organizations: ids(&self.organizations),
                projects: ids(&self.projects),
                keys: ids(&self.keys),
            },
            hold_back: self.hold_back_bytes,
        }
    }
}

/// Finds what no type can refuse. What is in `config` is checked at the start, when the plugin is there.
pub(super) fn check(guardrails: &[Guardrail]) -> Result<(), String> {
    let mut names = HashSet::new();
    for (index, guardrail) in guardrails.iter().enumerate() {
        let refuse = |key: &str, reason: &str| Err(format!("guardrails[{index}].{key}: {reason}"));
        if guardrail.name.is_empty() || guardrail.name.len() > 64 || !names.insert(&guardrail.name) {
            return refuse("name", "a name of 1 to 64 bytes that no other guardrail has is expected");
        }
        if guardrail.plugin.is_empty() {
            return refuse("plugin", "a guardrail's short name or id is expected");
        }
        fn wrong<T: std::str::FromStr>(ids: &[String]) -> bool {
            ids.iter().any(|id| id.parse::<T>().is_err())
        }
        for (key, wrong) in [
            ("organizations", wrong::<OrganizationId>(&guardrail.organizations)),
            ("projects", wrong::<ProjectId>(&guardrail.projects)),
            ("keys", wrong::<ApiKeyId>(&guardrail.keys)),
        ] {
            // An id that names nobody would let everybody else's calls pass unseen.
            if wrong {
                return refuse(key, "ids of 26 characters are expected");
            }
        }
    }
    Ok(())
}
