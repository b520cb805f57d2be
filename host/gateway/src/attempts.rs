//! The attempts: candidates are asked in order until one answers.
//!
//! The next candidate is tried after a failed connection, a timeout, 429 and 5xx, and after a plugin's failure, as
//! long as nothing reached the caller; so it is after a stream that failed before its first token ([`start`]). When all have
//! failed they may be asked again ([`resilience`]), and then a route's fallbacks for that kind of failure. A candidate whose
//! circuit is open, or that is full, is passed over. An unstreamed answer up to [`HELD`] is held until it is complete, so one that
//! breaks off in the middle is tried elsewhere too. Everything else is the answer, errors included.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brokle_core::json;
use brokle_core::observation::{Kind, SpanId};
use brokle_core::usage::Usage;
use brokle_runtime::exchange::{
    Call, ErrorOutcome, Output, Preparation, ResponseHead, ResponsePlan, UpstreamRequest,
};
use brokle_runtime::{Body, Header, PluginError, ProviderInstance};
use brokle_telemetry::metrics::ProviderLabels;
use bytes::Bytes;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use http::{Response, request};
use http_body_util::BodyExt;
use hyper::body::Incoming as Upstream;

use crate::account::Meter;
use crate::answer::{self, AnswerBody, Told};
use crate::connections::Connection;
use crate::decoding::{self, Decoding};
use crate::dialects::Asked;
use crate::dialects::native::{self, Content, Native, Owner, Reads};
use crate::dialects::{self, Dialected};
use crate::egress::{self, Segments};
use crate::gate;
use crate::gateway::{Gateway, Incoming};
use crate::guardrails::StreamGuard;
use crate::operation::Operation;
use crate::pipeline::Stage;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::resilience;
use crate::routing::Candidate;
use crate::routing::plan::Plan;
use crate::routing::routes::Hedge;
use crate::start;
use crate::stream;

/// The largest unstreamed answer that is held until it is complete: 1 MiB. A larger one is relayed as it comes.
pub(crate) const HELD: usize = 1 << 20;
/// The largest unstreamed answer in the caller's dialect that is read for the account: 16 MiB.
const HELD_NATIVE: usize = 16 << 20;
/// Says that a count of tokens is an estimate of the gateway's.
const ESTIMATED: HeaderName = HeaderName::from_static("x-brokle-estimated");
/// What is read of an error answer.
const ERROR_BODY: usize = 64 << 10;

/// What an attempt came to.
pub(crate) enum Served {
    /// The whole answer.
    Whole(HeaderMap, Bytes),
    /// The provider's own stream, which has the caller's form, its start read already.
    Canonical { headers: HeaderMap, head: Vec<Bytes>, body: Upstream, strip_usage: bool },
    /// Bytes to be relayed, the first of them read already.
    Relay { headers: HeaderMap, head: Vec<Bytes>, body: Upstream },
    /// A stream that a plugin translates.
    Decoded { headers: HeaderMap, head: Vec<Output>, decoding: Box<Decoding>, include_usage: bool },
    /// A stream without a vendor.
    Local { outputs: Vec<Output>, include_usage: bool },
    /// An answer that has the caller's dialect already.
    Native(Box<Native>),
    /// A stream that guardrails rule on.
    Guarded(Box<Served>, Box<StreamGuard>),
}

impl Served {
    /// The answer to the caller; the meter goes where the rest of the answer comes from.
    pub(crate) fn answer(
        self,
        gateway: &std::sync::Arc<Gateway>,
        told: &Told,
        meter: Meter,
    ) -> Response<AnswerBody> {
        match self {
            Self::Guarded(served, guard) => served.send(gateway, told, meter, Some(guard)),
            served => served.send(gateway, told, meter, None),
        }
    }

