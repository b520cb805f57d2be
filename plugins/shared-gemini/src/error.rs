//! What an error means, in an answer outside 2xx and inside a stream: `google.rpc.Status` in JSON.
//!
//! `{"error": {"code", "message", "status", "details"}}`, a list of one where a stream failed before it began. The
//! `status` decides; `details` tell a bad key (`ErrorInfo`) and how long to wait (`RetryInfo`). 4xx keep their status,
//! 5xx get the one of their kind. Source: the Gemini API's troubleshooting guide, `google/rpc/error_details.proto`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::provider::ResponseHead;
use brokle_plugin::{Problem, ProblemKind};

#[derive(serde::Deserialize)]
struct Envelope {
    error: Error,
}

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Document {
    // Before the other: a list of one would do for a struct of one member.
    Several(Vec<Envelope>),
    One(Envelope),
}

/// The `error` member.
#[derive(serde::Deserialize)]
pub(crate) struct Error {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    details: Vec<Detail>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Detail {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    retry_delay: Option<String>,
}

/// The problem that an error answer means.
pub fn from_answer(head: &ResponseHead, body: &[u8]) -> Problem {
    let error = match serde_json::from_slice(body) {
        Ok(Document::One(envelope)) => Some(envelope.error),
        Ok(Document::Several(envelopes)) => envelopes.into_iter().next().map(|envelope| envelope.error),
        Err(_) => None,
    };
    let mut problem = match error {
        Some(error) => from_error(&error),
        None => {
            let message = shared_canonical::quoted("Gemini", head.status, body);
            Problem::new(Problem::kind_of_status(head.status), message)
        }
    };
    problem.status = (400..500).contains(&head.status).then_some(head.status);
    problem.retry_after_ms = head.retry_after_ms().or(problem.retry_after_ms);
    problem
}

/// The problem that a `google.rpc.Status` means which isn't an answer's own (a batch's line): it has the number of its code, and
/// no `status`.
pub fn from_status(json: &[u8]) -> Problem {
    match serde_json::from_slice::<Error>(json) {
        Ok(error) => from_error(&Error { status: name(error.code).into(), code: 500, ..error }),
        Err(error) => Problem::bad_answer(error),
    }
}

/// The name of a `google.rpc.Code`, as an answer's `status` has it.
fn name(code: u16) -> &'static str {
    match code {
        1 => "CANCELLED",
        3 => "INVALID_ARGUMENT",
        4 => "DEADLINE_EXCEEDED",
        5 => "NOT_FOUND",
        7 => "PERMISSION_DENIED",
        8 => "RESOURCE_EXHAUSTED",
        9 => "FAILED_PRECONDITION",
        11 => "OUT_OF_RANGE",
        13 => "INTERNAL",
        14 => "UNAVAILABLE",
        16 => "UNAUTHENTICATED",
        _ => "UNKNOWN",
    }
}

/// The problem that an `error` object means, wherever it stands.
pub(crate) fn from_error(error: &Error) -> Problem {
    let has_reason =
        |wanted: &str| error.details.iter().any(|detail| detail.reason.as_deref() == Some(wanted));
    let kind = match error.status.as_str() {
        _ if has_reason("API_KEY_INVALID") => ProblemKind::Authentication,
        "INVALID_ARGUMENT" if too_long(&error.message) => ProblemKind::ContextLength,
        "INVALID_ARGUMENT" | "OUT_OF_RANGE" => ProblemKind::InvalidRequest,
        // A region or a billing state in which the key may not be used.
        "FAILED_PRECONDITION" | "PERMISSION_DENIED" => ProblemKind::Permission,
        "UNAUTHENTICATED" => ProblemKind::Authentication,
        "NOT_FOUND" => ProblemKind::NotFound,
        "RESOURCE_EXHAUSTED" => ProblemKind::RateLimit,
        "UNAVAILABLE" => ProblemKind::Overloaded,
        "DEADLINE_EXCEEDED" => ProblemKind::Timeout,
        "INTERNAL" | "UNKNOWN" => ProblemKind::Upstream,
        _ => Problem::kind_of_status(error.code),
    };
    let message = match error.message.is_empty() {
        true => format!("Gemini reported {} {}.", error.code, error.status),
        false => error.message.clone(),
    };
    let wait = error.details.iter().find_map(|detail| delay_ms(detail.retry_delay.as_deref()?));
    Problem { retry_after_ms: wait, ..Problem::new(kind, message) }
}

/// `google.protobuf.Duration` in JSON: `34.5s`.
fn delay_ms(text: &str) -> Option<u64> {
    let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
    (0.0..1e9).contains(&seconds).then_some((seconds * 1000.0) as u64)
}

/// The API has no status of its own for a prompt over the context window.
fn too_long(message: &str) -> bool {
    message.contains("exceeds the maximum number of tokens")
}
