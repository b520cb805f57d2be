//! OpenTelemetry from elsewhere: OTLP's requests read, each span made an
//! [`Observation`](brokle_core::observation::Observation), each log record and data point one of ours
//! ([`brokle_core::signal`]), and the answer written.
//!
//! ```text
//! body ─▶ inflate ─▶ decode, span by span ─▶ map ─▶ observations ─▶ Recorder::record_durably ─▶ answer
//! ```
//!
//! Everything here is a function of bytes and settings; who reads the body and who waits for the queue is elsewhere.
//!
//! - **One bad span never costs its batch.** It is counted with a reason (an id of the wrong length, text that isn't
//!   UTF-8, more than [`MAX_SPAN_BYTES`], [`MAX_SPAN_VALUES`] or [`MAX_VALUE_DEPTH`]), and the others go on. Only what
//!   holds the spans together must be well formed.
//! - **Bounded**: [`MAX_SPANS`] in a request, and what they weigh once they are observations
//!   ([`Settings::max_weight`]). A request beyond is refused as a whole, since its sender can send less at once.
//! - **The same span is the same observation**, whenever and however often it comes: nothing in it depends on the time of
//!   its arrival, apart from spans whose clock can't be right (see [`map`]).

mod answer;
mod inflate;
mod json;
mod map;
mod protobuf;
mod record;
mod span;
mod wire;

use std::collections::BTreeMap;

use brokle_core::catalogue::Catalogue;
use brokle_core::ids::ApiKeyId;
use brokle_core::signal::MetricPoint;
use brokle_core::tenancy::{Capture, Tenant};

pub use self::answer::{Encoding, grpc_code};
pub use self::inflate::{Coding, InflateError, inflate};
pub use self::map::{MAX_ATTRIBUTE_BYTES, MAX_BODY_BYTES, MAX_FUTURE, MAX_PAST};
pub use self::span::{MAX_SPAN_BYTES, MAX_SPAN_VALUES, MAX_VALUE_DEPTH};
use self::span::{Origin, Span};
use crate::rows::Rows;

/// Spans, log records or data points in one request at most.
pub const MAX_SPANS: usize = 20_000;
/// Different reasons that an answer names.
const MAX_REASONS: usize = 5;

/// Whose spans they are, and what is kept of them.
#[derive(Clone, Copy, Debug)]
pub struct Settings<'a> {
    /// Whose.
    pub tenant: Tenant,
    /// The key that they were sent with.
    pub key_id: ApiKeyId,
    /// What the project keeps.
    pub capture: Capture,
    /// Prices, for what the sender doesn't price itself.
    pub catalogue: &'a Catalogue,
    /// When they came, in microseconds since the Unix epoch; for clocks that can't be right.
    pub now_us: i64,
    /// Bytes of rows at most, as they weigh in memory.
    pub max_weight: usize,
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Spans.
    Traces,
    /// Log records.
    Logs,
    /// Metrics' data points.
    Metrics,
}

impl Signal {
    /// One of what it is about, in words.
    const fn item(self) -> &'static str {
        match self {
            Self::Traces => "span",
            Self::Logs => "log record",
            Self::Metrics => "data point",
        }
    }

    /// The request's message.
    const fn request(self) -> &'static str {
        match self {
            Self::Traces => "ExportTraceServiceRequest",
            Self::Logs => "ExportLogsServiceRequest",
            Self::Metrics => "ExportMetricsServiceRequest",
        }
    }

    /// What senders are told by how much to send at once.
    const fn batch_setting(self) -> &'static str {
        match self {
            Self::Traces => "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            Self::Logs => "OTEL_BLRP_MAX_EXPORT_BATCH_SIZE",
            Self::Metrics => "the exporter's batch size",
        }
    }

    /// The member of an answer that counts what wasn't taken.
    const fn rejected(self) -> &'static str {
        match self {
            Self::Traces => "rejectedSpans",
            Self::Logs => "rejectedLogRecords",
            Self::Metrics => "rejectedDataPoints",
        }
    }
}

/// A request that was read.
#[derive(Debug, Default)]
pub struct Decoded {
    /// What of it can be kept.
    pub rows: Rows,
    /// What can't.
    pub rejected: Rejected,
    weight: usize,
    items: usize,
}

/// What can't be kept, by reason.
#[derive(Debug, Default)]
pub struct Rejected(BTreeMap<&'static str, u64>);

impl Rejected {
    /// How many.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// Why, for people: `traceId must be 16 bytes, not all of them 0 (2 spans)`. Empty when there are none.
    #[must_use]
    pub fn message(&self, signal: Signal) -> String {
        let line = |(reason, count): (&&str, &u64)| {
            format!("{reason} ({count} {}{})", signal.item(), if *count == 1 { "" } else { "s" })
        };
        self.0.iter().take(MAX_REASONS).map(line).collect::<Vec<_>>().join("; ")
    }
}

impl Decoded {
    /// Counts one more; fails when that is too many.
    fn count(&mut self) -> Result<(), Broken> {
        self.items += 1;
        if self.items > MAX_SPANS { Err(Broken::TooMany) } else { Ok(()) }
    }

    fn weigh(&mut self, weight: usize, settings: &Settings<'_>) -> Result<(), Broken> {
        self.weight += weight;
        if self.weight > settings.max_weight { Err(Broken::TooHeavy(settings.max_weight)) } else { Ok(()) }
    }

    fn reject(&mut self, reason: &'static str) {
        *self.rejected.0.entry(reason).or_default() += 1;
    }
}

/// Why a whole request is refused.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// What holds the spans together can't be read.
    #[error("{0}")]
    Malformed(String),
    /// More spans, or larger ones, than are taken at once.
    #[error("{0}")]
    TooMuch(String),
}

