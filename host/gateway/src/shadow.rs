//! Shadow calls: a share of a route's calls is made once more, at another candidate, and its answer reaches nobody.
//!
//! **When**: once the original has ended, with whatever the vendor said, so that nobody waits for a shadow and none makes an
//! original slower. Not for an original that its client left, that no vendor was asked for, or that the cache answered; nor for
//! forms, other dialects, callers with preferences of who may serve, and requests over [`MAX_REQUEST`].
//!
//! **How**: the body as guardrails left it, with the route's parameters, streamed if the original was; one attempt, without
//! retries, fallbacks, hedges or a place in a connection's queue. Circuits and `max_in_flight` of connections hold for it, and
//! what it measures is a fact like any other. The key's restrictions hold; its limits and budgets don't count it.
//!
//! **Bounds**: [`Resilience::max_shadows`](crate::resilience::Resilience) at once and as many that wait for it, and the route's
//! `usd_per_day`, which is counted for each project beside budgets, in the database that servers share, by what answers cost that
//! have a known price: a restart forgets nothing. While the database is away each server counts for itself, and writes it later. What
//! is beyond is left out and counted (`brokle_shadows_total`).
//!
//! **Its trace** is one of its own, tagged `shadow`, of no key, with `brokle.shadow.of`; the original's has
//! `brokle.shadow.trace_id`. It says how the two compare ([`comparison`]). It keeps texts only where the original's does and no
//! guardrail rules on answers, since none rules on it.

mod comparison;

use std::sync::Arc;

use brokle_core::clock::Clock;
use brokle_core::ids::{ProjectId, RequestId};
use brokle_core::money::Usd;
use brokle_core::observation::{Kind, Observation, Status, TraceId};
use brokle_core::tenancy::{Capture, Tenant};
use brokle_identity::Principal;
use brokle_storage::sql::budgets::SpendKey;
use brokle_telemetry::metrics::{Metrics, ShadowLabels, ShadowOutcome};
use bytes::BytesMut;
use chrono::{NaiveDate, NaiveTime};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::HeaderMap;
use moka::sync::Cache;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::mpsc;

use self::comparison::Sample;
use crate::account::Meter;
use crate::answer::Told;
use crate::attempts;
use crate::budgets::{Budgets, Period};
use crate::connections::Connection;
use crate::gateway::{Gateway, Incoming};
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing::conditions::Said;
use crate::routing::plan::Plan;
use crate::stream::Cut;

/// The largest request that is made once more: 1 MiB.
const MAX_REQUEST: usize = 1 << 20;
/// What is kept of an answer until the two are compared: 1 MiB.
const MAX_ANSWER: usize = 1 << 20;
/// What the names of purses begin with among budgets: no budget's has a control character.
const NAME: &str = "shadow\u{1f}";
/// How many routes' spending is kept.
const PURSES: u64 = 10_000;
/// A share's denominator.
pub(crate) const WHOLE: u32 = 1_000_000;

/// What was spent on a day (UTC).
#[derive(Debug)]
struct Day {
    date: NaiveDate,
    /// By all servers, as far as that is known.
    known: Usd,
    /// By this one, and not written yet.
    unwritten: Usd,
}

type Spent = Arc<Mutex<Day>>;

/// The shadows that are under way or wait.
#[derive(Debug)]
pub(crate) struct Shadows {
    queue: mpsc::Sender<Order>,
    /// Until somebody runs them.
    orders: Mutex<Option<mpsc::Receiver<Order>>>,
    spent: Cache<(ProjectId, String), Spent>,
}

/// What a route may spend on shadows in a day (UTC).
#[derive(Debug, Clone)]
struct Purse {
    limit: Usd,
    tenant: Tenant,
    route: String,
    spent: Spent,
    clock: Arc<dyn Clock>,
}

/// A call that is to be made once more.
#[derive(Debug)]
pub(crate) struct Job {
    principal: Arc<Principal>,
    request: Request,
    /// Of one candidate.
    plan: Plan,
    passed: HeaderMap,
    request_id: RequestId,
    /// The shadow's.
    trace_id: TraceId,
    /// A guardrail rules on answers.
    guarded: bool,
    purse: Option<Purse>,
    queue: mpsc::Sender<Order>,
}

/// A job, and what it is compared with.
#[derive(Debug)]
struct Order {
    job: Job,
    original: Sample,
    /// The original's texts are kept.
    keeps_texts: bool,
}

/// A call's part in a comparison; it lives in the call's meter.
#[derive(Debug)]
pub(crate) struct Part {
    role: Role,
    /// The answer so far; none: it was too large.
    answer: Option<BytesMut>,
}

