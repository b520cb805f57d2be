//! What the host offers every plugin: log lines and configuration.

use crate::bindings::provider::brokle::host;
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
