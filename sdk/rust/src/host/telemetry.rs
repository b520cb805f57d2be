//! Spans under the request's trace, and metrics that the manifest declares.

use crate::bindings::capabilities::brokle::host::telemetry;
use crate::prelude::*;
pub use telemetry::{Attribute, Error, Span};

fn attributes(named: &[(&str, &str)]) -> Vec<Attribute> {
    named
        .iter()
        .map(|(name, value)| Attribute { name: (*name).to_owned(), value: (*value).to_owned() })
        .collect()
}

/// Starts a span; it ends when it is dropped.
///
/// # Errors
/// Not granted, or no more for this instance.
pub fn start(name: &str, named: &[(&str, &str)]) -> Result<Span, Error> {
    telemetry::start(name, &attributes(named))
}

/// Adds to a counter.
///
/// # Errors
/// Not granted, or not declared so.
pub fn add(metric: &str, amount: u64, labels: &[(&str, &str)]) -> Result<(), Error> {
    telemetry::add(metric, amount, &attributes(labels))
}

/// Records one value of a histogram.
///
/// # Errors
/// Not granted, not declared so, or not finite.
pub fn observe(metric: &str, value: f64, labels: &[(&str, &str)]) -> Result<(), Error> {
    telemetry::observe(metric, value, &attributes(labels))
}
