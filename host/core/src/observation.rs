//! What is kept of a call.
//!
//! An [`Observation`] is one physical row: one call to the gateway, or one OpenTelemetry span from elsewhere. What
//! happened inside a call (an attempt per upstream tried, the time spent in each plugin) is packed into its row as
//! [`Step`]s rather than written as rows of its own: the gateway knows all of them when the call ends, and four rows
//! cost twice the CPU of one (`docs/adr/0004-children-packed-in-the-call-row.md`). Readers never see the
//! difference: queries unfold the steps into child observations.
//!
//! Names are OpenTelemetry's: `gen_ai.operation.name`, `gen_ai.request.model`, `error.type` and so on. Times are whole
//! **microseconds**. An observation is built on a request's path: texts that are constants or shared are not copied
//! ([`Cow`], [`Arc`]), bodies are counted references ([`Bytes`]), and empty collections allocate nothing.
//!
//! Serialized, an observation is what the telemetry queue holds, so fields may be added (with a default) but never
//! renamed. The bodies, `input` and `output`, are left out: they travel beside it as raw bytes, unescaped.

mod trace;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub use self::trace::{ParseTraceIdError, SpanId, TraceId};
use crate::ids::{ApiKeyId, RequestId};
use crate::money::Usd;
use crate::tenancy::Tenant;
use crate::usage::Usage;

/// A text that names none of the values of [`Kind`] or [`Status`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known values")]
pub struct ParseNameError;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$variant_doc])* #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The value's name in JSON, in queries and in the database.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.pad(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = ParseNameError;

            fn from_str(text: &str) -> Result<Self, ParseNameError> {
                match text { $($text => Ok(Self::$variant),)+ _ => Err(ParseNameError) }
            }
        }
    };
}

names! {
    /// What an observation is about.
    Kind {
        /// Text (or text and more) from a model: chat, completions, responses.
        Generation = "generation",
        /// Vectors.
        Embedding = "embedding",
        /// Images made or edited.
        Image = "image",
        /// Speech, transcription, translation.
        Audio = "audio",
        /// Content classified.
        Moderation = "moderation",
        /// Documents ordered by relevance.
        Rerank = "rerank",
        /// One try at one upstream, inside a call.
        Attempt = "attempt",
        /// Time in a plugin, inside a call.
        Plugin = "plugin",
        /// A guardrail's verdict.
        Guardrail = "guardrail",
        /// A tool that was called.
        Tool = "tool",
        /// An agent's run.
        Agent = "agent",
        /// A chain of steps.
        Chain = "chain",
        /// A lookup of documents.
        Retriever = "retriever",
        /// A score given to other observations.
        Evaluator = "evaluator",
        /// Any other piece of work.
        Span = "span",
        /// A moment without duration.
        Event = "event",
    }
}

names! {
    /// How it ended.
    Status {
        /// As asked.
        Ok = "ok",
        /// It failed, on whichever side.
        Error = "error",
        /// The client went away.
        Aborted = "aborted",
        /// A deadline passed.
        Timeout = "timeout",
    }
}

/// One call, or one span from elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Observation {
    /// The trace that it is part of; from the client's `traceparent`, if it sent one.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The span that it happened in; it may be another service's and unknown here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// Whose it is.
    pub tenant: Tenant,
    /// The API key that was used; none for a call of a signed-in person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<ApiKeyId>,
    /// The request, as answered in `X-Request-Id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// What it is about.
    pub kind: Kind,
    /// What to call it in a list, such as `chat gpt-4o-mini`.
    pub name: Cow<'static, str>,
    /// `gen_ai.operation.name`: `chat`, `embeddings`, …; empty when it is none.
    #[serde(default, skip_serializing_if = "str::is_empty")]
    pub operation: Cow<'static, str>,
    /// When it began, in microseconds since the Unix epoch.
    pub start_us: i64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// From the beginning to the first token (or byte of the answer) for the client, in microseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_token_us: Option<u64>,
    /// Who served it in the end: `openai`, `anthropic`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// Through which of the tenant's connections: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Arc<str>>,
    /// The model, alias or route that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_requested: Option<Arc<str>>,
    /// The model that answered, as the provider calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model_served: Option<Arc<str>>,
    /// Tokens by type; none when nobody knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// What it cost; none when the model has no known price.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost: Option<Usd>,
    /// Whether the answer was streamed.
    #[serde(default)]
    pub streaming: bool,
    /// How it ended.
    pub status: Status,
    /// The HTTP status that the client got; 499 when it went away first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// `gen_ai.response.finish_reasons`, the first choice's: `stop`, `length`, `tool_calls`, ….
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finish_reason: Option<Cow<'static, str>>,
    /// `error.type`: a stable class, such as `upstream_timeout`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<Cow<'static, str>>,
    /// What a person may read about the error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<Box<str>>,
    /// The client's end user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Box<str>>,
    /// The client's session or conversation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<Box<str>>,
    /// The client's labels.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<Box<str>>,
    /// Whatever else was said about it, by OpenTelemetry's names; our own under `brokle.*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
    /// What happened inside, in the order it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// The request's body, if the project captures it. JSON in most cases.
    #[serde(skip)]
    pub input: Option<Bytes>,
    /// The answer's body, if the project captures it.
    #[serde(skip)]
    pub output: Option<Bytes>,
}

