//! Errors in each dialect's own form, as far as the host writes them: before a component has read the request, and when
//! it has failed. The components write the others, from a [`Problem`].
//!
//! | dialect | whole | in a stream |
//! |---|---|---|
//! | `anthropic.messages` | `{"type":"error","error":{"type","message"},"request_id"}` | the same as `event: error` |
//! | `openai.responses` | OpenAI's | `event: error`, `{"type":"error","code","message","param","sequence_number"}` |
//! | `gemini.generate-content` | `{"error":{"code","message","status"}}` | the same as an event, or as the array's last element |

use std::time::Duration;

use brokle_runtime::{Problem, ProblemKind};
use bytes::Bytes;
use serde_json::{Value, json};

use super::Dialect;
use crate::refusal::{Fault, Refusal};

impl Dialect {
    /// A refusal's body.
    #[must_use]
    pub fn error(self, refusal: &Refusal, request_id: &str) -> Bytes {
        self.error_of(refusal.status, &refusal.code, refusal.param.as_deref(), &refusal.message, request_id)
    }

    /// The body of an answer with this status.
    #[must_use]
    pub fn error_of(
        self,
        status: u16,
        code: &str,
        param: Option<&str>,
        message: &str,
        request_id: &str,
    ) -> Bytes {
        let body = match self {
            Self::AnthropicMessages => anthropic(status, message, Some(request_id)),
            Self::OpenAiResponses => json!({"error": {
                "message": message, "type": openai_type(status), "param": param, "code": code,
            }}),
            Self::GeminiGenerateContent => google(status, message),
        };
        body.to_string().into()
    }

    /// The end of a stream that has failed and whose component can't say so. `begun`: something was sent before.
    pub(crate) fn error_event(self, refusal: &Refusal, content_type: &str, begun: bool) -> Bytes {
        let event = match self {
            Self::AnthropicMessages => {
                format!("event: error\ndata: {}\n\n", anthropic(refusal.status, &refusal.message, None))
            }
            Self::OpenAiResponses => {
                let data = json!({
                    "type": "error", "code": refusal.code, "message": refusal.message,
                    "param": refusal.param, "sequence_number": 0,
                });
                format!("event: error\ndata: {data}\n\n")
            }
            Self::GeminiGenerateContent => {
                let data = google(refusal.status, &refusal.message);
                match (content_type.starts_with("text/event-stream"), begun) {
                    (true, _) => format!("data: {data}\r\n\r\n"),
                    (false, true) => format!(",\r\n{data}]"),
                    (false, false) => format!("[{data}]"),
                }
            }
        };
        event.into()
    }
}

fn anthropic(status: u16, message: &str, request_id: Option<&str>) -> Value {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        503 | 529 => "overloaded_error",
        504 => "timeout_error",
        400..=499 => "invalid_request_error",
        _ => "api_error",
    };
    let error = json!({"type": kind, "message": message});
    match request_id {
        Some(id) => json!({"type": "error", "error": error, "request_id": id}),
        None => json!({"type": "error", "error": error}),
    }
}

fn google(status: u16, message: &str) -> Value {
    let name = match status {
        400 | 413 | 415 => "INVALID_ARGUMENT",
        401 => "UNAUTHENTICATED",
        403 => "PERMISSION_DENIED",
        404 | 405 => "NOT_FOUND",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        503 => "UNAVAILABLE",
        504 => "DEADLINE_EXCEEDED",
        400..=498 => "FAILED_PRECONDITION",
        _ => "INTERNAL",
    };
    json!({"error": {"code": status, "message": message, "status": name}})
}

fn openai_type(status: u16) -> &'static str {
    match status {
        401 => "authentication_error",
        403 => "permission_error",
        429 => "rate_limit_error",
        400..=499 => "invalid_request_error",
        _ => "server_error",
    }
}

/// What a component is told of a refusal.
pub(crate) fn problem_of(refusal: &Refusal) -> Problem {
    Problem {
        kind: kind_of(refusal),
        message: refusal.message.clone(),
        code: Some(refusal.code.to_string()),
        param: refusal.param.clone(),
        status: Some(refusal.status),
        retry_after_ms: refusal.retry_after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
        body: None,
    }
}

