//! What is kept of one subject of one rule: a number for each measure, changed without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A minute, in nanoseconds.
pub(super) const MINUTE: u64 = 60_000_000_000;
/// A day, in nanoseconds.
const DAY: u64 = 24 * 60 * MINUTE;

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    ConcurrentRequests,
    RequestsPerMinute,
    RequestsPerDay,
    TokensPerMinute,
    TokensPerDay,
}

impl Measure {
    /// How long an allowance takes to come back, in nanoseconds; none for what is no rate.
    pub(super) fn window(self) -> u64 {
        match self {
            Self::RequestsPerMinute | Self::TokensPerMinute => MINUTE,
            Self::RequestsPerDay | Self::TokensPerDay => DAY,
            Self::ConcurrentRequests => 0,
        }
    }

    pub(super) fn window_name(self) -> &'static str {
        match self {
            Self::RequestsPerMinute | Self::TokensPerMinute => "per minute",
            Self::RequestsPerDay | Self::TokensPerDay => "per day",
            Self::ConcurrentRequests => "at once",
        }
    }

    /// As the configuration calls it.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::ConcurrentRequests => "concurrent_requests",
            Self::RequestsPerMinute => "requests_per_minute",
            Self::RequestsPerDay => "requests_per_day",
            Self::TokensPerMinute => "tokens_per_minute",
            Self::TokensPerDay => "tokens_per_day",
        }
    }

    /// The end of its key in Redis.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ConcurrentRequests => "running",
            Self::RequestsPerMinute => "rpm",
            Self::RequestsPerDay => "rpd",
            Self::TokensPerMinute => "tpm",
            Self::TokensPerDay => "tpd",
        }
    }

    pub(super) fn unit(self) -> &'static str {
        if self.is_tokens() { "tokens" } else { "requests" }
    }

    pub(super) fn is_tokens(self) -> bool {
        matches!(self, Self::TokensPerMinute | Self::TokensPerDay)
    }
}

/// Where somebody stands with a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// The limit.
    pub(crate) limit: u64,
    /// What is left at once.
    pub(crate) remaining: u64,
    /// Until all of it is there again.
    pub(crate) reset: Duration,
}

/// A limit says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) allowance: Allowance,
    /// When the same is possible; never, if it is more than the whole allowance.
    pub(super) wait: Option<Duration>,
}

/// A rate: the time at which everything used is paid back, in nanoseconds since the limits' epoch.
#[derive(Debug, Default)]
pub(super) struct Rate(AtomicU64);

/// The time that `amount` takes to come back.
fn cost(amount: u64, limit: u64, window: u64) -> u64 {
    let cost = u128::from(amount) * u128::from(window) / u128::from(limit.max(1));
    u64::try_from(cost).unwrap_or(u64::MAX)
}

pub(super) fn allowance(ahead: u64, limit: u64, window: u64) -> Allowance {
    let free = u128::from(window.saturating_sub(ahead)) * u128::from(limit) / u128::from(window.max(1));
    Allowance {
        limit,
        remaining: u64::try_from(free).unwrap_or(u64::MAX),
        reset: Duration::from_nanos(ahead),
    }
}

impl Rate {
    /// Takes an amount, and says when it is paid back.
    pub(super) fn take(
        &self,
        amount: u64,
        limit: u64,
        window: u64,
        now: u64,
    ) -> Result<(u64, Allowance), Refused> {
        let cost = cost(amount, limit, window);
        let mut paid = self.0.load(Ordering::Relaxed);
        loop {
            let after = paid.max(now).saturating_add(cost);
            if limit == 0 || after - now > window {
                let (possible, ahead) = (limit > 0 && cost <= window, paid.saturating_sub(now));
                let wait = possible.then(|| Duration::from_nanos(after - now - window));
                return Err(Refused { allowance: allowance(ahead, limit, window), wait });
            }
            match self.0.compare_exchange_weak(paid, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok((after, allowance(after - now, limit, window))),
                Err(current) => paid = current,
            }
        }
    }

    /// What could be taken now.
    pub(super) fn left(&self, limit: u64, window: u64, now: u64) -> Allowance {
        allowance(self.0.load(Ordering::Relaxed).saturating_sub(now), limit, window)
    }

    /// Gives back what was taken and not used: as much as time hasn't given back already. `paid` is when the taken
    /// amount is paid back; those taken before it are paid first.
    pub(super) fn give_back(&self, amount: u64, limit: u64, window: u64, paid: u64, now: u64) {
        let back = cost(amount, limit, window).min(paid.saturating_sub(now));
        self.change(|paid| paid.saturating_sub(back));
    }

    /// Charges what was used beyond what was taken, limit or not.
    pub(super) fn charge(&self, amount: u64, limit: u64, window: u64, now: u64) {
        let cost = cost(amount, limit, window);
        self.change(|paid| paid.max(now).saturating_add(cost));
    }

    fn change(&self, change: impl Fn(u64) -> u64) {
        let mut paid = self.0.load(Ordering::Relaxed);
        while let Err(current) =
            self.0.compare_exchange_weak(paid, change(paid), Ordering::Relaxed, Ordering::Relaxed)
        {
            paid = current;
        }
    }

    fn is_full(&self, now: u64) -> bool {
        self.0.load(Ordering::Relaxed) <= now
    }
}

/// One subject of one rule.
#[derive(Debug, Default)]
pub(super) struct Cell {
    rates: [Rate; 4],
    running: AtomicU64,
}

impl Cell {
    /// The measure's rate. What is no rate has none of its own, and is never asked for one.
    pub(super) fn rate(&self, measure: Measure) -> &Rate {
        let [requests_minute, requests_day, tokens_minute, tokens_day] = &self.rates;
        match measure {
            Measure::RequestsPerMinute | Measure::ConcurrentRequests => requests_minute,
            Measure::RequestsPerDay => requests_day,
            Measure::TokensPerMinute => tokens_minute,
            Measure::TokensPerDay => tokens_day,
        }
    }

    /// One more is under way, if there is room.
    pub(super) fn enter(&self, limit: u64) -> Result<(), Refused> {
        let room = |running: u64| (running < limit).then(|| running + 1);
        let entered = self.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room);
        entered.map(drop).map_err(|_| Refused {
            allowance: Allowance { limit, remaining: 0, reset: Duration::ZERO },
            // Nobody knows when a call ends: soon, most often.
            wait: Some(Duration::from_secs(1)),
        })
    }

    /// One fewer is.
    pub(super) fn leave(&self) {
        self.running.fetch_sub(1, Ordering::Relaxed);
    }

    /// Whether a new one would say the same.
    pub(super) fn is_idle(&self, now: u64) -> bool {
        self.running.load(Ordering::Relaxed) == 0 && self.rates.iter().all(|rate| rate.is_full(now))
    }
}
