//! What the host offers: log lines and configuration to every plugin, the rest to those whose manifest asks for it and
//! whose operator grants it.
//!
//! | module | manifest's `capabilities` |
//! |---|---|
//! | [`clock`] | `"clock": {}` |
//! | [`crypto`] | `"crypto": {}`, and the names of the keys in `"secrets"` |
//! | [`http`] | `"http": { "upstreams": { … } }` |
//! | [`kv`] | `"kv": {}` |
//! | [`random`] | `"random": {}` |
//! | [`secrets`] | `"secrets": ["name", …]` |
//! | [`telemetry`] | `"telemetry": { "metrics": { … } }` |
//!
//! A component that calls a function of a module which its manifest doesn't ask for is refused when it is loaded. What is
//! asked for and not granted answers `Denied`: say what you do without it. What a role may ask for:
//! `docs/plugins/capabilities.md`.

#[cfg(feature = "std")]
pub mod clock;
pub mod crypto;
pub mod http;
pub mod kv;
pub mod random;
pub mod secrets;
pub mod telemetry;

use crate::bindings::provider::brokle::host;
use crate::prelude::*;
pub use host::log::Level;

/// Writes a line to the host's log, with named values beside it.
///
/// Never put a request's content or a credential in one. Lines over the grant (64 a call by
/// default) are dropped.
pub fn log(level: Level, message: &str, fields: &[(&str, &str)]) {
    let fields: Vec<_> = fields
        .iter()
        .map(|(name, value)| host::log::Field { name: (*name).to_owned(), value: (*value).to_owned() })
        .collect();
    host::log::log(level, message, &fields);
}

/// The plugin's whole configuration for this call, as your own type.
///
/// # Errors
/// The JSON doesn't fit the type. The manifest's schema should make that impossible.
pub fn config<T: serde::de::DeserializeOwned>() -> Result<T, serde_json::Error> {
    serde_json::from_slice(&host::config::get())
}
