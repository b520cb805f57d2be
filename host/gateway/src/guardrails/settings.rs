//! From what an operator wrote to a guardrail that can be asked.

use std::sync::Arc;

use brokle_core::ids::{ApiKeyId, OrganizationId, ProjectId};
use brokle_identity::Principal;
use brokle_runtime::{ConfigProblem, GuardrailPlugin, schema};

use super::{Guardrail, HOLD_BACK, Mode, OnFailure};

/// The largest window: 16 KiB.
const MAX_HOLD_BACK: usize = 16 << 10;

/// Whose calls a guardrail rules on: those of any of these keys, projects and organizations. Nothing named: everybody's.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scope {
    /// Organizations.
    pub organizations: Vec<OrganizationId>,
    /// Projects.
    pub projects: Vec<ProjectId>,
    /// API keys, by id.
    pub keys: Vec<ApiKeyId>,
}

impl Scope {
    pub(crate) fn holds(&self, principal: &Principal) -> bool {
        let everybody = self.organizations.is_empty() && self.projects.is_empty() && self.keys.is_empty();
        everybody
            || self.organizations.contains(&principal.tenant.organization)
            || self.projects.contains(&principal.tenant.project)
            || self.keys.contains(&principal.key_id)
    }
}

/// What an operator wrote.
#[derive(Debug, Clone)]
pub struct NewGuardrail {
    /// What traces and errors call it; unique.
    pub name: String,
    /// Whether its rulings count.
    pub mode: Mode,
    /// What becomes of a call when it fails.
    pub on_failure: OnFailure,
    /// `request`, `response`; none: all that the plugin has rules for.
    pub stages: Vec<String>,
    /// The plugin's configuration, a JSON object.
    pub config: serde_json::Value,
    /// Whose calls.
    pub scope: Scope,
    /// The most that is held back of each text of a stream, in bytes; none: [`HOLD_BACK`].
    pub hold_back: Option<usize>,
}

/// Why a guardrail can't be used as it is configured: the key at fault, as RFC 6901 pointer below the guardrail's own
/// table, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problems.iter().map(|(pointer, message)| format!("{pointer}: {message}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigFault {
    /// Each with its place.
    pub problems: Vec<(String, String)>,
}

impl ConfigFault {
    fn at(pointer: &str, message: impl Into<String>) -> Self {
        Self { problems: vec![(pointer.to_owned(), message.into())] }
    }
}

impl Guardrail {
    /// Checks what an operator wrote: the window, the stages, and the configuration by the plugin's JSON Schema and
    /// then by its own rules, asked in a fresh instance.
    ///
    /// # Errors
    /// Each thing that is wrong, with its place.
    pub async fn new(plugin: Arc<GuardrailPlugin>, new: NewGuardrail) -> Result<Self, ConfigFault> {
        let hold_back = new.hold_back.unwrap_or(HOLD_BACK);
        if hold_back > MAX_HOLD_BACK {
            return Err(ConfigFault::at("/hold_back_bytes", format!("{MAX_HOLD_BACK} is the most")));
        }
        for (index, stage) in new.stages.iter().enumerate() {
            let pointer = format!("/stages/{index}");
            if !matches!(stage.as_str(), "request" | "response") {
                return Err(ConfigFault::at(&pointer, "request or response is expected"));
            }
            if !plugin.rules_on(stage) {
                return Err(ConfigFault::at(&pointer, format!("{} has no rules for it", plugin.label())));
            }
        }
        let problems = match (&plugin.manifest().config, new.config.as_object()) {
            (_, None) => {
                vec![ConfigProblem { pointer: String::new(), message: "an object is expected".into() }]
            }
            (Some(schema), Some(_)) => schema::check(schema, &new.config),
            (None, Some(members)) if members.is_empty() => Vec::new(),
            (None, Some(_)) => {
                let message = format!("{} takes no configuration", plugin.label());
                vec![ConfigProblem { pointer: String::new(), message }]
            }
        };
        let config: Arc<[u8]> = new.config.to_string().into_bytes().into();
        let problems = match problems.is_empty() {
            true => match plugin.check_config(&config).await {
                Ok(problems) => problems,
                Err(error) => return Err(ConfigFault::at("/plugin", error.to_string())),
            },
            false => problems,
        };
        if !problems.is_empty() {
            let place = |problem: ConfigProblem| (format!("/config{}", problem.pointer), problem.message);
            return Err(ConfigFault { problems: problems.into_iter().map(place).collect() });
        }
        let on = |stage: &str| {
            plugin.rules_on(stage) && (new.stages.is_empty() || new.stages.iter().any(|named| named == stage))
        };
        Ok(Self {
            name: new.name.into(),
            on_request: on("request"),
            on_response: on("response"),
            config,
            mode: new.mode,
            on_failure: new.on_failure,
            scope: new.scope,
            hold_back,
            plugin,
        })
    }
}
