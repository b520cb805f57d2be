//! From a model's name to an ordered list of candidates.
//!
//! A name is looked up in this order: `provider/model` or `connection/model`; a model that a connection lists; the
//! catalogue. The name goes to the provider as the caller wrote it, without the prefix: aliases are the vendor's own.

pub(crate) mod stats;

use std::sync::Arc;

use brokle_core::catalogue::Catalogue;
use brokle_core::money::Usd;
use brokle_core::observation::Kind;
use brokle_core::tenancy::Tenant;
use brokle_plugins::View;
use brokle_runtime::facts;

use crate::account::Meter;
use crate::connections::Connection;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::request::Request;

/// One way to serve a request.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) connection: Arc<Connection>,
    /// As the provider names it.
    pub(crate) model: String,
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
        matching.map(|c| Candidate { connection: c.clone(), model: rest.to_owned() }).collect()
    };
    let mut found = match model.split_once('/') {
        Some((prefix, rest)) if !rest.is_empty() => named(prefix, rest),
        _ => Vec::new(),
    };
    if found.is_empty() {
        let knows = |c: &Connection| !c.models.is_empty() || catalogue.find(&c.catalogue, model).is_some();
        let serving = connections.iter().filter(|c| c.may_serve(model) && knows(c));
        found = serving.map(|c| Candidate { connection: c.clone(), model: model.to_owned() }).collect();
    }
    if found.is_empty() {
        return Err(unknown(connections, catalogue, model));
    }
    found.sort_by_key(|candidate| candidate.connection.priority);
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

/// Asks the policy for its order; a policy that fails leaves the operator's.
pub(crate) async fn order(
    gateway: &Gateway,
    view: &View,
    tenant: Tenant,
    meter: &mut Meter,
    request: &Request,
    candidates: Vec<Candidate>,
) -> Result<Vec<Candidate>, Refusal> {
    let Some(active) = view.policy(&gateway.parts.policy) else {
        tracing::debug!(
            policy = gateway.parts.policy,
            "no such routing policy serves: taking the built-in order"
        );
        return Ok(candidates);
    };
    let policy = &*active.plugin;
    let asked = facts::Request {
        operation: request.operation.name().into(),
        model: request.model.clone(),
        streaming: request.streaming,
        body_size: request.body.len() as u64,
        input_tokens: request.estimated_tokens(),
        max_output_tokens: request.max_output_tokens,
        features: request.features.clone(),
        affinity: None,
        entropy: gateway.entropy(),
        attributes: Vec::new(),
    };
    let told: Vec<facts::Candidate> =
        candidates.iter().map(|candidate| describe(gateway, candidate)).collect();
    let reason = match policy.decide(active.context_for(tenant, None), &asked, &told).await {
        Ok((Ok(plan), spent)) => {
            meter.plugin(policy.label(), "decide", None, spent.time, &*gateway.parts.random);
            if plan.order.is_empty() {
                return Err(Refusal::client(
                    503,
                    "no_candidate",
                    format!("The routing policy refused: {}.", plan.reason),
                ));
            }
            let mut left: Vec<Option<Candidate>> = candidates.into_iter().map(Some).collect();
            let chosen = plan.order.iter().filter_map(|&index| left.get_mut(index as usize)?.take());
            return Ok(chosen.collect());
        }
        Ok((Err(refusal), _)) => format!("{refusal:?}"),
        Err(error) => {
            meter.trap(policy.label());
            error.to_string()
        }
    };
    tracing::warn!(policy = %policy.label(), reason, "the routing policy has no plan: taking the built-in order");
    meter.note(|observation| {
        observation.attributes.insert("brokle.routing.fallback".into(), reason.into());
    });
    let mut step = meter.step(Kind::Plugin, policy.label().to_string().into(), &*gateway.parts.random);
    step.status = brokle_core::observation::Status::Error;
    meter.end_step(step, None);
    Ok(candidates)
}

fn describe(gateway: &Gateway, candidate: &Candidate) -> facts::Candidate {
    let connection = &candidate.connection;
    let row = gateway.parts.books.catalogue.find(&connection.catalogue, &candidate.model);
    let price = |price: Option<Usd>| price.map(Usd::approximate);
    let reading = gateway.facts.read(connection, &candidate.model);
    facts::Candidate {
        connection: connection.name.clone(),
        provider: connection.provider.to_string(),
        model: candidate.model.clone(),
        priority: connection.priority,
        weight: connection.weight,
        available: reading.cooling.is_none(),
        stats: reading.stats,
        input_price: row.and_then(|row| price(row.prices.input)),
        output_price: row.and_then(|row| price(row.prices.output)),
        context_window: row.and_then(|row| row.context_window).map(u64::from),
        features: row.iter().flat_map(|row| &row.capabilities).map(|one| one.name().to_owned()).collect(),
        attributes: Vec::new(),
    }
}
