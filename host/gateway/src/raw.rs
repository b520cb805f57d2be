//! The raw relay: a provider's own API, as it is, with the connection's credential put in by the host.
//!
//! **Who may.** A key with the scope `providers:relay` beside `gateway`: what it calls there passes by routing, dialects
//! and guardrails, so a caller on whom a guardrail rules is refused (403 `guarded`). Connections of the caller's
//! own organization can be called so; the operator's, whose credential all tenants share, only where the operator says so
//! (`raw = true`). Any other one is as missing as one that isn't there: 404 `provider_not_found`.
//!
//! **Where to.** The connection's base URL, then the caller's path and query as they came. A path that could mean another
//! place than it says is refused: dot segments and empty ones, encoded slashes, dots and controls, however often they are
//! encoded. No redirects, as everywhere.
//!
//! **What passes.** Method, body and the caller's headers, but for those of the hop, cookies, credentials and our own.
//! The plugin says (operation `raw`) which headers are missing and how the credential goes in. Both bodies are streamed;
//! the caller's may have [`MOST`], in pieces that each come within the idle time. Only a request that is signed with
//! its body (SigV4) is read first, up to [`MOST_SIGNED`].
//!
//! **Account.** Limits, budgets, circuit and places as for any call, without a model, since the body isn't read; an
//! answer in OpenAI's form (up to 1 MiB, or any stream of events) tells model and usage, any other one leaves the cost
//! unknown. The vendor's answer is the caller's, errors included; our own refusals have OpenAI's form.

use std::sync::Arc;

use brokle_core::ids::RequestId;
use brokle_identity::{AuthError, Principal, Scope};
use brokle_runtime::Body;
use brokle_runtime::exchange::{Auth, Call, Preparation, UpstreamRequest};
use bytes::{Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};
use http::{Method, Response};
use http_body_util::BodyExt as _;
use hyper::body::Incoming as Upstream;

use crate::account::Meter;
use crate::answer::{self, AnswerBody, Told};
use crate::attempts::{self, answer_headers, passed_on, said};
use crate::connections::Connection;
use crate::egress::{self, CallerBody, Outgoing, Segments, Streamed};
use crate::gateway::{Gateway, Incoming};
use crate::guardrails::Named;
use crate::limits;
use crate::operation::Operation;
use crate::pipeline;
use crate::refusal::{Fault, Refusal};
use crate::request::Request;
use crate::routing::Candidate;
use crate::stream::Cut;

mod path;
mod relay;

/// The largest body that is passed on: 1 GiB.
const MOST: u64 = 1 << 30;
/// The largest body that is read to be signed: 32 MiB.
const MOST_SIGNED: usize = 32 << 20;

/// A call to be relayed.
#[derive(Debug)]
pub struct RawCall<'a> {
    /// A connection's name, or a provider's.
    pub provider: &'a str,
    /// What is to be done.
    pub method: Method,
    /// Path and query after the provider's name, as they came: `/chat/completions?x=1`.
    pub path: &'a str,
    /// Whose key it came with, or why that is nobody's.
    pub caller: Result<Arc<Principal>, AuthError>,
    /// The caller's headers.
    pub headers: &'a HeaderMap,
    /// The caller's body, still to come.
    pub body: CallerBody,
    /// As answered in `X-Request-Id`.
    pub request_id: RequestId,
}

