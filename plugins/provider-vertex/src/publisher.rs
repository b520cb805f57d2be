//! Whose model a name names, which says where it is asked and in which language.
//!
//! | name | where | language |
//! |---|---|---|
//! | `claude-…` | `publishers/anthropic/models/NAME:rawPredict` | Anthropic's Messages |
//! | `meta/…`, `openai/…`, `xai/…`, … | `endpoints/openapi/chat/completions` | OpenAI's |
//! | `endpoints/ID` | `endpoints/ID:generateContent` | Gemini's: a tuned model |
//! | any other | `publishers/google/models/NAME:generateContent` | Gemini's |

use alloc::format;
use alloc::string::String;

use shared_canonical::url::segment;

/// Who made a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Publisher {
    Anthropic,
    Google,
    /// A model as a service, by OpenAI's API.
    Open,
}

impl Publisher {
    pub(crate) fn of(model: &str) -> Self {
        if model.starts_with("claude") || model.starts_with("anthropic/") {
            Self::Anthropic
        } else if model.contains('/') && !model.starts_with("endpoints/") && !model.starts_with("google/") {
            Self::Open
        } else {
            Self::Google
        }
    }

    /// The model's resource name, under project and location.
    pub(crate) fn resource(self, model: &str) -> String {
        match (self, model.strip_prefix("endpoints/")) {
            (Self::Google, Some(id)) => format!("endpoints/{}", segment(id)),
            (Self::Google, None) => {
                format!(
                    "publishers/google/models/{}",
                    segment(model.strip_prefix("google/").unwrap_or(model))
                )
            }
            (Self::Anthropic, _) => {
                let name = model.strip_prefix("anthropic/").unwrap_or(model);
                format!("publishers/anthropic/models/{}", segment(name))
            }
            (Self::Open, _) => "endpoints/openapi".into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_the_publisher_and_stays_in_its_place() {
        let resource = |model: &str| Publisher::of(model).resource(model);
        assert_eq!(resource("gemini-2.5-pro"), "publishers/google/models/gemini-2.5-pro");
        assert_eq!(resource("google/gemini-2.5-pro"), "publishers/google/models/gemini-2.5-pro");
        assert_eq!(
            resource("claude-opus-4-6@default"),
            "publishers/anthropic/models/claude-opus-4-6%40default"
        );
        assert_eq!(resource("meta/llama-3.1-8b-instruct-maas"), "endpoints/openapi");
        assert_eq!(resource("endpoints/123"), "endpoints/123");
        assert_eq!(resource("endpoints/../x"), "endpoints/..%2Fx");
    }
}
