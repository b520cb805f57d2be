//! Realtime sessions: a WebSocket to the caller, one to the provider, and every message passed between them.
//!
//! **Who may, and where to.** As for any call: the key, its limits, routes, the catalogue, the policy's order, circuits and
//! places. A candidate whose provider doesn't offer `realtime`, or that refuses the upgrade with 429 or 5xx, is passed over
//! for the next; once the caller's upgrade is answered nothing is tried elsewhere. A caller on whose calls a guardrail rules
//! is refused (403 `guarded`): nothing could rule on what is said.
//!
//! **What passes.** Messages as they are, both ways, one at a time in each direction: whoever doesn't read holds up whoever
//! writes, and at most one message and a write buffer of [`WRITE_BUFFER`] wait in each direction. Compression isn't
//! negotiated. A message larger than [`RealtimeLimits::max_message_bytes`] ends the session with 1009. Close codes and reasons
//! are passed on.
//!
//! **How it ends otherwise.** Each of these tells the caller by an `error` event and a close:
//!
//! | what | close |
//! |---|---|
//! | [`RealtimeLimits::total`] is over, or no message passed for [`RealtimeLimits::idle`] | 1000, `session_expired` |
//! | the provider's connection broke or went silent | 1011, `upstream_disconnected` |
//! | a limit or budget has nothing left after a response | 1008, its code |
//! | the server stops: once the response under way is done, or at the end of the drain | 1001, `server_stopping` |
//!
//! Both ends are pinged; one that is silent for the gateway's idle time, pongs included, is gone.
//!
//! **Account.** One observation for the session, with the sum of what its `response.done` events say was used. After each of
//! them budgets are charged and asked again. The session counts as one request, and holds its places, here and at the
//! connection, until its end. What is said isn't stored.

mod handshake;
mod session;
mod tap;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::ids::RequestId;
use brokle_identity::{AuthError, Principal};
use brokle_runtime::Body;
use brokle_runtime::exchange::{Call, ErrorOutcome, Preparation};
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use hyper::body::Incoming as Upstream;
use hyper::upgrade::OnUpgrade;

use crate::account::Meter;
use crate::answer::{self, AnswerBody, Told};
use crate::attempts::{self, error_body, passed_on, plugin_call, plugin_head};
use crate::egress::{self, Segments};
use crate::gateway::{Gateway, Incoming};
use crate::guardrails::Named;
use crate::limits;
use crate::operation::Operation;
use crate::pipeline;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing::Candidate;
use crate::routing::conditions::Said;
use crate::routing::decide::Asked;
use crate::routing::table::find;

pub use self::handshake::key_in_protocols;
use self::handshake::{Asking, Offer};
use self::session::Session;

/// What is buffered in each direction until the network takes it, beside one message: 256 KiB.
const WRITE_BUFFER: usize = 256 << 10;

/// What a session may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RealtimeLimits {
    /// How long it may last: 60 min.
    pub total: Duration,
    /// How long no message may pass: 15 min.
    pub idle: Duration,
    /// Bytes of a message, either way: 16 MiB.
    pub max_message_bytes: usize,
}

impl Default for RealtimeLimits {
    fn default() -> Self {
        Self {
            total: Duration::from_secs(3_600),
            idle: Duration::from_secs(900),
            max_message_bytes: 16 << 20,
        }
    }
}

/// What is left to do once the answer is on its way: the session itself, until it ends.
pub type RealtimeSession = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request for a session.
pub struct RealtimeCall<'a> {
    /// The query's `model`.
    pub model: Option<&'a str>,
    /// Whose key it came with, or why that is nobody's.
    pub caller: Result<Arc<Principal>, AuthError>,
    /// The caller's headers, those of the handshake included.
    pub headers: &'a HeaderMap,
    /// The caller's connection, once the answer has gone out; none: it can't be upgraded.
    pub upgrade: Option<OnUpgrade>,
    /// As answered in `X-Request-Id`.
    pub request_id: RequestId,
    /// Resolves when the server begins to stop.
    pub leaving: Pin<Box<dyn Future<Output = ()> + Send>>,
}

/// A candidate that has agreed.
struct Agreed {
    candidate: Candidate,
    upstream: OnUpgrade,
    protocol: Option<String>,
}

