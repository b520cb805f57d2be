//! OpenTelemetry spans from elsewhere: OTLP's requests read, each span made an
//! [`Observation`], and the answer written.
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
mod span;
mod wire;

use std::collections::BTreeMap;

use brokle_core::catalogue::Catalogue;
use brokle_core::ids::ApiKeyId;
use brokle_core::observation::Observation;
use brokle_core::tenancy::{Capture, Tenant};

pub use self::answer::{Encoding, grpc_code};
pub use self::inflate::{Coding, InflateError, inflate};
pub use self::map::{MAX_ATTRIBUTE_BYTES, MAX_BODY_BYTES, MAX_FUTURE, MAX_PAST};
pub use self::span::{MAX_SPAN_BYTES, MAX_SPAN_VALUES, MAX_VALUE_DEPTH};
use self::span::{Origin, Span};

/// Spans in one request at most.
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
    /// Bytes of observations at most ([`Observation::weight`]).
    pub max_weight: usize,
}

/// A request that was read.
#[derive(Debug, Default)]
pub struct Decoded {
    /// Its spans that can be kept.
    pub observations: Vec<Observation>,
    /// Those that can't.
    pub rejected: Rejected,
    weight: usize,
}

/// Spans that can't be kept, by reason.
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
    pub fn message(&self) -> String {
        let line = |(reason, count): (&&str, &u64)| {
            format!("{reason} ({count} {})", if *count == 1 { "span" } else { "spans" })
        };
        self.0.iter().take(MAX_REASONS).map(line).collect::<Vec<_>>().join("; ")
    }
}

/// Why a whole request is refused.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// What holds the spans together can't be read.
    #[error("the body isn't an ExportTraceServiceRequest: {0}")]
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
    TooManySpans,
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

impl From<Broken> for DecodeError {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Wire(error) => Self::Malformed(error.to_string()),
            // Place and kind only: serde's text may quote what it read, and answers are logged by senders.
            Broken::Json(error) => Self::Malformed(format!(
                "{} at line {} column {}",
                match error.classify() {
                    serde_json::error::Category::Eof => "it ends early",
                    serde_json::error::Category::Data => "a value of the wrong type",
                    _ => "not JSON",
                },
                error.line(),
                error.column()
            )),
            Broken::Resource(reason) => Self::Malformed(format!("in a resource: {reason}")),
            Broken::TooManySpans => Self::TooMuch(format!(
                "a request may have {MAX_SPANS} spans: send fewer at once (OTEL_BSP_MAX_EXPORT_BATCH_SIZE)"
            )),
            Broken::TooHeavy(max) => {
                Self::TooMuch(format!("the spans take more than {max} bytes of memory: send fewer at once"))
            }
        }
    }
}

/// Takes a span, or why there is none; fails to break off.
type Visit<'a> = dyn FnMut(&Origin, Result<Span, &'static str>) -> Result<(), Broken> + 'a;

/// Reads a request. An empty body is an empty request in both encodings.
///
/// # Errors
/// As [`DecodeError`] says; then nothing of the request is kept.
pub fn decode(encoding: Encoding, body: &[u8], settings: &Settings<'_>) -> Result<Decoded, DecodeError> {
    let (mut decoded, mut spans) = (Decoded::default(), 0);
    let mut visit = |origin: &Origin, span: Result<Span, &'static str>| {
        spans += 1;
        if spans > MAX_SPANS {
            return Err(Broken::TooManySpans);
        }
        match span.and_then(|span| map::observation(span, origin, settings)) {
            Ok(observation) => {
                decoded.weight += observation.weight();
                if decoded.weight > settings.max_weight {
                    return Err(Broken::TooHeavy(settings.max_weight));
                }
                decoded.observations.push(observation);
            }
            Err(reason) => *decoded.rejected.0.entry(reason).or_default() += 1,
        }
        Ok(())
    };
    if !body.is_empty() {
        match encoding {
            Encoding::Protobuf => protobuf::decode(body, &mut visit)?,
            Encoding::Json => json::decode(body, &mut visit)?,
        }
    }
    Ok(decoded)
}

#[cfg(test)]
mod tests;
