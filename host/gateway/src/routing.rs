//! From a model's name to an ordered list of candidates.
//!
//! A name is looked up in this order: a route ([`routes`]); `provider/model` or `connection/model`; a model that a
//! connection lists; the catalogue. The name goes to the provider as the caller wrote it, without the prefix: aliases are the vendor's own.

// A list of what it is made of: measurements ([`stats`]), opinions ([`scores`]), what the operator says ([`routes`], written as
// [`definition`], found in a [`table`], changed by [`manage`]), one decision ([`decide`])
// and how it is carried out ([`plan`]).
pub(crate) mod conditions;
pub(crate) mod decide;
pub mod definition;
pub(crate) mod explain;
pub mod manage;
pub(crate) mod plan;
pub(crate) mod preferences;
pub mod routes;
pub mod scores;
pub(crate) mod stats;
pub(crate) mod table;

use std::sync::Arc;

use brokle_core::catalogue::Catalogue;
use brokle_identity::Principal;

use crate::connections::Connection;
use crate::gateway::{Gateway, Timeouts};
use crate::refusal::Refusal;

/// One way to serve a request.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) connection: Arc<Connection>,
    /// As the provider names it.
    pub(crate) model: String,
    /// Lower comes first.
    pub(crate) priority: i32,
    /// The share among equals.
    pub(crate) weight: u32,
    /// The route's; none: the gateway's.
    pub(crate) timeouts: Option<Timeouts>,
}

impl Candidate {
    /// With the connection's own priority and weight.
    pub(crate) fn of(connection: &Arc<Connection>, model: &str) -> Self {
        let (priority, weight) = (connection.priority, connection.weight);
        Self { connection: connection.clone(), model: model.to_owned(), priority, weight, timeouts: None }
    }
}

impl Candidate {
    /// Whether a key may use it, as one of this route or by its model's name.
    pub(crate) fn allowed(&self, principal: &Principal, route: Option<&str>) -> bool {
        principal.allowed.candidate(route, &self.connection.provider, &self.model)
    }

    /// How long it may take.
    pub(crate) fn timeouts(&self, gateway: &Gateway) -> Timeouts {
        self.timeouts.unwrap_or(gateway.parts.timeouts)
    }
}

/// All ways to serve a model, in the operator's order.
pub(crate) fn candidates(
    connections: &[Arc<Connection>],
    catalogue: &Catalogue,
    model: &str,
) -> Result<Vec<Candidate>, Refusal> {
    let named = |prefix: &str, rest: &str| -> Vec<Candidate> {
        let matching =
            connections.iter().filter(|c| c.name == prefix || *c.provider == *prefix && c.may_serve(rest));
        matching.map(|c| Candidate::of(c, rest)).collect()
    };
    let mut found = match model.split_once('/') {
        Some((prefix, rest)) if !rest.is_empty() => named(prefix, rest),
        _ => Vec::new(),
    };
    if found.is_empty() {
        let knows = |c: &Connection| !c.models.is_empty() || catalogue.find(&c.catalogue, model).is_some();
        let serving = connections.iter().filter(|c| c.may_serve(model) && knows(c));
        found = serving.map(|c| Candidate::of(c, model)).collect();
    }
    if found.is_empty() {
        return Err(unknown(connections, catalogue, model));
    }
    found.sort_by_key(|candidate| candidate.priority);
    Ok(found)
}

fn unknown(connections: &[Arc<Connection>], catalogue: &Catalogue, model: &str) -> Refusal {
    let shown: String = model.chars().take(100).collect();
    let mut message = format!("The model '{shown}' does not exist or you do not have access to it.");
    if let Some(known) = catalogue.resolve(model) {
        message
            .push_str(&format!(" It is offered by '{}', to which there is no connection.", known.provider));
    } else {
        let offered = |name: &&str| {
            let row = catalogue.resolve(name);
            row.is_some_and(|row| connections.iter().any(|c| c.catalogue == row.provider))
        };
        let nearest: Vec<&str> = catalogue.nearest(model, 30).into_iter().filter(offered).take(3).collect();
        if !nearest.is_empty() {
            message.push_str(&format!(" Did you mean {}?", nearest.join(", ")));
        }
    }
    Refusal { param: Some("model".into()), ..Refusal::client(404, "model_not_found", message) }
}
