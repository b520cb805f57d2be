//! Keys and values that outlive the instance, apart by tenant and plugin.

use core::time::Duration;

use crate::bindings::capabilities::brokle::host::kv;
use crate::prelude::*;
pub use kv::{Entry, Error, Page, delete, get, list};

fn millis(ttl: Option<Duration>) -> Option<u64> {
    ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX))
}

/// Keeps a value, for `ttl` or until it is deleted, and gives its revision.
///
/// # Errors
/// Not granted, a quota, out of bounds, or the store failed.
pub fn set(key: &str, value: &[u8], ttl: Option<Duration>) -> Result<u64, Error> {
    kv::set(key, value, millis(ttl))
}

/// Keeps a value if the key's revision still is `expected` (none: if there is no such key).
///
/// # Errors
/// [`Error::Conflict`] if it isn't; the rest as [`set`].
pub fn compare_and_set(
    key: &str,
    expected: Option<u64>,
    value: &[u8],
    ttl: Option<Duration>,
) -> Result<u64, Error> {
    kv::compare_and_set(key, expected, value, millis(ttl))
}

/// Changes a value, however many others change it at once: reads, computes, and writes if nobody has written between,
/// at most eight times. Gives what was written.
///
/// # Errors
/// As [`set`]; [`Error::Conflict`] after the eighth time.
pub fn update(
    key: &str,
    ttl: Option<Duration>,
    change: impl Fn(Option<&[u8]>) -> Vec<u8>,
) -> Result<Vec<u8>, Error> {
    let mut last = Error::Conflict(None);
    for _ in 0..8 {
        let entry = get(key)?;
        let value = change(entry.as_ref().map(|entry| entry.value.as_slice()));
        match compare_and_set(key, entry.map(|entry| entry.revision), &value, ttl) {
            Ok(_) => return Ok(value),
            Err(conflict @ Error::Conflict(_)) => last = conflict,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}
