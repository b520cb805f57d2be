//! One row of the catalogue.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::price::{Prices, Tier};

/// The operation that a model is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Chat Completions.
    #[default]
    Chat,
    /// Legacy Completions.
    Completion,
    /// The Responses API only.
    Responses,
    /// Embeddings.
    Embedding,
    /// Reranking of documents.
    Rerank,
    /// Images from text.
    ImageGeneration,
    /// Speech to text.
    AudioTranscription,
    /// Text to speech.
    AudioSpeech,
    /// Moderation.
    Moderation,
    /// Realtime sessions over WebSocket.
    Realtime,
}

/// Something that a model can do, beyond its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Capability {
    /// Calls tools (functions).
    Tools,
    /// Calls several tools in one turn.
    ParallelTools,
    /// Takes images.
    Vision,
    /// Holds its answer to a JSON schema.
    JsonSchema,
    /// Reasons before it answers.
    Reasoning,
    /// Reads repeated prompts from a cache at a lower price.
    PromptCaching,
    /// Takes audio.
    AudioIn,
    /// Makes audio.
    AudioOut,
    /// Takes video.
    VideoIn,
    /// Makes images.
    ImageOut,
    /// Takes PDF files.
    Pdf,
    /// Searches the web by itself.
    WebSearch,
    /// Drives a computer's screen and keyboard.
    ComputerUse,
}

impl Capability {
    /// The name that data and configuration use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::ParallelTools => "parallel_tools",
            Self::Vision => "vision",
            Self::JsonSchema => "json_schema",
            Self::Reasoning => "reasoning",
            Self::PromptCaching => "prompt_caching",
            Self::AudioIn => "audio_in",
            Self::AudioOut => "audio_out",
            Self::VideoIn => "video_in",
            Self::ImageOut => "image_out",
            Self::Pdf => "pdf",
            Self::WebSearch => "web_search",
            Self::ComputerUse => "computer_use",
        }
    }
}

/// What is known of one model of one provider.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Model {
    /// The name as the vendor's API takes it.
    pub name: String,
    /// The provider's id (docs/model-catalogue.md lists them).
    pub provider: String,
    /// Other names with the same row: dated snapshots, `-latest`, short forms.
    pub aliases: Vec<String>,
    /// What it is for.
    pub mode: Mode,
    /// The most input tokens it takes.
    pub context_window: Option<u32>,
    /// The most output tokens it gives.
    pub max_output: Option<u32>,
    /// What it can do. Absence is "not known to", since price tables leave things out.
    pub capabilities: Vec<Capability>,
    /// What it costs.
    pub prices: Prices,
    /// Prices for large inputs, smallest threshold first.
    pub tiers: Vec<Tier>,
    /// The day on which the vendor ends it.
    pub deprecated: Option<NaiveDate>,
    /// The vendor's price page, or `configuration` for an operator's prices; `None` when the table
    /// doesn't say.
    pub source: Option<String>,
    /// The date of the table that the row is from; `None` for an operator's.
    pub as_of: Option<NaiveDate>,
}

impl Model {
    /// Whether the model is known to have a capability, by its name in the data (`tools`, `vision`,
    /// …). False for a name that isn't a capability.
    #[must_use]
    pub fn supports(&self, capability: &str) -> bool {
        self.capabilities.iter().any(|has| has.name() == capability)
    }

    /// What is wrong with the row by itself, if anything.
    pub(super) fn problem(&self) -> Option<RowProblem> {
        for (field, value) in [("provider", &self.provider), ("name", &self.name)] {
            if !is_name(value) {
                return Some(RowProblem::BadName { field, value: value.clone() });
            }
        }
        if self.provider.contains('/') {
            return Some(RowProblem::BadName { field: "provider", value: self.provider.clone() });
        }
        let mut names = BTreeSet::from([self.name.as_str()]);
        for alias in &self.aliases {
            if !is_name(alias) || !names.insert(alias) {
                return Some(RowProblem::BadName { field: "aliases", value: alias.clone() });
            }
        }
        for (field, value) in [("context_window", self.context_window), ("max_output", self.max_output)] {
            if value == Some(0) {
                return Some(RowProblem::ZeroSize { field });
            }
        }
        let every = std::iter::once(&self.prices).chain(self.tiers.iter().map(|tier| &tier.prices));
        for (kind, price) in every.flat_map(Prices::iter) {
            if price.is_negative() {
                return Some(RowProblem::NegativePrice { kind });
            }
        }
        let mut last = 0;
        for tier in &self.tiers {
            if tier.above <= last || tier.prices.iter().next().is_none() {
                return Some(RowProblem::BadTier { above: tier.above });
            }
            last = tier.above;
        }
        None
    }
}

/// A name that can stand in a request: something, not too long, no control characters, no blank ends.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= super::MAX_NAME
        && text.trim() == text
        && !text.chars().any(char::is_control)
}

/// What makes an operator's row unusable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RowProblem {
    /// A name that no request can carry, or one written twice.
    #[error(
        "`{field}` has {value:?}: names are 1 to 256 bytes without control characters or blank ends, each once, \
         and a provider's has no `/`"
    )]
    BadName {
        /// The field.
        field: &'static str,
        /// What stands in it.
        value: String,
    },
    /// A size of zero.
    #[error("`{field}` is 0: leave it out when it isn't known")]
    ZeroSize {
        /// The field.
        field: &'static str,
    },
    /// A price below zero.
    #[error("the price `{kind}` is negative")]
    NegativePrice {
        /// The kind of price.
        kind: &'static str,
    },
    /// A tier that can never apply, or that changes nothing.
    #[error("the tier above {above} tokens: tiers are above 0, each above the one before, and have a price")]
    BadTier {
        /// The tier's threshold.
        above: u64,
    },
    /// A pattern that isn't a usable glob.
    #[error("the pattern {pattern:?}: it needs a `*` and some text beside it, in at most 256 bytes")]
    BadPattern {
        /// The pattern.
        pattern: String,
    },
    /// `base` names no model.
    #[error("`base` is {base:?}, which is no model of this provider, nor `provider/model`")]
    UnknownBase {
        /// What `base` says.
        base: String,
    },
    /// An alias that is another row's name or an operator's other row's alias.
    #[error("the alias {alias:?} already means {owner:?}")]
    AliasTaken {
        /// The alias.
        alias: String,
        /// The model that has it.
        owner: String,
    },
    /// A second row for the same provider and name.
    #[error("the row is there twice")]
    Duplicate,
}
