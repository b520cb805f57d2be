//! Calls through a whole gateway: real plugins in real sandboxes, a real store, and an upstream that misbehaves on
//! command. The components are built by `make plugins`.
#![allow(
    unreachable_pub,
    clippy::semicolon_if_nothing_returned,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod accounting;
mod allowed;
mod bad_input;
mod batches;
mod budgets;
mod cache;
mod checks;
mod choosing;
mod clouds;
mod credentials;
mod cutting;
mod dialects;
mod egress;
mod failures;
mod framings;
mod guardrails;
mod harness;
mod keys;
mod limits;
mod media;
mod passing;
mod pictures;
mod plugin_egress;
mod plugins;
mod presets;
mod raw;
mod realtime;
mod resilience;
mod routes;
mod scores;
mod semantic;
mod shadow;
mod signing;
mod swaps;
mod vendor;