#[derive(Debug)]
enum Role {
    Original(Box<Job>),
    Shadow { original: Box<Sample>, purse: Option<Purse> },
}

impl Shadows {
    /// `most` wait at most.
    pub(crate) fn new(most: usize) -> Self {
        let (queue, orders) = mpsc::channel(most.max(1));
        Self { queue, orders: Mutex::new(Some(orders)), spent: Cache::new(PURSES) }
    }

    /// The call's part, if it is one that is to be made once more.
    pub(crate) fn part(
        gateway: &Gateway,
        principal: &Arc<Principal>,
        said: &Said<'_>,
        plan: &Plan,
        connections: &[Arc<Connection>],
        request_id: RequestId,
    ) -> Option<Part> {
        let request = said.request;
        let route = request.route.as_ref()?;
        let shadow = route.rules.as_ref()?.shadow.as_ref()?;
        let readable = request.dialect.is_none() && !request.is_form() && request.cached.is_none();
        // Who says who may be asked has said it of everybody.
        let readable = readable && request.preferences.is_none();
        let drawn = gateway.entropy() % u64::from(WHOLE) < u64::from(shadow.share);
        if !readable
            || !drawn
            || request.body.bytes().len() > MAX_REQUEST
            || gateway.parts.resilience.max_shadows == 0
        {
            return None;
        }
        let found = route.found(std::slice::from_ref(&shadow.candidate), connections, Some(said));
        let mut candidates = found.candidates;
        candidates.retain(|candidate| candidate.allowed(principal, Some(&route.name)));
        candidates.truncate(1);
        if candidates.is_empty() {
            return None;
        }
        let guarded = request.guards.as_ref().is_some_and(|chain| chain.rules_on_answers());
        let mut passed = attempts::passed_on(said.headers);
        // What is compared has to be read.
        passed.remove(http::header::ACCEPT_ENCODING);
        let shadows = &gateway.shadows;
        let purse = shadow.usd_per_day.map(|limit| {
            let day = Day { date: NaiveDate::MIN, known: Usd::ZERO, unwritten: Usd::ZERO };
            let (tenant, route) = (principal.tenant, route.name.clone());
            let spent = shadows.spent.get_with((tenant.project, route.clone()), || Arc::new(Mutex::new(day)));
            Purse { limit, tenant, route, spent, clock: Arc::clone(&gateway.parts.clock) }
        });
        let job = Job {
            principal: Arc::clone(principal),
            request: Request { guards: None, ..request.clone() },
            plan: Plan { candidates, alone: true, ..plan.clone() },
            passed,
            request_id,
            trace_id: TraceId::generate_at(
                gateway.parts.clock.now().timestamp_micros(),
                &*gateway.parts.random,
            ),
            guarded,
            purse,
            queue: shadows.queue.clone(),
        };
        Some(Part::new(Role::Original(Box::new(job))))
    }
}

impl Purse {
    fn is_empty(&self) -> bool {
        let day = self.today();
        day.known + day.unwritten >= self.limit
    }

    fn spend(&self, cost: Usd) {
        self.today().unwritten += cost;
    }

    fn today(&self) -> MutexGuard<'_, Day> {
        let today = self.clock.now().date_naive();
        let mut day = self.spent.lock();
        if day.date != today {
            *day = Day { date: today, known: Usd::ZERO, unwritten: Usd::ZERO };
        }
        day
    }

    /// Writes what was spent here, and learns what was spent elsewhere. Nothing is lost while the database is away.
    async fn settle(&self, budgets: &Budgets) {
        let (date, amount) = {
            let mut day = self.today();
            (day.date, std::mem::take(&mut day.unwritten))
        };
        let key = SpendKey {
            organization: self.tenant.organization,
            budget: format!("{NAME}{}", self.route),
            subject: self.tenant.project.to_string(),
            period: Period::Day.as_str(),
            start: date.and_time(NaiveTime::MIN).and_utc(),
        };
        let sum = budgets.add_to(key, amount).await;
        let mut day = self.today();
        match sum {
            Some(sum) if day.date == date => day.known = day.known.max(sum),
            None if day.date == date => day.unwritten += amount,
            _ => {}
        }
    }
}

impl Part {
    fn new(role: Role) -> Self {
        Self { role, answer: Some(BytesMut::new()) }
    }

    /// More of the answer.
    pub(crate) fn see(&mut self, bytes: &[u8]) {
        match &mut self.answer {
            Some(answer) if answer.len() + bytes.len() <= MAX_ANSWER => answer.extend_from_slice(bytes),
            _ => self.answer = None,
        }
    }

