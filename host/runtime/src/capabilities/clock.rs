//! `brokle:host/clock`: the wall clock, and a coarse one that only goes forward.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::bindings::capabilities::brokle::host::clock::{Datetime, Error, Host};
use crate::instance::State;

/// What the monotonic clock is cut to. A finer one would let a guest measure what else runs on the machine.
pub const STEP: Duration = Duration::from_micros(100);

/// A source of time that only goes forward.
pub trait Monotonic: Send + Sync + Debug {
    /// Time since some point in the past.
    fn elapsed(&self) -> Duration;
}

/// The machine's monotonic clock, from the making of this value on.
#[derive(Debug, Clone, Copy)]
pub struct SystemMonotonic(Instant);

impl Default for SystemMonotonic {
    fn default() -> Self {
        Self(Instant::now())
    }
}

impl Monotonic for SystemMonotonic {
    fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}

/// One that stands still until it is moved; for tests.
#[derive(Debug, Default)]
pub struct ManualMonotonic(AtomicU64);

impl ManualMonotonic {
    /// Moves on.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Monotonic for ManualMonotonic {
    fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

impl Host for State {
    fn now(&mut self) -> wasmtime::Result<Result<Datetime, Error>> {
        let granted = self.granted("clock", |instance| instance.plugin.grants.clock);
        Ok(granted.ok_or(Error::Denied).map(|instance| {
            let now = instance.plugin.services.clock.now();
            Datetime {
                seconds: u64::try_from(now.timestamp()).unwrap_or_default(),
                // A leap second is shown as more than a second's worth.
                nanoseconds: now.timestamp_subsec_nanos().min(999_999_000),
            }
        }))
    }

    fn monotonic(&mut self) -> wasmtime::Result<Result<u64, Error>> {
        let granted = self.granted("clock", |instance| instance.plugin.grants.clock);
        Ok(granted.ok_or(Error::Denied).map(|instance| {
            let elapsed = instance.plugin.services.monotonic.elapsed().as_nanos();
            let step = STEP.as_nanos();
            u64::try_from(elapsed / step * step).unwrap_or(u64::MAX)
        }))
    }
}
