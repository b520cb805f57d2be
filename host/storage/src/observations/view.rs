//! Observations as readers see them. Field names are part of the API.

use brokle_core::ids::{ApiKeyId, EnvironmentId, RequestId};
use brokle_core::money::Usd;
use brokle_core::observation::{Kind, Observation, SpanId, Status, Step, TraceId};
use brokle_core::usage::Usage;
use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::AnalyticsError;

/// Tokens by type and their total.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UsageView {
    /// By type.
    #[serde(flatten)]
    pub tokens: Usage,
    /// In and out.
    pub total: u64,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorView {
    /// The stable class, such as `upstream_timeout`.
    pub class: Option<String>,
    /// What a person may read.
    pub message: Option<String>,
}

/// An observation without its bodies and children: a line of a list.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// The trace.
    pub trace_id: TraceId,
    /// The observation.
    pub span_id: SpanId,
    /// What it happened in.
    pub parent_span_id: Option<SpanId>,
    /// What to call it.
    pub name: String,
    /// What it is about.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// `gen_ai.operation.name`.
    pub operation: Option<String>,
    /// When it began: RFC 3339 with microseconds, UTC.
    #[serde(serialize_with = "rfc3339")]
    pub start_time: DateTime<Utc>,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// From the beginning to the first token, in milliseconds.
    pub time_to_first_token_ms: Option<f64>,
    /// The model that was asked for.
    pub model: Option<String>,
    /// The model that answered.
    pub model_served: Option<String>,
    /// Who served it.
    pub provider: Option<String>,
    /// Through which connection.
    pub connection_id: Option<String>,
    /// Tokens; null when nobody knows.
    pub usage: Option<UsageView>,
    /// Dollars, as a decimal string; null when there is no known price.
    pub cost: Option<Usd>,
    /// Whether the answer was streamed.
    pub streaming: bool,
    /// How it ended.
    pub status: Status,
    /// The HTTP status.
    pub status_code: Option<u16>,
    /// Why the model stopped.
    pub finish_reason: Option<String>,
    /// What went wrong; null when nothing did.
    pub error: Option<ErrorView>,
    /// The client's end user.
    pub user: Option<String>,
    /// The client's session.
    pub session: Option<String>,
    /// The client's labels.
    pub tags: Vec<String>,
    /// The environment it belongs to.
    pub environment_id: EnvironmentId,
    /// The API key that was used.
    pub key_id: Option<ApiKeyId>,
    /// The request.
    pub request_id: Option<RequestId>,
    /// Whatever else was said.
    pub attributes: Map<String, Value>,
}

/// An observation with its bodies and what happened inside: a node of a trace's tree.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Everything but bodies and children.
    #[serde(flatten)]
    pub summary: Summary,
    /// The request's body: the JSON as it came, or a string where it isn't JSON. Null when it wasn't captured.
    pub input: Option<Box<RawValue>>,
    /// The answer's body, in the same form.
    pub output: Option<Box<RawValue>>,
    /// What happened inside, in the order it began.
    pub children: Vec<Node>,
}

/// A trace.
#[derive(Clone, Debug, Serialize)]
pub struct Trace {
    /// Which one.
    pub trace_id: TraceId,
    /// The observations that happened in none of the others, with theirs inside.
    pub observations: Vec<Node>,
    /// Whether there are more rows than [`MAX_TRACE_ROWS`](super::MAX_TRACE_ROWS), so that some are missing here.
    pub truncated: bool,
}

pub(super) fn rfc3339<S: Serializer>(time: &DateTime<Utc>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&time.to_rfc3339_opts(SecondsFormat::Micros, true))
}

/// A body for a reader: the JSON as it came, or a string where it isn't JSON (bytes that aren't UTF-8 become U+FFFD).
pub(super) fn show(body: Vec<u8>) -> Result<Box<RawValue>, AnalyticsError> {
    let json = match String::from_utf8(body) {
        Ok(text) => match serde_json::from_str::<&RawValue>(&text) {
            Ok(raw) => return Ok(raw.to_owned()),
            Err(_) => serde_json::value::to_raw_value(&text),
        },
        Err(error) => serde_json::value::to_raw_value(&String::from_utf8_lossy(error.as_bytes())),
    };
    json.map_err(|error| AnalyticsError::Corrupt(error.into()))
}

/// Exact for durations under 285 years.
pub(super) fn millis(micros: u64) -> f64 {
    micros as f64 / 1_000.0
}

impl UsageView {
    pub(super) fn new(tokens: Usage) -> Self {
        Self { tokens, total: tokens.total() }
    }
}

impl ErrorView {
    pub(super) fn new(class: Option<String>, message: Option<String>) -> Option<Self> {
        (class.is_some() || message.is_some()).then_some(Self { class, message })
    }
}

impl From<&Observation> for Summary {
    /// What a list says of it once it is stored.
    fn from(row: &Observation) -> Self {
        let text = |text: &str| text.to_owned();
        Self {
            trace_id: row.trace_id,
            span_id: row.span_id,
            parent_span_id: row.parent_span_id,
            name: text(&row.name),
            kind: row.kind,
            operation: Some(text(&row.operation)).filter(|text| !text.is_empty()),
            start_time: DateTime::from_timestamp_micros(row.start_us).unwrap_or_default(),
            duration_ms: millis(row.duration_us),
            time_to_first_token_ms: row.first_token_us.map(millis),
            model: row.model_requested.as_deref().map(text),
            model_served: row.model_served.as_deref().map(text),
            provider: row.provider.as_deref().map(text),
            connection_id: row.connection.as_deref().map(text),
            usage: row.usage.map(UsageView::new),
            cost: row.cost,
            streaming: row.streaming,
            status: row.status,
            status_code: row.http_status,
            finish_reason: row.finish_reason.as_deref().map(text),
            error: ErrorView::new(
                row.error_class.as_deref().map(text),
                row.error_message.as_deref().map(text),
            ),
            user: row.user.as_deref().map(text),
            session: row.session.as_deref().map(text),
            tags: row.tags.iter().map(|tag| text(tag)).collect(),
            environment_id: row.tenant.environment,
            key_id: row.key_id,
            request_id: row.request_id,
            attributes: row.attributes.clone().into_iter().collect(),
        }
    }
}

impl Node {
    /// A step of a call, as the child observation that it is.
    pub(super) fn of_step(call: &Summary, step: Step) -> Self {
        let offset = TimeDelta::microseconds(i64::try_from(step.offset_us).unwrap_or(i64::MAX));
        let text = |text: std::sync::Arc<str>| text.to_string();
        let model = step.model.map(text);
        Self {
            summary: Summary {
                trace_id: call.trace_id,
                span_id: step.span_id,
                parent_span_id: Some(step.parent_span_id.unwrap_or(call.span_id)),
                name: step.name.into_owned(),
                kind: step.kind,
                operation: None,
                start_time: call.start_time.checked_add_signed(offset).unwrap_or(call.start_time),
                duration_ms: millis(step.duration_us),
                time_to_first_token_ms: None,
                model: model.clone(),
                model_served: model,
                provider: step.provider.map(text),
                connection_id: step.connection.map(text),
                usage: None,
                cost: None,
                streaming: false,
                status: step.status,
                status_code: step.http_status,
                finish_reason: None,
                error: ErrorView::new(step.error_class.map(Into::into), step.error_message.map(Into::into)),
                user: None,
                session: None,
                tags: Vec::new(),
                environment_id: call.environment_id,
                key_id: call.key_id,
                request_id: call.request_id,
                attributes: step.attributes.into_iter().collect(),
            },
            input: None,
            output: None,
            children: Vec::new(),
        }
    }
}
