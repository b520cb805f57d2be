//! Digests, and keys that stay in the host.
//!
//! ```no_run
//! use brokle_plugin::host::{crypto, secrets};
//!
//! # fn signed(body: &[u8]) -> Option<Vec<u8>> {
//! let key = secrets::open("webhook-key").ok()?;
//! let signature = crypto::hmac("sha-256", &key, body).ok()?;
//! # Some(signature) }
//! ```

pub use crate::bindings::capabilities::brokle::host::crypto::{
    Error, constant_time_equal, digest, hmac, hmac_verify, random_bytes, sign, verify, verify_own,
};
