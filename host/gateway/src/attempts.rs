//! The attempts: candidates are asked in order until one answers.
//!
//! The next candidate is tried after a failed connection, a timeout, 429 and 5xx, and after a plugin's failure, as
//! long as nothing reached the caller; so it is after a stream that failed before its first token ([`crate::start`]). When all have
//! failed they may be asked again ([`resilience`]), and then a route's fallbacks for that kind of failure. A candidate whose
//! circuit is open, or that is full, is passed over. An unstreamed answer up to [`HELD`] is held until it is complete, so one that
//! breaks off in the middle is tried elsewhere too. Everything else is the answer, errors included.

mod pieces;
mod served;
mod turn;
mod wire;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brokle_core::observation::{Kind, SpanId};
use brokle_runtime::exchange::Call;
use brokle_telemetry::metrics::ProviderLabels;
use http::header::{HeaderMap, HeaderName};

use crate::account::Meter;
use crate::answer::Told;
use crate::connections::Connection;
use crate::gate;
use crate::gateway::{Gateway, Incoming};
use crate::pipeline::Stage;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::resilience;
use crate::routing::Candidate;
use crate::routing::plan::Plan;
use crate::routing::routes::Hedge;

pub(crate) use self::pieces::Pieces;
pub(crate) use self::served::Served;
use self::turn::Attempt;
pub(crate) use self::wire::{
    answer_headers, error_body, next_piece, passed_on, plugin_head, read_canonical, said, send,
};

/// The largest unstreamed answer that is held until it is complete: 1 MiB. A larger one is relayed as it comes.
pub(crate) const HELD: usize = 1 << 20;
/// The largest unstreamed answer in the caller's dialect that is read for the account: 16 MiB.
const HELD_NATIVE: usize = 16 << 20;
/// Says that a count of tokens is an estimate of the gateway's.
const ESTIMATED: HeaderName = HeaderName::from_static("x-brokle-estimated");
/// What is read of an error answer.
const ERROR_BODY: usize = 64 << 10;

/// The stage.
pub(crate) struct Attempts;

impl Attempts {
    pub(crate) async fn run(
        gateway: &Gateway,
        call: Stage<'_, (Box<Request>, Plan)>,
    ) -> Result<Served, Refusal> {
        let (request, plan) = call.known;
        if let Some(entry) = &request.cached {
            return Ok(entry.serve(&request));
        }
        let mut passed = passed_on(call.incoming.headers);
        if call.meter.is_read() {
            // What is kept or compared has to be read.
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

/// The plan's first candidate, once.
pub(crate) async fn once(
    gateway: &Gateway,
    request: &Request,
    plan: &Plan,
    passed: &HeaderMap,
    incoming: &Incoming<'_>,
    meter: &mut Meter,
    told: &mut Told,
) -> Result<Served, Refusal> {
    let candidate = plan.candidates.first();
    let candidate =
        candidate.ok_or_else(|| Refusal::client(503, "no_candidate", "There is no candidate."))?;
    Round { gateway, request, plan, passed, incoming, meter, told }.one(candidate, 0, false).await
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
                    served.keep(self.meter);
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
        let span = begin(gateway, candidate, self.meter, self.told, may_wait).await?;
        if round > 0 {
            let labels = ProviderLabels { provider: connection.provider.to_string() };
            gateway.parts.books.metrics.retries.get_or_create(&labels).inc();
        }
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

/// Lets an attempt begin: its circuit, its connection's places, and limits and budgets let it through. It is on the trace
/// from here.
pub(crate) async fn begin(
    gateway: &Gateway,
    candidate: &Candidate,
    meter: &mut Meter,
    told: &mut Told,
    may_wait: bool,
) -> Result<SpanId, Refusal> {
    let connection = &candidate.connection;
    let ticket = gateway.facts.begin(connection, &candidate.model);
    let mut ticket = ticket.map_err(|left| circuit_open(connection, left))?;
    if let Some(permit) = gate::enter(connection, may_wait).await? {
        ticket.hold(permit);
    }
    meter.reserve(gateway, connection, &candidate.model, told).await.map_err(|refusal| {
        // Somebody else may be within what rules allow.
        Refusal { retryable: true, ..refusal }
    })?;
    told.attempts += 1;
    told.provider = Some(connection.provider.clone());
    told.model = Some(candidate.model.clone()).filter(|model| !model.is_empty());
    told.timeouts = candidate.timeouts;
    meter.served_by(connection, &candidate.model);
    let name = format!("{}/{}", connection.provider, candidate.model);
    let mut step = meter.step(Kind::Attempt, name.into(), &*gateway.parts.random);
    step.provider = Some(connection.provider.clone());
    step.connection = Some(connection.id.clone());
    step.model = Some(candidate.model.as_str().into());
    let span = step.span_id;
    meter.begin_attempt(step, ticket);
    Ok(span)
}

fn circuit_open(connection: &Connection, left: Duration) -> Refusal {
    let provider = connection.provider_name();
    let message = format!("Provider '{provider}' failed again and again, and isn't asked for a while.");
    let refusal = Refusal::upstream(503, "circuit_open", message);
    Refusal { retry_after: Some(left.max(Duration::from_secs(1))), ..refusal }
}

pub(crate) fn plugin_call(request: &Request, candidate: &Candidate, incoming: &Incoming<'_>) -> Call {
    Call {
        operation: request.operation.name().into(),
        model: candidate.model.clone(),
        streaming: request.streaming,
        format: "canonical".into(),
        content_type: if request.is_form() { "multipart/form-data" } else { "application/json" }.into(),
        request_id: incoming.request_id.to_string(),
        created: u64::try_from(incoming.now.timestamp()).unwrap_or(0),
        options: candidate.connection.options.clone(),
        attributes: candidate.connection.attributes.clone(),
    }
}
