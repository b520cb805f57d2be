//! A span as OTLP says it, whichever encoding it came in.

use std::collections::BTreeMap;

use serde_json::Value;

/// Attributes by name. Where a sender repeats a name, the last value counts.
pub(super) type Attributes = BTreeMap<String, Value>;

/// Bytes of one span at most; a larger one is refused, its neighbors are not.
pub const MAX_SPAN_BYTES: usize = 8 << 20;
/// Values in one span at most: attributes, those of its events and links, and what is inside of lists and maps. A span
/// with more is refused: a few bytes on the wire would become a hundred in memory.
pub const MAX_SPAN_VALUES: usize = 50_000;
/// How deep lists and maps may be in each other. A span that goes deeper is refused.
pub const MAX_VALUE_DEPTH: usize = 16;

/// Where spans come from: what is said once for many of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Origin {
    /// The process: `service.name`, `telemetry.sdk.language`, ….
    pub(super) resource: Attributes,
    /// The instrumentation's name.
    pub(super) scope_name: String,
    /// Its version.
    pub(super) scope_version: String,
}

/// A span.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Span {
    /// 16 bytes, if the sender is right.
    pub(super) trace_id: Vec<u8>,
    /// 8 bytes, if the sender is right.
    pub(super) span_id: Vec<u8>,
    /// 8 bytes, or none for a root.
    pub(super) parent_span_id: Vec<u8>,
    /// W3C `tracestate`.
    pub(super) trace_state: String,
    pub(super) name: String,
    /// 0 unspecified, 1 internal, 2 server, 3 client, 4 producer, 5 consumer.
    pub(super) kind: i64,
    /// Nanoseconds since the Unix epoch.
    pub(super) start_ns: u64,
    /// Nanoseconds since the Unix epoch.
    pub(super) end_ns: u64,
    pub(super) attributes: Attributes,
    pub(super) events: Vec<Event>,
    pub(super) links: Vec<Link>,
    pub(super) status: Status,
    /// What the sender itself left out: attributes, events and links together.
    pub(super) dropped: u64,
}

/// A moment within a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Event {
    pub(super) time_ns: u64,
    pub(super) name: String,
    pub(super) attributes: Attributes,
}

/// Another span that this one has to do with.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Link {
    pub(super) trace_id: Vec<u8>,
    pub(super) span_id: Vec<u8>,
    pub(super) attributes: Attributes,
}

/// How it ended.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Status {
    /// 0 unset, 1 ok, 2 error.
    pub(super) code: i64,
    pub(super) message: String,
}

/// How many values a span may still have.
#[derive(Debug)]
pub(super) struct Budget(usize);

impl Budget {
    pub(super) const fn new() -> Self {
        Self(MAX_SPAN_VALUES)
    }

    /// Takes one; false when none is left.
    pub(super) const fn take(&mut self) -> bool {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                true
            }
            None => false,
        }
    }
}

/// Why a span, a log record or a point is refused. Stable texts, since they are counted and answered.
pub(super) mod reason {
    pub(in super::super) const TOO_LARGE: &str = "it is larger than 8 MiB";
    pub(in super::super) const TOO_MANY_VALUES: &str = "it has more than 50000 values";
    pub(in super::super) const TOO_DEEP: &str = "a value is nested deeper than 16 levels";
    pub(in super::super) const MALFORMED: &str = "it can't be decoded";
    pub(in super::super) const TRACE_ID: &str = "traceId must be 16 bytes, not all of them 0";
    pub(in super::super) const NO_LOGS: &str = "the project keeps no logs: its capture setting is off";
    pub(in super::super) const NO_NAME: &str = "a metric needs a name";
    pub(in super::super) const NO_DATA: &str =
        "a metric without data, or with data of a kind that isn't known";
    pub(in super::super) const BUCKETS: &str = "a histogram has one bucket more than it has bounds";
    pub(in super::super) const SPAN_ID: &str = "spanId must be 8 bytes, not all of them 0";
}

/// What JSON can't say of a number is said in a text, as protobuf's JSON form does.
pub(super) fn double(number: f64) -> Value {
    match serde_json::Number::from_f64(number) {
        Some(number) => Value::Number(number),
        None if number.is_nan() => Value::from("NaN"),
        None => Value::from(if number > 0.0 { "Infinity" } else { "-Infinity" }),
    }
}
