//! Writing answers: chunk or document, and the usage beside it.

use brokle_plugin::UsageEntry;
use brokle_plugin::openai::Usage;
use brokle_plugin::provider::{Call, Output};

/// The counts as the caller gets them.
pub(crate) fn usage(input: u64, output: u64) -> Usage {
    Usage {
        prompt_tokens: input,
        completion_tokens: output,
        total_tokens: input + output,
        ..Usage::default()
    }
}

/// The counts as the host gets them.
pub(crate) fn entries(usage: &Usage) -> Output {
    let entry = |kind: &str, amount| UsageEntry { kind: kind.to_owned(), amount };
    Output::Usage(vec![entry("input", usage.prompt_tokens), entry("output", usage.completion_tokens)])
}

/// The answer's id.
pub(crate) fn id(prefix: &str, call: &Call) -> String {
    format!("{prefix}-{}", call.request_id)
}
