//! Averages that fade with time. Times are microseconds since the Unix epoch; a clock that goes back counts as standing still.

use std::time::Duration;

/// How fast latencies fade: to a third in 10 s.
const LATENCY: f64 = 10e6;
/// How fast calls and failures are forgotten: to a third in 30 s.
const ERRORS: f64 = 30e6;
/// How long a latency is known without a new one.
const KNOWN: i64 = 600_000_000;
/// What must be left of a call for an error rate to mean anything.
const ENOUGH: f64 = 0.05;

/// What is left of a weight.
fn left(from: i64, now: i64, tau: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a span of microseconds, not a date")]
    let span = now.saturating_sub(from).max(0) as f64;
    (-span / tau).exp()
}

/// A moving average that takes a larger value over at once, a smaller one by and by. Milliseconds.
#[derive(Debug, Default)]
pub(super) struct PeakEwma {
    value: f64,
    at: Option<i64>,
}

impl PeakEwma {
    pub(super) fn record(&mut self, now: i64, sample: Duration) {
        let sample = sample.as_secs_f64() * 1e3;
        self.value = match self.at.filter(|at| now.saturating_sub(*at) < KNOWN) {
            Some(at) if sample < self.value => {
                // At least a tenth of the difference: a burst of good answers at one time counts too.
                let weight = left(at, now, LATENCY).min(0.9);
                sample + (self.value - sample) * weight
            }
            _ => sample,
        };
        self.at = Some(now);
    }

    /// What it has faded to; none: not known.
    pub(super) fn read(&self, now: i64) -> Option<f64> {
        let at = self.at.filter(|at| now.saturating_sub(*at) < KNOWN)?;
        Some(self.value * left(at, now, LATENCY))
    }
}

/// Failures as a share of calls.
#[derive(Debug, Default)]
pub(super) struct ErrorRate {
    failures: f64,
    calls: f64,
    at: i64,
}

impl ErrorRate {
    pub(super) fn record(&mut self, now: i64, failed: bool) {
        let weight = left(self.at, now, ERRORS);
        self.failures = self.failures * weight + f64::from(u8::from(failed));
        self.calls = self.calls * weight + 1.0;
        self.at = self.at.max(now);
    }

    pub(super) fn read(&self, now: i64) -> Option<f64> {
        let calls = self.calls * left(self.at, now, ERRORS);
        (calls >= ENOUGH).then(|| (self.failures / self.calls).clamp(0.0, 1.0))
    }
}
