//! The development ClickHouse, from outside.
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml lets tests panic, but only sees helpers as tests inside #[test] functions"
)]

mod protocol;
