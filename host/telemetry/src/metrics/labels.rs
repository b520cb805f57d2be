//! The labels, whose values come from closed sets.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};

/// What a call to the gateway does; OpenTelemetry's `gen_ai.operation.name` where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
pub enum Operation {
    /// Chat completions.
    chat,
    /// Legacy completions.
    text_completion,
    /// Embeddings.
    embeddings,
    /// Counting tokens without an answer.
    count_tokens,
    /// Images.
    image,
    /// Speech and transcription.
    audio,
    /// Moderation.
    moderation,
    /// Documents put in order.
    rerank,
    /// A realtime session.
    realtime,
    /// A provider's own API, relayed as it came.
    raw,
    /// Anything else.
    other,
}

/// How a call ended, by its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
pub enum StatusClass {
    /// 2xx.
    success,
    /// 4xx.
    client_error,
    /// 5xx.
    server_error,
    /// The client went away (499).
    canceled,
}

impl StatusClass {
    /// The class of a status code; 499 is what a call gets whose client went away.
    #[must_use]
    pub fn of(status: u16) -> Self {
        match status {
            499 => Self::canceled,
            500.. => Self::server_error,
            400.. => Self::client_error,
            _ => Self::success,
        }
    }
}

/// What became of a span from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
pub enum SpanOutcome {
    /// Acknowledged: it is durable.
    accepted,
    /// It can't be kept; its sender was told so.
    rejected,
    /// There was no room, or no durability; its sender tries again.
    refused,
}

/// Labels of spans, log records and data points from elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SpanLabels {
    /// What became of it.
    pub outcome: SpanOutcome,
}

/// What kind of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
pub enum TokenType {
    /// Of the prompt, cached ones excluded.
    input,
    /// Of the prompt, read from the provider's cache.
    cached_input,
    /// Of the answer, reasoning excluded.
    output,
    /// Reasoning.
    reasoning,
}

/// A call's labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// What it does.
    pub operation: Operation,
    /// How it ended.
    pub status: StatusClass,
}

/// A latency's labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    /// What the call does.
    pub operation: Operation,
}

/// Tokens' labels.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct TokenLabels {
    /// The configured provider.
    pub provider: String,
    /// The kind of tokens.
    pub kind: TokenType,
}

/// Something that is counted by provider.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ProviderLabels {
    /// The configured provider.
    pub provider: String,
}

/// A component's call.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PluginCallLabels {
    /// The component's id.
    pub plugin: String,
    /// The exported function.
    pub export: String,
}

/// Something that is counted by component.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PluginLabels {
    /// The component's id.
    pub plugin: String,
}

/// Calls of a capability that a component doesn't have.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct DenialLabels {
    /// The component's id.
    pub plugin: String,
    /// The interface: `http`, `kv`, ….
    pub capability: String,
}

/// What became of a look into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
pub enum CacheOutcome {
    /// The answer was there.
    hit,
    /// It wasn't.
    miss,
    /// The request didn't want it, or can't be cached.
    bypass,
    /// Somebody was asking the same: a hit or a miss later.
    wait,
    /// The answer to a question that means the same was there.
    semantic_hit,
    /// Nobody could say what the question means: a miss.
    semantic_error,
    /// The shared store of answers didn't answer: a miss.
    store_error,
}

/// Labels of looks into the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CacheLabels {
    /// What became of it.
    pub outcome: CacheOutcome,
}

/// What became of a call that was to be made once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
pub enum ShadowOutcome {
    /// It was made.
    made,
    /// As many were under way and waiting as may be.
    busy,
    /// The route had spent what it may in a day.
    budget,
}

/// Labels of shadow calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ShadowLabels {
    /// What became of it.
    pub outcome: ShadowOutcome,
}

/// Something that is counted by budget.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct BudgetLabels {
    /// The configured budget's name.
    pub budget: String,
}

/// What became of an observation that was to go elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
#[expect(non_camel_case_types, reason = "the names are the labels' values")]
pub enum ExportOutcome {
    /// The receiver has it.
    exported,
    /// The receiver took a batch without it.
    rejected,
    /// The receiver never takes it: it was left out.
    passed_over,
    /// It is tried again.
    retried,
}

/// Labels of exported observations.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExportedLabels {
    /// The configured exporter.
    pub exporter: String,
    /// What became of it.
    pub outcome: ExportOutcome,
}

/// Something that is counted by exporter.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ExporterLabels {
    /// The configured exporter.
    pub exporter: String,
}

/// Something that is counted by its code.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabels {
    /// A stable code, such as `PLUGIN_UNSIGNED`.
    pub code: String,
}
