//! Which attribute says what: the one table of every convention that is understood. `docs/telemetry.md` shows it too.
//!
//! Of each list the **first** place that holds something counts. The order is the same everywhere: our own `brokle.*`,
//! which says what it means; a product's own names (Langfuse, Vercel's AI SDK), which are set on purpose; OpenTelemetry's
//! `gen_ai.*`, current names before deprecated ones; then OpenInference (`llm.*`, `input.value`) and Traceloop
//! (`traceloop.*`), which often say the same thing once more.

use brokle_core::observation::Kind;

/// A place that may hold a value.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source {
    /// The span's attribute of this name.
    Attribute(&'static str),
    /// The process's attribute of this name.
    Resource(&'static str),
    /// All of the span's attributes below this name (`NAME.0.role`, …), put together again.
    Below(&'static str),
    /// An attribute of the span's first event of this name.
    Event(&'static str, &'static str),
    /// Every event of one of these names, as a list.
    Events(&'static [&'static str]),
}

/// A place that tells a moment or how long it took until then.
#[derive(Clone, Copy, Debug)]
pub(super) enum Moment {
    /// An attribute: seconds since the span began.
    Seconds(&'static str),
    /// An attribute: milliseconds since the span began.
    Milliseconds(&'static str),
    /// An attribute: RFC 3339, within quotes or without.
    Time(&'static str),
    /// The first event of this name.
    Event(&'static str),
}

use Source::{Attribute, Below, Event, Events, Resource};

/// What a value of an attribute makes of a span.
type Kinds = &'static [(&'static str, Kind)];

/// The kind: the first attribute whose value is known. Values are compared without case.
pub(super) const KIND: &[(&str, Kinds)] = &[
    ("brokle.type", EVERY_KIND),
    ("langfuse.observation.type", EVERY_KIND),
    (
        "openinference.span.kind",
        &[
            ("llm", Kind::Generation),
            ("embedding", Kind::Embedding),
            ("agent", Kind::Agent),
            ("tool", Kind::Tool),
            ("chain", Kind::Chain),
            ("retriever", Kind::Retriever),
            ("reranker", Kind::Rerank),
            ("guardrail", Kind::Guardrail),
            ("evaluator", Kind::Evaluator),
        ],
    ),
    (
        "ai.operationId",
        &[
            ("ai.generateText.doGenerate", Kind::Generation),
            ("ai.streamText.doStream", Kind::Generation),
            ("ai.generateObject.doGenerate", Kind::Generation),
            ("ai.streamObject.doStream", Kind::Generation),
            ("ai.embed.doEmbed", Kind::Embedding),
            ("ai.embedMany.doEmbed", Kind::Embedding),
            ("ai.rerank.doRerank", Kind::Rerank),
            ("ai.toolCall", Kind::Tool),
            // The outer spans repeat the sums of the inner ones.
            ("ai.generateText", Kind::Chain),
            ("ai.streamText", Kind::Chain),
            ("ai.generateObject", Kind::Chain),
            ("ai.streamObject", Kind::Chain),
            ("ai.embed", Kind::Chain),
            ("ai.embedMany", Kind::Chain),
            ("ai.rerank", Kind::Chain),
        ],
    ),
    (
        "gen_ai.operation.name",
        &[
            ("chat", Kind::Generation),
            ("generate_content", Kind::Generation),
            ("text_completion", Kind::Generation),
            ("embeddings", Kind::Embedding),
            ("retrieval", Kind::Retriever),
            ("rerank", Kind::Rerank),
            ("image_generation", Kind::Image),
            ("audio", Kind::Audio),
            ("create_agent", Kind::Agent),
            ("invoke_agent", Kind::Agent),
            ("execute_tool", Kind::Tool),
            ("invoke_workflow", Kind::Chain),
            ("plan", Kind::Chain),
            ("evaluate", Kind::Evaluator),
        ],
    ),
    (
        "llm.request.type",
        &[
            ("chat", Kind::Generation),
            ("completion", Kind::Generation),
            ("embedding", Kind::Embedding),
            ("rerank", Kind::Rerank),
        ],
    ),
    (
        "traceloop.span.kind",
        &[("workflow", Kind::Chain), ("task", Kind::Span), ("agent", Kind::Agent), ("tool", Kind::Tool)],
    ),
];

/// Where no attribute of [`KIND`] says what it is: what the mere presence of one of these says.
pub(super) const KIND_BY_PRESENCE: &[(&[&str], Kind)] = &[
    (&["gen_ai.evaluation.name"], Kind::Evaluator),
    (&["gen_ai.tool.name", "gen_ai.tool.call.id"], Kind::Tool),
    (
        &[
            "brokle.model",
            "langfuse.observation.model.name",
            "gen_ai.request.model",
            "gen_ai.response.model",
            "llm.model_name",
            "ai.model.id",
        ],
        Kind::Generation,
    ),
    (&["embedding.model_name"], Kind::Embedding),
];

/// Kinds by their own names.
const EVERY_KIND: Kinds = &[
    ("generation", Kind::Generation),
    ("embedding", Kind::Embedding),
    ("image", Kind::Image),
    ("audio", Kind::Audio),
    ("moderation", Kind::Moderation),
    ("rerank", Kind::Rerank),
    ("guardrail", Kind::Guardrail),
    ("tool", Kind::Tool),
    ("agent", Kind::Agent),
    ("chain", Kind::Chain),
    ("retriever", Kind::Retriever),
    ("evaluator", Kind::Evaluator),
    ("span", Kind::Span),
    ("event", Kind::Event),
];

pub(super) const NAME: &[Source] = &[Attribute("brokle.name")];

pub(super) const OPERATION: &[Source] =
    &[Attribute("brokle.operation"), Attribute("gen_ai.operation.name"), Attribute("llm.request.type")];

pub(super) const PROVIDER: &[Source] = &[
    Attribute("brokle.provider"),
    Attribute("gen_ai.provider.name"),
    Attribute("gen_ai.system"),
    Attribute("llm.provider"),
    Attribute("llm.system"),
    Attribute("ai.model.provider"),
];

/// Other conventions' names of providers, and the catalogue's. What isn't here is taken as it is.
pub(super) const PROVIDERS: &[(&str, &str)] = &[
    ("aws.bedrock", "bedrock"),
    ("aws_bedrock", "bedrock"),
    ("amazon-bedrock", "bedrock"),
    ("aws", "bedrock"),
    ("azure.ai.openai", "azure"),
    ("az.ai.openai", "azure"),
    ("azure_openai", "azure"),
    ("azure-openai", "azure"),
    ("azure.ai.inference", "azure_ai"),
    ("az.ai.inference", "azure_ai"),
    ("gcp.gemini", "gemini"),
    ("gcp.gen_ai", "gemini"),
    ("google", "gemini"),
    ("google.generative-ai", "gemini"),
    ("google_genai", "gemini"),
    ("gcp.vertex_ai", "vertex"),
    ("vertex_ai", "vertex"),
    ("vertexai", "vertex"),
    ("google.vertex", "vertex"),
    ("mistral_ai", "mistral"),
    ("mistralai", "mistral"),
    ("moonshot_ai", "moonshot"),
    ("x_ai", "xai"),
    ("togetherai", "together"),
    ("together_ai", "together"),
];

pub(super) const MODEL_REQUESTED: &[Source] = &[
    Attribute("brokle.model"),
    Attribute("gen_ai.request.model"),
    Attribute("langfuse.observation.model.name"),
    Attribute("ai.model.id"),
    Attribute("llm.model_name"),
    Attribute("embedding.model_name"),
    Attribute("reranker.model_name"),
];

pub(super) const MODEL_SERVED: &[Source] = &[
    Attribute("brokle.model_served"),
    Attribute("gen_ai.response.model"),
    Attribute("ai.response.model"),
    Attribute("llm.response.model"),
];

/// All of a span's counts in one object: it wins over the single ones.
pub(super) const USAGE_OBJECT: &str = "langfuse.observation.usage_details";

/// Tokens, one list per type. Input includes what was read from and written to a cache; output includes reasoning.
pub(super) const INPUT_TOKENS: &[&str] = &[
    "brokle.usage.input_tokens",
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.prompt_tokens",
    "llm.token_count.prompt",
    "llm.usage.prompt_tokens",
    "ai.usage.inputTokens",
    "ai.usage.promptTokens",
    "ai.usage.tokens",
];
pub(super) const OUTPUT_TOKENS: &[&str] = &[
    "brokle.usage.output_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.completion_tokens",
    "llm.token_count.completion",
    "llm.usage.completion_tokens",
    "ai.usage.outputTokens",
    "ai.usage.completionTokens",
];
/// Not kept: it tells whether parts are in their whole or beside it.
pub(super) const TOTAL_TOKENS: &[&str] = &[
    "brokle.usage.total_tokens",
    "gen_ai.usage.total_tokens",
    "llm.token_count.total",
    "llm.usage.total_tokens",
    "ai.usage.totalTokens",
];
pub(super) const CACHED_READ_TOKENS: &[&str] = &[
    "brokle.usage.cached_read_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_read_input_tokens",
    "gen_ai.usage.input_tokens.cached",
    "llm.token_count.prompt_details.cache_read",
    "llm.usage.cache_read_input_tokens",
    "ai.usage.inputTokenDetails.cacheReadTokens",
    "ai.usage.cachedInputTokens",
];
pub(super) const CACHE_WRITE_TOKENS: &[&str] = &[
    "brokle.usage.cache_write_tokens",
    "gen_ai.usage.cache_write.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.cache_creation_input_tokens",
    "llm.token_count.prompt_details.cache_write",
    "llm.usage.cache_creation_input_tokens",
    "ai.usage.inputTokenDetails.cacheWriteTokens",
];
pub(super) const REASONING_TOKENS: &[&str] = &[
    "brokle.usage.reasoning_tokens",
    "gen_ai.usage.reasoning.output_tokens",
    "gen_ai.usage.reasoning_tokens",
    "gen_ai.usage.completion_tokens_details.reasoning",
    "llm.token_count.completion_details.reasoning",
    "llm.usage.reasoning_tokens",
    "ai.usage.outputTokenDetails.reasoningTokens",
    "ai.usage.reasoningTokens",
];
pub(super) const AUDIO_INPUT_TOKENS: &[&str] =
    &["gen_ai.usage.audio.input_tokens", "llm.token_count.prompt_details.audio"];
pub(super) const AUDIO_OUTPUT_TOKENS: &[&str] =
    &["gen_ai.usage.audio.output_tokens", "llm.token_count.completion_details.audio"];
pub(super) const IMAGE_INPUT_TOKENS: &[&str] = &["gen_ai.usage.image.input_tokens"];
pub(super) const IMAGE_OUTPUT_TOKENS: &[&str] = &["gen_ai.usage.image.output_tokens"];

/// Dollars: a number, a decimal text, or an object with `total` or parts. 0 is taken for "not known".
pub(super) const COST: &[&str] = &[
    "brokle.cost",
    "langfuse.observation.cost_details",
    "gen_ai.usage.cost",
    "gen_ai.usage.total_cost",
    "llm.cost.total",
    "operation.cost",
];

pub(super) const FIRST_TOKEN: &[Moment] = &[
    Moment::Milliseconds("brokle.time_to_first_token_ms"),
    Moment::Time("langfuse.observation.completion_start_time"),
    Moment::Milliseconds("ai.response.msToFirstChunk"),
    Moment::Seconds("gen_ai.response.time_to_first_chunk"),
    Moment::Seconds("gen_ai.server.time_to_first_token"),
    Moment::Event("First Token Stream Event"),
    Moment::Event("gen_ai.content.completion.chunk"),
    Moment::Event("llm.content.completion.chunk"),
    Moment::Event("ai.stream.firstChunk"),
];

pub(super) const STREAMING: &[&str] = &[
    "brokle.streaming",
    "gen_ai.request.stream",
    "gen_ai.request.is_stream",
    "gen_ai.is_streaming",
    "llm.is_streaming",
];

pub(super) const FINISH_REASON: &[Source] = &[
    Attribute("gen_ai.response.finish_reasons"),
    Attribute("gen_ai.response.finish_reason"),
    Attribute("ai.response.finishReason"),
    Attribute("llm.response.finish_reason"),
    Attribute("llm.finish_reason"),
    Attribute("gen_ai.completion.0.finish_reason"),
];

pub(super) const SESSION: &[Source] = &[
    Attribute("brokle.session"),
    Attribute("langfuse.session.id"),
    Attribute("session.id"),
    Attribute("ai.telemetry.metadata.sessionId"),
    Attribute("gen_ai.conversation.id"),
    Attribute("traceloop.association.properties.session_id"),
];
pub(super) const USER: &[Source] = &[
    Attribute("brokle.user"),
    Attribute("langfuse.user.id"),
    Attribute("user.id"),
    Attribute("ai.telemetry.metadata.userId"),
    Attribute("enduser.id"),
    Attribute("gen_ai.user"),
    Attribute("gen_ai.request.user"),
    Attribute("traceloop.association.properties.user_id"),
];
/// A list, a text that is a JSON list, or names with commas between them.
pub(super) const TAGS: &[Source] = &[
    Attribute("brokle.tags"),
    Attribute("langfuse.trace.tags"),
    Attribute("ai.telemetry.metadata.tags"),
    Attribute("tag.tags"),
];

/// What has no column of its own: the attribute that it is kept in, whatever it was called before.
pub(super) const KEPT_AS: &[(&str, &[Source])] = &[
    (
        "brokle.environment",
        &[
            Attribute("brokle.environment"),
            Attribute("langfuse.environment"),
            Attribute("deployment.environment.name"),
            Attribute("deployment.environment"),
            Resource("langfuse.environment"),
            Resource("deployment.environment.name"),
            Resource("deployment.environment"),
        ],
    ),
    (
        "brokle.release",
        &[
            Attribute("brokle.release"),
            Attribute("langfuse.release"),
            Resource("langfuse.release"),
            Resource("service.version"),
        ],
    ),
    ("brokle.version", &[Attribute("brokle.version"), Attribute("langfuse.version")]),
    ("brokle.trace.name", &[Attribute("brokle.trace.name"), Attribute("langfuse.trace.name")]),
    (
        "brokle.prompt.name",
        &[
            Attribute("brokle.prompt.name"),
            Attribute("langfuse.observation.prompt.name"),
            Attribute("gen_ai.prompt.name"),
            Attribute("traceloop.prompt.key"),
        ],
    ),
    (
        "brokle.prompt.version",
        &[
            Attribute("brokle.prompt.version"),
            Attribute("langfuse.observation.prompt.version"),
            Attribute("gen_ai.prompt.version"),
            Attribute("traceloop.prompt.version"),
        ],
    ),
    ("brokle.level", &[Attribute("brokle.level"), Attribute("langfuse.observation.level")]),
];

/// What a failed span says of its failure, if its status doesn't.
pub(super) const ERROR_MESSAGE: &[Source] = &[
    Attribute("langfuse.observation.status_message"),
    Event("exception", "exception.message"),
    Attribute("error.message"),
];
pub(super) const ERROR_CLASS: &[Source] = &[Attribute("error.type"), Event("exception", "exception.type")];

pub(super) const HTTP_STATUS: &[&str] = &["http.response.status_code", "http.status_code"];

pub(super) const INPUT: &[Source] = &[
    Attribute("brokle.input"),
    Attribute("langfuse.observation.input"),
    Attribute("ai.prompt.messages"),
    Attribute("ai.prompt"),
    Attribute("ai.toolCall.args"),
    Attribute("ai.value"),
    Attribute("ai.values"),
    Attribute("gen_ai.input.messages"),
    Event("gen_ai.client.inference.operation.details", "gen_ai.input.messages"),
    Attribute("gen_ai.tool.call.arguments"),
    Attribute("gen_ai.retrieval.query.text"),
    Attribute("gen_ai.prompt"),
    Below("gen_ai.prompt"),
    Event("gen_ai.content.prompt", "gen_ai.prompt"),
    Events(&[
        "gen_ai.system.message",
        "gen_ai.user.message",
        "gen_ai.assistant.message",
        "gen_ai.tool.message",
    ]),
    Attribute("traceloop.entity.input"),
    Attribute("input.value"),
    Below("llm.input_messages"),
    Below("llm.prompts"),
    Below("reranker.input_documents"),
    Attribute("langfuse.trace.input"),
];

pub(super) const OUTPUT: &[Source] = &[
    Attribute("brokle.output"),
    Attribute("langfuse.observation.output"),
    Attribute("ai.response.text"),
    Attribute("ai.response.object"),
    Attribute("ai.response.toolCalls"),
    Attribute("ai.toolCall.result"),
    Attribute("ai.embedding"),
    Attribute("ai.embeddings"),
    Attribute("gen_ai.output.messages"),
    Event("gen_ai.client.inference.operation.details", "gen_ai.output.messages"),
    Attribute("gen_ai.tool.call.result"),
    Attribute("gen_ai.retrieval.documents"),
    Attribute("gen_ai.completion"),
    Below("gen_ai.completion"),
    Event("gen_ai.content.completion", "gen_ai.completion"),
    Events(&["gen_ai.choice"]),
    Attribute("traceloop.entity.output"),
    Attribute("output.value"),
    Below("llm.output_messages"),
    Below("llm.completions"),
    Below("retrieval.documents"),
    Below("reranker.output_documents"),
    Attribute("langfuse.trace.output"),
];

/// Goes before the messages of `gen_ai.input.messages`.
pub(super) const SYSTEM_INSTRUCTIONS: &str = "gen_ai.system_instructions";

/// A project that doesn't capture content keeps **texts, lists and maps** only under these names and below these
/// prefixes (they end with a dot), apart from what is content by [`INPUT`] and [`OUTPUT`]; numbers and flags stay whatever
/// their name. An attribute that nobody knows might be a prompt.
pub(super) const METADATA: &[&str] = &[
    "ai.model.",
    "ai.operationId",
    "ai.response.finishReason",
    "ai.response.id",
    "ai.response.model",
    "ai.response.timestamp",
    "ai.telemetry.functionId",
    "ai.toolCall.id",
    "ai.toolCall.name",
    "brokle.",
    "cloud.",
    "code.function.name",
    "container.",
    "deployment.",
    "embedding.model_name",
    "error.type",
    "exception.message",
    "exception.type",
    "faas.",
    "gen_ai.agent.id",
    "gen_ai.agent.name",
    "gen_ai.agent.version",
    "gen_ai.application_name",
    "gen_ai.conversation.id",
    "gen_ai.data_source.id",
    "gen_ai.environment",
    "gen_ai.evaluation.name",
    "gen_ai.evaluation.score.label",
    "gen_ai.openai.",
    "gen_ai.operation.name",
    "gen_ai.output.type",
    "gen_ai.prompt.name",
    "gen_ai.prompt.version",
    "gen_ai.provider.name",
    "gen_ai.request.model",
    "gen_ai.response.finish_reasons",
    "gen_ai.response.id",
    "gen_ai.response.model",
    "gen_ai.sdk.version",
    "gen_ai.system",
    "gen_ai.tool.call.id",
    "gen_ai.tool.name",
    "gen_ai.tool.type",
    "gen_ai.workflow.name",
    "host.",
    "http.request.method",
    "http.status_text",
    "k8s.",
    "langfuse.environment",
    "langfuse.observation.level",
    "langfuse.observation.type",
    "langfuse.release",
    "langfuse.version",
    "llm.model_name",
    "llm.provider",
    "llm.request.type",
    "llm.system",
    "network.",
    "openai.",
    "openinference.span.kind",
    "os.",
    "process.pid",
    "process.runtime.",
    "server.",
    "service.",
    "session.id",
    "telemetry.",
    "thread.",
    "traceloop.entity.name",
    "traceloop.entity.path",
    "traceloop.entity.version",
    "traceloop.span.kind",
    "traceloop.workflow.name",
    "url.scheme",
];

#[cfg(test)]
mod tests;
