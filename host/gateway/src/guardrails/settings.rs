//! From what an operator wrote to a guardrail that can be asked.

use std::sync::Arc;

use brokle_core::ids::{ApiKeyId, OrganizationId, ProjectId};
use brokle_core::tenancy::Tenant;
use brokle_identity::Principal;
use brokle_plugins::{Active, View, configuration};
use brokle_runtime::GuardrailPlugin;
use serde_json::Value;

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
    /// Only those for a route that names it.
    pub by_route: bool,
}

impl Scope {
    pub(crate) fn holds(&self, principal: &Principal) -> bool {
        self.covers(principal.tenant, Some(principal.key_id))
    }

    pub(crate) fn covers(&self, tenant: Tenant, key: Option<ApiKeyId>) -> bool {
        let everybody = self.organizations.is_empty() && self.projects.is_empty() && self.keys.is_empty();
        everybody
            || self.organizations.contains(&tenant.organization)
            || self.projects.contains(&tenant.project)
            || key.is_some_and(|key| self.keys.contains(&key))
    }
}

/// What an operator wrote.
#[derive(Debug, Clone)]
pub struct NewGuardrail {
    /// What traces and errors call it; unique.
    pub name: String,
    /// The component's short name or id.
    pub plugin: String,
    /// Whether its rulings count.
    pub mode: Mode,
    /// What becomes of a call when it fails.
    pub on_failure: OnFailure,
    /// `request`, `response`, `storage`; none: of the first two all that the plugin has rules for.
    pub stages: Vec<String>,
    /// The component's configuration, a JSON object; none: what it is configured with in the caller's scope.
    pub config: Option<Value>,
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
    pub async fn new(view: &View, new: NewGuardrail) -> Result<Self, ConfigFault> {
        let Some(active) = view.guardrail(&new.plugin) else {
            let mut known: Vec<&str> = view.guardrails().map(|a| a.plugin.manifest().name.as_str()).collect();
            known.sort_unstable();
            let message = format!("there is no guardrail '{}'; there are {}", new.plugin, known.join(", "));
            return Err(ConfigFault::at("/plugin", message));
        };
        let plugin = &active.plugin;
        plugin.warm().await.map_err(|error| ConfigFault::at("/plugin", error.to_string()))?;
        if new.hold_back.is_some_and(|bytes| bytes > MAX_HOLD_BACK) {
            return Err(ConfigFault::at("/hold_back_bytes", format!("{MAX_HOLD_BACK} is the most")));
        }
        for (index, stage) in new.stages.iter().enumerate() {
            let pointer = format!("/stages/{index}");
            if stage == "storage" {
                continue;
            }
            if !matches!(stage.as_str(), "request" | "response") {
                return Err(ConfigFault::at(&pointer, "request, response or storage is expected"));
            }
            if !plugin.rules_on(stage) {
                return Err(ConfigFault::at(&pointer, format!("{} has no rules for it", plugin.label())));
            }
        }
        let own = match &new.config {
            Some(config) => Some(configured(active, config).await?),
            None => None,
        };
        Ok(Self { config: own, ..Self::unchecked(new) })
    }

    /// One whose component doesn't serve yet: nothing can be checked but by it. Until it serves, the guardrail fails.
    pub fn unchecked(new: NewGuardrail) -> Self {
        let hold_back = new.hold_back.unwrap_or(HOLD_BACK).min(MAX_HOLD_BACK);
        let on = |stage: &str| new.stages.is_empty() || new.stages.iter().any(|named| named == stage);
        Self {
            name: new.name.into(),
            on_request: on("request"),
            on_response: on("response"),
            on_storage: new.stages.iter().any(|named| named == "storage"),
            plugin: new.plugin,
            config: new.config.map(|config| config.to_string().into_bytes().into()),
            mode: new.mode,
            on_failure: new.on_failure,
            scope: new.scope,
            hold_back,
        }
    }
}

/// A configuration that schema and component accept, as the component is told it.
async fn configured(active: &Active<GuardrailPlugin>, config: &Value) -> Result<Arc<[u8]>, ConfigFault> {
    let plugin = &active.plugin;
    let place = |pointer: &str, message: String| (format!("/config{pointer}"), message);
    let problems = configuration::check(plugin.manifest().config.as_ref(), config);
    if !problems.is_empty() {
        let problems = problems.into_iter().map(|one| place(&one.pointer, one.message)).collect();
        return Err(ConfigFault { problems });
    }
    let config: Arc<[u8]> = config.to_string().into_bytes().into();
    match plugin.check_config(&config).await {
        Ok(problems) if problems.is_empty() => Ok(config),
        Ok(problems) => {
            let problems = problems.into_iter().map(|one| place(&one.pointer, one.message)).collect();
            Err(ConfigFault { problems })
        }
        Err(error) => Err(ConfigFault::at("/plugin", error.to_string())),
    }
}
