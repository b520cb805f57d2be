//! What is done about failures, beyond asking the next candidate.
//!
//! **Retries** ask the same candidates once more when all of them have failed; none unless the operator says how many
//! ([`Retries`]). Only failures are tried again of which the vendor said so (429, 5xx) or which never reached it
//! (`upstream_unreachable`, `connection_busy`): an answer that broke off may have been paid for, and one that took too long
//! would again. Before each round there is a wait of a random part of 250 ms, doubled from round to round up to 8 s (full
//! jitter); a vendor's `Retry-After` is waited for instead, and a quarter of a second at most on top, so that not all come
//! back at once. A wait that is longer than [`Retries::longest_wait`], or than the call has left, isn't begun: the failure
//! is the answer.
//!
//! **Hedges** ask the second candidate beside the first when that takes long; a route says so. Who answers first serves, the
//! other one is dropped, and with it its upstream.
//!
//! **The budget of extra calls** ([`Extra`]): retries and hedges together are at most a fifth of the calls. Each call brings a
//! fifth of one in; 10 are there at the start, 100 at most are saved up. Failing over to another candidate is free: it is
//! the circuit's business to end that.

pub use crate::routing::stats::breaker::Settings as Breaker;

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use crate::refusal::{Fault, Refusal};

/// What is done about failures and overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resilience {
    /// When a candidate is passed over.
    pub breaker: Breaker,
    /// When it is asked again.
    pub retries: Retries,
    /// Calls at once; 0: as many as come. 4,096.
    pub max_in_flight: usize,
    /// [Shadow calls](crate::shadow) at once; 0: none are made. 16.
    pub max_shadows: usize,
}

impl Default for Resilience {
    fn default() -> Self {
        let (breaker, retries) = (Breaker::default(), Retries::default());
        Self { breaker, retries, max_in_flight: 4_096, max_shadows: 16 }
    }
}

/// How often and when candidates are asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Further rounds: none.
    pub rounds: u32,
    /// The longest wait before one: 10 s.
    pub longest_wait: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { rounds: 0, longest_wait: Duration::from_secs(10) }
    }
}

/// The first wait is a random part of this.
const FIRST: Duration = Duration::from_millis(250);
/// And no later one of more.
const LONGEST: Duration = Duration::from_secs(8);

impl Retries {
    /// How long to wait before the next round (0: the first further one); none: there is none. `draw` is chance, `left` what
    /// the call has left.
    pub(crate) fn wait(&self, round: u32, refusal: &Refusal, left: Duration, draw: u64) -> Option<Duration> {
        if round >= self.rounds || !again(refusal) {
            return None;
        }
        let wait = match refusal.retry_after {
            Some(asked) => asked.saturating_add(part(FIRST, draw)),
            None => part(FIRST.saturating_mul(1 << round.min(5)).min(LONGEST), draw),
        };
        (wait <= self.longest_wait && wait < left).then_some(wait)
    }
}

/// A random part of a duration.
fn part(of: Duration, draw: u64) -> Duration {
    let micros = u64::try_from(of.as_micros()).unwrap_or(u64::MAX);
    Duration::from_micros(draw.checked_rem(micros).unwrap_or(0))
}

/// Whether the same candidate may do better, and nothing is done twice.
pub(crate) fn again(refusal: &Refusal) -> bool {
    let told = matches!(refusal.code.as_ref(), "upstream_unreachable" | "connection_busy");
    let lost = matches!(refusal.code.as_ref(), "upstream_disconnected" | "upstream_timeout" | "circuit_open");
    let vendors = refusal.fault == Fault::Upstream && matches!(refusal.status, 429 | 500 | 502 | 503 | 529);
    refusal.retryable && (told || (vendors && !lost))
}

/// Hundredths of a call.
const CALL: i64 = 100;
/// What a call brings in.
const SHARE: i64 = 20;

/// Extra calls that may be made: retries and hedges.
#[derive(Debug)]
pub(crate) struct Extra(AtomicI64);

impl Default for Extra {
    fn default() -> Self {
        Self(AtomicI64::new(10 * CALL))
    }
}

impl Extra {
    /// A call that may need one begins.
    pub(crate) fn earn(&self) {
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| {
            (saved < 100 * CALL).then_some(saved + SHARE)
        });
    }

    /// Takes one, if there is one.
    pub(crate) fn take(&self) -> bool {
        let take = |saved: i64| (saved >= CALL).then(|| saved - CALL);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(status: u16, code: &'static str, retry_after: Option<u64>) -> Refusal {
        let retry_after = retry_after.map(Duration::from_secs);
        Refusal { retry_after, ..Refusal::upstream(status, code, "") }
    }

    const THREE: Retries = Retries { rounds: 3, longest_wait: Duration::from_secs(10) };
    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_wait_is_a_random_part_that_doubles() {
        let failed = refusal(500, "upstream_error", None);
        for (round, most) in [(0, 250), (1, 500), (2, 1_000)] {
            let waits: Vec<_> = (0..1_000_u64)
                .map(|draw| {
                    THREE.wait(round, &failed, MINUTE, draw.wrapping_mul(0x9E37_79B9_7F4A_7C15)).unwrap()
                })
                .collect();
            let (least, longest) = (waits.iter().min().unwrap(), waits.iter().max().unwrap());
            let most = Duration::from_millis(most);
            assert!(*longest < most && *longest > most * 9 / 10, "{longest:?} of {most:?}");
            assert!(*least < most / 10, "full jitter begins at nothing: {least:?}");
        }
        assert_eq!(THREE.wait(3, &failed, MINUTE, 0), None, "three are enough");
        assert_eq!(Retries::default().wait(0, &failed, MINUTE, 0), None, "unless somebody wants them");
    }

    #[test]
    fn a_vendors_word_is_waited_for_within_the_deadline() {
        let told = |seconds| refusal(429, "rate_limit_exceeded", Some(seconds));
        let wait = THREE.wait(0, &told(3), MINUTE, 77).unwrap();
        assert!(wait >= Duration::from_secs(3) && wait < Duration::from_millis(3_250), "{wait:?}");
        assert_eq!(THREE.wait(0, &told(11), MINUTE, 0), None, "nobody waits that long");
        assert_eq!(THREE.wait(0, &told(3), Duration::from_secs(3), 0), None, "the call has less left");
    }

    #[test]
    fn what_may_have_been_done_isnt_done_again() {
        for (status, code, is_tried) in [
            (502, "upstream_unreachable", true),
            (429, "rate_limit_exceeded", true),
            (500, "upstream_error", true),
            (502, "upstream_disconnected", false),
            (504, "upstream_timeout", false),
            (503, "circuit_open", false),
        ] {
            assert_eq!(again(&refusal(status, code, None)), is_tried, "{code}");
        }
        assert!(!again(&Refusal { retryable: false, ..refusal(500, "x", None) }));
        assert!(!again(&Refusal { fault: Fault::Plugin, ..refusal(502, "plugin_trap", None) }));
    }

    #[test]
    fn extra_calls_are_a_fifth_at_most() {
        let extra = Extra::default();
        let made = (0..1_000).filter(|_| {
            extra.earn();
            extra.take()
        });
        assert_eq!(made.count(), 10 + 200);
        let extra = Extra::default();
        for _ in 0..10_000 {
            extra.earn();
        }
        assert_eq!((0..1_000).filter(|_| extra.take()).count(), 100, "and 100 at most are saved up");
    }
}
