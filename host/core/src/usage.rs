//! What a call used: tokens by type, and the units that aren't tokens.
//!
//! **Whole and parts.** `input` and `output` are the wholes; the others are parts of one of them, as
//! OpenAI's `*_details` and OpenTelemetry's `gen_ai.usage.*` count. A part never adds to the total.
//! Parts of one whole don't overlap: audio or image tokens that were read from the cache count as
//! `cached_read` only, since that is how they are charged.
//!
//! Vendors that count otherwise (the cached tokens beside the input, the reasoning beside the output)
//! are brought to this form by their provider plugin; [`Usage::from_openai`] does it for the two
//! deviations seen on OpenAI-compatible servers.

mod wire;

use serde::{Deserialize, Serialize};

use self::wire::{Count, Members};

/// Tokens by type.
///
/// `input` includes cached reads, cache writes, audio and image tokens; `output` includes reasoning,
/// audio and image tokens.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// All tokens in (`gen_ai.usage.input_tokens`).
    pub input: u64,
    /// All tokens out (`gen_ai.usage.output_tokens`).
    pub output: u64,
    /// Input tokens that the vendor read from its prompt cache.
    pub cached_read: u64,
    /// Input tokens that the vendor wrote to its prompt cache.
    pub cache_write: u64,
    /// Output tokens spent on reasoning.
    pub reasoning: u64,
    /// Input tokens that are audio, apart from those read from the cache.
    pub audio_input: u64,
    /// Output tokens that are audio.
    pub audio_output: u64,
    /// Input tokens that are images, apart from those read from the cache.
    pub image_input: u64,
    /// Output tokens that are images.
    pub image_output: u64,
    /// Whether any count was estimated here rather than reported by the vendor.
    pub estimated: bool,
}

/// What a call used that isn't counted in tokens.
#[derive(Default, Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(default)]
pub struct Units {
    /// Images made, or images embedded.
    pub images: u64,
    /// Audio in or out, in milliseconds.
    pub milliseconds: u64,
    /// Characters spoken.
    pub characters: u64,
    /// Queries (Cohere's "search units"): a rerank of up to 100 documents is one.
    pub queries: u64,
    /// Searches of the web that the vendor made for the answer.
    pub web_searches: u64,
}

