//! One decision: who may serve a request, what is known of them, and the policy's order.
//!
//! A policy that traps, is late, has no plan or names only candidates that there aren't has failed: the built-in order is
//! taken (available ones first, then by priority, then as they are written), the call goes on, and the failure is
//! warned about, counted (`brokle_policy_failures_total`) and noted on the trace. So it is when the policy doesn't serve. A
//! policy that answers with an empty order hasn't failed: it refuses the request, 503 `no_candidate`.
//!
//! **Affinity** is a hash of the first of these that a call has, with its project: `x-brokle-session`, `prompt_cache_key`,
//! `x-brokle-user`, `user`. It is the same on every server and in every version.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::money::Usd;
use brokle_plugins::View;
use brokle_runtime::facts;
use ring::digest::{SHA256, digest};
use serde_json::Value;

use super::conditions::Said;
use super::routes::{Excluded, Found, Route};
use super::stats::breaker::Circuit;
use super::{Candidate, candidates};
use crate::account::Meter;
use crate::connections::Connection;
use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// The most of a policy's own words that is kept, in characters.
const REASON: usize = 200;
/// The most candidates that a trace shows.
const SHOWN: usize = 32;

/// Who asks for what, as far as routing cares.
pub(crate) struct Asked<'a> {
    pub(crate) view: &'a View,
    pub(crate) said: Said<'a>,
}

/// A candidate and what is known of it.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) candidate: Candidate,
    pub(crate) facts: facts::Candidate,
    pub(crate) cooling: Option<Duration>,
    pub(crate) circuit: Circuit,
}

/// What was decided, and how it came about.
#[derive(Debug)]
pub(crate) struct Decision {
    /// The route, if it was one.
    pub(crate) route: Option<Arc<Route>>,
    /// Who isn't asked for such a call.
    pub(crate) excluded: Vec<Excluded>,
    /// The policy as the operator named it.
    pub(crate) policy: String,
    /// `id version` and time of the component that was asked.
    pub(crate) asked: Option<(Arc<str>, Duration)>,
    /// In the operator's order.
    pub(crate) known: Vec<Known>,
    /// Indexes into `known`; empty: the policy refused.
    pub(crate) order: Vec<usize>,
    /// The policy's words.
    pub(crate) reason: String,
    /// Why the order is the built-in one.
    pub(crate) failure: Option<Failure>,
}

/// A policy that gave no order.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: String,
    /// The component itself failed, rather than answered that it has no plan.
    trapped: bool,
}

impl<'a> Asked<'a> {
    /// Who may serve: the route, or else whoever has the model.
    ///
    /// # Errors
    /// 404 when nobody does.
    pub(crate) fn candidates(
        &self,
        gateway: &Gateway,
        connections: &[Arc<Connection>],
    ) -> Result<Found, Refusal> {
        let request = self.said.request;
        let Some(route) = &request.route else {
            let mut candidates = candidates(connections, &gateway.parts.books.catalogue, &request.model)?;
            candidates.retain(|candidate| candidate.allowed(self.said.principal, None));
            return match candidates.is_empty() {
                true => Err(not_allowed(&request.model)),
                false => Ok(Found { candidates, excluded: Vec::new() }),
            };
        };
        let found = route.found(&route.candidates, connections, Some(&self.said));
        match (found.candidates.is_empty(), found.excluded.is_empty()) {
            (true, true) => Err(Route::not_there(&route.name)),
            (true, false) => Err(Route::nobody(&found.excluded)),
            (false, _) => self.allowed(route, found),
        }
    }

    /// Of a route's candidates those that the key may use.
    fn allowed(&self, route: &Route, mut found: Found) -> Result<Found, Refusal> {
        let principal = self.said.principal;
        found.candidates.retain(|candidate| candidate.allowed(principal, Some(&route.name)));
        match found.candidates.is_empty() {
            true => Err(not_allowed(&self.said.request.model)),
            false => Ok(found),
        }
    }

