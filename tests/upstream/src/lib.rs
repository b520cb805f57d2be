#![doc = include_str!("../README.md")]

mod answer;
mod anthropic;
mod control;
mod fault;
mod gzip;
mod inbound;
mod journal;
mod openai;
mod plan;
mod play;
mod server;
mod sse;
mod text;

pub use fault::{Fault, FaultError, MalformedSse};
pub use journal::{DEADLINE, End, NeverSeen, Outcome, Seen};
pub use server::Upstream;
pub use text::content;
