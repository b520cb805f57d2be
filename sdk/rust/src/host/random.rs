//! Randomness fit for keys.

use crate::bindings::capabilities::brokle::host::random;
pub use random::{Error, bytes, number};

/// An array of random bytes.
///
/// # Errors
/// Not granted, or more than 65,536 bytes.
pub fn array<const N: usize>() -> Result<[u8; N], Error> {
    let length = u32::try_from(N).unwrap_or(u32::MAX);
    bytes(length)?.try_into().map_err(|_| Error::Other("another length than was asked for".into()))
}