    /// Asks the policy about those that the caller's preferences leave. `peek`: nothing is to come of it, so that no turn is
    /// taken.
    ///
    /// # Errors
    /// 404 when they leave nobody.
    pub(crate) async fn decide(
        &self,
        gateway: &Gateway,
        found: Found,
        peek: bool,
    ) -> Result<Decision, Refusal> {
        let request = self.said.request;
        let policy = request.route.as_ref().map_or(&gateway.parts.routing.policy, |route| &route.policy);
        let scores = gateway.parts.scores.as_deref();
        let scores = scores.map(|scores| (scores, scores.of(self.said.principal.tenant.project)));
        let thought = |candidate: &Candidate| match &scores {
            Some((scores, table)) => scores.attributes(table, &candidate.connection.id, &candidate.model),
            None => Vec::new(),
        };
        let know = |candidate| know(gateway, thought(&candidate), candidate);
        let mut known: Vec<Known> = found.candidates.into_iter().map(know).collect();
        let mut excluded = found.excluded;
        if let Some(preferences) = &request.preferences {
            known.retain(|one| match preferences.excludes(&one.facts, request) {
                None => true,
                Some(because) => {
                    let (connection, model) = (one.facts.connection.clone(), one.facts.model.clone());
                    excluded.push(Excluded { connection, model, because: because.to_owned() });
                    false
                }
            });
            if known.is_empty() {
                return Err(Route::nobody(&excluded));
            }
        }
        let mut decision = Decision {
            route: request.route.clone(),
            excluded,
            policy: policy.name.clone(),
            asked: None,
            known,
            order: Vec::new(),
            reason: String::new(),
            failure: None,
        };
        let Some(active) = self.view.policy(&policy.name) else {
            decision.fail("no such routing policy serves", false);
            return Ok(self.preferred(decision));
        };
        let mut context = active.context_for(self.said.principal.tenant, None);
        if let Some(config) = &policy.config {
            context.config = config.clone();
        }
        let request = self.facts(gateway, decision.known.len(), peek);
        let told = decision.known.iter().map(|one| &one.facts);
        match active.plugin.decide(context, &request, told).await {
            Ok((planned, spent)) => {
                decision.asked = Some((active.plugin.label().clone(), spent.time));
                match planned {
                    Ok(plan) => decision.take(&plan),
                    Err(refusal) => decision.fail(&format!("{refusal:?}"), false),
                }
            }
            Err(error) => {
                decision.asked = Some((active.plugin.label().clone(), Duration::ZERO));
                decision.fail(&error.to_string(), true);
            }
        }
        Ok(self.preferred(decision))
    }

    /// With the caller's order, if it has one, in the place of the policy's.
    fn preferred(&self, mut decision: Decision) -> Decision {
        let Some(preferences) = &self.said.request.preferences else { return decision };
        let (order, known) = (&mut decision.order, &decision.known);
        if let Some(by) = preferences.arrange(order, known, self.said.request.streaming) {
            decision.reason = by.to_owned();
        }
        decision
    }

    fn facts(&self, gateway: &Gateway, count: usize, peek: bool) -> facts::Request {
        let request = self.said.request;
        let mut attributes = self.said.attributes();
        if count > 1 {
            let name = request.route.as_ref().map_or(request.model.as_str(), |route| &route.name);
            let turn = gateway.facts.turn(&self.said.principal.tenant.project.to_string(), name, peek);
            attributes.push(("brokle.turn".to_owned(), turn.to_string()));
        }
        facts::Request {
            operation: request.operation.name().into(),
            model: request.model.clone(),
            streaming: request.streaming,
            body_size: request.body.bytes().len() as u64,
            input_tokens: request.estimated_tokens(),
            max_output_tokens: request.max_output_tokens,
            features: request.features.clone(),
            affinity: self.affinity(),
            entropy: gateway.entropy(),
            attributes,
        }
    }

    fn affinity(&self) -> Option<u64> {
        let (kind, value) = self
            .said
            .session()
            .map(|session| ("session", session))
            .or_else(|| Some(("cache", self.said.request.prompt_cache_key.as_deref()?)))
            .or_else(|| Some(("user", self.said.user()?)))?;
        let text = format!("{}\0{kind}\0{value}", self.said.principal.tenant.project);
        let hash = digest(&SHA256, text.as_bytes());
        Some(u64::from_le_bytes(hash.as_ref().first_chunk().copied()?))
    }
}

impl Decision {
    fn take(&mut self, plan: &facts::Plan) {
        self.reason = plan.reason.chars().take(REASON).collect();
        let mut left = vec![true; self.known.len()];
        let listed = plan.order.iter().filter_map(|&index| {
            let index = usize::try_from(index).ok()?;
            std::mem::take(left.get_mut(index)?).then_some(index)
        });
        self.order = listed.collect();
        if self.order.is_empty() && !plan.order.is_empty() {
            self.fail("its plan names no candidate that there is", false);
        }
    }

    /// The built-in order, and why.
    fn fail(&mut self, reason: &str, trapped: bool) {
        self.order = (0..self.known.len()).collect();
        self.order.sort_by_key(|&index| self.known.get(index).is_some_and(|one| !one.facts.available));
        self.reason = "the built-in order".into();
        self.failure = Some(Failure { reason: reason.chars().take(REASON).collect(), trapped });
    }

    /// The candidates in their order; the account is told how it came about.
    ///
    /// # Errors
    /// The policy refused.
    pub(crate) fn conclude(self, gateway: &Gateway, meter: &mut Meter) -> Result<Vec<Candidate>, Refusal> {
        self.note(gateway, meter);
        if self.order.is_empty() {
            let message = format!("The routing policy refused: {}.", self.reason);
            return Err(Refusal::client(503, "no_candidate", message));
        }
        let mut left: Vec<Option<Candidate>> =
            self.known.into_iter().map(|one| Some(one.candidate)).collect();
        Ok(self.order.into_iter().filter_map(|index| left.get_mut(index)?.take()).collect())
    }