impl Gateway {
    /// Answers a request for a session: 101 and the session, which is to be run on the caller's connection after the answer;
    /// or a refusal.
    pub async fn realtime(
        self: &Arc<Self>,
        call: RealtimeCall<'_>,
    ) -> (Response<AnswerBody>, Option<RealtimeSession>) {
        let mut meter = Meter::new(self.parts.books.clone(), Operation::Realtime);
        let mut told = Told::default();
        let RealtimeCall { model, caller, headers, upgrade, request_id, leaving } = call;
        let incoming = Incoming {
            operation: Operation::Realtime,
            dialect: None,
            caller,
            headers,
            body: Bytes::new(),
            request_id,
            now: self.parts.clock.now(),
            random: &*self.parts.random,
        };
        let mut cut = crate::stream::Cut::of(self);
        let asked = Box::pin(self.begin_session(&incoming, model, upgrade.is_some(), &mut meter, &mut told));
        let agreed = tokio::select! {
            biased;
            agreed = tokio::time::timeout(self.parts.timeouts.total, asked) => agreed.unwrap_or_else(|_| {
                let message = "The call took longer than is allowed.";
                Err(Refusal::upstream(504, "upstream_timeout", message))
            }),
            refusal = cut.fired() => Err(refusal),
        };
        let (agreed, offer, upgrade) = match (agreed, upgrade) {
            (Ok((agreed, offer)), Some(upgrade)) => (agreed, offer, upgrade),
            (Ok(_), None) => return (answer::refused(&handshake::no_upgrade(), &told, &meter), None),
            (Err(refusal), _) => {
                meter.end_attempt(Some(&refusal));
                meter.refuse(&refusal, None);
                let mut response = answer::refused(&refusal, &told, &meter);
                if refusal.status == 426 {
                    response.headers_mut().extend(handshake::wants_upgrade());
                }
                return (response, None);
            }
        };
        let headers = offer.accept(agreed.protocol.as_deref());
        let mut response = answer::whole(101, headers, Bytes::new(), &told, &meter);
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.body_mut() = AnswerBody::Whole(None);
        let session = Session {
            gateway: Arc::clone(self),
            candidate: agreed.candidate,
            caller: upgrade,
            upstream: agreed.upstream,
            meter,
            told,
            cut,
            leaving,
        };
        (response, Some(Box::pin(session.run())))
    }

    /// Everything before the caller's answer.
    async fn begin_session(
        &self,
        incoming: &Incoming<'_>,
        model: Option<&str>,
        upgradable: bool,
        meter: &mut Meter,
        told: &mut Told,
    ) -> Result<(Agreed, Offer), Refusal> {
        let principal = pipeline::identified(incoming.caller.clone())?;
        meter.open(&principal, incoming);
        meter.withhold_input();
        pipeline::take(self, &principal, told).await?;
        let offer = Offer::read(incoming.headers)?;
        if !upgradable {
            return Err(handshake::no_upgrade());
        }
        let model = model.filter(|model| !model.is_empty() && model.len() <= 256).ok_or_else(|| Refusal {
            code: "missing_required_parameter".into(),
            ..Refusal::invalid("model", "Missing required parameter: 'model'.")
        })?;
        meter.note(|observation| {
            observation.model_requested = Some(model.into());
            observation.streaming = true;
            observation.name = format!("realtime {model}").into();
        });
        let routes = self.routes.of(principal.tenant).await;
        let mut request = Request::unread(Operation::Realtime, model, true);
        request.choose(|model| find(&routes, incoming.headers, model))?;
        if let Some(most) = request.rules().and_then(|rules| rules.capture) {
            meter.capture_at_most(most);
        }
        limits::reserve(self, meter, told, incoming.headers, &principal, &request).await?;
        let plugins = self.parts.plugins.load();
        let view = plugins.of(principal.tenant);
        let named = request.rules().map_or(&[][..], |rules| &rules.guardrails);
        if self.parts.guardrails.of(&principal, view, Named::These(named))?.is_some() {
            let message = "Guardrails rule on this key's calls, and can't rule on a realtime session.";
            return Err(Refusal::client(403, "guarded", message));
        }
        let connections = self.parts.connections.of(principal.tenant, view).await;
        let said = Said { principal: &principal, headers: incoming.headers, request: &request };
        let asked = Asked { view, said };
        let found = asked.candidates(self, &connections)?;
        let candidates = asked.decide(self, found, false).await?.conclude(self, meter)?;
        let passed = passed_on(incoming.headers);
        let mut last = None;
        for (index, candidate) in candidates.iter().enumerate() {
            let may_wait = index + 1 == candidates.len();
            let call = plugin_call(&request, candidate, incoming);
            match self.upgrade_at(candidate, call, &offer, &passed, meter, told, may_wait).await {
                Ok(agreed) => return Ok((agreed, offer)),
                Err(refusal) => {
                    meter.end_attempt(Some(&refusal));
                    tracing::info!(code = %refusal.code, connection = candidate.connection.name, "attempt failed");
                    // Who doesn't offer it at all leaves it to others.
                    if !refusal.retryable && refusal.code != "unsupported" {
                        return Err(refusal);
                    }
                    last = Some(refusal);
                }
            }
        }
        Err(last
            .unwrap_or_else(|| Refusal::client(503, "no_candidate", "The routing policy left no candidate.")))
    }

