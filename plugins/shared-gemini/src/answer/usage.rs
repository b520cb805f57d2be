//! Token counts. Gemini counts what its tools read beside the prompt, and thoughts beside the answer; the canonical
//! counts are the sums. A stream repeats them as running totals.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::UsageEntry;
use serde::Deserialize;
use serde_json::{Map, Value, json};

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(crate) struct UsageMetadata {
    prompt_token_count: u64,
    cached_content_token_count: u64,
    candidates_token_count: u64,
    tool_use_prompt_token_count: u64,
    thoughts_token_count: u64,
    prompt_tokens_details: Vec<Modality>,
    candidates_tokens_details: Vec<Modality>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Modality {
    #[serde(default)]
    modality: String,
    #[serde(default)]
    token_count: u64,
}

fn of(details: &[Modality], modality: &str) -> u64 {
    details.iter().filter(|one| one.modality == modality).map(|one| one.token_count).sum()
}

impl UsageMetadata {
    fn input(&self) -> u64 {
        self.prompt_token_count.saturating_add(self.tool_use_prompt_token_count)
    }

    fn output(&self) -> u64 {
        self.candidates_token_count.saturating_add(self.thoughts_token_count)
    }

    /// For accounting. Counts of zero are left out, but for the two wholes.
    pub(crate) fn entries(&self) -> Vec<UsageEntry> {
        let parts = [
            ("cached_read", self.cached_content_token_count),
            ("reasoning", self.thoughts_token_count),
            ("audio_input", of(&self.prompt_tokens_details, "AUDIO")),
            ("image_input", of(&self.prompt_tokens_details, "IMAGE")),
            ("audio_output", of(&self.candidates_tokens_details, "AUDIO")),
            ("image_output", of(&self.candidates_tokens_details, "IMAGE")),
        ];
        [("input", self.input()), ("output", self.output())]
            .into_iter()
            .chain(parts.into_iter().filter(|(_, amount)| *amount > 0))
            .map(|(kind, amount)| UsageEntry { kind: kind.to_owned(), amount })
            .collect()
    }

    /// For the caller.
    pub(crate) fn canonical(&self) -> Value {
        let details = |counts: &[(&str, u64)]| -> Map<String, Value> {
            let some = counts.iter().filter(|(_, count)| *count > 0);
            some.map(|(name, count)| ((*name).to_owned(), (*count).into())).collect()
        };
        let mut prompt = details(&[
            ("audio_tokens", of(&self.prompt_tokens_details, "AUDIO")),
            ("image_tokens", of(&self.prompt_tokens_details, "IMAGE")),
            ("tool_use_tokens", self.tool_use_prompt_token_count),
        ]);
        prompt.insert("cached_tokens".to_owned(), self.cached_content_token_count.into());
        let mut completion = details(&[
            ("audio_tokens", of(&self.candidates_tokens_details, "AUDIO")),
            ("image_tokens", of(&self.candidates_tokens_details, "IMAGE")),
        ]);
        completion.insert("reasoning_tokens".to_owned(), self.thoughts_token_count.into());
        json!({
            "prompt_tokens": self.input(),
            "completion_tokens": self.output(),
            "total_tokens": self.input().saturating_add(self.output()),
            "prompt_tokens_details": prompt,
            "completion_tokens_details": completion,
        })
    }
}
