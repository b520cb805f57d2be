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
    /// `POST /v1/images/generations`
    ImageGenerations,
    /// `POST /v1/images/edits`
    ImageEdits,
    /// `POST /v1/audio/speech`
    Speech,
    /// `POST /v1/audio/transcriptions`
    Transcriptions,
    /// `POST /v1/audio/translations`
    Translations,
    /// `POST /v1/moderations`
    Moderations,
    /// `POST /v1/rerank`
    Rerank,
    /// `GET /v1/realtime`: a session over a WebSocket.
    Realtime,
    /// How many tokens a request has, without an answer: dialects have an endpoint for it.
    CountTokens,
    /// `/v1/providers/{name}/…`: a provider's own API, relayed as it came.
    Raw,
}

impl Operation {
    /// Its name in the plugin contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat.completions",
            Self::Completions => "completions",
            Self::Embeddings => "embeddings",
            Self::ImageGenerations => "images.generations",
            Self::ImageEdits => "images.edits",
            Self::Speech => "audio.speech",
            Self::Transcriptions => "audio.transcriptions",
            Self::Translations => "audio.translations",
            Self::Moderations => "moderations",
            Self::Rerank => "rerank",
            Self::Realtime => "realtime",
            Self::CountTokens => "count-tokens",
            Self::Raw => "raw",
        }
    }

    /// `gen_ai.operation.name`.
    pub fn gen_ai_name(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat",
            Self::Completions => "text_completion",
            Self::Embeddings => "embeddings",
            Self::ImageGenerations => "image_generation",
            Self::ImageEdits => "image_edit",
            Self::Speech => "speech",
            Self::Transcriptions => "transcription",
            Self::Translations => "translation",
            Self::Moderations => "moderation",
            Self::Rerank => "rerank",
            Self::Realtime => "realtime",
            Self::CountTokens => "count_tokens",
            Self::Raw => "raw",
        }
    }

    /// The kind of observation that a call becomes.
    pub fn kind(self) -> Kind {
        match self {
            Self::ChatCompletions | Self::Completions | Self::Realtime => Kind::Generation,
            Self::Embeddings => Kind::Embedding,
            Self::ImageGenerations | Self::ImageEdits => Kind::Image,
            Self::Speech | Self::Transcriptions | Self::Translations => Kind::Audio,
            Self::Moderations => Kind::Moderation,
            Self::Rerank => Kind::Rerank,
            Self::CountTokens | Self::Raw => Kind::Span,
        }
    }

    /// Whether it can be streamed by `stream`. Speech has a word of its own for events, `stream_format`.
    pub fn streams(self) -> bool {
        let typed = matches!(self, Self::ImageGenerations | Self::ImageEdits | Self::Transcriptions);
        self.has_choices() || typed
    }

    /// Whether its answer is made of choices: a stream of it is made of chunks and ends with `[DONE]`. Other streams are made
    /// of events whose `type` tells them apart.
    pub(crate) fn has_choices(self) -> bool {
        matches!(self, Self::ChatCompletions | Self::Completions)
    }

    /// Whether its request is a form (`multipart/form-data`) rather than JSON.
    pub fn is_form(self) -> bool {
        matches!(self, Self::ImageEdits | Self::Transcriptions | Self::Translations)
    }

    /// Whether its answer says what somebody said: guardrails on answers have a say in it.
    pub(crate) fn answers_text(self) -> bool {
        self.has_choices() || matches!(self, Self::Transcriptions | Self::Translations)
    }

    /// The label of its metrics.
    pub fn label(self) -> metrics::Operation {
        match self {
            Self::ChatCompletions => metrics::Operation::chat,
            Self::Completions => metrics::Operation::text_completion,
            Self::Embeddings => metrics::Operation::embeddings,
            Self::ImageGenerations | Self::ImageEdits => metrics::Operation::image,
            Self::Speech | Self::Transcriptions | Self::Translations => metrics::Operation::audio,
            Self::Moderations => metrics::Operation::moderation,
            Self::Rerank => metrics::Operation::rerank,
            Self::Realtime => metrics::Operation::realtime,
            Self::CountTokens => metrics::Operation::count_tokens,
            Self::Raw => metrics::Operation::raw,
        }
    }
}
