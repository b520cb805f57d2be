//! What policies decide by: live measurements of each (connection, model), fed by attempts.
//!
//! | fact | how | when it isn't known |
//! |---|---|---|
//! | latency to an answer's head | peak EWMA: a slower one counts at once, a faster one by and by (τ 10 s); unused, it fades | after 10 min without one |
//! | time to a stream's first token | the same | the same |
//! | error rate | failures and calls, both fading (τ 30 s) | when less than a twentieth of a call is left |
//! | in flight | from the attempt's begin to its answer's last byte | never |
//! | the vendor's remaining requests and tokens | `x-ratelimit-remaining-*`, good until `x-ratelimit-reset-*` (1 min without one, 1 h at most) | after that |
//! | available | not cooling down, and its circuit lets calls through | |
//!
//! **Fading** lets a slow candidate back in: unused, its latency halves every 7 s, until a policy tries it and learns anew.
//!
//! **Cooling down**: after 429, for as long as `Retry-After` says (10 min at most), else 1 s, doubled with each further
//! failure up to 1 min. After a 5xx, a timeout or a lost connection: for as long as `Retry-After` says; without one from the
//! third in a row on, 1 s and doubling. A success ends the row, not the cooldown. It keeps nobody from sending there:
//! a policy puts it last.
//!
//! **The circuit** ([`breaker`]) does keep calls away: a candidate whose circuit is open is passed over.
//!
//! **What is no failure**: the caller's own mistakes (400, 404, …), a caller that goes away, this server's own faults. They
//! tell nothing of latency either. A refused credential (401, 403) is a failure without a cooldown: waiting won't mend it.
//!
//! The facts are this server's own: they are lost with it, and servers don't share them. Connections that all tenants
//! share have one set of facts, as they have one credential. At most 10,000 pairs are kept, the ones in use first, so that
//! callers who make up models' names can't fill the memory. One short lock for each pair, held for some arithmetic.

pub(crate) mod breaker;
mod ewma;
pub(crate) mod headers;
mod latest;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brokle_core::clock::Clock;
use brokle_runtime::ProviderPlugin;
use brokle_runtime::facts;
use brokle_telemetry::metrics::{Counter, Family, ProviderLabels};
use http::HeaderMap;
use moka::sync::Cache;
use parking_lot::Mutex;

use self::breaker::{Breaker, Circuit, Pass, Settings};
use self::ewma::{ErrorRate, PeakEwma};
use self::latest::Latest;
use crate::checks::Checks;
use crate::connections::Connection;
use crate::gate::Permit;
use crate::refusal::{Fault, Refusal};

/// How many (connection, model) pairs are kept.
const PAIRS: u64 = 10_000;
/// How many counters of turns are kept.
const TURNS: u64 = 10_000;
/// The longest that a vendor's `Retry-After` is believed.
const LONGEST_ASKED: Duration = Duration::from_secs(600);
/// The first cooldown that nobody asked for, and the longest.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);
/// Failures in a row, without a word of when to come back, that a candidate is let have.
const PATIENCE: u32 = 3;
/// What is kept of an error's code, in characters.
const LONGEST_CODE: usize = 64;

/// All measurements.
#[derive(Debug)]
pub(crate) struct LiveFacts {
    clock: Arc<dyn Clock>,
    breaker: Settings,
    opened: Family<ProviderLabels, Counter>,
    pairs: Cache<String, Arc<Pair>>,
    turns: Cache<String, Arc<AtomicU64>>,
    checks: Checks,
}

/// One (connection, model).
#[derive(Debug, Default)]
struct Pair {
    in_flight: AtomicU32,
    measured: Mutex<Measured>,
}

#[derive(Debug, Default)]
struct Measured {
    latency: PeakEwma,
    first_token: PeakEwma,
    errors: ErrorRate,
    /// With the time until which it is good, microseconds since the Unix epoch.
    remaining_requests: Option<(u64, i64)>,
    remaining_tokens: Option<(u64, i64)>,
    /// Microseconds since the Unix epoch.
    cooling_until: i64,
    /// Failures in a row that may lead to a cooldown.
    in_a_row: u32,
    breaker: Breaker,
    latest: Latest,
    /// The code of the last failure that was the candidate's.
    last_error: Option<Cow<'static, str>>,
}