    /// The call's account is closed: an original is made once more, a shadow is compared.
    pub(crate) fn close(self, observation: &mut Observation, metrics: &Metrics) {
        let sample = Sample::of(observation, self.answer.map(BytesMut::freeze));
        match self.role {
            Role::Original(job) => {
                let asked = observation.steps.iter().any(|step| step.kind == Kind::Attempt);
                if asked && observation.status != Status::Aborted {
                    job.order(sample, observation, metrics);
                }
            }
            Role::Shadow { original, purse } => {
                if let (Some(purse), Some(cost)) = (purse, observation.cost) {
                    purse.spend(cost);
                }
                observation.attributes.extend(comparison::of(&original, &sample));
            }
        }
    }
}

impl Job {
    fn order(self, original: Sample, observation: &mut Observation, metrics: &Metrics) {
        let (trace_id, queue) = (self.trace_id, self.queue.clone());
        let outcome = if self.purse.as_ref().is_some_and(Purse::is_empty) {
            ShadowOutcome::budget
        } else {
            let keeps_texts = observation.input.is_some() && !self.guarded;
            match queue.try_send(Order { job: self, original, keeps_texts }) {
                Ok(()) => {
                    let shadow = trace_id.to_string();
                    observation.attributes.insert("brokle.shadow.trace_id".into(), shadow.into());
                    ShadowOutcome::made
                }
                Err(_) => ShadowOutcome::busy,
            }
        };
        metrics.shadows.get_or_create(&ShadowLabels { outcome }).inc();
    }
}

impl Gateway {
    /// Makes shadow calls, until the end; for the server to run once.
    pub async fn run_shadows(self: &Arc<Self>, end: impl Future<Output = ()>) {
        let Some(mut orders) = self.shadows.orders.lock().take() else { return };
        let most = self.parts.resilience.max_shadows;
        let mut running = FuturesUnordered::new();
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                Some(order) = orders.recv(), if running.len() < most => running.push(Box::pin(self.shadow(order))),
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
    }

    /// One shadow call, to its answer's last byte.
    async fn shadow(self: &Arc<Self>, Order { job, original, keeps_texts }: Order) {
        let purse = job.purse.clone();
        if let Some(purse) = &purse {
            // Another server may have spent it since.
            purse.settle(&self.parts.budgets).await;
            if purse.is_empty() {
                let labels = ShadowLabels { outcome: ShadowOutcome::budget };
                self.parts.books.metrics.shadows.get_or_create(&labels).inc();
                return;
            }
        }
        let operation = job.request.operation;
        let mut meter = Meter::new(self.parts.books.clone(), operation);
        let incoming = Incoming {
            operation,
            dialect: None,
            caller: Ok(Arc::clone(&job.principal)),
            // What the caller said of itself is told of the original.
            headers: &HeaderMap::new(),
            body: job.request.body.bytes().clone(),
            request_id: job.request_id,
            now: self.parts.clock.now(),
            random: &*self.parts.random,
        };
        meter.is_the_gateways();
        meter.open(&job.principal, &incoming);
        if !keeps_texts {
            meter.capture_at_most(Capture::Metadata);
            meter.withhold_input();
        }
        let streaming = job.request.streaming;
        meter.note(|observation| {
            observation.trace_id = job.trace_id;
            observation.key_id = None;
            observation.tags = vec!["shadow".into()];
            observation.streaming = streaming;
            observation.model_requested = Some(job.request.model.as_str().into());
            observation.name = format!("shadow {}", job.request.model).into();
        });
        meter.compare(Part::new(Role::Shadow { original: Box::new(original), purse: job.purse }));
        let (mut told, mut cut) = (Told::default(), Cut::of(self));
        let once =
            attempts::once(self, &job.request, &job.plan, &job.passed, &incoming, &mut meter, &mut told);
        let served = tokio::select! {
            biased;
            served = tokio::time::timeout(self.parts.timeouts.total, once) => served.unwrap_or_else(|_| {
                Err(Refusal::upstream(504, "upstream_timeout", "The shadow call took longer than is allowed."))
            }),
            refusal = cut.fired() => Err(refusal),
        };
        match served {
            Ok(served) => {
                let mut answer =
                    http_body_util::BodyStream::new(served.answer(self, &told, meter).into_body());
                while answer.next().await.is_some() {}
            }
            Err(refusal) => {
                meter.refuse(&refusal, None);
                drop(meter);
            }
        }
        if let Some(purse) = purse {
            purse.settle(&self.parts.budgets).await;
        }
    }
}
