//! What a model's name tells about the parameters that it takes.
//!
//! The API changed with the models, and refuses with 400 what a model no longer takes:
//!
//! | from | change |
//! |---|---|
//! | 4.1 | `temperature` or `top_p`, not both |
//! | 4.5 | `output_config.format` (structured outputs) |
//! | 4.6 | adaptive thinking and `output_config.effort` instead of a budget of tokens |
//! | 4.7 | no `temperature`, `top_p`, `top_k` but the defaults; effort `xhigh` |
//!
//! A name without a version that we can read (a deployment's, a proxy's alias) is taken for the
//! newest. Source: Anthropic's migration guides and effort page.

use crate::options::ThinkingMode;

/// A model's version, `(4, 6)` for `claude-opus-4-6`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub struct Model {
    version: (u32, u32),
}

impl Model {
    /// Reads `claude-opus-4-6`, `claude-sonnet-4-5-20250929`, `claude-3-7-sonnet-latest`,
    /// `anthropic.claude-opus-4-6-v1:0`: the first number after `claude`, and the next one if it
    /// is short enough not to be a date.
    pub fn named(name: &str) -> Self {
        let after = name.split_once("claude").map_or("", |(_, rest)| rest);
        let mut parts = after.split(['-', '.', '@', ':']);
        let small = |part: &str| part.parse::<u32>().ok().filter(|number| *number < 100);
        let version = parts.find_map(small).map(|major| (major, parts.next().and_then(small).unwrap_or(0)));
        Self { version: version.unwrap_or((u32::MAX, 0)) }
    }

    /// What `max_tokens` is when nobody says: the most that every model of the generation takes
    /// without a beta.
    pub fn default_max_tokens(self) -> u64 {
        if self.version.0 <= 3 { 4096 } else { 32_000 }
    }

    /// Whether `reasoning_effort` becomes an effort rather than a budget.
    pub fn adaptive(self, mode: ThinkingMode) -> bool {
        match mode {
            ThinkingMode::Auto => self.version >= (4, 6),
            ThinkingMode::Adaptive => true,
            ThinkingMode::Budget => false,
        }
    }

    /// Whether `temperature`, `top_p` and `top_k` may differ from their defaults.
    pub fn samples(self) -> bool {
        self.version < (4, 7)
    }

    /// Whether `temperature` excludes `top_p`.
    pub fn one_sampling_parameter(self) -> bool {
        self.version >= (4, 1)
    }

    /// Whether the answer can be held to a JSON Schema.
    pub fn structured_outputs(self) -> bool {
        self.version >= (4, 5)
    }

    /// OpenAI's effort in the vendor's words.
    pub fn effort(self, effort: &str) -> Option<&'static str> {
        Some(match effort {
            "minimal" | "low" => "low",
            "medium" => "medium",
            "high" => "high",
            "xhigh" if self.version >= (4, 7) => "xhigh",
            "xhigh" | "max" => "max",
            _ => return None,
        })
    }

    /// OpenAI's effort as a budget of tokens.
    pub fn budget(effort: &str) -> Option<u64> {
        Some(match effort {
            "minimal" => 1024,
            "low" => 2048,
            "medium" => 8192,
            "high" => 16_384,
            "xhigh" | "max" => 24_576,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_versions() {
        let version = |name| Model::named(name).version;
        assert_eq!(version("claude-opus-4-6"), (4, 6));
        assert_eq!(version("claude-sonnet-4-5-20250929"), (4, 5));
        assert_eq!(version("claude-sonnet-4-20250514"), (4, 0));
        assert_eq!(version("claude-3-7-sonnet-latest"), (3, 7));
        assert_eq!(version("claude-3-haiku-20240307"), (3, 0));
        assert_eq!(version("anthropic.claude-opus-4-6-v1:0"), (4, 6));
        assert_eq!(version("claude-opus-4@20250514"), (4, 0));
        assert_eq!(version("claude-sonnet-5"), (5, 0));
        assert_eq!(version("our-deployment"), (u32::MAX, 0));
    }

    #[test]
    fn a_generation_decides_what_is_sent() {
        let (old, new) = (Model::named("claude-haiku-4-5"), Model::named("claude-opus-4-7"));
        assert!(!old.adaptive(ThinkingMode::Auto) && new.adaptive(ThinkingMode::Auto));
        assert!(old.samples() && !new.samples());
        assert_eq!(Model::named("claude-opus-4-6").effort("xhigh"), Some("max"));
        assert_eq!(new.effort("xhigh"), Some("xhigh"));
        assert_eq!(new.effort("huge"), None);
    }
}
