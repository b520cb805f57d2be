//! Questions about log records and metrics' points, and what they are answered. Field names are part of the API.
//!
//! Lists are ordered by time, the newest first; series by name. Attributes are JSON's values, as they were sent.

use brokle_core::ids::EnvironmentId;
use brokle_core::observation::{SpanId, TraceId};
use brokle_core::signal::{LogRecord, MetricPoint};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use super::Place;
use super::view::rfc3339;

/// Which log records.
#[derive(Clone, Debug)]
pub struct LogsQuery {
    /// Of this time or later.
    pub from: DateTime<Utc>,
    /// Before this time.
    pub to: DateTime<Utc>,
    /// Of this severity or a higher one: OpenTelemetry's number.
    pub min_severity: Option<u8>,
    /// Written in this trace.
    pub trace_id: Option<TraceId>,
    /// Written in this span.
    pub span_id: Option<SpanId>,
    /// Of this `service.name`.
    pub service: Option<String>,
    /// Events of this name.
    pub event_name: Option<String>,
    /// With this text in the body, in any case.
    pub text: Option<String>,
    /// How many at most.
    pub limit: u32,
    /// After this place.
    pub after: Option<Place>,
}

/// Which points.
#[derive(Clone, Debug)]
pub struct PointsQuery {
    /// Of this time or later.
    pub from: DateTime<Utc>,
    /// Before this time.
    pub to: DateTime<Utc>,
    /// Of this metric.
    pub name: Option<String>,
    /// Of this series.
    pub series: Option<i64>,
    /// How many at most.
    pub limit: u32,
    /// After this place.
    pub after: Option<Place>,
}

/// A log record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LogRow {
    /// Its id: 32 hex digits.
    pub id: String,
    /// When it happened.
    #[serde(serialize_with = "rfc3339")]
    pub time: DateTime<Utc>,
    /// When it was noticed.
    #[serde(serialize_with = "rfc3339")]
    pub observed_time: DateTime<Utc>,
    /// The trace that it was written in.
    pub trace_id: Option<TraceId>,
    /// The span that it was written in.
    pub span_id: Option<SpanId>,
    /// OpenTelemetry's number, 1 to 24; 0 when it wasn't said.
    pub severity_number: u8,
    /// The severity as its source calls it.
    pub severity_text: String,
    /// The event's name.
    pub event_name: Option<String>,
    /// What it says.
    pub body: String,
    /// `service.name`.
    pub service: Option<String>,
    /// Whatever else was said about it.
    pub attributes: Map<String, Value>,
    /// Who said it.
    pub resource: Map<String, Value>,
    /// The instrumentation's name.
    pub scope: Option<String>,
    /// The environment it belongs to.
    pub environment_id: EnvironmentId,
}

/// A metric's point.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PointRow {
    /// The metric's name.
    pub name: String,
    /// Its series: 16 hex digits.
    pub series: String,
    /// Its unit.
    pub unit: String,
    /// What it is.
    pub description: String,
    /// `gauge`, `sum`, `histogram` or `summary`.
    pub kind: String,
    /// `delta`, `cumulative`, or null.
    pub temporality: Option<String>,
    /// Whether a sum never falls.
    pub is_monotonic: bool,
    /// From when on it counts.
    pub start_time: Option<DateTime<Utc>>,
    /// Its moment.
    #[serde(serialize_with = "rfc3339")]
    pub time: DateTime<Utc>,
    /// A gauge's or sum's value.
    pub value: Option<f64>,
    /// A histogram's or summary's number of values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The least of them.
    pub min: Option<f64>,
    /// The largest.
    pub max: Option<f64>,
    /// Where buckets end.
    pub bucket_bounds: Vec<f64>,
    /// Values in each bucket.
    pub bucket_counts: Vec<u64>,
    /// What the point is about.
    pub attributes: Map<String, Value>,
    /// Who measured it.
    pub resource: Map<String, Value>,
    /// The instrumentation's name.
    pub scope: Option<String>,
    /// The environment it belongs to.
    pub environment_id: EnvironmentId,
}

/// A series: the points of one metric that have all but time and value in common. Its latest point of the time stands for
/// it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SeriesRow {
    /// The latest point.
    pub latest: PointRow,
    /// How many points of the time there are.
    pub points: u64,
}

fn said(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

pub(super) fn moment(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

impl From<LogRecord> for LogRow {
    fn from(row: LogRecord) -> Self {
        Self {
            id: format!("{:032x}", row.id),
            time: moment(row.time_us),
            observed_time: moment(row.observed_us),
            trace_id: row.trace_id,
            span_id: row.span_id,
            severity_number: row.severity_number,
            severity_text: row.severity_text,
            event_name: said(&row.event_name),
            body: row.body,
            service: said(&row.service),
            attributes: row.attributes.into_iter().collect(),
            resource: row.resource.into_iter().collect(),
            scope: said(&row.scope),
            environment_id: row.tenant.environment,
        }
    }
}

impl From<MetricPoint> for PointRow {
    fn from(row: MetricPoint) -> Self {
        Self {
            name: row.name,
            series: format!("{:016x}", row.series),
            unit: row.unit,
            description: row.description,
            kind: row.kind,
            temporality: said(&row.temporality),
            is_monotonic: row.is_monotonic,
            start_time: Some(row.start_us).filter(|start| *start > 0).map(moment),
            time: moment(row.time_us),
            value: row.value,
            count: row.count,
            sum: row.sum,
            min: row.min,
            max: row.max,
            bucket_bounds: row.bucket_bounds,
            bucket_counts: row.bucket_counts,
            attributes: row.attributes.into_iter().collect(),
            resource: row.resource.into_iter().collect(),
            scope: said(&row.scope),
            environment_id: row.tenant.environment,
        }
    }
}
