//! The upstream over a socket: what it answers, and each fault byte by byte.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "clippy.toml lets tests panic, but only sees helpers as tests inside #[test] functions"
)]

mod answers;
mod client;
mod cuts;
mod journal;
mod streams;