/// What is known of a candidate now.
#[derive(Debug, Clone)]
pub(crate) struct Reading {
    pub(crate) stats: facts::Stats,
    /// How long it cools down yet; none: it is available.
    pub(crate) cooling: Option<Duration>,
    pub(crate) circuit: Circuit,
    /// The code of its last failure.
    pub(crate) last_error: Option<Cow<'static, str>>,
}

/// What came of an attempt, as far as the candidate is to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It did what it was asked.
    Good,
    /// It failed, and may for a while.
    Failed { limited: bool, retry_after: Option<Duration> },
    /// It failed, and waiting won't help.
    Refused,
    /// It isn't to blame.
    Neutral,
}

impl LiveFacts {
    /// `opened` counts circuits that open.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        breaker: Settings,
        opened: Family<ProviderLabels, Counter>,
    ) -> Self {
        let idle = Duration::from_secs(3600);
        Self {
            checks: Checks::new(Arc::clone(&clock)),
            clock,
            breaker,
            opened,
            pairs: Cache::builder().max_capacity(PAIRS).time_to_idle(idle).build(),
            turns: Cache::builder().max_capacity(TURNS).time_to_idle(idle).build(),
        }
    }

    /// What is known of a candidate.
    pub(crate) fn read(&self, connection: &Connection, model: &str) -> Reading {
        let now = self.now();
        let mut reading = match self.pairs.get(&key(&connection.id, model)) {
            Some(pair) => pair.read(now, &self.breaker),
            None => Pair::default().read(now, &self.breaker),
        };
        if let Some(left) = self.checks.down(connection) {
            reading.circuit = Circuit::Open(left);
        }
        reading
    }

    /// What health checks found.
    pub(crate) fn checks(&self) -> &Checks {
        &self.checks
    }

    /// How long so many percent of a candidate's last answers took at most, to their heads; none while there were few.
    pub(crate) fn percentile(&self, connection: &Connection, model: &str, share: u8) -> Option<Duration> {
        self.pairs.get(&key(&connection.id, model))?.measured.lock().latest.percentile(share)
    }

    /// The models that a connection was asked for lately, with what is known of each, by name.
    pub(crate) fn of(&self, connection: &Connection) -> Vec<(String, Reading)> {
        let (now, prefix) = (self.now(), key(&connection.id, ""));
        let asked = self.pairs.iter().filter_map(|(key, pair)| {
            let model = key.strip_prefix(&prefix)?.to_owned();
            Some((model, pair.read(now, &self.breaker)))
        });
        let mut asked: Vec<_> = asked.collect();
        asked.sort_by(|(a, _), (b, _)| a.cmp(b));
        asked
    }

    /// An attempt begins. It is in flight until the ticket is dropped.
    ///
    /// # Errors
    /// The circuit is open: how long to wait.
    pub(crate) fn begin(&self, connection: &Connection, model: &str) -> Result<Ticket, Duration> {
        if let Some(left) = self.checks.down(connection) {
            return Err(left);
        }
        let mut ticket = self.enter(key(&connection.id, model), &connection.provider)?;
        ticket.plugin = Some(Arc::clone(&connection.plugin));
        Ok(ticket)
    }

    fn enter(&self, key: String, provider: &Arc<str>) -> Result<Ticket, Duration> {
        let pair = self.pairs.get_with(key, Arc::default);
        let pass = match self.breaker.enabled {
            true => {
                let now = self.now();
                Some(pair.measured.lock().breaker.enter(now, &self.breaker)?)
            }
            false => None,
        };
        pair.in_flight.fetch_add(1, Ordering::Relaxed);
        Ok(Ticket {
            pair,
            clock: Arc::clone(&self.clock),
            started: Instant::now(),
            answered: false,
            first_token: false,
            retry_after: None,
            settled: false,
            pass: pass.map(|pass| (pass, self.breaker)),
            provider: Arc::clone(provider),
            plugin: None,
            opened: self.opened.clone(),
            permit: None,
        })
    }

    /// Which turn it is for calls of this name by this tenant: 0, 1, 2, …. `peek` takes none.
    pub(crate) fn turn(&self, tenant: &str, name: &str, peek: bool) -> u64 {
        let key = key(tenant, name);
        if peek {
            return self.turns.get(&key).map_or(0, |turn| turn.load(Ordering::Relaxed));
        }
        self.turns.get_with(key, Arc::default).fetch_add(1, Ordering::Relaxed)
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}

