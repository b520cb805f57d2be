//! The policy that orders a route's candidates, as somebody names and configures it.

use std::sync::Arc;

use brokle_plugins::{Active, View, configuration};
use brokle_runtime::PolicyPlugin;
use serde_json::Value;

/// A policy, and what it is told.
#[derive(Debug, Clone)]
pub struct ChosenPolicy {
    /// The component's short name or id.
    pub name: String,
    /// Its configuration here, a JSON object; none: what it is configured with in the caller's scope.
    pub config: Option<Arc<[u8]>>,
}

impl ChosenPolicy {
    /// The policy as it is configured in the caller's scope.
    pub fn named(name: &str) -> Self {
        Self { name: name.to_owned(), config: None }
    }
}

/// Why a policy can't be used as somebody named and configured it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyFault {
    /// No such policy serves.
    #[error("there is no routing policy '{name}'{}; there are {}", hint(nearest), known.join(", "))]
    Unknown {
        /// As it was named.
        name: String,
        /// Names that look like it, nearest first.
        nearest: Vec<String>,
        /// All there are.
        known: Vec<String>,
    },
    /// It can't be compiled, or failed.
    #[error("{0}")]
    Unusable(String),
    /// Its configuration isn't as its schema or its own check want it: RFC 6901 pointers, and what is wrong.
    #[error("{}", .0.iter().map(|(at, what)| format!("config{at}: {what}")).collect::<Vec<_>>().join("\n"))]
    Config(Vec<(String, String)>),
}

fn hint(nearest: &[String]) -> String {
    match nearest {
        [] => String::new(),
        some => format!(" (did you mean {}?)", some.join(", ")),
    }
}

/// Holds a configuration against the policy that is to be told it, and has the policy compiled.
///
/// # Errors
/// There is no such policy, or it can't be used so.
pub async fn choose(view: &View, name: &str, config: Option<&Value>) -> Result<ChosenPolicy, PolicyFault> {
    let Some(Active { plugin, .. }) = view.policy(name) else { return Err(unknown(view, name)) };
    plugin.warm().await.map_err(|error| PolicyFault::Unusable(error.to_string()))?;
    let Some(config) = config else { return Ok(ChosenPolicy::named(name)) };
    let config = configured(plugin, config).await?;
    Ok(ChosenPolicy { name: name.to_owned(), config: Some(config) })
}

fn unknown(view: &View, name: &str) -> PolicyFault {
    let mut known: Vec<String> = view.policies().map(|one| one.plugin.manifest().name.clone()).collect();
    known.sort_unstable();
    let mut nearest: Vec<(f64, &String)> = known
        .iter()
        .map(|one| (strsim::jaro_winkler(name, one), one))
        .filter(|(near, _)| *near > 0.7)
        .collect();
    nearest.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    let nearest = nearest.into_iter().take(3).map(|(_, name)| name.clone()).collect();
    PolicyFault::Unknown { name: name.to_owned(), nearest, known }
}

async fn configured(plugin: &PolicyPlugin, config: &Value) -> Result<Arc<[u8]>, PolicyFault> {
    let problems = configuration::check(plugin.manifest().config.as_ref(), config);
    if !problems.is_empty() {
        return Err(PolicyFault::Config(
            problems.into_iter().map(|one| (one.pointer, one.message)).collect(),
        ));
    }
    let config: Arc<[u8]> = config.to_string().into_bytes().into();
    let problems = plugin.check_config(&config).await;
    let problems = problems.map_err(|error| PolicyFault::Unusable(error.to_string()))?;
    match problems.is_empty() {
        true => Ok(config),
        false => {
            Err(PolicyFault::Config(problems.into_iter().map(|one| (one.pointer, one.message)).collect()))
        }
    }
}
