//! When a component has failed too often.
//!
//! Every export that a component's instances are asked for is heard here. A failure is a trap, a limit or a deadline;
//! that every sandbox slot is taken is the host's affair and doesn't count. A version is taken out when within
//! [`Budget::window`] it has failed [`Budget::traps`] times and these are [`Budget::percent`] of its calls at least: the
//! second rule is there because a caller may know a request that a component fails on, and shouldn't be able to take the
//! component away from everybody else.
//!
//! On probation (state `degraded`) a version has no such patience: the first failure takes it out again, and the
//! back-off doubles up to [`Budget::max_backoff`]. A window without a failure ends the probation.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_runtime::{Fault, Observer};
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;

use crate::watch::Watch;

/// How much failing is too much, and for how long a version is taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Failures within a window: 5.
    pub traps: u32,
    /// The window: 60 s, from a failure on.
    pub window: Duration,
    /// Share of the window's calls that must have failed, in percent: 10.
    pub percent: u32,
    /// How long a version is taken out for the first time: 60 s.
    pub backoff: Duration,
    /// The longest that it is taken out: 1 h.
    pub max_backoff: Duration,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            traps: 5,
            window: Duration::from_secs(60),
            percent: 10,
            backoff: Duration::from_secs(60),
            max_backoff: Duration::from_secs(3_600),
        }
    }
}

impl Budget {
    /// How long the version stays out that is taken out for the `times`th time, from 1.
    #[must_use]
    pub fn backoff(&self, times: u32) -> Duration {
        let factor = 2_u32.saturating_pow(times.saturating_sub(1).min(30));
        self.backoff.saturating_mul(factor).min(self.max_backoff)
    }
}

/// A version that has to be taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// Which one, by its hash.
    pub sha256: Arc<str>,
    /// What it did last, for people.
    pub reason: String,
}

#[derive(Debug)]
struct Window {
    begun: DateTime<Utc>,
    traps: u32,
}

/// One version's calls and failures.
#[derive(Debug)]
pub struct Health {
    id: Arc<str>,
    sha256: Arc<str>,
    budget: Budget,
    begun: DateTime<Utc>,
    clock: Arc<dyn Clock>,
    watch: Arc<dyn Watch>,
    /// Since the window began, or since the start.
    calls: AtomicU64,
    /// The most memory that an instance has had.
    peak: AtomicUsize,
    window: Mutex<Option<Window>>,
    probation: AtomicBool,
    tripped: AtomicBool,
    tell: UnboundedSender<Tripped>,
}

impl Health {
    pub(crate) fn new(
        id: &str,
        sha256: &str,
        budget: Budget,
        clock: Arc<dyn Clock>,
        watch: Arc<dyn Watch>,
        tell: UnboundedSender<Tripped>,
    ) -> Self {
        Self {
            id: id.into(),
            sha256: sha256.into(),
            budget,
            begun: clock.now(),
            clock,
            watch,
            calls: AtomicU64::new(0),
            peak: AtomicUsize::new(0),
            window: Mutex::new(None),
            probation: AtomicBool::new(false),
            tripped: AtomicBool::new(false),
            tell,
        }
    }

    /// Begins anew, on probation or not.
    pub(crate) fn begin(&self, probation: bool) {
        *self.window.lock() = None;
        self.calls.store(0, Ordering::Relaxed);
        self.probation.store(probation, Ordering::Relaxed);
        self.tripped.store(false, Ordering::Relaxed);
    }

