//! What an error means: an answer outside 2xx (`{"title", "detail", "status", "retry_after"}`), or a prediction that failed.

use alloc::string::String;

use brokle_plugin::provider::ResponseHead;
use brokle_plugin::{Problem, ProblemKind};

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Document {
    detail: Option<String>,
    title: Option<String>,
    /// In seconds.
    retry_after: Option<f64>,
}

/// The problem that an error answer means.
pub(crate) fn from_answer(head: &ResponseHead, body: &[u8]) -> Problem {
    let document = serde_json::from_slice::<Document>(body).unwrap_or_default();
    let message = document.detail.or(document.title).filter(|message| !message.trim().is_empty());
    let message = message.unwrap_or_else(|| shared_canonical::quoted("Replicate", head.status, body));
    let kind = match head.status {
        // Not enough credit.
        402 => ProblemKind::Permission,
        status => Problem::kind_of_status(status),
    };
    let mut problem = shared_canonical::answered(kind, message.trim().into(), head);
    let seconds = document.retry_after.filter(|seconds| (0.0..1e9).contains(seconds));
    problem.retry_after_ms = problem.retry_after_ms.or(seconds.map(|seconds| (seconds * 1000.0) as u64));
    problem
}

/// The problem that a prediction's `error` means.
pub(crate) fn of_prediction(error: &str) -> Problem {
    let lower = error.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    let kind = if has(&["nsfw", "flagged as sensitive", "content policy"]) {
        ProblemKind::ContentPolicy
    } else if has(&["context length", "too many tokens", "maximum context", "prompt is too long"]) {
        ProblemKind::ContextLength
    } else if has(&["interrupted; please retry", "queue is full", "high demand"]) {
        ProblemKind::Overloaded
    } else {
        ProblemKind::Upstream
    };
    Problem::new(kind, error)
}
