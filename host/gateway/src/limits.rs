//! Requests per minute for each key.
//!
//! The generic cell rate algorithm: a key may use a minute's worth at once, and gets it back evenly. One number for
//! each key, changed without a lock. The number is the server's own; servers that share limits come with Redis.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brokle_core::ids::ApiKeyId;
use parking_lot::RwLock;

/// What a key without a limit of its own may do: a fuse against a client that runs away, far above honest use.
pub(crate) const DEFAULT_PER_MINUTE: u32 = 3_000_000;
/// Above this many keys the idle ones are forgotten: a full allowance is what a new key starts with.
const KEYS_KEPT: usize = 100_000;

/// The state of all keys.
#[derive(Debug)]
pub(crate) struct RateLimits {
    epoch: Instant,
    keys: RwLock<HashMap<ApiKeyId, Arc<AtomicU64>>>,
}

/// Where a key stands, as OpenAI's `x-ratelimit-*` headers tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Allowance {
    /// Requests a minute.
    pub limit: u32,
    /// What is left at once.
    pub remaining: u32,
    /// Until all of it is there again.
    pub reset: Duration,
}

impl RateLimits {
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now(), keys: RwLock::new(HashMap::new()) }
    }

    /// Takes one request. The error says when the next one is possible.
    pub(crate) fn take(&self, key: ApiKeyId, per_minute: u32) -> Result<Allowance, (Allowance, Duration)> {
        self.take_at(key, per_minute, self.epoch.elapsed())
    }

    fn take_at(
        &self,
        key: ApiKeyId,
        per_minute: u32,
        now: Duration,
    ) -> Result<Allowance, (Allowance, Duration)> {
        const MINUTE: u64 = 60_000_000_000;
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let cost = MINUTE / u64::from(per_minute.max(1));
        let cell = self.cell(key, now);
        // When everything used is paid back.
        let mut paid = cell.load(Ordering::Relaxed);
        loop {
            let after = paid.max(now) + cost;
            let allowance = |ahead: u64| Allowance {
                limit: per_minute,
                remaining: u32::try_from(MINUTE.saturating_sub(ahead) / cost).unwrap_or(u32::MAX),
                reset: Duration::from_nanos(ahead),
            };
            if per_minute == 0 || after - now > MINUTE {
                let wait = Duration::from_nanos((after - now).saturating_sub(MINUTE));
                return Err((Allowance { remaining: 0, ..allowance(paid.saturating_sub(now)) }, wait));
            }
            match cell.compare_exchange_weak(paid, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(allowance(after - now)),
                Err(current) => paid = current,
            }
        }
    }

    fn cell(&self, key: ApiKeyId, now: u64) -> Arc<AtomicU64> {
        if let Some(cell) = self.keys.read().get(&key) {
            return cell.clone();
        }
        let mut keys = self.keys.write();
        if keys.len() >= KEYS_KEPT {
            keys.retain(|_, cell| cell.load(Ordering::Relaxed) > now);
        }
        keys.entry(key).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use brokle_core::clock::SystemClock;
    use brokle_core::random::SystemRandom;

    #[test]
    fn a_minutes_worth_at_once_then_evenly() {
        let limits = RateLimits::new();
        let key = ApiKeyId::generate(&SystemClock, &SystemRandom);
        let at = |seconds: u64| limits.take_at(key, 6, Duration::from_secs(seconds));
        for left in (0..6).rev() {
            assert_eq!(at(100).unwrap().remaining, left);
        }
        let (allowance, wait) = at(100).unwrap_err();
        assert_eq!((allowance.remaining, wait), (0, Duration::from_secs(10)));
        assert!(at(109).is_err());
        assert_eq!(at(110).unwrap().remaining, 0);
        assert_eq!(at(400).unwrap().remaining, 5);
        // Others are untouched, and 0 means none at all.
        let other = ApiKeyId::generate(&SystemClock, &SystemRandom);
        assert_eq!(limits.take_at(other, 6, Duration::from_secs(110)).unwrap().remaining, 5);
        assert!(limits.take_at(other, 0, Duration::from_secs(900)).is_err());
    }
}