    fn failed(&self, export: &str, fault: &Fault) {
        let now = self.clock.now();
        let too_much = {
            let mut window = self.window.lock();
            let long = TimeDelta::from_std(self.budget.window).unwrap_or(TimeDelta::MAX);
            let current = window.get_or_insert(Window { begun: self.begun, traps: 0 });
            if now - current.begun > long {
                // What a window had on average goes with the new one: a burst of bad requests weighs little on a
                // component that is busy serving good ones.
                let elapsed = now - current.begun;
                let calls = u128::from(self.calls.load(Ordering::Relaxed));
                let share = |part: TimeDelta| u128::try_from(part.num_milliseconds()).unwrap_or(1).max(1);
                let carried = calls * share(long) / share(elapsed);
                self.calls.store(u64::try_from(carried).unwrap_or(u64::MAX).max(1), Ordering::Relaxed);
                *current = Window { begun: now, traps: 0 };
            }
            current.traps += 1;
            let share = u64::from(current.traps) * 100
                >= self.calls.load(Ordering::Relaxed).saturating_mul(u64::from(self.budget.percent));
            current.traps >= self.budget.traps && share
        };
        if (too_much || self.probation.load(Ordering::Relaxed)) && !self.tripped.swap(true, Ordering::Relaxed)
        {
            let reason = format!("failed in {export}: {fault}");
            // Nobody listens any more when the server stops.
            let _ = self.tell.send(Tripped { sha256: Arc::clone(&self.sha256), reason });
        }
    }
}

impl Observer for Health {
    fn called(&self, export: &'static str, _: Duration, memory: usize, fault: Option<&Fault>) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        if memory > self.peak.load(Ordering::Relaxed)
            && memory > self.peak.fetch_max(memory, Ordering::Relaxed)
        {
            self.watch.grew(&self.id, memory);
        }
        if let Some(fault) = fault.filter(|fault| **fault != Fault::Busy) {
            self.failed(export, fault);
        }
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::clock::ManualClock;
    use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

    use super::*;
    use crate::watch::Unwatched;

    fn health() -> (Health, Arc<ManualClock>, UnboundedReceiver<Tripped>) {
        let clock = Arc::new(ManualClock::new(DateTime::from_timestamp(1_772_359_200, 0).unwrap()));
        let (tell, told) = unbounded_channel();
        let watch = Arc::new(Unwatched);
        (Health::new("acme.x", "00", Budget::default(), clock.clone(), watch, tell), clock, told)
    }

    fn fails(health: &Health, times: u32) {
        for _ in 0..times {
            health.called("prepare", Duration::ZERO, 0, Some(&Fault::Stack));
        }
    }

    fn succeeds(health: &Health, times: u32) {
        for _ in 0..times {
            health.called("prepare", Duration::ZERO, 0, None);
        }
    }

    #[test]
    fn the_fifth_failure_within_the_window_is_told_once() {
        let (health, _, mut told) = health();
        fails(&health, 4);
        assert!(told.try_recv().is_err());
        fails(&health, 3);
        assert_eq!(&*told.try_recv().unwrap().sha256, "00");
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn failures_far_apart_or_among_many_calls_are_borne() {
        let (health, clock, mut told) = health();
        for _ in 0..5 {
            fails(&health, 4);
            clock.advance(TimeDelta::seconds(61));
        }
        succeeds(&health, 1_000);
        fails(&health, 50);
        assert!(told.try_recv().is_err(), "50 of 1,054 calls are less than a tenth");
        fails(&health, 70);
        assert!(told.try_recv().is_ok());
    }

    #[test]
    fn a_full_host_is_nobodys_failure() {
        let (health, _, mut told) = health();
        for _ in 0..100 {
            health.called("prepare", Duration::ZERO, 0, Some(&Fault::Busy));
        }
        assert!(told.try_recv().is_err());
    }

    #[test]
    fn on_probation_one_failure_is_enough() {
        let (health, _, mut told) = health();
        health.begin(true);
        succeeds(&health, 100);
        fails(&health, 1);
        assert!(told.try_recv().is_ok());
    }

    #[test]
    fn the_back_off_doubles_up_to_its_bound() {
        let budget = Budget::default();
        let seconds: Vec<u64> = [1, 2, 3, 7, 40].map(|times| budget.backoff(times).as_secs()).into();
        assert_eq!(seconds, [60, 120, 240, 3_600, 3_600]);
    }
}
