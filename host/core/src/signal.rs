//! OpenTelemetry's other two signals, as they are kept: log records and metrics' data points.
//!
//! Like an [`Observation`](crate::observation::Observation) they belong to a tenant, times are whole microseconds, and
//! they are what the telemetry queue holds: fields may be added (with a default) but never renamed. They come from
//! elsewhere only, so nothing here is on a call's path.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::observation::{SpanId, TraceId, attributes_weight};
use crate::tenancy::Tenant;

/// A log record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogRecord {
    /// What tells it from every other one: a hash of what was sent, so that the same record sent again is the same.
    pub id: u128,
    /// Whose it is.
    pub tenant: Tenant,
    /// When it happened, in microseconds since the Unix epoch.
    pub time_us: i64,
    /// When it was noticed.
    pub observed_us: i64,
    /// The trace that it was written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<TraceId>,
    /// The span that it was written in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span_id: Option<SpanId>,
    /// OpenTelemetry's number, 1 (trace) to 24 (fatal); 0 when it isn't said.
    #[serde(default)]
    pub severity_number: u8,
    /// The severity as its source calls it; empty when it isn't said.
    #[serde(default)]
    pub severity_text: String,
    /// The event's name; empty for a record that is no event.
    #[serde(default)]
    pub event_name: String,
    /// What it says: a text, or the JSON of what isn't one.
    #[serde(default)]
    pub body: String,
    /// `service.name` of its resource; empty when it isn't said.
    #[serde(default)]
    pub service: String,
    /// Whatever else was said about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// Who said it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resource: BTreeMap<String, Value>,
    /// The instrumentation's name.
    #[serde(default)]
    pub scope: String,
}

/// A metric's value of one moment, for one set of attributes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MetricPoint {
    /// Whose it is.
    pub tenant: Tenant,
    /// The metric's name.
    pub name: String,
    /// What it is, for people.
    #[serde(default)]
    pub description: String,
    /// [UCUM](https://ucum.org): `s`, `By`, `{token}`, ….
    #[serde(default)]
    pub unit: String,
    /// `gauge`, `sum`, `histogram` or `summary`.
    pub kind: String,
    /// `delta`, `cumulative`, or empty.
    #[serde(default)]
    pub temporality: String,
    /// Whether a sum never falls.
    #[serde(default)]
    pub is_monotonic: bool,
    /// What its points have in common: a hash of its metric's name and kind, attributes, resource and scope; never negative.
    pub series: i64,
    /// From when on it counts, in microseconds since the Unix epoch; 0 when it isn't said.
    #[serde(default)]
    pub start_us: i64,
    /// Its moment.
    pub time_us: i64,
    /// A gauge's or sum's value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<f64>,
    /// A histogram's or summary's number of values.
    #[serde(default)]
    pub count: u64,
    /// Their sum.
    #[serde(default)]
    pub sum: f64,
    /// The least of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// The largest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// Where buckets end, ascending; the last bucket has no end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bucket_bounds: Vec<f64>,
    /// Values in each bucket: one more than bounds, or none at all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bucket_counts: Vec<u64>,
    /// What the point is about.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// Who measured it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub resource: BTreeMap<String, Value>,
    /// The instrumentation's name.
    #[serde(default)]
    pub scope: String,
}

impl LogRecord {
    /// About how many bytes it holds in memory, as [`Observation::weight`](crate::observation::Observation::weight).
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.severity_text.len()
            + self.event_name.len()
            + self.body.len()
            + self.service.len()
            + self.scope.len()
            + attributes_weight(&self.attributes)
            + attributes_weight(&self.resource)
    }
}

impl MetricPoint {
    /// About how many bytes it holds in memory, as [`Observation::weight`](crate::observation::Observation::weight).
    #[must_use]
    pub fn weight(&self) -> usize {
        size_of::<Self>()
            + self.name.len()
            + self.description.len()
            + self.unit.len()
            + self.scope.len()
            + size_of::<u64>() * (self.bucket_bounds.len() + self.bucket_counts.len())
            + attributes_weight(&self.attributes)
            + attributes_weight(&self.resource)
    }
}