    fn send(
        self,
        gateway: &std::sync::Arc<Gateway>,
        told: &Told,
        mut meter: Meter,
        guard: Option<Box<StreamGuard>>,
    ) -> Response<AnswerBody> {
        let timeouts = told.timeouts.unwrap_or(gateway.parts.timeouts);
        let idle = timeouts.idle;
        let left = timeouts.total.saturating_sub(meter.elapsed());
        let cut = stream::Cut::of(gateway);
        match self {
            Self::Whole(headers, body) => {
                meter.first_token();
                meter.output(&body);
                meter.complete();
                answer::whole(200, headers, body, told, &meter)
            }
            Self::Canonical { headers, head, body, strip_usage } => {
                answer::streamed(headers, told, meter, |meter| {
                    stream::native((head, body), meter, guard, strip_usage, idle, left, cut)
                })
            }
            Self::Relay { headers, head, body } => answer::streamed(headers, told, meter, |meter| {
                stream::relay(head, body, meter, idle, left, cut)
            }),
            Self::Decoded { headers, head, decoding, include_usage } => {
                answer::streamed(headers, told, meter, |meter| {
                    stream::decoded(gateway.clone(), head, *decoding, meter, guard, include_usage, left)
                })
            }
            Self::Local { outputs, include_usage } => {
                answer::streamed(event_stream(), told, meter, |meter| {
                    stream::local(outputs, meter, guard, include_usage)
                })
            }
            Self::Native(native) => {
                let Native { headers, body } = *native;
                match body {
                    Content::Whole(body) => {
                        meter.first_token();
                        meter.output(&body);
                        meter.complete();
                        answer::whole(200, headers, body, told, &meter)
                    }
                    Content::Relay { head, body } => answer::streamed(headers, told, meter, |meter| {
                        stream::relay(head, body, meter, idle, left, cut)
                    }),
                    Content::Stream(reads) => answer::streamed(headers, told, meter, |meter| {
                        native::stream(gateway, *reads, meter, idle, left)
                    }),
                }
            }
            // A guarded stream isn't guarded twice.
            Self::Guarded(served, guard) => served.send(gateway, told, meter, Some(guard)),
        }
    }
}

/// The stage.
pub(crate) struct Attempts;

impl Attempts {
    pub(crate) async fn run(gateway: &Gateway, call: Stage<'_, (Request, Plan)>) -> Result<Served, Refusal> {
        let (request, plan) = call.known;
        if let Some(entry) = &request.cached {
            return Ok(entry.serve(request.include_usage));
        }
        let mut passed = passed_on(call.incoming.headers);
        if call.meter.is_recording() {
            // What is kept has to be read.
            passed.remove(http::header::ACCEPT_ENCODING);
        }
        let (incoming, meter, told) = (&call.incoming, call.meter, call.told);
        let mut round =
            Round { gateway, request: &request, plan: &plan, passed: &passed, incoming, meter, told };
        match plan.rules.as_ref().and_then(|ruled| ruled.rules.timeouts) {
            None => round.rounds().await,
            Some(timeouts) => {
                let left = timeouts.total.saturating_sub(round.meter.elapsed());
                let rounds = tokio::time::timeout(left, round.rounds());
                rounds.await.unwrap_or_else(|_| {
                    let message = "The call took longer than its route allows.";
                    Err(Refusal::upstream(504, "upstream_timeout", message))
                })
            }
        }
    }
}

/// A call's candidates, as they are asked.
struct Round<'a, 'c> {
    gateway: &'a Gateway,
    request: &'a Request,
    plan: &'a Plan,
    passed: &'a HeaderMap,
    incoming: &'a Incoming<'c>,
    meter: &'a mut Meter,
    told: &'a mut Told,
}

impl Round<'_, '_> {
    /// The candidates, again where that may help, then the route's fallbacks.
    async fn rounds(&mut self) -> Result<Served, Refusal> {
        let plan = self.plan;
        let mut candidates = plan.candidates.as_slice();
        let mut retries = self.gateway.parts.resilience.retries;
        if let Some(rounds) = plan.rules.as_ref().and_then(|ruled| ruled.rules.retries) {
            retries.rounds = rounds;
        }
        if retries.rounds > 0 {
            self.gateway.extra.earn();
        }
        let (mut round, mut fell_back) = (0, false);
        // Who may do better the next time; without further rounds nobody is noted.
        let mut again = vec![true; if retries.rounds > 0 { candidates.len() } else { 0 }];
        loop {
            let refusal = match self.each(candidates, round, &mut again).await {
                Ok(served) => return Ok(served),
                Err(refusal) => refusal,
            };
            let left = self.gateway.parts.timeouts.total.saturating_sub(self.meter.elapsed());
            // What no other try can mend isn't tried again, but may have a fallback of its kind.
            let wait = match retries.rounds > 0 && again.contains(&true) {
                true => retries.wait(round, &refusal, left, self.gateway.entropy()),
                false => None,
            };
            if let Some(wait) = wait {
                if self.gateway.extra.take() {
                    round += 1;
                    tokio::time::sleep(wait).await;
                    continue;
                }
                self.gateway.parts.books.metrics.retry_budget_exhausted.inc();
            }
            match plan.fallbacks(&refusal) {
                others if !others.is_empty() && !fell_back => {
                    tracing::info!(code = %refusal.code, "the route's fallbacks are asked");
                    fell_back = true;
                    (candidates, round) = (others, 0);
                    retries.rounds = 0;
                    again.clear();
                }
                _ => return Err(refusal),
            }
        }
    }