fn kind_of(refusal: &Refusal) -> ProblemKind {
    match (&*refusal.code, refusal.status) {
        ("context_length_exceeded", _) => ProblemKind::ContextLength,
        ("content_filter" | "content_policy_violation", _) => ProblemKind::ContentPolicy,
        ("unsupported", _) => ProblemKind::Unsupported,
        (_, 401) => ProblemKind::Authentication,
        (_, 403) => ProblemKind::Permission,
        (_, 404) => ProblemKind::NotFound,
        (_, 429) => ProblemKind::RateLimit,
        (_, 503 | 529) => ProblemKind::Overloaded,
        (_, 504) => ProblemKind::Timeout,
        (_, 400..=499) => ProblemKind::InvalidRequest,
        (_, 502) => ProblemKind::Upstream,
        (code, _) => ProblemKind::Other(code.to_owned()),
    }
}

/// A canonical stream's error event (`{"error":{…}}`), as a refusal.
pub(super) fn of_event(data: &[u8]) -> Refusal {
    #[derive(serde::Deserialize, Default)]
    struct Envelope {
        #[serde(default)]
        error: Told,
    }
    #[derive(serde::Deserialize, Default)]
    struct Told {
        message: Option<String>,
        #[serde(rename = "type")]
        kind: Option<String>,
        param: Option<String>,
        code: Option<Value>,
    }
    let error = serde_json::from_slice::<Envelope>(data).unwrap_or_default().error;
    let code = error.code.map(|code| match code {
        Value::String(text) => text,
        other => other.to_string(),
    });
    let code = code.unwrap_or_else(|| "upstream_error".to_owned());
    let status = match (error.kind.as_deref(), code.as_str()) {
        (_, "upstream_timeout") => 504,
        (_, "upstream_overloaded" | "server_stopping") | (Some("overloaded_error"), _) => 503,
        (Some("rate_limit_error"), _) => 429,
        (Some("authentication_error"), _) => 401,
        (Some("permission_error"), _) => 403,
        (Some("invalid_request_error"), _) => 400,
        (Some("server_error" | "plugin_error"), _) => 500,
        _ => 502,
    };
    let message = error.message.unwrap_or_else(|| "The provider's stream failed.".to_owned());
    Refusal {
        fault: Fault::Upstream,
        code: code.into(),
        param: error.param,
        retry_after: None::<Duration>,
        ..Refusal::client(status, "upstream_error", message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Dialect; 3] =
        [Dialect::AnthropicMessages, Dialect::OpenAiResponses, Dialect::GeminiGenerateContent];

    #[test]
    fn each_status_has_the_dialects_own_word() {
        let of = |dialect: Dialect, status| -> Value {
            serde_json::from_slice(&dialect.error_of(status, "code", None, "no", "id")).unwrap()
        };
        for (status, anthropic, google, openai) in [
            (401, "authentication_error", "UNAUTHENTICATED", "authentication_error"),
            (404, "not_found_error", "NOT_FOUND", "invalid_request_error"),
            (413, "request_too_large", "INVALID_ARGUMENT", "invalid_request_error"),
            (429, "rate_limit_error", "RESOURCE_EXHAUSTED", "rate_limit_error"),
            (500, "api_error", "INTERNAL", "server_error"),
            (529, "overloaded_error", "INTERNAL", "server_error"),
        ] {
            let [first, second, third] = ALL.map(|dialect| of(dialect, status));
            assert_eq!((&first["type"], &first["error"]["type"]), (&"error".into(), &anthropic.into()));
            assert_eq!(first["request_id"], "id");
            assert_eq!(second["error"]["type"], openai);
            assert_eq!(
                (&third["error"]["code"], &third["error"]["status"]),
                (&status.into(), &google.into())
            );
        }
    }

    #[test]
    fn a_streams_error_ends_it_in_its_framing() {
        let refusal = Refusal::upstream(502, "upstream_error", "gone");
        let text = |dialect: Dialect, kind: &str, begun| {
            String::from_utf8(dialect.error_event(&refusal, kind, begun).to_vec()).unwrap()
        };
        for dialect in ALL {
            assert!(text(dialect, "text/event-stream", true).ends_with("\n\n") || dialect == ALL[2]);
        }
        for (begun, before) in [(false, ""), (true, "[{}")] {
            let whole = format!("{before}{}", text(ALL[2], "application/json", begun));
            let all: Vec<Value> = serde_json::from_str(&whole).unwrap();
            assert_eq!(all.last().unwrap()["error"]["status"], "INTERNAL");
        }
    }

    #[test]
    fn a_canonical_error_event_is_understood() {
        let refusal =
            of_event(br#"{"error":{"message":"m","type":"rate_limit_error","param":null,"code":"slow"}}"#);
        assert_eq!((refusal.status, &*refusal.code, refusal.message.as_str()), (429, "slow", "m"));
        assert_eq!(of_event(br#"{"error":{"message":"m","code":"upstream_timeout"}}"#).status, 504);
        assert_eq!(of_event(b"{\"error\"").status, 502);
    }
}
