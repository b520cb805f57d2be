//! What the operator says of routing: a policy for everything, and named routes.
//!
//! A **route** is a name that callers put into `model`, with the candidates that may serve it and the policy that orders
//! them. It is looked up before models are, so an operator may give a model's name another meaning. Its candidates are
//! found among the caller's connections: by a connection's name, or by a provider's, which stands for each of its
//! connections that may serve the model. A candidate that the caller has no connection for isn't there; a route of which
//! none is there doesn't exist for the caller, and isn't listed.
//!
//! What a route says of priority and weight counts, not what its connections say: unless it says something, its candidates
//! are equals, in the order in which they are written.

mod policy;
mod rules;

use std::sync::Arc;

use brokle_expression::Expression;
use brokle_identity::Principal;
use serde::Serialize;

use super::Candidate;
use super::conditions::Said;
use crate::connections::Connection;
use crate::refusal::Refusal;

pub use self::policy::{ChosenPolicy, PolicyFault, choose};
pub use self::rules::{Fallbacks, Hedge, Rules, Shadow};

/// The policy that nobody has to name.
pub const DEFAULT_POLICY: &str = "priority";
/// The request header that chooses a route.
pub const ROUTE_HEADER: &str = "x-brokle-route";
/// The longest name of a route, in bytes.
const MAX_NAME: usize = 64;
/// The most candidates of a route.
const MAX_CANDIDATES: usize = 64;
/// A candidate's model: what the caller wrote.
const AS_ASKED: &str = "*";
/// The largest weight, as the contract has it.
const MAX_WEIGHT: u32 = 1_000_000;

/// What the operator says of routing.
#[derive(Debug, Clone)]
pub struct Routing {
    /// For what no route is for.
    pub policy: ChosenPolicy,
    /// In the operator's order; names are unique.
    pub routes: Vec<Route>,
}

impl Default for Routing {
    fn default() -> Self {
        Self { policy: ChosenPolicy::named(DEFAULT_POLICY), routes: Vec::new() }
    }
}

/// What is wrong with a route, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}{}{what}", if key.is_empty() { "" } else { ": " })]
pub struct Fault {
    /// The key, `candidates.0.weight`; empty: the whole route.
    pub key: String,
    /// What is expected there.
    pub what: String,
}

impl Fault {
    pub(crate) fn new(key: impl Into<String>, what: impl Into<String>) -> Self {
        Self { key: key.into(), what: what.into() }
    }
}

/// Who defined a route.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// A project, for itself.
    Project,
    /// An organization, for its projects.
    Organization,
    /// The configuration, for everybody.
    #[default]
    Configuration,
}

/// A name with candidates.
#[derive(Debug, Clone)]
pub struct Route {
    /// Who defined it.
    pub origin: Origin,
    /// Counts its changes up from 1; none: it is configured.
    pub version: Option<i64>,
    /// What callers put into `model`.
    pub name: String,
    /// Who orders the candidates.
    pub policy: ChosenPolicy,
    /// Other names that it is for; `*` is any characters, and `?` is one.
    pub aliases: Vec<String>,
    /// Who may serve.
    pub candidates: Vec<RouteCandidate>,
    /// What else is said of its calls; none: nothing.
    pub rules: Option<Arc<Rules>>,
}

impl Default for Route {
    /// Without name and candidates.
    fn default() -> Self {
        Self {
            origin: Origin::default(),
            version: None,
            name: String::new(),
            policy: ChosenPolicy::named(DEFAULT_POLICY),
            aliases: Vec::new(),
            candidates: Vec::new(),
            rules: None,
        }
    }
}

/// Whom a candidate of a route goes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// The connection of this name.
    Connection(String),
    /// Each connection of the provider of this short name.
    Provider(String),
}

/// One way to serve a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteCandidate {
    /// Whom it goes to.
    pub target: Target,
    /// The model, as the provider names it; `*`: as the caller wrote it.
    pub model: String,
    /// It is one for requests of which this holds; none: for all.
    pub when: Option<Expression>,
    /// Lower comes first.
    pub priority: i32,
    /// The share among equals, for policies that look at it.
    pub weight: u32,
}

impl Routing {
    /// Finds what no route by itself shows: a name that is there twice.
    ///
    /// # Errors
    /// What is wrong, with its key: `routes.2.name: …`.
    pub fn check(&self) -> Result<(), String> {
        for (index, route) in self.routes.iter().enumerate() {
            if self.routes.iter().take(index).any(|before| before.name == route.name) {
                return Err(format!("routes.{index}.name: there are two routes '{}'", route.name));
            }
        }
        Ok(())
    }

    /// The policies that are named, each once, the general one first.
    pub fn policies(&self) -> Vec<&str> {
        let mut names = vec![self.policy.name.as_str()];
        for route in &self.routes {
            if !names.contains(&route.policy.name.as_str()) {
                names.push(&route.policy.name);
            }
        }
        names
    }
}

/// The ways to serve that there are for a call.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// In the operator's order.
    pub(crate) candidates: Vec<Candidate>,
    /// Who isn't asked for this call, and why.
    pub(crate) excluded: Vec<Excluded>,
}