    /// Each candidate once, until one answers.
    async fn each(
        &mut self,
        candidates: &[Candidate],
        round: u32,
        again: &mut [bool],
    ) -> Result<Served, Refusal> {
        let mut last: Option<Refusal> = None;
        let mut hedge = if round == 0 { self.hedge(candidates) } else { None };
        let mut asked_beside = None;
        for (index, candidate) in candidates.iter().enumerate() {
            if again.get(index) == Some(&false) || asked_beside == Some(index) {
                continue;
            }
            let may_wait = index + 1 == candidates.len();
            let answered = match hedge.take().zip(candidates.get(index + 1)) {
                Some((after, second)) => {
                    let (answered, was_asked) = Box::pin(self.two(candidate, second, after)).await;
                    asked_beside = was_asked.then_some(index + 1);
                    answered
                }
                None => self.one(candidate, round, may_wait).await,
            };
            let refusal = match answered {
                Ok(served) => {
                    if let Served::Whole(headers, body) = &served {
                        self.meter.keep(headers, body);
                    }
                    return Ok(served);
                }
                Err(refusal) => refusal,
            };
            if let Some(again) = again.get_mut(index) {
                *again = resilience::again(&refusal);
            }
            if !refusal.retryable {
                return Err(refusal);
            }
            // What a vendor said is told rather than that another one wasn't asked.
            if !matches!(refusal.code.as_ref(), "circuit_open" | "connection_busy") || last.is_none() {
                last = Some(refusal);
            }
        }
        Err(last
            .unwrap_or_else(|| Refusal::client(503, "no_candidate", "The routing policy left no candidate.")))
    }

    /// After which time a second candidate is asked beside the first, if one is. Not where limits or budgets have something
    /// reserved: they reserve for one candidate at a time.
    fn hedge(&self, candidates: &[Candidate]) -> Option<Duration> {
        let hedge = self.plan.hedge()?;
        let [first, _second, ..] = candidates else { return None };
        if self.meter.is_held() {
            return None;
        }
        self.gateway.extra.earn();
        match hedge {
            Hedge::After(after) => Some(after),
            Hedge::Percentile(share) => self.gateway.facts.percentile(&first.connection, &first.model, share),
        }
    }

    /// The first candidate, and after a while the second beside it: who answers first serves, the other one is cancelled.
    /// Also whether the second was asked.
    async fn two(
        &mut self,
        first: &Candidate,
        second: &Candidate,
        after: Duration,
    ) -> (Result<Served, Refusal>, bool) {
        let gateway = self.gateway;
        let (mut meter, mut told, shared) = (self.meter.beside(), self.told.clone(), self.meter.steps());
        let was_asked = AtomicBool::new(false);
        let mut served_beside = false;
        let answered = {
            let mut beside = Round {
                gateway,
                request: self.request,
                plan: self.plan,
                passed: self.passed,
                incoming: self.incoming,
                meter: &mut meter,
                told: &mut told,
            };
            let mut mine = Box::pin(self.one(first, 0, false));
            let mut theirs = Box::pin(async {
                tokio::time::sleep(after).await;
                if !gateway.extra.take() {
                    gateway.parts.books.metrics.retry_budget_exhausted.inc();
                    std::future::pending::<()>().await;
                }
                was_asked.store(true, Ordering::Relaxed);
                let labels = ProviderLabels { provider: second.connection.provider.to_string() };
                gateway.parts.books.metrics.hedges.get_or_create(&labels).inc();
                beside.one(second, 0, false).await
            });
            tokio::select! {
                biased;
                answered = &mut mine => match answered {
                    Err(refusal) if was_asked.load(Ordering::Relaxed) => {
                        let other = theirs.await;
                        served_beside = other.is_ok();
                        other.map_err(|_| refusal)
                    }
                    answered => answered,
                },
                answered = &mut theirs => match answered {
                    Ok(served) => {
                        served_beside = true;
                        Ok(served)
                    }
                    Err(_) => mine.await,
                },
            }
        };
        let was_asked = was_asked.load(Ordering::Relaxed);
        if served_beside {
            told.attempts = self.told.attempts.max(told.attempts - 1) + 1;
            *self.told = told;
            self.meter.give_way(meter, shared);
        } else {
            self.told.attempts += u32::from(was_asked && told.attempts > 0);
            self.meter.absorb(meter, shared);
        }
        (answered, was_asked)
    }

