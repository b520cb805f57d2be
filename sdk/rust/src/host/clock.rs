//! The time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bindings::capabilities::brokle::host::clock;
pub use clock::{Datetime, Error};

/// The time of day. It may go backwards.
///
/// # Errors
/// Not granted.
pub fn now() -> Result<SystemTime, Error> {
    clock::now().map(|now| UNIX_EPOCH + Duration::new(now.seconds, now.nanoseconds))
}

/// Time since some point in the past, in steps of 100 µs. It never goes backwards.
///
/// # Errors
/// Not granted.
pub fn monotonic() -> Result<Duration, Error> {
    clock::monotonic().map(Duration::from_nanos)
}
