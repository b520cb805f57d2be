//! The circuit breaker of one (connection, model).
//!
//! | state | what happens to a call | what ends it |
//! |---|---|---|
//! | closed | it goes through | [`Settings::in_a_row`] failures without a success between them, or [`Settings::percent`] of the calls of a [`Settings::window`] that has at least [`Settings::min_calls`] |
//! | open | it goes elsewhere; with nobody left it is refused at once | [`Settings::open`], doubled with each further time up to [`Settings::longest`] |
//! | half open | [`Settings::probes`] at a time go through, the others as when it is open | a probe's success closes it, a failure opens it again |
//!
//! A 429 is no failure here: it has a cooldown, and a vendor that counts isn't broken. Nor is a caller that goes away: a
//! probe without a verdict gives its place back. Answers to calls that began before it opened change nothing.

use std::time::Duration;

use super::later;

/// When a circuit opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Without it every call goes through.
    pub enabled: bool,
    /// The calls that a share is taken of: those of 30 s.
    pub window: Duration,
    /// How many of them there must be: 20.
    pub min_calls: u32,
    /// How many of them must have failed, in percent: 50.
    pub percent: u32,
    /// Failures in a row that suffice: 5.
    pub in_a_row: u32,
    /// How long it is open the first time: 5 s.
    pub open: Duration,
    /// And at most: 1 min.
    pub longest: Duration,
    /// Calls that may try at once whether it works again: 1.
    pub probes: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            window: Duration::from_secs(30),
            min_calls: 20,
            percent: 50,
            in_a_row: 5,
            open: Duration::from_secs(5),
            longest: Duration::from_secs(60),
            probes: 1,
        }
    }
}

/// What a circuit does with calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Circuit {
    /// They go through.
    #[default]
    Closed,
    /// They go elsewhere, for so long yet.
    Open(Duration),
    /// Some go through; whether one more may.
    HalfOpen(bool),
}

impl Circuit {
    /// As it is called in answers and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open(_) => "open",
            Self::HalfOpen(_) => "half_open",
        }
    }

    /// Whether a call may go through now.
    pub(crate) fn lets_through(self) -> bool {
        matches!(self, Self::Closed | Self::HalfOpen(true))
    }
}

/// A call that may go through: which life of the circuit it belongs to, and whether it is a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pass {
    life: u32,
    probe: bool,
}

/// Times are microseconds since the Unix epoch.
#[derive(Debug, Default)]
pub(super) struct Breaker {
    /// Of the window.
    began: i64,
    calls: u32,
    failures: u32,
    row: u32,
    /// None: closed.
    open_until: Option<i64>,
    /// How often it opened without having been closed between.
    times: u32,
    probing: u32,
    /// Grows with each change, so that a call which began before it has no say after it.
    life: u32,
}

impl Breaker {
    pub(super) fn circuit(&self, now: i64, settings: &Settings) -> Circuit {
        match self.open_until {
            _ if !settings.enabled => Circuit::Closed,
            None => Circuit::Closed,
            Some(until) => match u64::try_from(until.saturating_sub(now)) {
                Ok(left) if left > 0 => Circuit::Open(Duration::from_micros(left)),
                _ => Circuit::HalfOpen(self.probing < settings.probes),
            },
        }
    }

    /// Lets a call through.
    ///
    /// # Errors
    /// How long it should wait. While others probe that is a second.
    pub(super) fn enter(&mut self, now: i64, settings: &Settings) -> Result<Pass, Duration> {
        match self.circuit(now, settings) {
            Circuit::Closed => Ok(Pass { life: self.life, probe: false }),
            Circuit::Open(left) => Err(left),
            Circuit::HalfOpen(false) => Err(Duration::from_secs(1)),
            Circuit::HalfOpen(true) => {
                self.probing += 1;
                Ok(Pass { life: self.life, probe: true })
            }
        }
    }

    /// A call that went through has ended so; none: it says nothing of the candidate. True when that opened the circuit.
    pub(super) fn leave(&mut self, now: i64, pass: Pass, failed: Option<bool>, settings: &Settings) -> bool {
        if pass.life != self.life || !settings.enabled {
            return false;
        }
        if pass.probe {
            self.probing = self.probing.saturating_sub(1);
            return match failed {
                None => false,
                Some(false) => {
                    *self = Self { life: self.life.wrapping_add(1), began: now, ..Self::default() };
                    false
                }
                Some(true) => self.open(now, settings),
            };
        }
        let Some(failed) = failed else { return false };
        if now.saturating_sub(self.began) >= i64::try_from(settings.window.as_micros()).unwrap_or(i64::MAX) {
            (self.began, self.calls, self.failures) = (now, 0, 0);
        }
        self.calls = self.calls.saturating_add(1);
        if !failed {
            self.row = 0;
            return false;
        }
        self.failures = self.failures.saturating_add(1);
        self.row = self.row.saturating_add(1);
        let share = u64::from(self.failures) * 100 >= u64::from(self.calls) * u64::from(settings.percent);
        if self.row >= settings.in_a_row || (self.calls >= settings.min_calls && share) {
            return self.open(now, settings);
        }
        false
    }

