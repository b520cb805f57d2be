//! The binaries as they are used: the floor in front of the instant upstream, and runs of a few shapes.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml lets tests panic, but only sees helpers as tests inside #[test] functions"
)]

mod dialects;
mod features;
mod floor;
mod run;
mod soak;
mod telemetry;