fn key(first: &str, second: &str) -> String {
    let mut key = String::with_capacity(first.len() + 1 + second.len());
    key.push_str(first);
    key.push('\0');
    key.push_str(second);
    key
}

impl Pair {
    fn read(&self, now: i64, settings: &Settings) -> Reading {
        let measured = self.measured.lock();
        let good = |left: Option<(u64, i64)>| left.filter(|(_, until)| *until > now).map(|(left, _)| left);
        let cooling = u64::try_from(measured.cooling_until - now).ok().filter(|left| *left > 0);
        Reading {
            stats: facts::Stats {
                latency_ms: measured.latency.read(now),
                first_token_ms: measured.first_token.read(now),
                error_rate: measured.errors.read(now),
                in_flight: self.in_flight.load(Ordering::Relaxed),
                remaining_requests: good(measured.remaining_requests),
                remaining_tokens: good(measured.remaining_tokens),
            },
            cooling: cooling.map(Duration::from_micros),
            circuit: measured.breaker.circuit(now, settings),
            last_error: measured.last_error.clone(),
        }
    }

    /// True when that opened the circuit.
    fn settle(&self, now: i64, outcome: Outcome, pass: Option<(Pass, Settings)>) -> bool {
        let mut measured = self.measured.lock();
        let failed = match outcome {
            Outcome::Good => Some(false),
            Outcome::Failed { limited: false, .. } => Some(true),
            // It answered, if only to be left alone.
            Outcome::Failed { limited: true, .. } | Outcome::Refused | Outcome::Neutral => None,
        };
        let opened =
            pass.is_some_and(|(pass, settings)| measured.breaker.leave(now, pass, failed, &settings));
        match outcome {
            Outcome::Neutral => {}
            Outcome::Good => {
                measured.errors.record(now, false);
                measured.in_a_row = 0;
            }
            Outcome::Refused => measured.errors.record(now, true),
            Outcome::Failed { limited, retry_after } => {
                measured.errors.record(now, true);
                measured.in_a_row = measured.in_a_row.saturating_add(1);
                let beyond = match limited {
                    true => Some(measured.in_a_row - 1),
                    false => measured.in_a_row.checked_sub(PATIENCE),
                };
                let ours = beyond.map(|times| FIRST.saturating_mul(1 << times.min(6)).min(LONGEST));
                if let Some(wait) = retry_after.map(|asked| asked.min(LONGEST_ASKED)).or(ours) {
                    measured.cooling_until = measured.cooling_until.max(later(now, wait));
                }
            }
        }
        opened
    }
}

fn later(now: i64, by: Duration) -> i64 {
    now.saturating_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX))
}

/// An attempt under way: what it learns goes to its candidate's facts. Dropped without a verdict (the caller went away),
/// it leaves none.
#[derive(Debug)]
pub(crate) struct Ticket {
    pair: Arc<Pair>,
    clock: Arc<dyn Clock>,
    started: Instant,
    answered: bool,
    first_token: bool,
    retry_after: Option<Duration>,
    settled: bool,
    /// Through the circuit; taken when it is settled.
    pass: Option<(Pass, Settings)>,
    provider: Arc<str>,
    /// Whose manifest says which headers tell what is left.
    plugin: Option<Arc<ProviderPlugin>>,
    opened: Family<ProviderLabels, Counter>,
    /// The connection's place, which the answer's body holds until its end.
    permit: Option<Permit>,
}

impl Ticket {
    /// There was a place for it; it is held until the answer's end. What it waited isn't the candidate's latency.
    pub(crate) fn hold(&mut self, permit: Permit) {
        self.permit = Some(permit);
        self.started = Instant::now();
    }