/// A candidate that isn't asked for a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Excluded {
    /// The connection's name.
    pub connection: String,
    /// As the provider names it.
    pub model: String,
    /// The condition that doesn't hold (`when` for a configured route's), or what the caller said: `provider.only`.
    pub because: String,
}

impl Route {
    /// Finds what no type can refuse.
    ///
    /// # Errors
    /// What it is, with its key.
    pub fn check(&self) -> Result<(), Fault> {
        let fault = |key: &str, what: &str| Err(Fault::new(key, what));
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
        if self.name.is_empty() || self.name.len() > MAX_NAME || !self.name.chars().all(fine) {
            return fault("name", "1 to 64 letters, digits and any of - _ . : are expected");
        }
        if self.candidates.is_empty() || self.candidates.len() > MAX_CANDIDATES {
            return fault("candidates", "1 to 64 of them are expected");
        }
        for (at, candidate) in self.candidates.iter().enumerate() {
            if candidate.model.trim().is_empty() || candidate.model.len() > 256 {
                return fault(&format!("candidates.{at}.model"), "1 to 256 characters are expected");
            }
            if candidate.weight > MAX_WEIGHT {
                return fault(&format!("candidates.{at}.weight"), "0 to 1000000 is expected");
            }
        }
        for (at, alias) in self.aliases.iter().enumerate() {
            if alias.trim().is_empty() || alias.len() > 256 {
                return fault(&format!("aliases.{at}"), "1 to 256 characters are expected");
            }
        }
        if self.aliases.len() > MAX_CANDIDATES {
            return fault("aliases", "64 of them are the most");
        }
        if self.candidates.iter().all(|candidate| candidate.weight == 0) {
            return fault("candidates", "one of them needs a weight above 0");
        }
        self.rules.as_deref().and_then(Rules::problem).map_or(Ok(()), Err)
    }

    /// The ways to serve these candidates of it that the connections are. With nothing said they are looked for on behalf of
    /// any call, whose conditions aren't known.
    pub(crate) fn found(
        &self,
        wanted: &[RouteCandidate],
        connections: &[Arc<Connection>],
        said: Option<&Said<'_>>,
    ) -> Found {
        let timeouts = self.rules.as_ref().and_then(|rules| rules.timeouts);
        let mut found = Found::default();
        for wanted in wanted {
            let is_meant = |connection: &&Arc<Connection>| match &wanted.target {
                Target::Connection(name) => connection.name == *name,
                Target::Provider(name) => *connection.provider == **name,
            };
            let model = match (wanted.model.as_str(), said) {
                (AS_ASKED, Some(said)) if said.request.model == self.name => continue,
                (AS_ASKED, Some(said)) => said.request.model.as_str(),
                (model, _) => model,
            };
            let may_serve = |connection: &&Arc<Connection>| model == AS_ASKED || connection.may_serve(model);
            for connection in connections.iter().filter(is_meant).filter(may_serve) {
                let fails = |when: &&Expression| said.is_some_and(|said| !when.holds(said));
                if let Some(when) = wanted.when.as_ref().filter(fails) {
                    let (connection, model) = (connection.name.clone(), model.to_owned());
                    // What the instance's operator wrote may name others' users and keys.
                    let because = if self.origin == Origin::Configuration { "when" } else { when.text() };
                    found.excluded.push(Excluded { connection, model, because: because.to_owned() });
                    continue;
                }
                let (priority, weight) = (wanted.priority, wanted.weight);
                let (connection, model) = (connection.clone(), model.to_owned());
                found.candidates.push(Candidate { connection, model, priority, weight, timeouts });
            }
        }
        found.candidates.sort_by_key(|candidate| candidate.priority);
        found
    }

    /// Whether a candidate is one for some calls only.
    pub(crate) fn has_conditions(&self) -> bool {
        self.candidates.iter().any(|candidate| candidate.when.is_some())
    }

    /// Whether a key with these connections can call it.
    pub(crate) fn is_there(&self, connections: &[Arc<Connection>], principal: &Principal) -> bool {
        let found = self.found(&self.candidates, connections, None).candidates;
        found.iter().any(|candidate| candidate.allowed(principal, Some(&self.name)))
    }

    /// No candidate is for this call. What conditions say stays with those who may read routes.
    pub(crate) fn nobody(excluded: &[Excluded]) -> Refusal {
        let mut why: Vec<&str> =
            excluded
                .iter()
                .map(|one| {
                    if one.because.starts_with("provider.") { &one.because } else { "the route's conditions" }
                })
                .collect();
        why.sort_unstable();
        why.dedup();
        let message = format!("No candidate is for such a request: {}.", why.join(", "));
        Refusal::client(404, "no_candidate_matches", message)
    }

    /// None of its candidates is there for the caller.
    pub(crate) fn not_there(name: &str) -> Refusal {
        let shown: String = name.chars().take(MAX_NAME).collect();
        let message = format!("The route '{shown}' does not exist or you do not have access to it.");
        Refusal::client(404, "route_not_found", message)
    }
}
