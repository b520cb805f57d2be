//! Log records and metrics as OTLP says them, whichever encoding they came in.

use serde_json::Value;

use super::span::Attributes;

/// A log record.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Log {
    /// Nanoseconds since the Unix epoch; 0 when it isn't known.
    pub(super) time_ns: u64,
    /// When it was noticed.
    pub(super) observed_ns: u64,
    pub(super) severity_number: i64,
    pub(super) severity_text: String,
    pub(super) body: Value,
    pub(super) attributes: Attributes,
    /// 16 bytes, or none.
    pub(super) trace_id: Vec<u8>,
    /// 8 bytes, or none.
    pub(super) span_id: Vec<u8>,
    pub(super) event_name: String,
}

/// What the points of a metric have in common.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Metric {
    pub(super) name: String,
    pub(super) description: String,
    pub(super) unit: String,
    pub(super) kind: Option<Kind>,
    /// 0 unspecified, 1 delta, 2 cumulative.
    pub(super) temporality: i64,
    pub(super) is_monotonic: bool,
}

/// What a metric's data are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
}

/// A point of any kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) start_ns: u64,
    pub(super) time_ns: u64,
    pub(super) attributes: Attributes,
    /// A gauge's or sum's; none for "no recorded value".
    pub(super) value: Option<f64>,
    pub(super) count: u64,
    pub(super) sum: f64,
    pub(super) min: Option<f64>,
    pub(super) max: Option<f64>,
    pub(super) bounds: Vec<f64>,
    pub(super) counts: Vec<u64>,
    pub(super) exponential: Option<Exponential>,
    /// Of a summary: which quantile, and its value.
    pub(super) quantiles: Vec<(f64, f64)>,
}

/// The buckets of an exponential histogram.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Exponential {
    pub(super) scale: i32,
    pub(super) zero_count: u64,
    pub(super) zero_threshold: f64,
    pub(super) positive: Buckets,
    pub(super) negative: Buckets,
}

/// Bucket `n` counts values above `base^(offset + n)`, up to `base^(offset + n + 1)`.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Buckets {
    pub(super) offset: i32,
    pub(super) counts: Vec<u64>,
}