    /// One candidate, if it lets a call through.
    async fn one(&mut self, candidate: &Candidate, round: u32, may_wait: bool) -> Result<Served, Refusal> {
        let (gateway, connection) = (self.gateway, &candidate.connection);
        let mut ticket = gateway
            .facts
            .begin(connection, &candidate.model)
            .map_err(|left| circuit_open(connection, left))?;
        if let Some(permit) = gate::enter(connection, may_wait).await? {
            ticket.hold(permit);
        }
        self.meter.reserve(gateway, connection, &candidate.model, self.told).await.map_err(|refusal| {
            // Somebody else may be within what rules allow.
            Refusal { retryable: true, ..refusal }
        })?;
        if round > 0 {
            let labels = ProviderLabels { provider: connection.provider.to_string() };
            gateway.parts.books.metrics.retries.get_or_create(&labels).inc();
        }
        self.told.attempts += 1;
        self.told.provider = Some(connection.provider.clone());
        self.told.model = Some(candidate.model.clone());
        self.told.timeouts = candidate.timeouts;
        self.meter.served_by(connection, &candidate.model);
        let random = &*gateway.parts.random;
        let name = format!("{}/{}", connection.provider, candidate.model);
        let mut step = self.meter.step(Kind::Attempt, name.into(), random);
        step.provider = Some(connection.provider.clone());
        step.connection = Some(connection.id.clone());
        step.model = Some(candidate.model.as_str().into());
        let span = step.span_id;
        self.meter.begin_attempt(step, ticket);
        let attempt = Attempt {
            gateway,
            candidate,
            request: self.request,
            plan: self.plan,
            passed: self.passed,
            meter: self.meter,
            span,
            native: None,
        };
        let called = plugin_call(self.request, candidate, self.incoming);
        match attempt.run(called).await {
            Ok(served) => {
                self.meter.end_attempt(None);
                Ok(served)
            }
            Err(refusal) => {
                self.meter.end_attempt(Some(&refusal));
                tracing::info!(code = %refusal.code, connection = connection.name, "attempt failed");
                Err(refusal)
            }
        }
    }
}

fn circuit_open(connection: &Connection, left: Duration) -> Refusal {
    let provider = connection.provider_name();
    let message = format!("Provider '{provider}' failed again and again, and isn't asked for a while.");
    let refusal = Refusal::upstream(503, "circuit_open", message);
    Refusal { retry_after: Some(left.max(Duration::from_secs(1))), ..refusal }
}

fn plugin_call(request: &Request, candidate: &Candidate, incoming: &Incoming<'_>) -> Call {
    Call {
        operation: request.operation.name().into(),
        model: candidate.model.clone(),
        streaming: request.streaming,
        format: "canonical".into(),
        content_type: if request.form.is_some() { "multipart/form-data" } else { "application/json" }.into(),
        request_id: incoming.request_id.to_string(),
        created: u64::try_from(incoming.now.timestamp()).unwrap_or(0),
        options: candidate.connection.options.clone(),
        attributes: candidate.connection.attributes.clone(),
    }
}

/// One candidate's turn.
struct Attempt<'a> {
    gateway: &'a Gateway,
    candidate: &'a Candidate,
    request: &'a Request,
    plan: &'a Plan,
    passed: &'a HeaderMap,
    meter: &'a mut Meter,
    span: SpanId,
    /// The caller's dialect, which the provider is asked in.
    native: Option<&'a Arc<Asked>>,
}

impl<'a> Attempt<'a> {
    async fn run(mut self, mut call: Call) -> Result<Served, Refusal> {
        let plugin = &self.candidate.connection.plugin;
        let mut instance = self.open().await?;
        if let Some(dialect) = &self.request.dialect
            && let Some(estimate) = Box::pin(self.in_dialect(dialect, &instance, &mut call)).await?
        {
            return Ok(estimate);
        }
        if self.native.is_none() && !instance.offers(self.request.operation.name()) {
            let message =
                format!("Provider '{}' doesn't offer this operation.", self.candidate.connection.provider);
            return Err(Refusal::client(400, "unsupported", message));
        }
        let body = self.body()?;
        let prepared = instance.prepare(&call, body.clone()).await;
        let export = "prepare";
        self.meter.plugin(
            plugin.label(),
            export,
            Some(self.span),
            instance.spent().time,
            &*self.gateway.parts.random,
        );
        let prepared = prepared.map_err(|error| self.plugin_failed(error))?;
        let wanted = match prepared.map_err(Refusal::from_problem)? {
            Preparation::Answer(outputs) => return self.local(outputs),
            Preparation::Request(wanted) => wanted,
        };
        // An answer that needs no decoder needs no instance either: its slot is free, and warm for the next call, while
        // the vendor thinks.
        let instance = matches!(wanted.response, ResponsePlan::Decoded(_)).then_some(instance);
        let sent = send(self.gateway, self.candidate, &wanted, &body, self.passed).await?;
        let (head, body) = sent.into_parts();
        self.meter.attempt_answered(head.status.as_u16(), &head.headers);
        if !head.status.is_success() {
            return Box::pin(self.failed(instance, call, head.status.as_u16(), &head.headers, body)).await;
        }
        match (&wanted.response, instance) {
            (ResponsePlan::Decoded(framing), Some(instance)) => {
                let head = plugin_head(head.status.as_u16(), &head.headers);
                let decoding = self.decoding(instance, call, body, framing)?;
                Box::pin(self.decoded(decoding, head)).await
            }
            (ResponsePlan::Native, _) if self.native.is_some() => {
                Box::pin(self.in_kind(head.headers, body)).await
            }
            (plan, _) => self.native(plan, head.headers, body).await,
        }
    }