    /// Asks one candidate for a WebSocket.
    #[expect(clippy::too_many_arguments, reason = "one attempt's ingredients, each another one's")]
    async fn upgrade_at(
        &self,
        candidate: &Candidate,
        call: Call,
        offer: &Offer,
        passed: &HeaderMap,
        meter: &mut Meter,
        told: &mut Told,
        may_wait: bool,
    ) -> Result<Agreed, Refusal> {
        let connection = &candidate.connection;
        let span = attempts::begin(self, candidate, meter, told, may_wait).await?;
        let mut instance = connection.plugin.open(connection.context.clone()).await?;
        let unsupported = || {
            let message = format!("Provider '{}' has no realtime sessions.", connection.provider);
            Refusal::client(400, "unsupported", message)
        };
        if !instance.offers(Operation::Realtime.name()) {
            return Err(unsupported());
        }
        let prepared = instance.prepare(&call, Body::json(Bytes::new())).await;
        let spent = instance.spent().time;
        meter.plugin(connection.plugin.label(), "prepare", Some(span), spent, &*self.parts.random);
        let Preparation::Request(wanted) = prepared?.map_err(Refusal::from_problem)? else {
            return Err(unsupported());
        };
        let key = self.cooling.pick(connection);
        let token = self.tokens.authorization(self, connection, key, &wanted.auth, None).await?;
        let (body, clock) = (Segments::default(), &*self.parts.clock);
        let mut request = egress::build(connection, key, &wanted, None, body, passed, token.as_ref(), clock)?;
        let asking = Asking::new(offer, &*self.parts.random);
        asking.write(request.headers_mut());
        let first_byte = candidate.timeouts(self).first_byte;
        let sent = tokio::time::timeout(first_byte, self.parts.egress.send(connection, request)).await;
        let mut answer = sent.map_err(|_| {
            let message = format!("Provider '{}' didn't answer in time.", connection.provider);
            Refusal::upstream(504, "upstream_timeout", message)
        })??;
        self.cooling.heard(connection, key, &answer);
        meter.attempt_answered(answer.status().as_u16(), answer.headers());
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(self.not_upgraded(candidate, &call, answer).await);
        }
        let protocol = asking.check(answer.headers()).map_err(|what| {
            let message = format!("Provider '{}' answered the upgrade wrongly: {what}.", connection.provider);
            Refusal::upstream(502, "upstream_error", message)
        })?;
        let upstream = hyper::upgrade::on(&mut answer);
        Ok(Agreed { candidate: candidate.clone(), upstream, protocol })
    }

    /// Why a provider doesn't open a session, in its component's words.
    async fn not_upgraded(&self, candidate: &Candidate, call: &Call, answer: Response<Upstream>) -> Refusal {
        let (head, mut body) = answer.into_parts();
        let status = head.status.as_u16();
        let text = error_body(&mut body, candidate.timeouts(self).idle).await;
        let plain = || {
            let message = format!("Provider '{}' answered {status}.", candidate.connection.provider);
            Refusal::upstream(502, "upstream_error", message)
        };
        if head.status.is_success() {
            return plain();
        }
        let connection = &candidate.connection;
        let mut instance = match connection.plugin.open(connection.context.clone()).await {
            Ok(instance) => instance,
            Err(error) => return error.into(),
        };
        match instance.map_error(call, &plugin_head(status, &head.headers), text).await {
            Ok(ErrorOutcome::Problem(problem)) => Refusal::from_problem(problem),
            Ok(ErrorOutcome::Next(_)) => plain(),
            Err(error) => error.into(),
        }
    }
}
