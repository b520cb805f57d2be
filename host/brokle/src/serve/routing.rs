//! Routes and policies, as the configuration names them.
//!
//! A policy that nobody has heard of is a mistake in the configuration, and the server doesn't start. One that the catalogue
//! knows and that doesn't serve now (rejected, taken out, waiting for its license) is no reason to stay away: calls go in the
//! built-in order until it does. So it is with the default policy, which nobody named.

use brokle_gateway::routing::definition::Definition;
use brokle_gateway::routing::routes::{ChosenPolicy, DEFAULT_POLICY, PolicyFault, Routing, choose};
use brokle_plugins::{Catalogue, View};
use serde_json::Value;

use super::Failure;
use crate::config::Config;

/// What the configuration says of routing; each policy that it names is compiled.
pub(super) async fn of(config: &Config, catalogue: &Catalogue, view: &View) -> Result<Routing, Failure> {
    let named = |name: &str| {
        let is_it = |entry: &brokle_plugins::Entry| entry.name == name || entry.id == name;
        name == DEFAULT_POLICY || catalogue.list().iter().any(is_it)
    };
    let choose = async |key: &str, name: &str, given: Option<&Value>| -> Result<ChosenPolicy, Failure> {
        match choose(view, name, given).await {
            Ok(policy) => Ok(policy),
            Err(PolicyFault::Unknown { .. }) if named(name) => {
                tracing::warn!(
                    "{key}: no routing policy '{name}' serves: candidates are asked in the order of their priority"
                );
                let given = given.map(|config| config.to_string().into_bytes().into());
                Ok(ChosenPolicy { name: name.to_owned(), config: given })
            }
            Err(PolicyFault::Unusable(reason)) => {
                tracing::error!("{key}: {reason}");
                Ok(ChosenPolicy::named(name))
            }
            Err(fault @ PolicyFault::Unknown { .. }) => Err(format!("{key}: {fault}").into()),
            Err(PolicyFault::Config(problems)) => {
                let place = key.strip_suffix("policy").unwrap_or_default();
                let line = |(pointer, message): &(String, String)| {
                    format!("{place}config{}: {message}", pointer.replace('/', "."))
                };
                Err(problems.iter().map(line).collect::<Vec<_>>().join("\n").into())
            }
        }
    };
    let policy = choose("gateway.policy", &config.gateway.policy, None).await?;
    let mut routes = Vec::with_capacity(config.routes.len());
    for (index, wanted) in config.routes.iter().enumerate() {
        let name = wanted.policy.as_deref().unwrap_or(&config.gateway.policy);
        let given = wanted.config.clone().map(Value::Object);
        let policy = choose(&format!("routes.{index}.policy"), name, given.as_ref()).await?;
        let route = wanted.to_route(policy, config.gateway.timeouts());
        routes.push(route.map_err(|fault| format!("routes.{index}.{fault}"))?);
    }
    for (index, wanted) in config.routes.iter().enumerate() {
        warn_about(index, wanted, config);
    }
    Ok(Routing { policy, routes })
}

/// Candidates that no connection of the configuration can be: tenants' own, or a slip.
fn warn_about(index: usize, wanted: &Definition, config: &Config) {
    for (at, candidate) in wanted.candidates.iter().enumerate() {
        let Some(name) = &candidate.connection else { continue };
        if !config.gateway.connections.iter().any(|one| one.name == *name) {
            tracing::info!(
                "routes.{index}.candidates.{at}.connection: '{name}' is none of the configured connections; it serves \
                 those who have one of this name"
            );
        }
    }
}