/// What breaks off decoding.
#[derive(Debug)]
enum Broken {
    Wire(wire::Malformed),
    Json(serde_json::Error),
    Resource(&'static str),
    TooMany,
    TooHeavy(usize),
}

impl From<wire::Malformed> for Broken {
    fn from(error: wire::Malformed) -> Self {
        Self::Wire(error)
    }
}

impl From<serde_json::Error> for Broken {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

impl Broken {
    fn of(self, signal: Signal) -> DecodeError {
        let malformed =
            |what: String| DecodeError::Malformed(format!("the body isn't an {}: {what}", signal.request()));
        match self {
            Self::Wire(error) => malformed(error.to_string()),
            // Place and kind only: serde's text may quote what it read, and answers are logged by senders.
            Self::Json(error) => malformed(format!(
                "{} at line {} column {}",
                match error.classify() {
                    serde_json::error::Category::Eof => "it ends early",
                    serde_json::error::Category::Data => "a value of the wrong type",
                    _ => "not JSON",
                },
                error.line(),
                error.column()
            )),
            Self::Resource(reason) => malformed(format!("in a resource: {reason}")),
            Self::TooMany => DecodeError::TooMuch(format!(
                "a request may have {MAX_SPANS} {}s: send fewer at once ({})",
                signal.item(),
                signal.batch_setting()
            )),
            Self::TooHeavy(max) => DecodeError::TooMuch(format!(
                "the {}s take more than {max} bytes of memory: send fewer at once",
                signal.item()
            )),
        }
    }
}

/// Takes a span, or why there is none; fails to break off.
type Visit<'a> = dyn FnMut(&Origin, Result<Span, &'static str>) -> Result<(), Broken> + 'a;

/// The same for a log record.
type VisitLog<'a> = dyn FnMut(&Origin, Result<record::Log, &'static str>) -> Result<(), Broken> + 'a;
/// The same for a data point; what is wrong may be its whole metric.
type VisitPoint<'a> =
    dyn FnMut(&Origin, Result<(&record::Metric, record::Point), &'static str>) -> Result<(), Broken> + 'a;

/// Reads a request. An empty body is an empty request in both encodings.
///
/// # Errors
/// As [`DecodeError`] says; then nothing of the request is kept.
pub fn decode(
    signal: Signal,
    encoding: Encoding,
    body: &[u8],
    settings: &Settings<'_>,
) -> Result<Decoded, DecodeError> {
    let mut decoded = Decoded::default();
    if !body.is_empty() {
        let read = match signal {
            Signal::Traces => traces(encoding, body, settings, &mut decoded),
            Signal::Logs => logs(encoding, body, settings, &mut decoded),
            Signal::Metrics => metrics(encoding, body, settings, &mut decoded),
        };
        read.map_err(|broken| broken.of(signal))?;
    }
    Ok(decoded)
}

fn traces(
    encoding: Encoding,
    body: &[u8],
    settings: &Settings<'_>,
    decoded: &mut Decoded,
) -> Result<(), Broken> {
    let mut visit = |origin: &Origin, span: Result<Span, &'static str>| {
        decoded.count()?;
        match span.and_then(|span| map::observation(span, origin, settings)) {
            Ok(observation) => {
                decoded.weigh(observation.weight(), settings)?;
                decoded.rows.observations.push(observation);
            }
            Err(reason) => decoded.reject(reason),
        }
        Ok(())
    };
    match encoding {
        Encoding::Protobuf => protobuf::decode(body, &mut visit),
        Encoding::Json => json::decode(body, &mut visit),
    }
}

fn logs(
    encoding: Encoding,
    body: &[u8],
    settings: &Settings<'_>,
    decoded: &mut Decoded,
) -> Result<(), Broken> {
    let mut seen = map::logs::Seen::default();
    let mut visit = |origin: &Origin, log: Result<record::Log, &'static str>| {
        decoded.count()?;
        match log.and_then(|log| map::logs::record(log, origin, settings, &mut seen)) {
            Ok(record) => {
                decoded.weigh(record.weight(), settings)?;
                decoded.rows.logs.push(record);
            }
            Err(reason) => decoded.reject(reason),
        }
        Ok(())
    };
    match encoding {
        Encoding::Protobuf => protobuf::logs::decode(body, &mut visit),
        Encoding::Json => json::logs::decode(body, &mut visit),
    }
}

fn metrics(
    encoding: Encoding,
    body: &[u8],
    settings: &Settings<'_>,
    decoded: &mut Decoded,
) -> Result<(), Broken> {
    let mut visit = |origin: &Origin, point: Result<(&record::Metric, record::Point), &'static str>| {
        decoded.count()?;
        match point.and_then(|(metric, point)| map::metrics::points(metric, point, origin, settings)) {
            Ok(points) => {
                decoded.weigh(points.iter().map(MetricPoint::weight).sum(), settings)?;
                decoded.rows.points.extend(points);
            }
            Err(reason) => decoded.reject(reason),
        }
        Ok(())
    };
    match encoding {
        Encoding::Protobuf => protobuf::metrics::decode(body, &mut visit),
        Encoding::Json => json::metrics::decode(body, &mut visit),
    }
}

#[cfg(test)]
mod tests;
