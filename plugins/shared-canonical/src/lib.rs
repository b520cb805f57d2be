//! What adapters share about the canonical form: a request's members ([`Fields`]), chat answers ([`Chat`]), texts that
//! nobody reads ([`Text`]), embeddings ([`embeddings`]), pictures and sound ([`media`]), files and batches that a vendor
//! keeps ([`kept`]), batches whose lines go with them ([`batches`]), `data:` URLs and path segments ([`url`]).
//!
//! A library, not a component. Without `std` in a guest, so that components without it may use it.

#![cfg_attr(target_arch = "wasm32", no_std)]

extern crate alloc;

pub mod batches;
mod chat;
pub mod embeddings;
mod fields;
pub mod kept;
pub mod media;
mod text;
pub mod url;

pub use chat::{Chat, Usage};
pub use fields::{Fields, parse};
pub use text::Text;

use alloc::format;
use alloc::string::String;

use brokle_plugin::provider::ResponseHead;
use brokle_plugin::{Problem, ProblemKind};

/// The first 500 characters of an error answer that has no form we know (a proxy's page), or that there was none.
pub fn quoted(vendor: &str, status: u16, body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let quoted: String = text.trim().chars().take(500).collect();
    match quoted.is_empty() {
        true => format!("{vendor} answered {status} without a message."),
        false => quoted,
    }
}

/// A problem out of an error answer: 4xx keep their status, 5xx get the one of their kind; the wait as the head says it.
pub fn answered(kind: ProblemKind, message: String, head: &ResponseHead) -> Problem {
    Problem {
        status: (400..500).contains(&head.status).then_some(head.status),
        retry_after_ms: head.retry_after_ms(),
        ..Problem::new(kind, message)
    }
}
