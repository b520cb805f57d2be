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
}

impl Operation {
    /// Its name in the plugin contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
        }
    }

    /// `gen_ai.operation.name`.
    pub fn gen_ai_name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat",
            Self::Completions => "text_completion",
            Self::Embeddings => "embeddings",
        }
    }

    /// The kind of observation that a call becomes.
    pub fn kind(self) -> Kind {
        match self {
            Self::ChatCompletions | Self::Completions => Kind::Generation,
            Self::Embeddings => Kind::Embedding,
        }
    }

    /// Whether it can be streamed.
    pub fn streams(self) -> bool {
        !matches!(self, Self::Embeddings)
    }

    /// The label of its metrics.
    pub fn label(self) -> metrics::Operation {
        match self {
            Self::ChatCompletions => metrics::Operation::chat,
            Self::Completions => metrics::Operation::text_completion,
            Self::Embeddings => metrics::Operation::embeddings,
        }
    }
}
