//! What a caller can ask for.

use brokle_core::observation::Kind;
use brokle_telemetry::metrics;

/// An operation of OpenAI's API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// `POST /v1/chat/completions`
    ChatCompletions,
    /// `POST /v1/completions`
    Completions,
    /// `POST /v1/embeddings`
    Embeddings,
    /// How many tokens a request has, without an answer: dialects have an endpoint for it.
    CountTokens,
}

impl Operation {
    /// Its name in the plugin contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::CountTokens => "count-tokens",
        }
    }

    /// `gen_ai.operation.name`.
    pub fn gen_ai_name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat",
            Self::Completions => "text_completion",
            Self::Embeddings => "embeddings",
            Self::CountTokens => "count_tokens",
        }
    }

    /// The kind of observation that a call becomes.
    pub fn kind(self) -> Kind {
        match self {
            Self::ChatCompletions | Self::Completions => Kind::Generation,
            Self::Embeddings => Kind::Embedding,
            Self::CountTokens => Kind::Span,
        }
    }

    /// Whether it can be streamed.
    pub fn streams(self) -> bool {
        !matches!(self, Self::Embeddings | Self::CountTokens)
    }

    /// The label of its metrics.
    pub fn label(self) -> metrics::Operation {
        match self {
            Self::ChatCompletions => metrics::Operation::chat,
            Self::Completions => metrics::Operation::text_completion,
            Self::Embeddings => metrics::Operation::embeddings,
            Self::CountTokens => metrics::Operation::count_tokens,
        }
    }
}