impl Usage {
    /// Input and output together. Parts are already in them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    /// Whether nothing was counted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts().iter().all(|(_, count)| *count == 0)
    }

    /// Every count with its kind's name, wholes first.
    #[must_use]
    pub const fn counts(&self) -> [(&'static str, u64); 9] {
        [
            ("input", self.input),
            ("output", self.output),
            ("cached_read", self.cached_read),
            ("cache_write", self.cache_write),
            ("reasoning", self.reasoning),
            ("audio_input", self.audio_input),
            ("audio_output", self.audio_output),
            ("image_input", self.image_input),
            ("image_output", self.image_output),
        ]
    }

    /// Sets one count by its kind's name, as a plugin's `usage-entry` carries it. False, and no
    /// change, for a kind that this version doesn't know.
    #[must_use = "false means that the kind is unknown"]
    pub fn set(&mut self, kind: &str, amount: u64) -> bool {
        match self.count_mut(kind) {
            Some(count) => {
                *count = amount;
                true
            }
            None => false,
        }
    }

    /// Keeps the larger of each count: vendors send running totals, some of them more than once.
    /// The result is an estimate when either side that counted anything was one.
    pub fn merge_max(&mut self, other: &Self) {
        if other.is_empty() {
            return;
        }
        self.estimated |= other.estimated;
        for (kind, amount) in other.counts() {
            if let Some(count) = self.count_mut(kind) {
                *count = (*count).max(amount);
            }
        }
    }

    /// Adds another call's counts to these. The result is an estimate when either side that counted anything was one.
    pub fn add(&mut self, other: &Self) {
        self.estimated |= other.estimated && !other.is_empty();
        for (kind, amount) in other.counts() {
            if let Some(count) = self.count_mut(kind) {
                *count = count.saturating_add(amount);
            }
        }
    }

    fn count_mut(&mut self, kind: &str) -> Option<&mut u64> {
        Some(match kind {
            "input" => &mut self.input,
            "output" => &mut self.output,
            "cached_read" => &mut self.cached_read,
            "cache_write" => &mut self.cache_write,
            "reasoning" => &mut self.reasoning,
            "audio_input" => &mut self.audio_input,
            "audio_output" => &mut self.audio_output,
            "image_input" => &mut self.image_input,
            "image_output" => &mut self.image_output,
            _ => return None,
        })
    }

    /// Reads a `usage` object of OpenAI's wire format, in any of its spellings: Chat Completions and
    /// Embeddings (`prompt_tokens`), Responses, Images and Transcriptions (`input_tokens`), Realtime
    /// (`input_token_details`). `None` when it isn't an object or has no token count (`null` in every
    /// streamed chunk but the last; `{"type":"duration"}` of a transcription).
    ///
    /// Also understood, since OpenAI-compatible servers send them:
    /// - `prompt_cache_hit_tokens` and `cached_tokens` beside the counts, for cached reads;
    /// - reasoning tokens that aren't in the completion's count: told by a total that is the sum of
    ///   all three;
    /// - only a total, or a total and one of the two: the missing one is the difference.
    #[must_use]
    pub fn from_openai(json: &[u8]) -> Option<Self> {
        let told: Members = serde_json::from_slice(json).ok()?;
        let none = Members::default();
        let input_details = told.input_details.as_deref().unwrap_or(&none);
        let output_details = told.output_details.as_deref().unwrap_or(&none);
        let input = told.prompt_tokens.0.or(told.input_tokens.0);
        let output = told.completion_tokens.0.or(told.output_tokens.0);
        let total = told.total_tokens.0;
        let (input, mut output) = match (input, output, total) {
            (None, None, None) => return None,
            (None, output, Some(total)) => {
                (total.saturating_sub(output.unwrap_or_default()), output.unwrap_or_default())
            }
            (Some(input), None, Some(total)) => (input, total.saturating_sub(input)),
            (input, output, _) => (input.unwrap_or_default(), output.unwrap_or_default()),
        };

        let reasoning = output_details.reasoning_tokens.0.unwrap_or_default();
        let beside = input.saturating_add(output).saturating_add(reasoning);
        if reasoning > 0 && total == Some(beside) {
            output = output.saturating_add(reasoning);
        }

        let cached = input_details.cached_details.as_deref().unwrap_or(&none);
        let uncached = |all: Count, cached: Count| {
            all.0.unwrap_or_default().saturating_sub(cached.0.unwrap_or_default())
        };
        Some(Self {
            input,
            output,
            cached_read: (input_details.cached_tokens.0)
                .or(told.prompt_cache_hit_tokens.0)
                .or(told.cached_tokens.0)
                .unwrap_or_default(),
            cache_write: input_details.cache_write_tokens.0.unwrap_or_default(),
            reasoning,
            audio_input: uncached(input_details.audio_tokens, cached.audio_tokens),
            audio_output: output_details.audio_tokens.0.unwrap_or_default(),
            image_input: uncached(input_details.image_tokens, cached.image_tokens),
            image_output: output_details.image_tokens.0.unwrap_or_default(),
            estimated: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Usage {
        Usage::from_openai(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn reads_chat_completions() {
        let usage = read(&json!({
            "prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": 2306,
            "prompt_tokens_details": {"cached_tokens": 1920, "audio_tokens": 6, "cache_write_tokens": 10},
            "completion_tokens_details": {"reasoning_tokens": 200, "audio_tokens": 50,
                "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0},
        }));
        let expected = Usage {
            input: 2006,
            output: 300,
            cached_read: 1920,
            cache_write: 10,
            reasoning: 200,
            audio_input: 6,
            audio_output: 50,
            ..Usage::default()
        };
        assert_eq!(usage, expected);
        assert_eq!(usage.total(), 2306);
    }

    #[test]
    fn reads_responses_images_and_embeddings() {
        let responses = read(&json!({
            "input_tokens": 75, "input_tokens_details": {"cached_tokens": 32},
            "output_tokens": 1186, "output_tokens_details": {"reasoning_tokens": 1024}, "total_tokens": 1261,
        }));
        assert_eq!((responses.input, responses.cached_read), (75, 32));
        assert_eq!((responses.output, responses.reasoning), (1186, 1024));

        let image = read(&json!({
            "input_tokens": 50, "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
            "output_tokens": 4160, "output_tokens_details": {"image_tokens": 4160, "text_tokens": 0},
        }));
        assert_eq!((image.image_input, image.image_output), (40, 4160));

        assert_eq!(read(&json!({"prompt_tokens": 8, "total_tokens": 8})).input, 8);
        assert_eq!(read(&json!({"total_tokens": 8})).input, 8);
    }

    #[test]
    fn cached_audio_counts_once_as_cached() {
        let realtime = read(&json!({
            "input_tokens": 200, "output_tokens": 0,
            "input_token_details": {"text_tokens": 80, "audio_tokens": 100, "image_tokens": 20, "cached_tokens": 64,
                "cached_tokens_details": {"text_tokens": 22, "audio_tokens": 30, "image_tokens": 12}},
        }));
        assert_eq!((realtime.cached_read, realtime.audio_input, realtime.image_input), (64, 70, 8));
    }

    #[test]
    fn reasoning_beside_the_completion_is_added_to_it() {
        let beside = json!({
            "prompt_tokens": 32, "completion_tokens": 9, "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        });
        assert_eq!((read(&beside).output, read(&beside).total()), (103, 135));
        let inside = json!({
            "prompt_tokens": 32, "completion_tokens": 103, "total_tokens": 135,
            "completion_tokens_details": {"reasoning_tokens": 94},
        });
        assert_eq!(read(&inside).output, 103);
    }

    #[test]
    fn reads_the_cache_fields_of_compatible_servers() {
        let hit = json!({"prompt_tokens": 90, "completion_tokens": 1, "prompt_cache_hit_tokens": 64});
        assert_eq!(read(&hit).cached_read, 64);
        let flat = json!({"prompt_tokens": 90, "completion_tokens": 1, "cached_tokens": 12});
        assert_eq!(read(&flat).cached_read, 12);
    }

    #[test]
    fn what_is_no_usage_is_none() {
        for value in [
            json!(null),
            json!([1]),
            json!({}),
            json!({"type": "duration", "seconds": 9}),
            json!({"prompt_tokens": "12", "completion_tokens": -3}),
        ] {
            assert_eq!(Usage::from_openai(value.to_string().as_bytes()), None, "{value}");
        }
        let odd =
            read(&json!({"prompt_tokens": 12.0, "completion_tokens": 1.5, "prompt_tokens_details": null}));
        assert_eq!((odd.input, odd.output), (12, 0));
        let huge = read(&json!({
            "prompt_tokens": u64::MAX, "completion_tokens": u64::MAX, "total_tokens": u64::MAX,
            "completion_tokens_details": {"reasoning_tokens": u64::MAX},
        }));
        assert_eq!(huge.total(), u64::MAX);
    }

    #[test]
    fn every_kind_can_be_set_by_name() {
        let mut usage = Usage::default();
        for (at, (kind, _)) in Usage::default().counts().into_iter().enumerate() {
            assert!(usage.set(kind, at as u64 + 1), "{kind}");
        }
        assert_eq!(usage.counts().map(|(_, count)| count), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let before = usage;
        assert!(!usage.set("video_input", 5));
        assert_eq!(usage, before);
    }

    #[test]
    fn merging_keeps_the_larger_of_each_count() {
        let mut usage = Usage { input: 10, output: 5, ..Usage::default() };
        usage.merge_max(&Usage { input: 10, output: 40, cached_read: 3, ..Usage::default() });
        usage.merge_max(&Usage { input: 9, output: 2, ..Usage::default() });
        assert_eq!(usage, Usage { input: 10, output: 40, cached_read: 3, ..Usage::default() });
        usage.merge_max(&Usage { estimated: true, ..Usage::default() });
        assert!(!usage.estimated, "an empty estimate says nothing");
        usage.merge_max(&Usage { output: 41, estimated: true, ..Usage::default() });
        assert!(usage.estimated && usage.output == 41);
    }
}