    fn open(&mut self, now: i64, settings: &Settings) -> bool {
        let wait = settings.open.saturating_mul(1 << self.times.min(10)).min(settings.longest);
        *self = Self {
            open_until: Some(later(now, wait)),
            times: self.times.saturating_add(1),
            life: self.life.wrapping_add(1),
            ..Self::default()
        };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: i64 = 1_000_000;
    const SETTINGS: Settings = Settings {
        enabled: true,
        window: Duration::from_secs(30),
        min_calls: 20,
        percent: 50,
        in_a_row: 5,
        open: Duration::from_secs(5),
        longest: Duration::from_secs(60),
        probes: 1,
    };

    fn call(breaker: &mut Breaker, now: i64, failed: bool) -> bool {
        let pass = breaker.enter(now, &SETTINGS).unwrap();
        breaker.leave(now, pass, Some(failed), &SETTINGS)
    }

    #[test]
    fn five_failures_in_a_row_open_it_and_one_probe_closes_it() {
        let mut breaker = Breaker::default();
        for _ in 0..4 {
            assert!(!call(&mut breaker, 0, true));
        }
        assert!(!call(&mut breaker, 0, false), "a success ends the row");
        for failure in 1..=5 {
            assert_eq!(call(&mut breaker, 0, true), failure == 5);
        }
        assert_eq!(breaker.enter(0, &SETTINGS), Err(Duration::from_secs(5)));
        assert_eq!(breaker.circuit(4 * SECOND, &SETTINGS), Circuit::Open(Duration::from_secs(1)));
        let probe = breaker.enter(5 * SECOND, &SETTINGS).unwrap();
        assert_eq!(breaker.circuit(5 * SECOND, &SETTINGS), Circuit::HalfOpen(false));
        assert_eq!(breaker.enter(5 * SECOND, &SETTINGS), Err(Duration::from_secs(1)), "one probe at a time");
        breaker.leave(5 * SECOND, probe, Some(false), &SETTINGS);
        assert_eq!(breaker.circuit(5 * SECOND, &SETTINGS), Circuit::Closed);
    }

    #[test]
    fn a_probe_that_fails_opens_it_for_longer_and_one_without_a_verdict_gives_its_place_back() {
        let mut breaker = Breaker::default();
        let late = breaker.enter(0, &SETTINGS).unwrap();
        for _ in 0..5 {
            call(&mut breaker, 0, true);
        }
        let mut now = 0;
        for wait in [5, 10, 20, 40, 60, 60] {
            assert_eq!(breaker.circuit(now, &SETTINGS), Circuit::Open(Duration::from_secs(wait)));
            now += i64::try_from(wait).unwrap() * SECOND;
            let left = breaker.enter(now, &SETTINGS).unwrap();
            breaker.leave(now, left, None, &SETTINGS);
            let probe = breaker.enter(now, &SETTINGS).unwrap();
            // One that began before it opened has no say.
            assert!(!breaker.leave(now, late, Some(false), &SETTINGS));
            assert!(breaker.leave(now, probe, Some(true), &SETTINGS));
        }
    }

    #[test]
    fn half_of_a_windows_calls_open_it_once_there_are_enough() {
        let mut breaker = Breaker::default();
        for at in 0..19 {
            assert!(!call(&mut breaker, at, at % 2 == 1), "{at}");
        }
        assert!(call(&mut breaker, 19, true), "10 of 20");
        let mut breaker = Breaker::default();
        for at in 0..19 {
            call(&mut breaker, at, at % 2 == 1);
        }
        // The next window begins anew.
        assert!(!call(&mut breaker, 31 * SECOND, true));
        assert_eq!(breaker.circuit(31 * SECOND, &SETTINGS), Circuit::Closed);
    }

    #[test]
    fn switched_off_it_lets_everything_through() {
        let off = Settings { enabled: false, ..SETTINGS };
        let mut breaker = Breaker::default();
        for _ in 0..50 {
            let pass = breaker.enter(0, &off).unwrap();
            assert!(!breaker.leave(0, pass, Some(true), &off));
        }
        assert_eq!(breaker.circuit(0, &off), Circuit::Closed);
    }
}
