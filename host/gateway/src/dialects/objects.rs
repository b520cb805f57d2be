//! Asking for what a vendor keeps: a response, its input, its end.
//!
//! Only the project whose call made an object may ask for it, and it is asked for at the connection that made it
//! ([`kept`](super::kept)); to everybody else it isn't there: 404 `response_not_found`. Where a guardrail rules on a caller's
//! answers nothing is shown, since nothing would have ruled on it: 400 `unsupported`. The vendor's answer is relayed byte for
//! byte. It counts against the key's requests per minute, and leaves no trace: no model is called.

use std::sync::Arc;

use brokle_core::ids::RequestId;
use brokle_identity::{AuthError, Principal};
use brokle_runtime::Body;
use brokle_runtime::exchange::{Call, Preparation};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};

use super::{Asking, refused};
use crate::account::Meter;
use crate::answer::{self, AnswerBody, Told};
use crate::attempts::{answer_headers, passed_on, send};
use crate::gateway::Gateway;
use crate::guardrails::Named;
use crate::operation::Operation;
use crate::pipeline;
use crate::refusal::Refusal;
use crate::routing::Candidate;
use crate::stream;

/// What is asked for.
#[derive(Debug)]
pub struct ObjectCall<'a> {
    /// The dialect, and what is to be done: `responses.get`, `.delete`, `.cancel`, `.input-items`.
    pub asking: Asking,
    /// The object's id.
    pub id: &'a str,
    /// Whose key it came with, or why that is nobody's.
    pub caller: Result<Arc<Principal>, AuthError>,
    /// The caller's headers.
    pub headers: &'a HeaderMap,
    /// As answered in `X-Request-Id`.
    pub request_id: RequestId,
}

impl Gateway {
    /// Asks for something that a vendor keeps.
    pub async fn object(self: &Arc<Self>, call: ObjectCall<'_>) -> Response<AnswerBody> {
        let mut told = Told::default();
        let meter = Meter::new(self.parts.books.clone(), Operation::ChatCompletions);
        match Box::pin(self.ask_for(&call, &mut told)).await {
            Ok((status, headers, body)) => {
                let idle = self.parts.timeouts.idle;
                let (left, cut) = (self.parts.timeouts.total, stream::Cut::of(self));
                let mut response = answer::relayed(headers, &told, meter, |meter| {
                    stream::relay(Vec::new(), body.into(), meter, idle, left, cut)
                });
                *response.status_mut() = status;
                response
            }
            Err(refusal) => {
                refused(&call.asking, &refusal, &call.request_id.to_string(), &told, &meter).await
            }
        }
    }

    async fn ask_for(
        &self,
        call: &ObjectCall<'_>,
        told: &mut Told,
    ) -> Result<(StatusCode, HeaderMap, hyper::body::Incoming), Refusal> {
        let principal = pipeline::identified(call.caller.clone())?;
        pipeline::take(self, &principal, told).await?;
        let tenant = principal.tenant;
        let plugins = self.parts.plugins.load();
        let view = plugins.of(tenant);
        // Which route it was made by isn't known any more.
        let chain = self.parts.guardrails.of(&principal, view, Named::All)?;
        if chain.is_some_and(|chain| chain.rules_on_answers()) {
            let message = "A guardrail rules on this key's answers, and kept ones can't be shown to it.";
            return Err(Refusal::client(400, "unsupported", message));
        }
        let owner = self.kept.find(tenant, call.id).ok_or_else(|| not_there(call.id))?;
        let connections = self.parts.connections.of(tenant, view).await;
        let connection = connections.iter().find(|connection| connection.id == owner);
        let candidate = Candidate::of(connection.ok_or_else(|| not_there(call.id))?, "");
        told.provider = Some(candidate.connection.provider.clone());
        let connection = &candidate.connection;
        let mut instance = connection.plugin.open(connection.context.clone()).await?;
        let now = self.parts.clock.now();
        let mut attributes = connection.attributes.clone();
        attributes.push(("object".to_owned(), call.id.to_owned()));
        attributes
            .extend(call.asking.query.iter().map(|(name, value)| (format!("query.{name}"), value.clone())));
        let wanted = Call {
            operation: call.asking.endpoint.into(),
            model: String::new(),
            streaming: false,
            format: call.asking.dialect.name().into(),
            content_type: "application/json".into(),
            request_id: call.request_id.to_string(),
            created: u64::try_from(now.timestamp()).unwrap_or(0),
            options: connection.options.clone(),
            attributes,
        };
        let nothing = Body::json(Bytes::new());
        let prepared = instance.prepare(&wanted, nothing.clone()).await?;
        drop(instance);
        let Preparation::Request(request) = prepared.map_err(Refusal::from_problem)? else {
            return Err(not_there(call.id));
        };
        let (head, body) =
            send(self, &candidate, &request, &nothing, &passed_on(call.headers)).await?.into_parts();
        let gone = head.status == StatusCode::NOT_FOUND
            || (call.asking.endpoint == "responses.delete" && head.status.is_success());
        if gone {
            self.kept.forget(tenant, call.id);
        }
        Ok((head.status, answer_headers(&head.headers), body))
    }
}

fn not_there(id: &str) -> Refusal {
    let id: String = id.chars().take(100).collect();
    let message = format!("Response with id '{}' not found.", id.escape_debug());
    Refusal::client(404, "response_not_found", message)
}
