//! The life of a component in a real catalogue: real components, a real database, a real folder, a real registry. The
//! components are built by `make plugins guests`.
#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod configuring;
mod failing;
mod harness;
mod installing;
mod registry;
mod scopes;
mod watching;
