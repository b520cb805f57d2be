//! What an error means: `{"message", "id"}`, the status says which. Source: Cohere's API reference, errors.

use alloc::format;
use alloc::string::String;

use brokle_plugin::provider::ResponseHead;
use brokle_plugin::{Problem, ProblemKind};

#[derive(serde::Deserialize)]
struct Document {
    message: String,
}

/// The problem that an error answer means. 4xx keep their status, but for the vendor's own 498 and 499.
pub(crate) fn from_answer(head: &ResponseHead, body: &[u8]) -> Problem {
    let message = match serde_json::from_slice::<Document>(body) {
        Ok(Document { message }) if !message.is_empty() => message,
        _ => {
            let text = String::from_utf8_lossy(body);
            let quoted: String = text.trim().chars().take(500).collect();
            match quoted.is_empty() {
                true => format!("Cohere answered {} without a message.", head.status),
                false => quoted,
            }
        }
    };
    let kind = match head.status {
        // A blocked input or output.
        498 => ProblemKind::ContentPolicy,
        // The request was given up.
        499 => ProblemKind::Timeout,
        402 => ProblemKind::Permission,
        400 | 422 if message.contains("too many tokens") => ProblemKind::ContextLength,
        status => Problem::kind_of_status(status),
    };
    let mut problem = Problem::new(kind, message);
    problem.status = (400..498).contains(&head.status).then_some(head.status);
    problem.retry_after_ms = head.retry_after_ms();
    problem
}
