//! Active health checks: connections that want it are asked again and again whether they are there. Those of a tenant's own, made by
//! API, are from its first call at this server on.
//!
//! **What is asked** is what [`trial`](crate::trial) asks: the vendor's list of models, by the provider's adapter, which costs
//! nothing. A provider that has none to ask for is `untested`, and its calls go on as ever.
//!
//! **When**: each interval, a tenth more or less by chance, so that servers and connections don't ask in step; for the first time
//! within a tenth of it. One check of a connection at a time, for as long as the interval, [`LONGEST`] at most.
//!
//! **What follows**: after [`PATIENCE`] checks in a row that failed as a call would (no connection, no answer in time, 5xx) the
//! connection is down: the circuits of all its models are open, whatever calls taught of them, until a check succeeds. A vendor
//! that refuses (401, 403, 404, 429) is there: a key may well call models that it mustn't list.
//!
//! State is this server's own, by the connection's id.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_telemetry::metrics::ProviderLabels;
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use moka::sync::Cache;
use parking_lot::Mutex;
use serde::Serialize;

use crate::connections::Connection;
use crate::gateway::Gateway;
use crate::refusal::Refusal;
use crate::routing::Candidate;
use crate::routing::stats::is_failure;
use crate::trial::Trial;

/// The longest that a check takes.
const LONGEST: Duration = Duration::from_secs(10);
/// Failed checks in a row that a connection is let have, the last of which takes it down.
const PATIENCE: u32 = 2;
/// How often it is looked who is due.
const TICK: Duration = Duration::from_millis(100);
/// How many connections' states are kept.
const STATES: u64 = 10_000;

/// What checks found.
#[derive(Debug)]
pub(crate) struct Checks {
    clock: Arc<dyn Clock>,
    states: Cache<Arc<str>, Arc<Mutex<State>>>,
}

#[derive(Debug, Default)]
struct State {
    /// Microseconds since the Unix epoch; none: it hasn't been thought of.
    due: Option<i64>,
    under_way: bool,
    failed_in_a_row: u32,
    last: Option<(DateTime<Utc>, Found)>,
}

#[derive(Debug, Clone)]
enum Found {
    There(Duration),
    /// It answered, if only to refuse.
    Refuses(String),
    Failed(String),
    Untested,
}

/// How a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CheckStatus {
    /// None has ended yet.
    Pending,
    /// The vendor answered, if only to refuse.
    Ok,
    /// It didn't, or with an error of its own.
    Failed,
    /// There is nothing to ask for that costs nothing.
    Untested,
}

/// What the last check of a connection found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckHealth {
    /// How it ended.
    pub status: CheckStatus,
    /// Failed checks in a row; from 2 on no call goes there.
    pub failed_in_a_row: u32,
    /// When it ended; null when none has.
    pub checked_at: Option<DateTime<Utc>>,
    /// To the answer's head, in milliseconds; null when there was none.
    pub latency_ms: Option<f64>,
    /// A stable code, if it failed or was refused.
    pub error: Option<String>,
}

