//! Write a Brokle plugin in Rust.
//!
//! A plugin is one WebAssembly component. It implements one trait of this crate, names itself in
//! a `plugin.json` beside its `Cargo.toml`, and is built with plain cargo:
//!
//! ```text
//! cargo build --release --target wasm32-wasip2
//! ```
//!
//! | trait | world | what it does |
//! |---|---|---|
//! | [`Provider`] | `brokle:provider/provider` | turns calls into a vendor's requests, and answers back |
//! | [`RoutingPolicy`] | `brokle:routing/routing-policy` | orders the candidates for a request |
//! | [`Dialect`] | `brokle:dialect/dialect` | puts another wire format in front of any provider |
//! | [`Guardrail`] | `brokle:guardrail/guardrail` | lets a call's texts pass, changes or blocks them |
//! | [`Exporter`] | `brokle:exporter/exporter` | sends observations elsewhere |
//!
//! Every other method has a default. A component has no network, no files, no clock and no
//! randomness: what a call needs comes in as arguments, and the same input gives the same output,
//! which is what lets a plugin be tested from recorded bytes.
//!
//! # A complete provider
//!
//! For a vendor that speaks OpenAI's format under another path and with its own key header:
//!
//! ```
//! use brokle_plugin::provider::*;
//! use brokle_plugin::{Description, Problem};
//!
//! struct Acme;
//!
//! impl Provider for Acme {
//!     type Decoder = NoDecoder;
//!
//!     fn describe() -> Description {
//!         Description::provider([("chat.completions", &["stream", "tools"][..])])
//!     }
//!
//!     fn prepare(call: &Call, _body: &Body) -> Result<Preparation, Problem> {
//!         if call.operation != "chat.completions" {
//!             return Err(Problem::unsupported_operation(call));
//!         }
//!         Ok(UpstreamRequest::post("/v2/chat")
//!             .auth(Auth::Header(HeaderAuth { name: "x-acme-key".into(), prefix: String::new() }))
//!             .edits([Edit::set("/model", &call.model)])
//!             .native()
//!             .into())
//!     }
//! }
//!
//! # // The manifest is read from `plugin.json`; this example brings its own.
//! brokle_plugin::export!(provider: Acme, manifest = r#"{
//!     "id": "com.acme.provider", "name": "acme", "version": "0.0.0",
//!     "kind": "provider", "wit": "brokle:provider@0.1.0"
//! }"#);
//! # fn main() {}
//! ```
//!
//! # Size and speed
//!
//! Every request gets a fresh instance, so a component should be small and quick to start: link
//! it with a small stack (`-C link-arg=-zstack-size=65536`), build it optimized with `lto` and
//! `panic = "abort"`, and keep the function names (`strip = "debuginfo"`, not `true`), which make
//! the frames of a trap readable. The template in `sdk/templates` has all of it.
//!
//! A component that needs nothing of `std` can do without: its instance then is one core
//! module without a single WASI import, which costs a third of one with `std`. Take this crate
//! with `default-features = false`, begin with `#![cfg_attr(target_arch = "wasm32", no_std)]` and
//! write [`no_std!`] beside [`export!`]. A panic then traps without a message; the frames stay.

#![no_std]

extern crate alloc;
#[cfg(any(feature = "std", test))]
extern crate std;

pub mod bindings;
pub mod dialect;
mod export;
#[doc(hidden)]
pub use export::bytes as __bytes;
#[cfg(feature = "std")]
pub mod exporter;
pub mod guardrail;
pub mod host;
pub mod openai;
mod problem;
pub mod provider;
pub mod routing;
#[cfg(all(target_arch = "wasm32", not(feature = "std")))]
#[doc(hidden)]
pub mod small;

/// What `std`'s prelude has and `core`'s hasn't.
mod prelude {
    pub(crate) use alloc::borrow::ToOwned;
    pub(crate) use alloc::string::{String, ToString};
    pub(crate) use alloc::vec::Vec;
    pub(crate) use alloc::{format, vec};
}
use prelude::*;

pub use bindings::common::{ConfigProblem, Header, Problem, ProblemKind, UsageEntry};
pub use dialect::Dialect;
#[cfg(feature = "std")]
pub use exporter::Exporter;
pub use guardrail::Guardrail;
pub use provider::Provider;
pub use routing::RoutingPolicy;

/// What a component says of itself: the JSON that `lifecycle.describe` answers.
#[derive(Debug, Clone, serde::Serialize)]
#[serde(transparent)]
pub struct Description(serde_json::Map<String, serde_json::Value>);

impl Description {
    /// A provider's: each operation with its features (`stream`, `tools`, `vision`, …).
    pub fn provider<'a>(operations: impl IntoIterator<Item = (&'a str, &'a [&'a str])>) -> Self {
        let operations: serde_json::Map<_, _> =
            operations.into_iter().map(|(name, features)| (name.to_owned(), features.into())).collect();
        Self([("operations".to_owned(), operations.into())].into_iter().collect())
    }

    /// A routing policy's: the facts it reads. Texts and lists that aren't named here are empty when it is asked.
    pub fn routing_policy<'a>(facts: impl IntoIterator<Item = &'a str>) -> Self {
        let facts: serde_json::Value = facts.into_iter().collect();
        Self([("facts".to_owned(), facts)].into_iter().collect())
    }

    /// A guardrail's: the stages that it has rules for, `request` and `response`.
    pub fn guardrail<'a>(stages: impl IntoIterator<Item = &'a str>) -> Self {
        let stages: serde_json::Value = stages.into_iter().collect();
        Self([("stages".to_owned(), stages)].into_iter().collect())
    }

    /// An exporter's.
    pub fn exporter() -> Self {
        Self(serde_json::Map::new())
    }

    /// A dialect's: its name (`anthropic.messages`), and the endpoints that it has.
    pub fn dialect<'a>(name: &str, endpoints: impl IntoIterator<Item = &'a str>) -> Self {
        let endpoints: serde_json::Value = endpoints.into_iter().collect();
        Self([("dialect".to_owned(), name.into()), ("endpoints".to_owned(), endpoints)].into_iter().collect())
    }

    /// A provider's, with the dialects that it takes and gives as they are.
    #[must_use]
    pub fn native_dialects<'a>(self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.with("native_dialects", names.into_iter().collect())
    }

    /// Adds a member of the plugin's own.
    #[must_use]
    pub fn with(mut self, name: &str, value: serde_json::Value) -> Self {
        self.0.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn into_json(self) -> Vec<u8> {
        serde_json::Value::Object(self.0).to_string().into_bytes()
    }
}