    /// What is sent, or edited to be sent.
    fn body(&self) -> Result<Body, Refusal> {
        Ok(match (self.native, &self.request.form) {
            (Some(asked), _) => Body::json(asked.original.clone()),
            // What a route sets are members of JSON.
            (None, Some(form)) => form.clone(),
            (None, None) => Body::json(self.plan.edit(&self.request.body)?),
        })
    }

    /// Chooses the form in which the provider is asked: the caller's own, if it takes that, else the canonical one. A
    /// count of tokens by a provider that doesn't take the dialect is an estimate, and the answer.
    async fn in_dialect(
        &mut self,
        dialect: &'a Dialected,
        instance: &ProviderInstance,
        call: &mut Call,
    ) -> Result<Option<Served>, Refusal> {
        let asked = &dialect.asked;
        if dialect.native && !self.plan.sets() && instance.speaks(asked.dialect.name()) {
            let tenant = self.meter.tenant().ok_or_else(broken_answer)?;
            dialect.check_owner(self.gateway, tenant, &self.candidate.connection.id)?;
            asked.rest();
            call.format = asked.dialect.name().into();
            call.operation.clone_from(&asked.call.endpoint);
            // What the provider would set itself, had the caller not said it.
            let said = self.passed.iter().filter_map(|(name, value)| {
                Some((format!("header.{name}"), value.to_str().ok()?.to_owned()))
            });
            call.attributes.extend(said);
            call.attributes.extend(
                asked.call.query.iter().map(|(name, value)| (format!("query.{name}"), value.clone())),
            );
            self.native = Some(asked);
            return Ok(None);
        }
        if self.request.operation == Operation::CountTokens {
            let body = Content::Whole(asked.estimate(self.gateway, self.meter).await?);
            let mut headers = json_headers();
            headers.insert(ESTIMATED, HeaderValue::from_static("true"));
            return Ok(Some(Served::Native(Box::new(Native { headers, body }))));
        }
        if !dialect.translated {
            let canonical = asked.canonical(self.gateway, self.meter, self.request).await;
            // Somebody who takes the dialect as it is may still serve it.
            let canonical = canonical.map_err(|refusal| Refusal { retryable: true, ..refusal })?;
            self.request = &canonical.request;
        }
        Ok(None)
    }

    /// The answer of a provider that was asked in the caller's dialect.
    async fn in_kind(self, upstream: HeaderMap, mut body: Upstream) -> Result<Served, Refusal> {
        let asked = self.native.ok_or_else(broken_answer)?;
        let mut headers = answer_headers(&upstream);
        asked.dialect.identify(&mut headers, &asked.call.request_id);
        let native = |headers, body| Ok(Served::Native(Box::new(Native { headers, body })));
        if headers.contains_key(CONTENT_ENCODING) {
            return native(headers, Content::Relay { head: Vec::new(), body });
        }
        let owner = Owner {
            kept: self.gateway.kept.clone(),
            tenant: self.meter.tenant().ok_or_else(broken_answer)?,
            connection: self.candidate.connection.id.clone(),
        };
        let failed = |error: PluginError| dialects::failed(self.meter, &error);
        if self.request.streaming {
            let reader = match asked.open().await {
                Ok(instance) => instance.read(&asked.call).await,
                Err(error) => Err(error),
            };
            let reader = reader.map_err(failed)?;
            let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            let events = kind.starts_with("text/event-stream");
            let mut head = match events {
                true => start::of_dialect(&mut body, &self.candidate.timeouts(self.gateway)).await?,
                false => Vec::new(),
            };
            head.reverse();
            let reads = Reads { head, body, reader, asked: Arc::clone(asked), events, owner };
            return native(headers, Content::Stream(Box::new(reads)));
        }
        let idle = self.candidate.timeouts(self.gateway).idle;
        let mut held: Vec<Bytes> = Vec::new();
        let mut size = 0;
        while let Some(piece) = next_piece(&mut body, idle).await? {
            size += piece.len();
            held.push(piece);
            if size > HELD_NATIVE {
                return native(headers, Content::Relay { head: held, body });
            }
        }
        let answer: Bytes = match held.len() {
            1 => held.pop().unwrap_or_default(),
            _ => held.concat().into(),
        };
        if json::scan(&answer, |_, _| {}).is_err() {
            return Err(broken_answer());
        }
        let mut instance = asked.open().await.map_err(failed)?;
        let reading = instance.read_answer(&asked.call, &answer.to_vec()).await.map_err(failed)?;
        owner.note(&reading, self.meter);
        native(headers, Content::Whole(answer))
    }

