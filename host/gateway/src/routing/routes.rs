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

use std::sync::Arc;
use std::time::Duration;

use brokle_core::money::Usd;
use brokle_core::tenancy::Capture;
use brokle_expression::Expression;
use brokle_identity::Principal;
use brokle_plugins::{Active, View, configuration};
use brokle_runtime::PolicyPlugin;
use serde::Serialize;
use serde_json::Value;

use super::Candidate;
use super::conditions::Said;
use crate::connections::Connection;
use crate::gateway::Timeouts;
use crate::refusal::Refusal;
use crate::shadow::WHOLE;

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

/// What a route says of its calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who is asked when the candidates have failed, by the kind of failure.
    pub fallbacks: Fallbacks,
    /// How long a provider may take; none: as everywhere.
    pub timeouts: Option<Timeouts>,
    /// How often candidates are asked again; none: as everywhere.
    pub retries: Option<u32>,
    /// Pointers to members of the request, and the JSON that is put there.
    pub set: Vec<(String, Vec<u8>)>,
    /// The same where there is nothing.
    pub defaults: Vec<(String, Vec<u8>)>,
    /// Pointers to members that are taken out.
    pub remove: Vec<String>,
    /// The cache has no part in its calls.
    pub uncached: bool,
    /// The cache looks for nothing that means the same.
    pub exact_only: bool,
    /// How near a question has to be whose answer is given, in millionths; none: as everywhere.
    pub semantic_threshold: Option<u32>,
    /// How long answers are kept.
    pub cache_ttl: Option<Duration>,
    /// Guardrails that rule on its calls beside those that do so anyway.
    pub guardrails: Vec<String>,
    /// The most that its calls leave behind.
    pub capture: Option<Capture>,
    /// When a second candidate is asked beside the first.
    pub hedge: Option<Hedge>,
    /// Who is asked once more for a share of the calls.
    pub shadow: Option<Shadow>,
}

/// Who is asked once more for a share of a route's calls, without its answer reaching anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// Who.
    pub candidate: RouteCandidate,
    /// The share of the calls, in millionths: 1 to 1,000,000.
    pub share: u32,
    /// What that may cost in a day, for each project and server; none: it isn't counted.
    pub usd_per_day: Option<Usd>,
}

/// When a second candidate is asked beside one that hasn't answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hedge {
    /// After this time.
    After(Duration),
    /// When it takes longer than this share of its last 64 answers did, in percent; never before there were 20.
    Percentile(u8),
}

/// Who is asked when the candidates have failed. They have no fallbacks of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fallbacks {
    /// The request is too long for the model.
    pub context_length: Vec<RouteCandidate>,
    /// The vendor doesn't want to answer this.
    pub content_policy: Vec<RouteCandidate>,
    /// The vendor has had too many requests.
    pub rate_limit: Vec<RouteCandidate>,
    /// Anything else that another one may do better; also for a rate limit without a list of its own.
    pub general: Vec<RouteCandidate>,
}

impl Fallbacks {
    /// Each list with its name.
    pub fn lists(&self) -> [(&'static str, &[RouteCandidate]); 4] {
        [
            ("context_length", &self.context_length),
            ("content_policy", &self.content_policy),
            ("rate_limit", &self.rate_limit),
            ("general", &self.general),
        ]
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

impl Rules {
    /// Whether they say nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What can't be, with its key.
    fn problem(&self) -> Option<Fault> {
        let fault = |key: String, what: &str| Some(Fault::new(key, what));
        for (class, list) in self.fallbacks.lists() {
            if list.len() > MAX_CANDIDATES {
                return fault(format!("fallbacks.{class}"), "64 of them are the most");
            }
            for (at, candidate) in list.iter().enumerate() {
                if candidate.model.trim().is_empty() || candidate.model.len() > 256 {
                    return fault(
                        format!("fallbacks.{class}.{at}.model"),
                        "1 to 256 characters are expected",
                    );
                }
            }
        }
        if self.retries.is_some_and(|rounds| rounds > MAX_RETRIES) {
            return fault("retries".to_owned(), "0 to 5 are expected");
        }
        for (key, members) in [("set", &self.set), ("defaults", &self.defaults)] {
            for (pointer, value) in members {
                let name = pointer.trim_start_matches('/');
                if NOT_SET.contains(&name) || name.is_empty() {
                    let what = format!("a route can't set this: not {}", NOT_SET.join(", "));
                    return Some(Fault::new(format!("{key}.{name}"), what));
                }
                // What the gateway reads of each request is checked as if a caller had written it.
                if let Some(expected) = crate::request::type_problem(name, value) {
                    return fault(format!("{key}.{name}"), &format!("{expected} is expected"));
                }
            }
        }
        for (at, pointer) in self.remove.iter().enumerate() {
            let name = pointer.trim_start_matches('/');
            if NOT_SET.contains(&name) || name.is_empty() {
                let what = format!("a route can't take this out: not {}", NOT_SET.join(", "));
                return Some(Fault::new(format!("remove.{at}"), what));
            }
        }
        if self.cache_ttl.is_some_and(|ttl| ttl.is_zero()) {
            return fault("cache.ttl_s".to_owned(), "1 or more is expected; enabled = false keeps nothing");
        }
        if self.semantic_threshold.is_some_and(|near| !(1..=WHOLE).contains(&near)) {
            return fault("cache.semantic_threshold".to_owned(), "more than 0 and at most 1 is expected");
        }
        if let Some(shadow) = &self.shadow {
            if !(1..=WHOLE).contains(&shadow.share) {
                return fault("shadow.share".to_owned(), "more than 0 and at most 1 is expected");
            }
            if shadow.candidate.model.trim().is_empty() || shadow.candidate.model.len() > 256 {
                return fault("shadow.model".to_owned(), "1 to 256 characters are expected");
            }
            if shadow.usd_per_day.is_some_and(Usd::is_negative) {
                return fault("shadow.usd_per_day".to_owned(), "less than nothing can't be spent");
            }
        }
        match self.hedge {
            Some(Hedge::Percentile(share)) if !(50..=99).contains(&share) => {
                fault("hedge.percentile".to_owned(), "50 to 99 is expected")
            }
            Some(Hedge::After(after)) if after.is_zero() => {
                fault("hedge.after_ms".to_owned(), "0 would ask two from the start")
            }
            _ => None,
        }
    }
}

/// The most further rounds.
const MAX_RETRIES: u32 = 5;
/// What decides where a request goes and what comes back is the caller's.
const NOT_SET: [&str; 7] = ["model", "messages", "prompt", "input", "stream", "stream_options", "n"];

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
