//! Whose model an id names, since what isn't common to all models is told each maker's way.
//!
//! `us.anthropic.claude-sonnet-4-5-20250929-v1:0` and `anthropic.claude-…` are Claude; an ARN is told by the id in it.
//! An ARN of an application inference profile says nothing: it is taken for another maker's.

use shared_anthropic::Model;

use crate::options::SchemaMode;

/// A model's maker, as far as requests differ by it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Family {
    /// Anthropic's, and which.
    Claude(Model),
    /// Amazon Nova of the second generation, which reasons.
    Nova2,
    /// Amazon Nova of the first.
    Nova,
    /// OpenAI's open models.
    OpenAi,
    /// Makers whose models can't be held to a schema: Amazon's older ones, Meta, Cohere, AI21.
    Plain,
    /// Any other.
    Other,
}

impl Family {
    pub(crate) fn of(model: &str) -> Self {
        let has = |part: &str| model.contains(part);
        if has("claude") {
            Self::Claude(Model::named(model))
        } else if has("amazon.nova-2") {
            Self::Nova2
        } else if has("amazon.nova") {
            Self::Nova
        } else if has("openai.") {
            Self::OpenAi
        } else if ["amazon.", "meta.", "cohere.", "ai21."].into_iter().any(has) {
            Self::Plain
        } else {
            Self::Other
        }
    }

    /// Whether `outputConfig` holds an answer to a JSON Schema, rather than a tool.
    pub(crate) fn has_schemas(self, mode: SchemaMode) -> bool {
        match (mode, self) {
            (SchemaMode::Native, _) => true,
            (SchemaMode::Tool, _) => false,
            (SchemaMode::Auto, Self::Claude(model)) => model.structured_outputs(),
            (SchemaMode::Auto, Self::OpenAi | Self::Other) => true,
            (SchemaMode::Auto, Self::Nova | Self::Nova2 | Self::Plain) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_profiles_and_arns_tell_the_maker() {
        let claude = |id: &str| matches!(Family::of(id), Family::Claude(_));
        assert!(claude("anthropic.claude-3-haiku-20240307-v1:0"));
        assert!(claude("eu.anthropic.claude-sonnet-4-5-20250929-v1:0"));
        assert!(claude("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-opus-4-6-v1"));
        assert_eq!(Family::of("us.amazon.nova-2-lite-v1:0"), Family::Nova2);
        assert_eq!(Family::of("amazon.nova-pro-v1:0"), Family::Nova);
        assert_eq!(Family::of("openai.gpt-oss-120b-1:0"), Family::OpenAi);
        assert_eq!(Family::of("us.meta.llama4-maverick-17b-instruct-v1:0"), Family::Plain);
        assert_eq!(Family::of("deepseek.v3-v1:0"), Family::Other);
        let arn = "arn:aws:bedrock:us-east-1:1:application-inference-profile/x";
        assert_eq!(Family::of(arn), Family::Other);
    }
}
