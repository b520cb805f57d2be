//! Where the time comes from.
//!
//! Every rule that depends on the time takes a [`Clock`], so that a test can hold it still. All times are UTC and have
//! **microsecond** precision: PostgreSQL keeps no more, and a value that comes back from a database must equal the one
//! that went in.

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};

/// A source of the current time.
pub trait Clock: Send + Sync + Debug {
    /// The current time in UTC, cut to whole microseconds.
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}

/// A clock that stands still until it is moved; for tests.
#[derive(Debug)]
pub struct ManualClock {
    /// Microseconds since the Unix epoch.
    micros: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `now`, cut to whole microseconds.
    #[must_use]
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { micros: AtomicI64::new(now.timestamp_micros()) }
    }

    /// Shows `now` from here on, cut to whole microseconds; it may go backwards.
    pub fn set(&self, now: DateTime<Utc>) {
        self.micros.store(now.timestamp_micros(), Ordering::SeqCst);
    }

    /// Moves by `by`, cut to whole microseconds; a negative value moves back.
    pub fn advance(&self, by: TimeDelta) {
        self.micros.fetch_add(by.num_microseconds().unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    /// A value outside of what `DateTime` can show reads as the Unix epoch.
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.micros.load(Ordering::SeqCst)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_clock_has_no_more_than_microseconds() {
        assert_eq!(SystemClock.now().timestamp_subsec_nanos() % 1_000, 0);
    }

    #[test]
    fn a_manual_clock_stands_still_until_it_is_moved() {
        let start: DateTime<Utc> = "2026-03-01T10:00:00.123456789Z".parse().unwrap();
        let clock = ManualClock::new(start);
        assert_eq!(clock.now().to_rfc3339(), "2026-03-01T10:00:00.123456+00:00");
        assert_eq!(clock.now(), clock.now());

        clock.advance(TimeDelta::milliseconds(-123));
        assert_eq!(clock.now().to_rfc3339(), "2026-03-01T10:00:00.000456+00:00");

        clock.set(start + TimeDelta::days(1));
        assert_eq!(clock.now().to_rfc3339(), "2026-03-02T10:00:00.123456+00:00");
    }
}