impl Gateway {
    /// Relays a call to a provider's own API.
    pub async fn relay(self: &Arc<Self>, call: RawCall<'_>) -> Response<AnswerBody> {
        let mut meter = Meter::new(self.parts.books.clone(), Operation::Raw);
        let mut told = Told::default();
        let (total, mut cut) = (self.parts.timeouts.total, Cut::of(self));
        let asked = Box::pin(self.ask_raw(call, &mut meter, &mut told));
        let answered = tokio::select! {
            biased;
            answered = tokio::time::timeout(total, asked) => answered.unwrap_or_else(|_| {
                let message = "The call took longer than is allowed.";
                Err(Refusal::upstream(504, "upstream_timeout", message))
            }),
            refusal = cut.fired() => Err(refusal),
        };
        match answered {
            Ok(upstream) => {
                let (head, body) = upstream.into_parts();
                let headers = answer_headers(&head.headers);
                let left = total.saturating_sub(meter.elapsed());
                let status = head.status;
                let mut response = answer::relayed(headers, &told, meter, |meter| {
                    relay::answer(status, &head.headers, body, meter, self.parts.timeouts.idle, left, cut)
                });
                *response.status_mut() = status;
                response
            }
            Err(refusal) => {
                meter.end_attempt(Some(&refusal));
                meter.refuse(&refusal, None);
                answer::refused(&refusal, &told, &meter)
            }
        }
    }

    async fn ask_raw(
        &self,
        call: RawCall<'_>,
        meter: &mut Meter,
        told: &mut Told,
    ) -> Result<Response<Upstream>, Refusal> {
        let principal = pipeline::identified(call.caller.clone())?;
        meter.open(
            &principal,
            &Incoming {
                operation: Operation::Raw,
                dialect: None,
                caller: call.caller,
                headers: call.headers,
                body: Bytes::new(),
                request_id: call.request_id,
                now: self.parts.clock.now(),
                random: &*self.parts.random,
            },
        );
        meter.withhold_input();
        meter.note(|observation| observation.name = format!("raw {} {}", call.method, call.provider).into());
        pipeline::take(self, &principal, told).await?;
        let request = Request::unread(Operation::Raw, "", false);
        limits::reserve(self, meter, told, call.headers, &principal, &request).await?;
        let candidate = self.relayed(&principal, call.provider).await?;
        if matches!(call.method, Method::CONNECT | Method::TRACE) {
            let message = format!("{} isn't relayed.", call.method);
            return Err(Refusal::client(405, "method_not_allowed", message));
        }
        path::check(call.path)?;
        attempts::begin(self, &candidate, meter, told, true).await?;
        let connection = &candidate.connection;
        let mut passed = passed_on(call.headers);
        for name in [ACCEPT, CONTENT_ENCODING] {
            passed.extend(call.headers.get(&name).map(|value| (name.clone(), value.clone())));
        }
        let mut wanted = self.prepare_raw(connection, call.request_id, &passed).await?;
        wanted.method = call.method.to_string();
        wanted.path = match &wanted.auth {
            // The credential is the only one of its name.
            Auth::Query(name) => path::without(call.path, name),
            _ => call.path.to_owned(),
        };
        let kind = call.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let answer = self.send_raw(connection, &wanted, kind, call.body, MOST, &passed).await?;
        meter.attempt_answered(answer.status().as_u16(), answer.headers());
        Ok(answer)
    }

    /// The connection of this name that the caller may call so.
    async fn relayed(&self, principal: &Principal, name: &str) -> Result<Candidate, Refusal> {
        if !principal.scopes.allows(Scope::ProvidersRelay) {
            let message =
                "This API key may not call providers' own APIs: it lacks the scope 'providers:relay'.";
            return Err(Refusal::client(403, "insufficient_scope", message));
        }
        if !principal.allowed.every_model() {
            let message =
                "This API key is for certain models, and which one a relayed call asks for isn't known.";
            return Err(Refusal::client(403, "model_not_allowed", message));
        }
        let plugins = self.parts.plugins.load();
        let view = plugins.of(principal.tenant);
        if self.parts.guardrails.of(principal, view, Named::All)?.is_some() {
            let message =
                "Guardrails rule on this key's calls, and can't rule on what is relayed as it comes.";
            return Err(Refusal::client(403, "guarded", message));
        }
        let connections = self.parts.connections.of(principal.tenant, view).await;
        let mut open = connections.iter().filter(|one| one.raw && one.origin.is_some());
        let named = open.clone().find(|one| one.name == name);
        let found = named.or_else(|| open.find(|one| *one.provider == *name));
        let found = found.ok_or_else(|| {
            let name: String = name.chars().take(100).collect();
            let message =
                format!("There is no provider '{}' whose own API can be called.", name.escape_debug());
            Refusal::client(404, "provider_not_found", message)
        })?;
        Ok(Candidate::of(found, ""))
    }

