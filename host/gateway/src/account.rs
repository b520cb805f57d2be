//! The account of a call: kept from the moment its caller is known, closed when it is dropped.
//!
//! The meter lives in whatever answers the call: the handler's future first, then the answer's body. So a client that
//! goes away, a plugin that fails or an upstream that dies can't keep a call from being accounted for: dropping the
//! future drops the meter, and an account that nobody closed says `aborted`, 499.

mod caching;
mod closing;
mod outside;
mod steps;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_core::catalogue::Catalogue;
use brokle_core::money::Usd;
use brokle_core::observation::{Observation, SpanId, Status, Step, TraceId};
use brokle_core::tenancy::Capture;
use brokle_core::usage::Usage;
use brokle_identity::Principal;
use brokle_runtime::UsageEntry;
use brokle_runtime::capabilities::telemetry::TraceParent;
use brokle_telemetry::Recorder;
use brokle_telemetry::metrics::Metrics;
use brokle_telemetry::recording::Recording as Rules;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;

use crate::answer::Told;
use crate::cache::Recording;
use crate::connections::Connection;
use crate::gateway::{Gateway, Incoming};
use crate::guardrails::Masking;
use crate::hold::Hold;
use crate::operation::Operation;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing::stats::Ticket;
use crate::shadow::Part;

pub(crate) use self::outside::Outside;

/// What is captured of one body at most: 1 MiB.
const CAPTURED: usize = 1 << 20;

/// What accounts are written to.
#[derive(Debug, Clone)]
pub struct Books {
    /// Observations.
    pub recorder: Arc<Recorder>,
    /// What guardrails leave of what is stored.
    pub masking: Arc<Masking>,
    /// What of them is recorded.
    pub recording: Arc<Rules>,
    /// Counters and histograms.
    pub metrics: Arc<Metrics>,
    /// Prices.
    pub catalogue: Arc<Catalogue>,
}

/// One call's account.
#[derive(Debug)]
pub(crate) struct Meter {
    books: Books,
    operation: Operation,
    started: Instant,
    observation: Option<Box<Observation>>,
    capture: Capture,
    /// Where the price is: provider and model in the catalogue's words.
    priced: Option<(String, String)>,
    output: BytesMut,
    /// Output is told by whoever changes it on its way.
    output_shown: bool,
    /// The attempt that is under way.
    attempt: Option<Step>,
    /// The candidate's, from its attempt's begin to its answer's end.
    ticket: Option<Ticket>,
    /// What was reserved of limits, where there are any.
    hold: Option<Box<Hold>>,
    /// The answer on its way into the cache.
    recording: Option<Box<Recording>>,
    /// The answer comes from the cache: it costs nothing, and no vendor counted.
    is_cached: bool,
    /// Pieces and bytes of the answer so far.
    answered: (u64, u64),
    settled: bool,
    /// What somebody between the call's stream and its caller has to say.
    outside: Option<Arc<Outside>>,
    /// It is beside the call's own, and isn't written unless it takes its place.
    is_beside: bool,
    /// Nobody made it but the gateway.
    is_inner: bool,
    /// Its part in a comparison of two calls.
    part: Option<Box<Part>>,
    /// What it cost, where that isn't the model's price for a call.
    billed: Option<Option<Usd>>,
}

impl Meter {
    pub(crate) fn new(books: Books, operation: Operation) -> Self {
        Self {
            books,
            operation,
            started: Instant::now(),
            observation: None,
            capture: Capture::Off,
            priced: None,
            output: BytesMut::new(),
            output_shown: false,
            attempt: None,
            ticket: None,
            hold: None,
            recording: None,
            is_cached: false,
            answered: (0, 0),
            settled: false,
            outside: None,
            is_beside: false,
            is_inner: false,
            part: None,
            billed: None,
        }
    }

    /// An account for an attempt beside the one that is under way. It knows what the call knows by now, holds nothing, and
    /// is forgotten unless it [takes the call's place](Self::give_way).
    pub(crate) fn beside(&self) -> Self {
        let mut beside = Self::new(self.books.clone(), self.operation);
        beside.observation = self.observation.clone();
        beside.started = self.started;
        beside.capture = self.capture;
        beside.output_shown = self.output_shown;
        beside.is_beside = true;
        beside
    }

