//! What the endpoints share that take telemetry from elsewhere: where it goes, and how much may be on its way.
//!
//! Bodies are bounded together, not only one by one: [`MAX_IN_FLIGHT`] bytes of bodies, as they came and inflated, are in
//! memory at once. What finds no room is answered 503 with `Retry-After`, which OpenTelemetry's senders heed.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use brokle_telemetry::Recorder;
use brokle_telemetry::recording::Recording;

/// The largest body, before and after it is inflated, unless configured: what the specification recommends.
pub const DEFAULT_MAX_BYTES: usize = 64 << 20;

/// Bytes of all bodies that are in memory at once: two of the largest, as they came and inflated.
pub const MAX_IN_FLIGHT: usize = 256 << 20;

/// Where telemetry from elsewhere goes.
#[derive(Debug)]
pub struct Ingest {
    /// The durable queue.
    pub recorder: Arc<Recorder>,
    /// What is recorded of it.
    pub recording: Arc<Recording>,
    /// The largest body, before and after it is inflated.
    pub max_bytes: usize,
    in_flight: Arc<AtomicUsize>,
}

impl Ingest {
    /// Into this queue; bodies up to this many bytes.
    #[must_use]
    pub fn new(recorder: Arc<Recorder>, max_bytes: usize) -> Self {
        Self { recorder, recording: Arc::default(), max_bytes, in_flight: Arc::default() }
    }

    /// The same, by an operator's rules.
    #[must_use]
    pub fn with_recording(self, recording: Arc<Recording>) -> Self {
        Self { recording, ..self }
    }

    /// A share of the memory for bodies, empty at first.
    #[must_use]
    pub fn share(&self) -> Share {
        Share {
            in_flight: Arc::clone(&self.in_flight),
            bytes: 0,
            most: MAX_IN_FLIGHT.max(2 * self.max_bytes),
        }
    }
}

/// One request's share of the memory for bodies; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    in_flight: Arc<AtomicUsize>,
    bytes: usize,
    most: usize,
}

impl Share {
    /// Takes more; false, and no change, when there isn't as much.
    #[must_use]
    pub fn grow(&mut self, bytes: usize) -> bool {
        let before = self.in_flight.fetch_add(bytes, Ordering::SeqCst);
        if before.saturating_add(bytes) > self.most {
            self.in_flight.fetch_sub(bytes, Ordering::SeqCst);
            return false;
        }
        self.bytes += bytes;
        true
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.in_flight.fetch_sub(self.bytes, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_together_and_given_back() {
        let in_flight = Arc::<AtomicUsize>::default();
        let share = || Share { in_flight: Arc::clone(&in_flight), bytes: 0, most: 100 };
        let (mut one, mut other) = (share(), share());
        assert!(one.grow(60) && !other.grow(41) && other.grow(40) && !one.grow(1));
        drop(one);
        assert!(other.grow(60));
        drop(other);
        assert_eq!(in_flight.load(Ordering::SeqCst), 0);
    }
}
