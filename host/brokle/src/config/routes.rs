//! Routes: names with candidates of their own.

use brokle_gateway::routing::routes::{self, ChosenPolicy, DEFAULT_POLICY, RouteCandidate, Routing, Target};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A name that callers put into `model`, or choose by the header `x-brokle-route`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Route {
    /// 1 to 64 letters, digits and any of `-_.:`; unique. It goes before a model of the same name.
    pub(crate) name: String,
    /// The policy's short name or id; without it `gateway.policy`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) policy: Option<String>,
    /// The policy's configuration; without it, what `brokle plugin config` set in the caller's scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<serde_json::Map<String, serde_json::Value>>,
    /// Who may serve, 1 to 64 of them.
    pub(crate) candidates: Vec<Candidate>,
}

/// One way to serve a route. Either `connection` or `provider` says whom it goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Candidate {
    /// A connection's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) connection: Option<String>,
    /// A provider's short name: each of its connections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) provider: Option<String>,
    /// The model, as the provider names it.
    pub(crate) model: String,
    /// Lower ones are tried first.
    #[serde(default)]
    pub(crate) priority: i32,
    /// The share among candidates of the same priority, 0 to 1000000, for policies that look at it.
    #[serde(default = "one")]
    pub(crate) weight: u32,
}

fn one() -> u32 {
    1
}

impl Route {
    /// As the gateway takes it, with the policy as it is named.
    ///
    /// # Errors
    /// A candidate that goes to nobody, or to two, with its key.
    pub(crate) fn to_route(&self) -> Result<routes::Route, String> {
        let mut candidates = Vec::with_capacity(self.candidates.len());
        for (at, one) in self.candidates.iter().enumerate() {
            let target = match (&one.connection, &one.provider) {
                (Some(name), None) if !name.is_empty() => Target::Connection(name.clone()),
                (None, Some(name)) if !name.is_empty() => Target::Provider(name.clone()),
                _ => return Err(format!("candidates.{at}: either connection or provider is expected")),
            };
            let (model, priority, weight) = (one.model.clone(), one.priority, one.weight);
            candidates.push(RouteCandidate { target, model, priority, weight });
        }
        let policy = ChosenPolicy::named(self.policy.as_deref().unwrap_or(DEFAULT_POLICY));
        Ok(routes::Route { name: self.name.clone(), policy, candidates })
    }
}

/// Finds what no type can refuse.
pub(super) fn check(routes: &[Route]) -> Result<(), String> {
    let mut routing = Routing::default();
    for (index, route) in routes.iter().enumerate() {
        routing.routes.push(route.to_route().map_err(|problem| format!("routes.{index}.{problem}"))?);
    }
    routing.check()
}