    async fn open(&self) -> Result<ProviderInstance, Refusal> {
        let opened = self.candidate.connection.plugin.open(self.candidate.connection.context.clone()).await;
        opened.map_err(|error| self.plugin_failed(error))
    }

    fn decoding(
        &self,
        instance: ProviderInstance,
        call: Call,
        upstream: Upstream,
        framing: &str,
    ) -> Result<Decoding, Refusal> {
        Ok(Decoding {
            instance,
            call,
            candidate: self.candidate.clone(),
            request: self.body()?,
            passed: self.passed.clone(),
            upstream,
            framer: decoding::framer(framing)?,
            steps: 0,
        })
    }

    async fn decoded(self, mut decoding: Decoding, head: ResponseHead) -> Result<Served, Refusal> {
        let begun = decoding.instance.begin_decoding(&decoding.call, &head, &[]).await;
        begun.map_err(|error| self.plugin_failed(error))?;
        if self.request.streaming {
            let headers = event_stream();
            let include_usage = self.request.include_usage;
            let timeouts = self.candidate.timeouts(self.gateway);
            let head = start::of_outputs(&mut decoding, self.gateway, &timeouts).await;
            let head = head.inspect_err(|refusal| self.note_trap(refusal))?;
            return Ok(Served::Decoded { headers, head, decoding: Box::new(decoding), include_usage });
        }
        let mut answer = None;
        let mut binary = Vec::new();
        while let Some(outputs) =
            decoding.next(self.gateway).await.inspect_err(|refusal| self.note_trap(refusal))?
        {
            for output in outputs {
                match output {
                    Output::Chunk(json) => answer = Some(json),
                    Output::Bytes(bytes) => binary.extend_from_slice(&bytes),
                    Output::Usage(entries) => self.meter.usage_entries(&entries),
                    Output::Failure(problem) => return Err(Refusal::from_problem(problem)),
                }
            }
        }
        let spent = decoding.instance.spent().time;
        let label = self.candidate.connection.plugin.label();
        self.meter.plugin(label, "decode", Some(self.span), spent, &*self.gateway.parts.random);
        if !binary.is_empty() {
            let mut headers = HeaderMap::with_capacity(16);
            headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
            return Ok(Served::Whole(headers, binary.into()));
        }
        let answer = Bytes::from(answer.ok_or_else(broken_answer)?);
        read_canonical(&answer, self.meter)?;
        Ok(Served::Whole(json_headers(), answer))
    }

    /// The plugin answers by itself.
    fn local(self, outputs: Vec<Output>) -> Result<Served, Refusal> {
        if let Some(Output::Failure(problem)) = outputs.first() {
            return Err(Refusal::from_problem(problem.clone()));
        }
        if self.request.streaming {
            return Ok(Served::Local { outputs, include_usage: self.request.include_usage });
        }
        let mut answer = None;
        for output in outputs {
            match output {
                Output::Chunk(bytes) | Output::Bytes(bytes) => answer = Some(bytes),
                Output::Usage(entries) => self.meter.usage_entries(&entries),
                Output::Failure(problem) => return Err(Refusal::from_problem(problem)),
            }
        }
        let answer = Bytes::from(answer.ok_or_else(broken_answer)?);
        read_canonical(&answer, self.meter)?;
        Ok(Served::Whole(json_headers(), answer))
    }

    async fn native(
        self,
        plan: &ResponsePlan,
        upstream: HeaderMap,
        mut body: Upstream,
    ) -> Result<Served, Refusal> {
        let mut headers = answer_headers(&upstream);
        let encoded = headers.contains_key(CONTENT_ENCODING);
        if *plan == ResponsePlan::Opaque || encoded {
            return Ok(Served::Relay { headers, head: Vec::new(), body });
        }
        if self.request.streaming {
            let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
            if kind.starts_with("application/json") {
                // A vendor that answers a stream's request with a document: an error, or no streams at all.
                let message = "The provider answered a request for a stream with a document.";
                return Err(Refusal::upstream(502, "upstream_error", message));
            }
            headers.extend(event_stream());
            let head = start::of_events(&mut body, &self.candidate.timeouts(self.gateway)).await?;
            let strip_usage = !self.request.include_usage;
            return Ok(Served::Canonical { headers, head, body, strip_usage });
        }
        let idle = self.candidate.timeouts(self.gateway).idle;
        let mut held: Vec<Bytes> = Vec::new();
        let mut size = 0;
        while let Some(piece) = next_piece(&mut body, idle).await? {
            size += piece.len();
            held.push(piece);
            if size > HELD {
                return Ok(Served::Relay { headers, head: held, body });
            }
        }
        let answer = match held.len() {
            1 => held.pop().unwrap_or_default(),
            _ => held.concat().into(),
        };
        read_canonical(&answer, self.meter)?;
        Ok(Served::Whole(headers, answer))
    }

