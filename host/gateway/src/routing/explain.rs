//! `POST /v1/route`: what would be decided for a request, and why. Nothing is called, and no turn is taken.
//!
//! The operation is told by the body: `messages` is a chat, `input` an embedding, `prompt` a completion. Chance is drawn as
//! for a call, so a policy that goes by chance may decide otherwise the next time. It counts against the key's requests per
//! minute, since it costs a sandbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use brokle_core::json;
use brokle_identity::Principal;
use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;

use super::conditions::Said;
use super::decide::{Asked, Decision, Known};
use super::routes::{Excluded, Origin, Route};
use super::table::find;
use crate::gateway::Gateway;
use crate::operation::Operation;
use crate::refusal::Refusal;
use crate::request::Request;

/// What would be decided.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Explanation {
    /// `route`
    pub object: &'static str,
    /// As it was asked for.
    pub model: String,
    /// The route's name; null: the name was a model's.
    pub route: Option<String>,
    /// Whose route it is; null for a model.
    pub scope: Option<Origin>,
    /// The route's version; null for a configured one.
    pub version: Option<i64>,
    /// The policy as the operator named it.
    pub policy: String,
    /// Whom it would be asked first, and after whom; empty: the policy refuses the request.
    pub order: Vec<Place>,
    /// The policy's words.
    pub reason: String,
    /// Why the policy isn't followed, if it isn't: the order then is the built-in one.
    pub fallback: Option<String>,
    /// Who may serve, in the operator's order, with what is known of them.
    pub candidates: Vec<Told>,
    /// Who else might, and why it isn't asked for this request: the condition that doesn't hold, or the caller's preference.
    pub excluded: Vec<Excluded>,
}

/// One place in an order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The connection's name.
    pub connection: String,
    /// The provider plugin's short name.
    pub provider: String,
    /// As the provider names it.
    pub model: String,
}

/// A candidate as policies are told it. What isn't known is null.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Told {
    /// Who it is.
    #[serde(flatten)]
    pub place: Place,
    /// Lower comes first.
    pub priority: i32,
    /// The share among equals.
    pub weight: u32,
    /// Whether it isn't cooling down, and its circuit lets calls through.
    pub available: bool,
    /// How long it cools down yet, milliseconds.
    pub cooling_ms: Option<u64>,
    /// `closed`, `open` or `half_open`: whether its circuit lets calls through.
    pub circuit: &'static str,
    /// Time to an answer's head, milliseconds.
    pub latency_ms: Option<f64>,
    /// Time to a stream's first token, milliseconds.
    pub first_token_ms: Option<f64>,
    /// Failed calls as a share of all, 0 to 1.
    pub error_rate: Option<f64>,
    /// Calls under way.
    pub in_flight: u32,
    /// What the vendor's headers left us.
    pub remaining_requests: Option<u64>,
    /// The same of tokens.
    pub remaining_tokens: Option<u64>,
    /// US dollars per million tokens.
    pub input_price: Option<f64>,
    /// The same of the answer.
    pub output_price: Option<f64>,
    /// Tokens that the model can hold.
    pub context_window: Option<u64>,
    /// What the model can do, as far as the catalogue knows.
    pub features: Vec<String>,
    /// Whatever else policies are told: `brokle.score.NAME`, the average of a score, and `brokle.scores.NAME`, of how many.
    pub attributes: BTreeMap<String, String>,
}

impl Gateway {
    /// What would be decided for this body by the caller.
    ///
    /// # Errors
    /// As a call with this body would be refused before anybody is asked: 400, 404, 429.
    pub async fn explain(
        &self,
        caller: &Principal,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Explanation, Refusal> {
        let taken = self.limits.take_key(caller, caller.requests_per_minute).await;
        taken.map_err(|exceeded| *exceeded.refusal)?;
        let table = self.routes.of(caller.tenant).await;
        self.explain_by(caller, headers, body, |model| find(&table, headers, model)).await
    }

    /// The same with any way to find the route.
    pub(crate) async fn explain_by(
        &self,
        caller: &Principal,
        headers: &HeaderMap,
        body: Bytes,
        find: impl FnOnce(&str) -> Result<Option<Arc<Route>>, Refusal>,
    ) -> Result<Explanation, Refusal> {
        let mut request = Request::read(operation(&body), body)?;
        request.choose(find)?;
        let plugins = self.parts.plugins.load();
        let view = plugins.of(caller.tenant);
        let connections = self.parts.connections.of(caller.tenant, view).await;
        let asked = Asked { view, said: Said { principal: caller, headers, request: &request } };
        let found = asked.candidates(self, &connections)?;
        let decision = asked.decide(self, found, true).await?;
        Ok(tell(&request, decision))
    }
}

fn operation(body: &[u8]) -> Operation {
    let mut operation = Operation::ChatCompletions;
    // What is no JSON is refused where it is read.
    let _ = json::scan(body, |key, _| match key {
        b"input" => operation = Operation::Embeddings,
        b"prompt" => operation = Operation::Completions,
        _ => {}
    });
    operation
}

fn tell(request: &Request, decision: Decision) -> Explanation {
    let place = |one: &Known| Place {
        connection: one.facts.connection.clone(),
        provider: one.facts.provider.clone(),
        model: one.facts.model.clone(),
    };
    let told = |one: &Known| {
        let (facts, stats) = (&one.facts, &one.facts.stats);
        Told {
            place: place(one),
            priority: facts.priority,
            weight: facts.weight,
            available: facts.available,
            cooling_ms: one.cooling.map(|left| u64::try_from(left.as_millis()).unwrap_or(u64::MAX)),
            circuit: one.circuit.name(),
            latency_ms: stats.latency_ms,
            first_token_ms: stats.first_token_ms,
            error_rate: stats.error_rate,
            in_flight: stats.in_flight,
            remaining_requests: stats.remaining_requests,
            remaining_tokens: stats.remaining_tokens,
            input_price: facts.input_price,
            output_price: facts.output_price,
            context_window: facts.context_window,
            features: facts.features.clone(),
            attributes: facts.attributes.iter().cloned().collect(),
        }
    };
    let order = decision.order.iter().filter_map(|&index| decision.known.get(index));
    Explanation {
        object: "route",
        model: request.model.clone(),
        order: order.map(place).collect(),
        candidates: decision.known.iter().map(told).collect(),
        version: decision.route.as_ref().and_then(|route| route.version),
        scope: decision.route.as_ref().map(|route| route.origin),
        route: decision.route.map(|route| route.name.clone()),
        excluded: decision.excluded,
        policy: decision.policy,
        reason: decision.reason,
        fallback: decision.failure.map(|failure| failure.reason),
    }
}
