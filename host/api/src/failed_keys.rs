//! Addresses that try keys which don't exist.
//!
//! An address may present [`DEFAULT_PER_MINUTE`] unknown or malformed keys in a minute, at once or spread, and gets them
//! back evenly. Beyond that it is answered 429 before the database is asked, unless the key is known already: whoever
//! has a good key in use isn't locked out by somebody behind the same address. A key that was revoked or has expired
//! is no guess, and isn't counted; nor is a request without any.
//!
//! The address is the connection's other end, or whom a trusted proxy names ([`crate::client`]). Behind a load balancer that isn't
//! trusted all guesses count together: set `server.failed_keys_per_minute` accordingly, or to 0, which counts nothing.
//!
//! An IPv6 address counts as its /64, which one customer has. At most [`ADDRESSES_KEPT`] are kept; those that have
//! everything back are forgotten first, and when nobody has, newcomers aren't counted until somebody is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use brokle_identity::AuthError;
use parking_lot::Mutex;

use crate::error::ApiError;

/// Unknown keys that an address may present in a minute.
pub const DEFAULT_PER_MINUTE: u32 = 20;
/// Addresses that are kept.
const ADDRESSES_KEPT: usize = 10_000;

const MINUTE: Duration = Duration::from_secs(60);

/// The failures of all addresses.
#[derive(Debug)]
pub struct FailedKeys {
    per_minute: u32,
    epoch: Instant,
    /// When each has its failures back, since the epoch.
    paid: Mutex<HashMap<IpAddr, Duration>>,
}

impl Default for FailedKeys {
    fn default() -> Self {
        Self::new(DEFAULT_PER_MINUTE)
    }
}

impl FailedKeys {
    /// Allows this many in a minute; 0 counts nothing.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, epoch: Instant::now(), paid: Mutex::default() }
    }

    /// Whether an address may present a key that isn't known yet.
    ///
    /// # Errors
    /// 429 `too_many_failed_keys`, with the time to wait.
    pub fn check(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        self.check_at(address, self.epoch.elapsed())
    }

    /// What became of a key that an address presented.
    pub fn note(&self, address: Option<IpAddr>, failure: AuthError) {
        self.note_at(address, failure, self.epoch.elapsed());
    }

    fn check_at(&self, address: Option<IpAddr>, now: Duration) -> Result<(), ApiError> {
        let Some((address, cost)) = address.and_then(|address| self.counted(address)) else { return Ok(()) };
        let paid = self.paid.lock().get(&address).copied().unwrap_or_default();
        let wait = (paid.saturating_sub(now) + cost).saturating_sub(MINUTE);
        if wait.is_zero() {
            return Ok(());
        }
        let message = "Too many unknown API keys from this address. Try again later.";
        Err(ApiError::new(http::StatusCode::TOO_MANY_REQUESTS, "too_many_failed_keys", message)
            .retry_after(wait))
    }

    fn note_at(&self, address: Option<IpAddr>, failure: AuthError, now: Duration) {
        if !matches!(failure, AuthError::Unknown | AuthError::Malformed) {
            return;
        }
        let Some((address, cost)) = address.and_then(|address| self.counted(address)) else { return };
        let mut all = self.paid.lock();
        if all.len() >= ADDRESSES_KEPT && !all.contains_key(&address) {
            all.retain(|_, paid| *paid > now);
            if all.len() >= ADDRESSES_KEPT {
                return;
            }
        }
        let paid = all.entry(address).or_default();
        // Answers that were on their way at once don't lock anybody out for longer than a minute.
        *paid = ((*paid).max(now) + cost).min(now + MINUTE);
    }

    /// An address as it is counted, and the time that a failure takes to come back.
    fn counted(&self, address: IpAddr) -> Option<(IpAddr, Duration)> {
        let cost = MINUTE.checked_div(self.per_minute)?;
        let address = match address.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
            v4 @ IpAddr::V4(_) => v4,
        };
        Some((address, cost))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn guesses_are_counted_by_address_and_come_back_evenly() {
        let failed = FailedKeys::new(3);
        let at = Duration::from_secs;
        let ann = address("2001:db8::1");
        for _ in 0..3 {
            failed.check_at(ann, at(10)).unwrap();
            failed.note_at(ann, AuthError::Unknown, at(10));
        }
        let refused = failed.check_at(address("2001:db8::ffff"), at(10)).unwrap_err();
        assert_eq!((refused.status.as_u16(), refused.retry_after), (429, Some(at(20))));
        assert!(failed.check_at(address("2001:db8:0:1::1"), at(10)).is_ok(), "another network");
        assert!(failed.check_at(ann, at(29)).is_err() && failed.check_at(ann, at(30)).is_ok());
        for no_guess in [AuthError::Missing, AuthError::Revoked, AuthError::Expired, AuthError::Unavailable] {
            failed.note_at(ann, no_guess, at(30));
        }
        assert!(failed.check_at(ann, at(30)).is_ok());
        failed.note_at(ann, AuthError::Malformed, at(30));
        assert!(failed.check_at(ann, at(30)).is_err());
    }

    #[test]
    fn many_addresses_cost_bounded_memory() {
        let failed = FailedKeys::new(20);
        for number in 0..20_000_u32 {
            failed.note_at(Some(IpAddr::from(number.to_be_bytes())), AuthError::Unknown, Duration::ZERO);
        }
        assert_eq!(failed.paid.lock().len(), ADDRESSES_KEPT);
        failed.note_at(address("192.0.2.1"), AuthError::Unknown, Duration::from_secs(61));
        assert_eq!(failed.paid.lock().len(), 1, "those that have it back are forgotten");
    }

    #[test]
    fn nothing_is_counted_with_0() {
        let failed = FailedKeys::new(0);
        for _ in 0..100 {
            failed.note(address("192.0.2.1"), AuthError::Unknown);
        }
        assert!(failed.check(address("192.0.2.1")).is_ok() && failed.check(None).is_ok());
    }
}
