//! Building problems.

use crate::bindings::common::{Problem, ProblemKind};
use crate::prelude::*;
use crate::provider::{Call, ResponseHead};

impl Problem {
    /// A problem of this kind; code, status and parameter follow from the kind.
    pub fn new(kind: ProblemKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            code: None,
            param: None,
            status: None,
            retry_after_ms: None,
            body: None,
        }
    }

    /// The request is wrong in this field.
    pub fn invalid(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ProblemKind::InvalidRequest, message) }
    }

    /// The vendor has nothing for this operation.
    pub fn unsupported_operation(call: &Call) -> Self {
        let message = format!("This provider doesn't offer '{}'.", call.operation);
        Self::new(ProblemKind::Unsupported, message)
    }

    /// The vendor has nothing for this field.
    pub fn unsupported(param: impl Into<String>, message: impl Into<String>) -> Self {
        Self { param: Some(param.into()), ..Self::new(ProblemKind::Unsupported, message) }
    }

    /// The vendor's answer can't be understood.
    pub fn bad_answer(what: impl core::fmt::Display) -> Self {
        Self::new(ProblemKind::Upstream, format!("The provider's answer can't be understood: {what}."))
    }

    /// With the vendor's own code.
    #[must_use]
    pub fn with_code(mut self, code: Option<String>) -> Self {
        self.code = code;
        self
    }

    /// The kind that an HTTP status stands for when the vendor says nothing finer.
    pub fn kind_of_status(status: u16) -> ProblemKind {
        match status {
            401 => ProblemKind::Authentication,
            403 => ProblemKind::Permission,
            404 => ProblemKind::NotFound,
            408 | 504 => ProblemKind::Timeout,
            429 => ProblemKind::RateLimit,
            503 | 529 => ProblemKind::Overloaded,
            400..=499 => ProblemKind::InvalidRequest,
            _ => ProblemKind::Upstream,
        }
    }

    /// The problem that an error answer in OpenAI's form means: its message, code and parameter,
    /// the status as it came, `Retry-After` understood, and the body kept to be relayed
    /// untouched. A body in another form is quoted, at most 500 characters of it.
    pub fn from_openai(head: &ResponseHead, body: Vec<u8>) -> Self {
        #[derive(serde::Deserialize)]
        struct Envelope {
            error: Error,
        }
        #[derive(serde::Deserialize)]
        struct Error {
            message: String,
            code: Option<serde_json::Value>,
            param: Option<String>,
        }
        let mut kind = Self::kind_of_status(head.status);
        let mut problem = match serde_json::from_slice::<Envelope>(&body) {
            Ok(Envelope { error }) => {
                let code = error.code.map(|code| match code {
                    serde_json::Value::String(text) => text,
                    other => other.to_string(),
                });
                match code.as_deref() {
                    Some("context_length_exceeded") => kind = ProblemKind::ContextLength,
                    Some("content_filter" | "content_policy_violation") => kind = ProblemKind::ContentPolicy,
                    _ => {}
                }
                Self { code, param: error.param, body: Some(body), ..Self::new(kind, error.message) }
            }
            Err(_) => {
                let text = String::from_utf8_lossy(&body);
                let quoted: String = text.trim().chars().take(500).collect();
                let message = match quoted.is_empty() {
                    true => format!("The provider answered {} without a message.", head.status),
                    false => quoted,
                };
                Self::new(kind, message)
            }
        };
        problem.status = Some(head.status);
        problem.retry_after_ms = head.retry_after_ms();
        problem
    }
}

impl ResponseHead {
    /// A header's value, by lower-case name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|header| header.name == name).map(|header| header.value.as_str())
    }

    /// `retry-after-ms` (OpenAI's), or `retry-after` in seconds (RFC 9110 section 10.2.3). A
    /// date isn't understood here: a plugin has no clock.
    pub fn retry_after_ms(&self) -> Option<u64> {
        let milliseconds = self.header("retry-after-ms").and_then(|value| value.trim().parse().ok());
        milliseconds.or_else(|| milliseconds_of(self.header("retry-after")?.trim()))
    }
}

/// Seconds, which some vendors tell with a fraction; a thousandth is as fine as it gets. By hand, since what reads floats brings
/// tables that every fresh instance would copy.
fn milliseconds_of(seconds: &str) -> Option<u64> {
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) || whole.len() > 9 {
        return None;
    }
    let thousandths: String = fraction.chars().chain("000".chars()).take(3).collect();
    Some(whole.parse::<u64>().ok()? * 1000 + thousandths.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_with_or_without_a_fraction() {
        let cases = [
            ("7", Some(7_000)),
            (" 0.5 ", Some(500)),
            ("1.23456", Some(1_234)),
            ("999999999", Some(999_999_999_000)),
            ("1000000000", None),
            ("-1", None),
            ("1e3", None),
            (".5", None),
            ("", None),
            ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ];
        for (value, expected) in cases {
            let headers = vec![crate::Header { name: "retry-after".into(), value: value.into() }];
            assert_eq!(ResponseHead { status: 429, headers }.retry_after_ms(), expected, "{value:?}");
        }
    }
}
