//! The sandbox: loads components, gives each request a fresh instance, and bounds what it may use.
//!
//! # What holds
//! - One engine configuration for everything that compiles or runs ([`engine`]).
//! - A component is inspected before it is compiled: manifest, versions, imports ([`manifest`],
//!   [`load`]). An import that the host doesn't offer is refused by name.
//! - Compiled code comes from this host or from nowhere: the cache is authenticated ([`cache`]).
//! - A fresh instance for each request, in a store of its own that is dropped after any error
//!   ([`instance`]). No instance ever serves two requests.
//! - Memory, time, host-call bytes, handles, stack and log lines are bounded ([`limits`]).
//! - What runs is signed by somebody whom this host believes ([`trust`]), and paid components ask the license ([`license`]).
//! - WASI is there in name only ([`wasi`]): no files, sockets, clocks, environment or randomness.

mod bindings;
mod body;
mod builtin;
mod cache;
pub mod capabilities;
mod dialect;
mod engine;
mod error;
mod export;
mod exporter;
mod framing;
pub mod grants;
mod guardrail;
mod image;
mod instance;
mod lane;
mod lazy;
pub mod license;
mod limits;
mod load;
mod loaded;
mod manifest;
mod observer;
mod policy;
mod provider;
mod stack;
mod ticks;
pub mod trust;
mod wasi;

pub use bindings::common::{ConfigProblem, Header, Problem, ProblemKind, UsageEntry};
pub use bindings::dialect::brokle::dialect::exchange as dialects;
pub use bindings::exporter::brokle::exporter::batches as exporting;
pub use bindings::guardrail::brokle::guardrail::facts as guarding;
pub use bindings::provider::brokle::provider::exchange;
pub use bindings::routing::brokle::routing::facts;
pub use body::{Body, Repeated};
pub use builtin::Builtin;
pub use capabilities::Capabilities;
pub use dialect::{DialectEncoder, DialectInstance, DialectPlugin, DialectReader};
pub use engine::{Runtime, RuntimeConfig};
pub use error::{Fault, LoadError, PluginError};
pub use exporter::ExporterPlugin;
pub use framing::{FrameError, Framer, MAX_EVENT, MAX_WHOLE};
pub use guardrail::{GuardrailInstance, GuardrailPlugin};
pub use image::let_go;
pub use instance::{CallContext, Spent};
pub use limits::Limits;
pub use load::{Inspection, inspect};
pub use manifest::{Kind, Manifest, Preset, ProviderManifest, RateLimitHeaders, RemainingHeaders};
pub use observer::Observer;
pub use policy::PolicyPlugin;
pub use provider::{ProviderInstance, ProviderPlugin};
pub use stack::guest_stack;