    /// An answer outside 2xx: the plugin says what it means, in a fresh instance if the first one was given back.
    async fn failed(
        self,
        instance: Option<ProviderInstance>,
        call: Call,
        status: u16,
        headers: &HeaderMap,
        mut body: Upstream,
    ) -> Result<Served, Refusal> {
        let text = error_body(&mut body, self.candidate.timeouts(self.gateway).idle).await;
        let own = self
            .native
            .filter(|_| json::scan(&text, |_, _| {}).is_ok())
            .map(|_| Bytes::copy_from_slice(&text));
        let head = plugin_head(status, headers);
        let mut instance = match instance {
            Some(instance) => instance,
            None => self.open().await?,
        };
        let outcome = instance.map_error(&call, &head, text).await;
        match outcome.map_err(|error| self.plugin_failed(error))? {
            ErrorOutcome::Problem(problem) => {
                let refusal = Refusal::from_problem(problem);
                // The caller gets what the vendor said, as it said it.
                match own {
                    Some(body) => Err(Refusal { body: Some(body), native: true, status, ..refusal }),
                    None => Err(refusal),
                }
            }
            ErrorOutcome::Next(next) => {
                let framing = match &next.request.response {
                    ResponsePlan::Decoded(framing) => framing.clone(),
                    _ => "whole".to_owned(),
                };
                let mut decoding = self.decoding(instance, call, body, &framing)?;
                let head = decoding.follow(self.gateway, next).await?;
                self.decoded(decoding, head).await
            }
        }
    }

    fn plugin_failed(&self, error: PluginError) -> Refusal {
        self.meter.trap(&error.plugin);
        error.into()
    }

    fn note_trap(&self, refusal: &Refusal) {
        if refusal.fault == crate::Fault::Plugin {
            self.meter.trap(self.candidate.connection.plugin.label());
        }
    }
}

/// Sends a plugin's request; the answer's head has come.
pub(crate) async fn send(
    gateway: &Gateway,
    candidate: &Candidate,
    wanted: &UpstreamRequest,
    body: &Body,
    passed: &HeaderMap,
) -> Result<Response<Upstream>, Refusal> {
    let connection = &candidate.connection;
    if let ResponsePlan::Decoded(framing) = &wanted.response {
        // Refused before anything is sent.
        decoding::framer(framing)?;
    }
    let (content_type, body) = egress::planned(&wanted.body, body)?;
    let content_type = content_type.as_deref();
    let (tokens, clock) = (&gateway.tokens, &*gateway.parts.clock);
    let token = tokens.authorization(gateway, connection, &wanted.auth, None).await?;
    // A token can be taken back before its time: one that is refused is bought anew, once.
    let again = token.is_some().then(|| body.clone());
    let request = egress::build(connection, wanted, content_type, body, passed, token.as_ref(), clock)?;
    let answer = head(gateway, candidate, request).await?;
    let Some(body) = again.filter(|_| answer.status() == http::StatusCode::UNAUTHORIZED) else {
        return Ok(answer);
    };
    let token = tokens.authorization(gateway, connection, &wanted.auth, token.as_ref()).await?;
    let request = egress::build(connection, wanted, content_type, body, passed, token.as_ref(), clock)?;
    head(gateway, candidate, request).await
}

/// Sends a request; the answer's head has come in time.
async fn head(
    gateway: &Gateway,
    candidate: &Candidate,
    request: request::Request<Segments>,
) -> Result<Response<Upstream>, Refusal> {
    let first_byte = candidate.timeouts(gateway).first_byte;
    let connection = &candidate.connection;
    match tokio::time::timeout(first_byte, gateway.parts.egress.send(connection, request)).await {
        Ok(answer) => answer,
        Err(_) => {
            let message = format!(
                "Provider '{}' didn't answer in {} s.",
                connection.provider,
                first_byte.as_secs_f32()
            );
            Err(Refusal::upstream(504, "upstream_timeout", message))
        }
    }
}