    fn note(&self, gateway: &Gateway, meter: &mut Meter) {
        let random = &*gateway.parts.random;
        if let Some(route) = &self.route {
            meter.note(|observation| {
                observation.attributes.insert("brokle.route".into(), route.name.as_str().into());
                if let Some(version) = route.version {
                    observation.attributes.insert("brokle.route.version".into(), version.into());
                }
            });
        }
        if let Some(Failure { reason, trapped }) = &self.failure {
            let policy = &self.policy;
            match &self.asked {
                Some((label, _)) => {
                    if *trapped {
                        meter.trap(label);
                    }
                    tracing::warn!(policy = %label, reason, "the routing policy has no plan: taking the built-in order");
                }
                None => tracing::debug!(policy, reason, "taking the built-in order"),
            }
            meter.policy_failed(self.asked.as_ref().map_or(policy.as_str(), |(label, _)| label));
            meter.note(|observation| {
                observation.attributes.insert("brokle.routing.fallback".into(), reason.as_str().into());
            });
        }
        let Some((label, spent)) = &self.asked else { return };
        meter.decided(
            label,
            *spent,
            self.attributes(),
            self.failure.as_ref().map(|one| one.reason.as_str()),
            random,
        );
    }

    fn attributes(&self) -> BTreeMap<String, Value> {
        let name = |one: &Known| {
            let (connection, model) = (&one.facts.connection, &one.facts.model);
            Value::from(match (one.circuit.lets_through(), one.facts.available) {
                (true, true) => format!("{connection}/{model}"),
                (true, false) => format!("{connection}/{model} (cooling down)"),
                (false, _) => format!("{connection}/{model} (circuit open)"),
            })
        };
        let order = self.order.iter().filter_map(|&index| self.known.get(index));
        let mut attributes = BTreeMap::from([
            ("brokle.routing.policy".to_owned(), self.policy.as_str().into()),
            ("brokle.routing.candidates".to_owned(), self.known.iter().take(SHOWN).map(name).collect()),
            ("brokle.routing.order".to_owned(), order.take(SHOWN).map(name).collect()),
            ("brokle.routing.reason".to_owned(), self.reason.as_str().into()),
        ]);
        if self.known.len() > 1 {
            let facts = self.known.iter().take(SHOWN).map(measured).collect();
            attributes.insert("brokle.routing.facts".to_owned(), facts);
        }
        if !self.excluded.is_empty() {
            let excluded = self.excluded.iter().take(SHOWN);
            let excluded = excluded.map(|one| format!("{}/{}: {}", one.connection, one.model, one.because));
            attributes.insert("brokle.routing.excluded".to_owned(), excluded.map(Value::from).collect());
        }
        attributes
    }
}

/// What was known of a candidate when it was decided, of what changes.
fn measured(one: &Known) -> Value {
    let stats = &one.facts.stats;
    let mut told = serde_json::Map::new();
    let rounded = |value: f64| (value * 1e3).round() / 1e3;
    let mut say = |name: &str, value: Option<Value>| {
        told.extend(value.map(|value| (name.to_owned(), value)));
    };
    say("latency_ms", stats.latency_ms.map(|value| rounded(value).into()));
    say("first_token_ms", stats.first_token_ms.map(|value| rounded(value).into()));
    say("error_rate", stats.error_rate.map(|value| rounded(value).into()));
    say("in_flight", Some(stats.in_flight.into()));
    say("remaining_requests", stats.remaining_requests.map(Into::into));
    say("remaining_tokens", stats.remaining_tokens.map(Into::into));
    say("input_price", one.facts.input_price.map(Into::into));
    say("output_price", one.facts.output_price.map(Into::into));
    for (name, value) in &one.facts.attributes {
        say(name, Some(value.as_str().into()));
    }
    told.into()
}

/// The key may use none of those who could serve.
fn not_allowed(model: &str) -> Refusal {
    let shown: String = model.chars().take(100).collect();
    let message = format!("This API key may not use the model '{shown}'.");
    Refusal { param: Some("model".into()), ..Refusal::client(403, "model_not_allowed", message) }
}

fn know(gateway: &Gateway, attributes: Vec<(String, String)>, candidate: Candidate) -> Known {
    let connection = &candidate.connection;
    let row = gateway.parts.books.catalogue.find(&connection.catalogue, &candidate.model);
    let price = |price: Option<Usd>| price.map(Usd::approximate);
    let reading = gateway.facts.read(connection, &candidate.model);
    let facts = facts::Candidate {
        connection: connection.name.clone(),
        provider: connection.provider.to_string(),
        model: candidate.model.clone(),
        priority: candidate.priority,
        weight: candidate.weight,
        available: reading.cooling.is_none() && reading.circuit.lets_through(),
        stats: reading.stats,
        input_price: row.and_then(|row| price(row.prices.input)),
        output_price: row.and_then(|row| price(row.prices.output)),
        context_window: row.and_then(|row| row.context_window).map(u64::from),
        features: row.iter().flat_map(|row| &row.capabilities).map(|one| one.name().to_owned()).collect(),
        attributes,
    };
    Known { candidate, facts, cooling: reading.cooling, circuit: reading.circuit }
}