impl Checks {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, states: Cache::new(STATES) }
    }

    /// How long a connection that is down stays so at least; none: it isn't down, or nobody checks it.
    pub(crate) fn down(&self, connection: &Connection) -> Option<Duration> {
        connection.health_check?;
        let state = self.states.get(&connection.id)?;
        let state = state.lock();
        let left = state.due.unwrap_or_default().saturating_sub(self.now());
        (state.failed_in_a_row >= PATIENCE).then(|| Duration::from_micros(u64::try_from(left).unwrap_or(0)))
    }

    /// What the last check found; none: nobody checks it.
    pub(crate) fn health(&self, connection: &Connection) -> Option<CheckHealth> {
        connection.health_check?;
        let state = self.states.get(&connection.id).unwrap_or_default();
        let state = state.lock();
        let found = state.last.as_ref().map(|(_, found)| found);
        Some(CheckHealth {
            status: match found {
                None => CheckStatus::Pending,
                Some(Found::There(_) | Found::Refuses(_)) => CheckStatus::Ok,
                Some(Found::Failed(_)) => CheckStatus::Failed,
                Some(Found::Untested) => CheckStatus::Untested,
            },
            failed_in_a_row: state.failed_in_a_row,
            checked_at: state.last.as_ref().map(|(at, _)| *at),
            latency_ms: match found {
                Some(Found::There(latency)) => Some(latency.as_secs_f64() * 1e3),
                _ => None,
            },
            error: match found {
                Some(Found::Failed(code) | Found::Refuses(code)) => Some(code.clone()),
                _ => None,
            },
        })
    }

    /// Whether it is its turn, which then is taken. `chance` is a random number.
    fn take(&self, connection: &Connection, interval: Duration, chance: u64) -> bool {
        let state = self.states.get_with(Arc::clone(&connection.id), Arc::default);
        let mut state = state.lock();
        let due = *state.due.get_or_insert_with(|| self.after(part(interval, chance)));
        let is_due = !state.under_way && due <= self.now();
        state.under_way |= is_due;
        is_due
    }

    /// A check has ended. True when that took the connection down.
    fn settle(&self, connection: &Connection, interval: Duration, chance: u64, found: Found) -> bool {
        let state = self.states.get_with(Arc::clone(&connection.id), Arc::default);
        let mut state = state.lock();
        let was_down = state.failed_in_a_row >= PATIENCE;
        state.failed_in_a_row = match found {
            Found::Failed(_) => state.failed_in_a_row.saturating_add(1),
            Found::There(_) | Found::Refuses(_) | Found::Untested => 0,
        };
        let is_down = state.failed_in_a_row >= PATIENCE;
        let connection = &connection.name;
        match (was_down, is_down, &found) {
            (false, true, Found::Failed(code)) => {
                tracing::warn!(connection, code, "health checks fail: the connection is left alone");
            }
            (true, false, _) => tracing::info!(connection, "a health check succeeds: the connection is back"),
            _ => {}
        }
        // Nine tenths, and up to two more.
        let pause =
            interval - interval / 10 + part(interval, chance) + part(interval, chance.rotate_left(32));
        (state.under_way, state.due) = (false, Some(self.after(pause)));
        state.last = Some((self.clock.now(), found));
        is_down && !was_down
    }

    fn after(&self, pause: Duration) -> i64 {
        self.now().saturating_add(i64::try_from(pause.as_micros()).unwrap_or(i64::MAX))
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}

/// A random part of a tenth.
fn part(interval: Duration, chance: u64) -> Duration {
    let tenth = u64::try_from(interval.as_micros() / 10).unwrap_or(u64::MAX);
    Duration::from_micros(chance.checked_rem(tenth).unwrap_or(0))
}

impl Gateway {
    /// Checks the connections that want it, until the end; for the server to run once.
    pub async fn run_health_checks(&self, end: impl Future<Output = ()>) {
        let mut running = FuturesUnordered::new();
        let mut tick = tokio::time::interval(TICK);
        let mut end = std::pin::pin!(end);
        loop {
            tokio::select! {
                () = &mut end => return,
                _ = tick.tick() => {
                    let plugins = self.parts.plugins.load();
                    for connection in self.parts.connections.checked(&plugins).await {
                        let Some(interval) = connection.health_check else { continue };
                        if self.facts.checks().take(&connection, interval, self.entropy()) {
                            running.push(self.check(connection, interval));
                        }
                    }
                }
                Some(()) = running.next(), if !running.is_empty() => {}
            }
        }
    }

    async fn check(&self, connection: Arc<Connection>, interval: Duration) {
        let candidate = Candidate::of(&connection, "");
        let asked = tokio::time::timeout(interval.min(LONGEST), Box::pin(self.ask(&candidate))).await;
        let late = || Err(Refusal::upstream(504, "upstream_timeout", "The provider didn't answer in time."));
        let found = match asked.unwrap_or_else(|_| late()) {
            Ok(Trial::Works { latency, .. }) => Found::There(latency),
            Ok(Trial::Untested | Trial::Fails { .. }) => Found::Untested,
            Err(refusal) if is_failure(&refusal) => Found::Failed(refusal.code.into_owned()),
            Err(refusal) => Found::Refuses(refusal.code.into_owned()),
        };
        let metrics = &self.parts.books.metrics;
        let labels = ProviderLabels { provider: connection.provider.to_string() };
        if matches!(found, Found::Failed(_)) {
            metrics.health_check_failures.get_or_create(&labels).inc();
        }
        if self.facts.checks().settle(&connection, interval, self.entropy(), found) {
            metrics.circuit_opens.get_or_create(&labels).inc();
        }
    }
}