    /// The answer's head has come.
    pub(crate) fn answered(&mut self, status: u16, headers: &HeaderMap) {
        let now = self.now();
        let declared = self.plugin.as_ref().and_then(|plugin| plugin.connection().rate_limits.as_ref());
        let told = headers::read(headers, declared, self.clock.now());
        self.retry_after = told.retry_after;
        let mut measured = self.pair.measured.lock();
        for (slot, given) in [(0, told.requests), (1, told.tokens)] {
            let Some((left, until)) = given else { continue };
            let value = Some((left, later(now, until)));
            match slot {
                0 => measured.remaining_requests = value,
                _ => measured.remaining_tokens = value,
            }
        }
        if (200..300).contains(&status) {
            self.answered = true;
            measured.latency.record(now, self.started.elapsed());
            measured.latest.record(self.started.elapsed());
        }
    }

    /// The stream's first token is on its way.
    pub(crate) fn first_token(&mut self) {
        if !std::mem::replace(&mut self.first_token, true) {
            let (now, elapsed) = (self.now(), self.started.elapsed());
            self.pair.measured.lock().first_token.record(now, elapsed);
        }
    }

    /// The answer is complete.
    pub(crate) fn succeeded(&mut self) {
        // One that asks no vendor has no head: its answer is its latency.
        if !self.answered && !self.settled {
            self.answered = true;
            let (now, elapsed) = (self.now(), self.started.elapsed());
            self.pair.measured.lock().latency.record(now, elapsed);
        }
        self.settle(Outcome::Good);
    }

    /// The attempt, or the stream that came of it, failed.
    pub(crate) fn failed(&mut self, refusal: &Refusal) {
        if refusal.status == 504 && !self.answered {
            // What was waited for in vain is the least that it takes.
            let (now, elapsed) = (self.now(), self.started.elapsed());
            self.pair.measured.lock().latency.record(now, elapsed);
        }
        let outcome = blame(refusal, self.retry_after);
        if outcome != Outcome::Neutral && !self.settled {
            self.pair.measured.lock().last_error = Some(short(refusal.code.clone()));
        }
        self.settle(outcome);
    }

    fn settle(&mut self, outcome: Outcome) {
        if !std::mem::replace(&mut self.settled, true)
            && self.pair.settle(self.now(), outcome, self.pass.take())
        {
            let labels = ProviderLabels { provider: self.provider.to_string() };
            self.opened.get_or_create(&labels).inc();
        }
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if self.pass.is_some() {
            self.settle(Outcome::Neutral);
        }
        self.pair.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A code, cut where a vendor's own is longer than any that means something.
fn short(code: Cow<'static, str>) -> Cow<'static, str> {
    match code {
        Cow::Owned(long) if long.chars().count() > LONGEST_CODE => {
            Cow::Owned(long.chars().take(LONGEST_CODE).collect())
        }
        code => code,
    }
}

/// Whether somebody who is asked like this isn't there, or is broken.
pub(crate) fn is_failure(refusal: &Refusal) -> bool {
    matches!(blame(refusal, None), Outcome::Failed { limited: false, .. })
}

fn blame(refusal: &Refusal, told: Option<Duration>) -> Outcome {
    let retry_after = refusal.retry_after.or(told);
    match (refusal.fault, refusal.status) {
        (Fault::Upstream, 429) => Outcome::Failed { limited: true, retry_after },
        // A token that can't be bought is the credential's fault, not the vendor's.
        (Fault::Upstream, _) if refusal.code == "upstream_auth_failed" => Outcome::Refused,
        (Fault::Upstream, _) if refusal.retryable => Outcome::Failed { limited: false, retry_after },
        (Fault::Upstream, 401 | 403) => Outcome::Refused,
        // A sandbox that has no room says nothing of the candidate.
        (Fault::Plugin, 503) => Outcome::Neutral,
        (Fault::Plugin, _) => Outcome::Refused,
        (Fault::Upstream | Fault::Client | Fault::Internal, _) => Outcome::Neutral,
    }
}

#[cfg(test)]
mod tests;