/// A child observation, packed in its call's row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Its own id.
    pub span_id: SpanId,
    /// The step that it happened in; none for the call itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent_span_id: Option<SpanId>,
    /// [`Kind::Attempt`], [`Kind::Plugin`] or [`Kind::Guardrail`] in the gateway.
    pub kind: Kind,
    /// What to call it: a plugin's id, `openai/gpt-4o-mini`.
    pub name: Cow<'static, str>,
    /// From the call's beginning to this step's, in microseconds.
    pub offset_us: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
    /// How it ended.
    pub status: Status,
    /// The HTTP status that the upstream answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// The provider that was tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<Arc<str>>,
    /// The connection that was tried: its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection: Option<Arc<str>>,
    /// The model that was tried, as the provider calls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<Arc<str>>,
    /// As in the observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_class: Option<Cow<'static, str>>,
    /// As in the observation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_message: Option<Box<str>>,
    /// Whatever else was said about it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Value>,
}

impl Observation {
    /// An observation that says nothing yet but what every one must say; it ended well, at once.
    #[must_use]
    pub fn new(tenant: Tenant, trace_id: TraceId, span_id: SpanId, kind: Kind, start_us: i64) -> Self {
        Self {
            trace_id,
            span_id,
            parent_span_id: None,
            tenant,
            key_id: None,
            request_id: None,
            kind,
            name: Cow::Borrowed(kind.as_str()),
            operation: Cow::Borrowed(""),
            start_us,
            duration_us: 0,
            first_token_us: None,
            provider: None,
            connection: None,
            model_requested: None,
            model_served: None,
            usage: None,
            cost: None,
            streaming: false,
            status: Status::Ok,
            http_status: None,
            finish_reason: None,
            error_class: None,
            error_message: None,
            user: None,
            session: None,
            tags: Vec::new(),
            attributes: BTreeMap::new(),
            steps: Vec::new(),
            input: None,
            output: None,
        }
    }

    /// About how many bytes it holds in memory: exact for the bodies and texts, a guess for attributes. What queues
    /// bound themselves by.
    #[must_use]
    pub fn weight(&self) -> usize {
        let body = |body: &Option<Bytes>| body.as_ref().map_or(0, Bytes::len);
        let text = |text: &Option<Box<str>>| text.as_ref().map_or(0, |text| text.len());
        let shared = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        size_of::<Self>()
            + body(&self.input)
            + body(&self.output)
            + self.name.len()
            + shared(&self.model_requested)
            + shared(&self.model_served)
            + text(&self.error_message)
            + text(&self.user)
            + text(&self.session)
            + self.tags.iter().map(|tag| size_of::<Box<str>>() + tag.len()).sum::<usize>()
            + attributes_weight(&self.attributes)
            + self.steps.iter().map(Step::weight).sum::<usize>()
    }
}

impl Step {
    fn weight(&self) -> usize {
        size_of::<Self>()
            + self.name.len()
            + self.error_message.as_ref().map_or(0, |text| text.len())
            + attributes_weight(&self.attributes)
    }
}

/// A map's node and a value take about this much beyond their texts.
const ATTRIBUTE_WEIGHT: usize = 64;

pub(crate) fn attributes_weight(attributes: &BTreeMap<String, Value>) -> usize {
    attributes.iter().map(|(name, value)| ATTRIBUTE_WEIGHT + name.len() + value_weight(value)).sum()
}

fn value_weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(values) => values.iter().map(|value| ATTRIBUTE_WEIGHT + value_weight(value)).sum(),
        Value::Object(members) => {
            members.iter().map(|(name, value)| ATTRIBUTE_WEIGHT + name.len() + value_weight(value)).sum()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
    }
}

#[cfg(test)]
mod tests;
