//! Capabilities, used by a real guest: each granted, each denied, each at its limits.
//!
//! The guest (`tests/guests/capable`) is built by `make guests`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod crypto;
mod deadlines;
mod denied;
mod harness;
mod http;
mod kv;
mod load;
mod log;
mod telemetry;
mod time;
