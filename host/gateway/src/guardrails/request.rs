//! The stage between reading a request and routing it.

use std::sync::Arc;

use brokle_identity::Principal;
use brokle_runtime::Body;

use super::call::Outcome;
use super::rulings::{Failed, respell};
use super::{Named, texts};
use crate::gateway::Gateway;
use crate::pipeline::Stage;
use crate::refusal::Refusal;
use crate::request::Request;

/// The stage.
pub(crate) struct GuardRequest;

type Call<'a> = Stage<'a, (Arc<Principal>, Box<Request>)>;

impl GuardRequest {
    pub(crate) async fn run<'a>(gateway: &Gateway, mut call: Call<'a>) -> Result<Call<'a>, Refusal> {
        let (principal, request) = &call.known;
        let named = Named::These(request.rules().map_or(&[][..], |rules| &rules.guardrails));
        let view = call.plugins.of(principal.tenant);
        let Some(mut chain) = gateway.parts.guardrails.of(principal, view, named)? else {
            return Ok(call);
        };
        if let Some(dialect) = call.known.1.dialect.clone() {
            let seen = Box::pin(dialect.for_guardrails(gateway, call.meter, &call.known.1)).await?;
            *call.known.1 = seen;
        }
        let request = &mut call.known.1;
        let unseen = request.is_form() && chain.links.iter().any(|link| link.on_request());
        let unheard =
            request.operation.answers_text() && !request.operation.has_choices() && chain.rules_on_answers();
        if unseen || unheard {
            let message =
                "A guardrail rules on this project's calls, and it can't be shown forms or transcripts.";
            return Err(Refusal::client(400, "guardrail_unsupported", message));
        }
        let before = request.body.bytes().clone();
        chain.request_id = call.incoming.request_id.to_string();
        if chain.links.iter().any(|link| link.on_request()) {
            // The end user's name is a text like others: it may be an address.
            let mut user = None;
            call.meter.withhold_input();
            call.meter.note(|observation| user = observation.user.take());
            let own_user = call.incoming.headers.contains_key("x-brokle-user");
            let mut found = texts::of_request(request.body.bytes()).map_err(|error| {
                let message = format!("We could not parse the JSON body of your request: {error}.");
                Refusal { code: "invalid_json".into(), ..Refusal::invalid("", message) }
            })?;
            let facts = chain.facts(request, 0);
            for link in chain.links.iter_mut().filter(|link| link.on_request()) {
                let asked = link.ask(gateway, call.meter, "request", &facts, &request.body, &found);
                let Outcome::Pass(changed) = Box::pin(asked).await? else { continue };
                let mut changes = Vec::new();
                for (text, new) in found.iter_mut().zip(changed) {
                    if let Some(new) = new {
                        changes.push((text.pointer.clone(), new.clone()));
                        text.value = new;
                    }
                }
                if !changes.is_empty() {
                    let written = respell(request.body.bytes(), changes, []);
                    request.body = Body::json(written.map_err(|failed| unwritable(&failed))?);
                }
            }
            if let Some(text) = found.iter().find(|text| text.pointer == "/user") {
                request.user = Some(text.value.clone());
                if !own_user {
                    user = Some(text.value.chars().take(256).collect::<String>().into());
                }
            }
            call.meter.note(|observation| observation.user = user);
            call.meter.input(request.body.bytes());
        }
        if let Some(dialect) = &mut request.dialect {
            // What is passed as it is, nobody sees.
            dialect.native = *request.body.bytes() == before && !chain.rules_on_answers();
        }
        request.guards = Some(Arc::new(chain));
        Ok(call)
    }
}

/// Texts that were found can be written: this is a fault of ours.
fn unwritable(failed: &Failed) -> Refusal {
    tracing::error!("a changed request can't be written: {failed:?}");
    let message = "The request couldn't be written after a guardrail changed it.";
    Refusal { fault: crate::Fault::Internal, ..Refusal::client(500, "internal_error", message) }
}