    /// How many steps the call has had.
    pub(crate) fn steps(&self) -> usize {
        self.observation.as_ref().map_or(0, |observation| observation.steps.len())
    }

    /// What the call reserved and is to keep goes on in the account of the attempt beside, which gave the answer. They had
    /// `shared` steps in common.
    pub(crate) fn give_way(&mut self, mut winner: Self, shared: usize) {
        winner.hold = self.hold.take();
        winner.recording = self.recording.take();
        winner.outside = self.outside.take();
        winner.part = self.part.take();
        winner.is_beside = false;
        let loser = std::mem::replace(self, winner);
        self.absorb(loser, shared);
    }

    /// The other attempt's steps; it is cancelled if it is under way yet.
    pub(crate) fn absorb(&mut self, mut loser: Self, shared: usize) {
        loser.is_beside = true;
        if let Some(mut step) = loser.attempt.take() {
            step.status = Status::Aborted;
            step.error_class = Some(Cow::Borrowed("hedge_lost"));
            loser.end_step(step, None);
        }
        let steps = loser.observation.as_mut().map(|observation| std::mem::take(&mut observation.steps));
        self.note(|observation| observation.steps.extend(steps.into_iter().flatten().skip(shared)));
    }

    /// Whether limits or budgets have something reserved.
    pub(crate) fn is_held(&self) -> bool {
        self.hold.is_some()
    }

    /// The caller is known: from here on the call leaves a trace.
    pub(crate) fn open(&mut self, principal: &Principal, incoming: &Incoming<'_>) {
        let parent = traceparent(incoming.headers);
        let random = incoming.random;
        let kind = self.operation.kind();
        let start = incoming.now.timestamp_micros();
        let trace = parent.map_or_else(|| TraceId::generate_at(start, random), |(trace, _)| trace);
        let mut observation =
            Observation::new(principal.tenant, trace, SpanId::generate(random), kind, start);
        observation.parent_span_id = parent.map(|(_, span)| span);
        observation.key_id = Some(principal.key_id);
        observation.request_id = Some(incoming.request_id);
        observation.operation = Cow::Borrowed(self.operation.gen_ai_name());
        observation.session = header(incoming.headers, "x-brokle-session");
        observation.user = header(incoming.headers, "x-brokle-user");
        observation.tags = header(incoming.headers, "x-brokle-tags")
            .map(|tags| {
                tags.split(',')
                    .map(str::trim)
                    .filter(|tag| !tag.is_empty())
                    .map(Into::into)
                    .take(50)
                    .collect()
            })
            .unwrap_or_default();
        self.capture = self.books.recording.capture(principal.tenant, principal.capture);
        if self.capture == Capture::Full {
            observation.input = Some(incoming.body.slice(..incoming.body.len().min(CAPTURED)));
        }
        self.observation = Some(Box::new(observation));
    }

    /// Lets a component that writes the answer have its say until the account is closed.
    pub(crate) fn outside(&mut self, label: &Arc<str>) -> Arc<Outside> {
        let outside = Arc::new(Outside::new(label));
        self.outside = Some(Arc::clone(&outside));
        outside
    }

    /// The account of a call that this one makes for itself: in its trace, and none of its caller's requests.
    pub(crate) fn inner(&self, principal: &Principal, incoming: &Incoming<'_>) -> Self {
        let mut inner = Self::new(self.books.clone(), incoming.operation);
        inner.is_inner = true;
        inner.open(principal, incoming);
        if let Some(outer) = &self.observation {
            inner.note(|observation| {
                observation.trace_id = outer.trace_id;
                observation.parent_span_id = Some(outer.span_id);
            });
        }
        inner
    }

    /// Whose call it is, once that is known.
    pub(crate) fn tenant(&self) -> Option<brokle_core::tenancy::Tenant> {
        self.observation.as_ref().map(|observation| observation.tenant)
    }

    pub(crate) fn trace_id(&self) -> Option<TraceId> {
        self.observation.as_ref().map(|observation| observation.trace_id)
    }

