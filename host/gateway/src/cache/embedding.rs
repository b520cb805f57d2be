//! What a text means: an embeddings call that a call makes for itself.
//!
//! It goes the way of any call from the candidates on: connections of the caller's tenant that have the model, in the order of
//! their priority, each once; circuits, `max_in_flight`, limits by model and budgets hold. It isn't one of the key's requests, no
//! policy or guardrail is asked (the text is what guardrails left of it), and the key needn't be allowed the model, which is the
//! operator's choice. Its account is an observation of its own in the call's trace, without texts.

use brokle_core::json;
use brokle_core::tenancy::Capture;
use bytes::Bytes;
use http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::look::Call;
use super::semantic::Semantic;
use super::vectors::Vector;
use crate::answer::Told;
use crate::attempts::{self, Served};
use crate::gateway::{Gateway, Incoming};
use crate::operation::Operation;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing;
use crate::routing::conditions::Said;
use crate::routing::plan::Plan;

#[derive(Serialize)]
struct Body<'a> {
    model: &'a str,
    input: &'a str,
    encoding_format: &'static str,
}

#[derive(Deserialize)]
struct Datum {
    embedding: Vec<f32>,
}

/// What the text means, for the call.
///
/// # Errors
/// Nobody could say, or not in time.
pub(super) async fn of(
    gateway: &Gateway,
    call: &mut Call<'_>,
    semantic: &Semantic,
    text: &str,
) -> Result<Vector, Refusal> {
    let asked = ask(gateway, call, &semantic.settings.model, text);
    tokio::time::timeout(semantic.settings.wait, asked).await.unwrap_or_else(|_| {
        Err(Refusal::upstream(
            504,
            "upstream_timeout",
            "The embedding took longer than the cache waits for it.",
        ))
    })
}

async fn ask(gateway: &Gateway, call: &mut Call<'_>, model: &str, text: &str) -> Result<Vector, Refusal> {
    let (principal, request) = &call.known;
    let view = call.plugins.of(principal.tenant);
    let connections = gateway.parts.connections.of(principal.tenant, view).await;
    let candidates = routing::candidates(&connections, &gateway.parts.books.catalogue, model)?;
    let body = Body { model, input: text, encoding_format: "float" };
    let body = serde_json::to_vec(&body).map_err(|error| Refusal::invalid("", error.to_string()))?;
    let said = Said { principal, headers: call.incoming.headers, request };
    let user = said.user().unwrap_or_default().to_owned();
    let request = Request::read(Operation::Embeddings, body.into())?;
    let headers = HeaderMap::new();
    let incoming = Incoming {
        operation: request.operation,
        headers: &headers,
        body: request.body.bytes().clone(),
        now: gateway.parts.clock.now(),
        dialect: None,
        ..call.incoming.clone()
    };
    let mut meter = call.meter.inner(principal, &incoming);
    meter.capture_at_most(Capture::Metadata);
    meter.withhold_input();
    meter.note(|observation| {
        observation.model_requested = Some(model.into());
        observation.name = format!("cache embeddings {model}").into();
    });
    if call.meter.is_held() {
        meter.hold(gateway, principal, &user, &request);
    }
    let mut told = Told::default();
    let mut last = None;
    for candidate in candidates {
        let plan = Plan { candidates: vec![candidate], ..Plan::default() };
        match attempts::once(gateway, &request, &plan, &headers, &incoming, &mut meter, &mut told).await {
            Ok(served) => {
                let vector = read(served);
                match &vector {
                    Ok(_) => meter.complete(),
                    Err(refusal) => meter.refuse(refusal, None),
                }
                return vector;
            }
            Err(refusal) if refusal.retryable => last = Some(refusal),
            Err(refusal) => {
                last = Some(refusal);
                break;
            }
        }
    }
    let refusal = last.unwrap_or_else(unreadable);
    meter.refuse(&refusal, None);
    Err(refusal)
}

fn read(served: Served) -> Result<Vector, Refusal> {
    let Served::Whole(_, answer) = served else { return Err(unreadable()) };
    vector(&answer).ok_or_else(unreadable)
}

fn vector(answer: &Bytes) -> Option<Vector> {
    let first = json::find(answer, "/data/0")?;
    let datum: Datum = serde_json::from_slice(answer.get(first)?).ok()?;
    Vector::of(&datum.embedding)
}

fn unreadable() -> Refusal {
    Refusal::upstream(502, "upstream_error", "The provider's embedding can't be understood.")
}