    /// What the provider adds to a call that isn't its own.
    async fn prepare_raw(
        &self,
        connection: &Connection,
        id: RequestId,
        passed: &HeaderMap,
    ) -> Result<UpstreamRequest, Refusal> {
        let mut instance = connection.plugin.open(connection.context.clone()).await?;
        let unsupported = || {
            let message = format!("Provider '{}' has no calls that are relayed.", connection.provider);
            Refusal::client(400, "unsupported", message)
        };
        if !instance.offers(Operation::Raw.name()) {
            return Err(unsupported());
        }
        let mut attributes = connection.attributes.clone();
        attributes.extend(said(passed));
        let call = Call {
            operation: Operation::Raw.name().into(),
            model: String::new(),
            streaming: false,
            format: "canonical".into(),
            content_type: "application/octet-stream".into(),
            request_id: id.to_string(),
            created: u64::try_from(self.parts.clock.now().timestamp()).unwrap_or(0),
            options: connection.options.clone(),
            attributes,
        };
        match instance.prepare(&call, Body::json(Bytes::new())).await?.map_err(Refusal::from_problem)? {
            Preparation::Request(wanted) => Ok(wanted),
            Preparation::Answer(_) => Err(unsupported()),
        }
    }

    /// Sends a caller's body as it comes, up to `most` bytes.
    pub(crate) async fn send_raw(
        &self,
        connection: &Connection,
        wanted: &UpstreamRequest,
        kind: Option<&str>,
        body: CallerBody,
        most: u64,
        passed: &HeaderMap,
    ) -> Result<Response<Upstream>, Refusal> {
        let (tokens, clock) = (&self.tokens, &*self.parts.clock);
        let key = self.cooling.pick(connection);
        let token = tokens.authorization(self, connection, key, &wanted.auth, None).await?;
        let build = |body| egress::build(connection, key, wanted, kind, body, passed, token.as_ref(), clock);
        if let Auth::Sigv4(_) = wanted.auth {
            let body = whole(body).await?;
            let answer = self.parts.egress.send(connection, build(body.into())?).await?;
            self.cooling.heard(connection, key, &answer);
            return Ok(answer);
        }
        let (body, fault) = Streamed::new(body, most, self.parts.timeouts.idle)?;
        let request = build(Segments::default())?.map(|_| Outgoing::Streamed(Box::new(body)));
        let sent = self.parts.egress.send(connection, request).await;
        // What the caller didn't send isn't the provider's fault.
        let answer = sent.map_err(|refusal| fault.get().cloned().unwrap_or(refusal))?;
        self.cooling.heard(connection, key, &answer);
        Ok(answer)
    }
}

/// A body that is signed.
async fn whole(mut body: CallerBody) -> Result<Bytes, Refusal> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let broken = |_| Refusal::client(400, "incomplete_body", "The request's body broke off.");
        let Ok(data) = frame.map_err(broken)?.into_data() else { continue };
        if read.len() + data.len() > MOST_SIGNED {
            let message =
                format!("The request's body is larger than the {MOST_SIGNED} bytes that are signed.");
            return Err(Refusal::client(413, "request_too_large", message));
        }
        read.extend_from_slice(&data);
    }
    Ok(read.freeze())
}

/// A vendor's refusal, for the account.
fn refused(status: u16) -> Refusal {
    let refusal = Refusal::upstream(status, "upstream_error", format!("The provider answered {status}."));
    Refusal { fault: Fault::Upstream, retryable: status == 429 || status >= 500, ..refusal }
}