    /// Where plugins' own spans below a step belong; nowhere if the project wants nothing of the like kept.
    pub(crate) fn trace_parent(&self, span: SpanId) -> Option<TraceParent> {
        let observation = self.observation.as_ref().filter(|_| self.capture != Capture::Off)?;
        Some(TraceParent { trace: observation.trace_id, span, key: observation.key_id })
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Changes the observation, when there is one.
    pub(crate) fn note(&mut self, change: impl FnOnce(&mut Observation)) {
        if let Some(observation) = &mut self.observation {
            change(observation);
        }
    }

    /// This connection serves the call with this model.
    pub(crate) fn served_by(&mut self, connection: &Connection, model: &str) {
        if self.priced.is_none() && self.observation.is_some() {
            self.books.metrics.upstream_connections.inc();
        }
        self.priced = Some((connection.catalogue.clone(), model.to_owned()));
        self.note(|observation| {
            observation.provider = Some(connection.provider.clone());
            observation.connection = Some(connection.id.clone());
            // A relayed call's isn't known before its answer.
            observation.model_served = Some(model).filter(|model| !model.is_empty()).map(Into::into);
        });
    }

    /// Whether the first token hasn't come.
    pub(crate) fn awaits_token(&self) -> bool {
        self.observation.as_ref().is_none_or(|observation| observation.first_token_us.is_none())
    }

    /// The first token is on its way.
    pub(crate) fn first_token(&mut self) {
        let elapsed = micros(self.started.elapsed());
        let mut streaming = false;
        self.note(|observation| {
            observation.first_token_us.get_or_insert(elapsed);
            streaming = observation.streaming;
        });
        if let Some(ticket) = self.ticket.as_mut().filter(|_| streaming) {
            ticket.first_token();
        }
    }

    /// Counts, as totals so far.
    pub(crate) fn usage(&mut self, usage: &Usage) {
        if self.is_cached {
            return;
        }
        self.note(|observation| observation.usage.get_or_insert_default().merge_max(usage));
    }

    /// Counts from a plugin.
    pub(crate) fn usage_entries(&mut self, entries: &[UsageEntry]) {
        let mut usage = Usage::default();
        for entry in entries {
            if !usage.set(&entry.kind, entry.amount) {
                tracing::debug!(kind = entry.kind, "a plugin counts something unknown");
            }
        }
        self.usage(&usage);
    }

    /// The request's text isn't stored, until [`input`](Self::input) says which one may be.
    pub(crate) fn withhold_input(&mut self) {
        self.note(|observation| observation.input = None);
    }

    /// Less is kept of this call than its project says.
    pub(crate) fn capture_at_most(&mut self, most: Capture) {
        match (most, self.capture) {
            (Capture::Off, _) | (Capture::Metadata, Capture::Full) => self.capture = most,
            _ => {}
        }
    }

    /// Keeps this as input, as far as the project captures it.
    pub(crate) fn input(&mut self, body: &Bytes) {
        if self.capture == Capture::Full {
            self.note(|observation| observation.input = Some(body.slice(..body.len().min(CAPTURED))));
        }
    }

    /// From here on output is what [`shown`](Self::shown) is told, not what comes from the provider.
    pub(crate) fn shown_elsewhere(&mut self) {
        self.output_shown = true;
    }

    /// Keeps output, as far as the project captures it.
    pub(crate) fn output(&mut self, bytes: &[u8]) {
        self.answered = (self.answered.0 + 1, self.answered.1 + bytes.len() as u64);
        if let Some(part) = &mut self.part {
            part.see(bytes);
        }
        if !self.output_shown {
            self.shown(bytes);
        }
    }

    /// Keeps what reaches the caller.
    pub(crate) fn shown(&mut self, bytes: &[u8]) {
        if self.capture == Capture::Full {
            let room = CAPTURED - self.output.len().min(CAPTURED);
            self.output.extend_from_slice(bytes.get(..bytes.len().min(room)).unwrap_or_default());
        }
    }

    /// Nobody made the call but the gateway.
    pub(crate) fn is_the_gateways(&mut self) {
        self.is_inner = true;
    }

    /// The call has a part in a comparison.
    pub(crate) fn compare(&mut self, part: Part) {
        self.part = Some(Box::new(part));
    }

    /// Whether the answer has to be one that can be read.
    pub(crate) fn is_read(&self) -> bool {
        self.recording.is_some() || self.part.is_some()
    }

    /// Begins to hold what the call reserves.
    pub(crate) fn hold(
        &mut self,
        gateway: &Gateway,
        principal: &Arc<Principal>,
        user: &str,
        request: &Request,
    ) -> &mut Hold {
        self.hold.insert(Box::new(Hold::new(gateway, principal, user, request)))
    }

    /// Reserves for this candidate what rules about models allow; what was reserved for the one before is given back.
    pub(crate) async fn reserve(
        &mut self,
        gateway: &Gateway,
        connection: &Connection,
        model: &str,
        told: &mut Told,
    ) -> Result<(), Refusal> {
        match &mut self.hold {
            Some(hold) => hold.reserve(gateway, connection, model, told).await,
            None => Ok(()),
        }
    }

    /// Charges what a call that goes on has used by now.
    ///
    /// # Errors
    /// A budget has nothing left for more of it.
    pub(crate) fn charge_so_far(
        &mut self,
        gateway: &Gateway,
        connection: &Connection,
        model: &str,
        told: &mut Told,
    ) -> Result<(), Refusal> {
        let cost = self.cost();
        let usage = self.observation.as_ref().and_then(|observation| observation.usage);
        match &mut self.hold {
            Some(hold) => hold.charge(gateway, connection, model, usage.as_ref(), cost, told),
            None => Ok(()),
        }
    }

    /// What it cost is known from elsewhere, and it took so long.
    pub(crate) fn billed(&mut self, cost: Option<Usd>, took: Duration) {
        self.billed = Some(cost);
        self.started = Instant::now().checked_sub(took).unwrap_or(self.started);
    }

    /// The cost so far, when the price is known.
    pub(crate) fn cost(&self) -> Option<Usd> {
        if let Some(cost) = self.billed {
            return cost;
        }
        if self.is_cached {
            return Some(Usd::ZERO);
        }
        let usage = self.observation.as_ref()?.usage.as_ref()?;
        let (provider, model) = self.priced.as_ref()?;
        let row = self.books.catalogue.find(provider, model).or_else(|| {
            let served = self.observation.as_ref()?.model_served.as_deref()?;
            self.books.catalogue.find(provider, served)
        })?;
        if usage.is_empty() { None } else { row.cost(usage) }
    }

    /// The call ends well.
    pub(crate) fn complete(&mut self) {
        self.settled = true;
        if let Some(recording) = self.recorded() {
            let cost = self.cost();
            if let Some(observation) = &self.observation {
                recording.store_stream(observation, cost);
            }
        }
        if let Some(ticket) = &mut self.ticket {
            ticket.succeeded();
        }
        self.note(|observation| {
            observation.status = Status::Ok;
            observation.http_status = Some(200);
        });
    }

    /// The call ends badly. `answered` is the status that the client got, when it had one before.
    pub(crate) fn refuse(&mut self, refusal: &Refusal, answered: Option<u16>) {
        self.settled = true;
        if let Some(ticket) = &mut self.ticket {
            ticket.failed(refusal);
        }
        self.note(|observation| {
            observation.status = refusal.outcome;
            observation.http_status = Some(answered.unwrap_or(refusal.status));
            observation.error_class = Some(refusal.code.clone());
            observation.error_message = Some(refusal.message.as_str().into());
        });
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// A short header's text, for the account.
fn header(headers: &HeaderMap, name: &str) -> Option<Box<str>> {
    let text = headers.get(name)?.to_str().ok()?.trim();
    (!text.is_empty()).then(|| text.chars().take(256).collect::<String>().into())
}

/// W3C Trace Context, version 00: the caller's trace and span. Anything else starts a new trace.
fn traceparent(headers: &HeaderMap) -> Option<(TraceId, SpanId)> {
    let mut parts = headers.get("traceparent")?.to_str().ok()?.trim().splitn(4, '-');
    let version = parts.next()?;
    let (trace, span) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    (version.len() == 2 && version != "ff").then_some((trace, span))
}
