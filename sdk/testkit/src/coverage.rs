//! Which of the world's functions fixtures have called.

use std::collections::BTreeMap;
use std::time::Duration;

use brokle_runtime::{Fault, Kind, Observer};
use parking_lot::Mutex;

/// Hears of every call.
#[derive(Debug, Default)]
pub(crate) struct Heard(Mutex<BTreeMap<&'static str, u64>>);

impl Observer for Heard {
    fn called(&self, export: &'static str, _: Duration, _: usize, _: Option<&Fault>) {
        *self.0.lock().entry(export).or_default() += 1;
    }
}

impl Heard {
    /// Each function of the world, with how often it was called. Loading calls `describe` and `self-test`
    /// once, and each of `configs` is checked.
    pub(crate) fn coverage(&self, kind: Kind, configs: u64) -> BTreeMap<String, u64> {
        let heard = self.0.lock();
        let count = |name: &'static str| heard.get(name).copied().unwrap_or(0);
        let loading = [("describe", 1), ("self-test", 1), ("check-config", configs)];
        let others = functions(kind).iter().map(|name| (*name, count(name)));
        loading.into_iter().chain(others).map(|(name, calls)| (name.to_owned(), calls)).collect()
    }
}

/// What the world demands beside its lifecycle, in the names of errors and metrics.
fn functions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Provider => &["prepare", "map-error", "decoder.constructor", "decoder.push", "decoder.finish"],
        Kind::RoutingPolicy => &["decide"],
        Kind::Guardrail => &["on-request", "on-response", "on-chunk"],
        Kind::Exporter => &["export"],
        Kind::Dialect => &[
            "read-head",
            "to-canonical",
            "estimate",
            "write-answer",
            "write-error",
            "read-answer",
            "encoder.constructor",
            "encoder.push",
            "encoder.finish",
            "encoder.failed",
            "reader.constructor",
            "reader.push",
            "reader.failed",
        ],
    }
}
