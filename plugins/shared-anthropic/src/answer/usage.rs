//! Token counts. Anthropic counts cached tokens beside `input_tokens`; the canonical input is the
//! sum of the three. A stream repeats its counts as running totals, each of which may be missing.

use alloc::borrow::ToOwned;
use alloc::vec::Vec;

use brokle_plugin::UsageEntry;
use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct Usage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    output_tokens_details: Option<OutputDetails>,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(default)]
struct OutputDetails {
    thinking_tokens: u64,
}

#[derive(Serialize)]
pub(crate) struct CanonicalUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Serialize)]
struct PromptDetails {
    cached_tokens: u64,
    cache_write_tokens: u64,
}

#[derive(Serialize)]
struct CompletionDetails {
    reasoning_tokens: u64,
}

impl Usage {
    /// Takes over what a later report says.
    pub(crate) fn update(&mut self, later: &Self) {
        let keep = |old: &mut Option<u64>, new: Option<u64>| *old = new.or(*old);
        keep(&mut self.input_tokens, later.input_tokens);
        keep(&mut self.cache_creation_input_tokens, later.cache_creation_input_tokens);
        keep(&mut self.cache_read_input_tokens, later.cache_read_input_tokens);
        keep(&mut self.output_tokens, later.output_tokens);
        self.output_tokens_details = later.output_tokens_details.or(self.output_tokens_details);
    }

    fn cached(&self) -> (u64, u64) {
        (self.cache_read_input_tokens.unwrap_or(0), self.cache_creation_input_tokens.unwrap_or(0))
    }

    fn input(&self) -> u64 {
        let (read, write) = self.cached();
        self.input_tokens.unwrap_or(0).saturating_add(read).saturating_add(write)
    }

    /// For accounting. Counts of zero are left out, but for the two wholes.
    pub(crate) fn entries(&self) -> Vec<UsageEntry> {
        let (read, write) = self.cached();
        let reasoning = self.output_tokens_details.unwrap_or_default().thinking_tokens;
        let parts = [("cached_read", read), ("cache_write", write), ("reasoning", reasoning)];
        [("input", self.input()), ("output", self.output_tokens.unwrap_or(0))]
            .into_iter()
            .chain(parts.into_iter().filter(|(_, amount)| *amount > 0))
            .map(|(kind, amount)| UsageEntry { kind: kind.to_owned(), amount })
            .collect()
    }

    /// For the caller.
    pub(crate) fn canonical(&self) -> CanonicalUsage {
        let (cached_tokens, cache_write_tokens) = self.cached();
        let (prompt_tokens, completion_tokens) = (self.input(), self.output_tokens.unwrap_or(0));
        CanonicalUsage {
            prompt_tokens,
            completion_tokens,
            total_tokens: prompt_tokens.saturating_add(completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens, cache_write_tokens },
            completion_tokens_details: self
                .output_tokens_details
                .map(|details| CompletionDetails { reasoning_tokens: details.thinking_tokens }),
        }
    }
}