/// The next bytes of an answer; none at its end.
pub(crate) async fn next_piece(body: &mut Upstream, idle: Duration) -> Result<Option<Bytes>, Refusal> {
    loop {
        match tokio::time::timeout(idle, body.frame()).await {
            Ok(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => return Ok(Some(data)),
                Err(_trailers) => {}
            },
            Ok(None) => return Ok(None),
            Ok(Some(Err(_))) => {
                return Err(Refusal::upstream(
                    502,
                    "upstream_disconnected",
                    "The provider's connection broke.",
                ));
            }
            Err(_) => {
                let message = format!("The provider sent nothing for {} s.", idle.as_secs_f32());
                return Err(Refusal::upstream(504, "upstream_timeout", message));
            }
        }
    }
}

/// What there is of an error answer, cut at [`ERROR_BODY`].
pub(crate) async fn error_body(body: &mut Upstream, idle: Duration) -> Vec<u8> {
    let mut text = Vec::new();
    // A body that breaks off still says something.
    while let Ok(Some(piece)) = next_piece(body, idle).await {
        text.extend_from_slice(&piece);
        if text.len() >= ERROR_BODY {
            break;
        }
    }
    text.truncate(ERROR_BODY);
    text
}

/// Reads what the account needs from a whole canonical answer, which proves on the way that it is one.
fn read_canonical(answer: &[u8], meter: &mut Meter) -> Result<(), Refusal> {
    let mut usage = None;
    let mut model = None;
    let mut finish = None;
    let at = |range: std::ops::Range<usize>| answer.get(range).unwrap_or_default();
    let document = json::scan(answer, |key, range| match key {
        b"usage" => usage = Usage::from_openai(at(range)),
        b"model" => model = serde_json::from_slice::<String>(at(range)).ok(),
        b"choices" => {
            let choices = at(range);
            finish = json::find(choices, "/0/finish_reason")
                .and_then(|range| serde_json::from_slice::<Option<String>>(choices.get(range)?).ok()?);
        }
        _ => {}
    });
    if document.is_err() {
        return Err(broken_answer());
    }
    if let Some(usage) = usage {
        meter.usage(&usage);
    }
    meter.note(|observation| {
        if let Some(model) = model {
            observation.model_served = Some(model.into());
        }
        observation.finish_reason = finish.map(Into::into);
    });
    Ok(())
}

fn broken_answer() -> Refusal {
    Refusal::upstream(502, "upstream_error", "The provider's answer can't be understood.")
}

/// The caller's headers that belong to the provider: all but those of the hop, of the host and of browsers.
pub(crate) fn passed_on(headers: &HeaderMap) -> HeaderMap {
    let ours = |name: &HeaderName| {
        let text = name.as_str();
        egress::is_reserved(name)
            || text.starts_with("x-brokle-")
            || text.starts_with("sec-")
            || text.starts_with("x-stainless-")
            || matches!(
                text,
                "api-key"
                    | "content-type"
                    | "content-encoding"
                    | "origin"
                    | "referer"
                    | "x-real-ip"
                    | "x-request-id"
                    | "traceparent"
                    | "tracestate"
                    | "baggage"
                    | "user-agent"
                    | "accept"
            )
    };
    let mut passed = HeaderMap::new();
    for (name, value) in headers.iter().filter(|(name, _)| !ours(name)) {
        passed.append(name, value.clone());
    }
    passed
}

/// The provider's headers that belong to the caller.
pub(crate) fn answer_headers(upstream: &HeaderMap) -> HeaderMap {
    let hops = |name: &HeaderName| {
        let text = name.as_str();
        egress::is_reserved(name)
            || text.starts_with("x-ratelimit-")
            || text.starts_with("x-brokle-")
            || text.starts_with("access-control-")
            || matches!(text, "date" | "server" | "alt-svc" | "strict-transport-security" | "x-request-id")
    };
    let mut headers = HeaderMap::with_capacity(upstream.len() + 16);
    for (name, value) in upstream.iter().filter(|(name, _)| !hops(name)) {
        headers.append(name, value.clone());
    }
    headers
}

/// A head as plugins see it: at most 64 headers, no cookies, visible text only.
pub(crate) fn plugin_head(status: u16, headers: &HeaderMap) -> ResponseHead {
    let visible = headers.iter().filter(|(name, _)| *name != http::header::SET_COOKIE);
    let visible = visible.filter_map(|(name, value)| {
        Some(Header { name: name.as_str().to_owned(), value: value.to_str().ok()?.to_owned() })
    });
    ResponseHead { status, headers: visible.take(64).collect() }
}

fn json_headers() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers
}

fn event_stream() -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(16);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers
}
