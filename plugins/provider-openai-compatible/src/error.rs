//! What an error answer means.
//!
//! Compatible servers agree on OpenAI's `{"error": {"message", …}}` less than on the rest. Its kin that are read too:
//! `{"error": "text"}`, `{"message": "text"}`, `{"detail": "text"}` and `{"detail": [{"msg"}]}` (FastAPI),
//! `{"errors": [{"message"}]}` (Cloudflare), any of them as the first element of a list.

use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

use brokle_plugin::Problem;
use brokle_plugin::ProblemKind;
use brokle_plugin::provider::ResponseHead;
use serde_json::Value;

/// The problem that an answer outside 2xx means.
pub(crate) fn from_answer(head: &ResponseHead, body: Vec<u8>) -> Problem {
    let document: Option<Value> = serde_json::from_slice(&body).ok();
    let is_canonical = document.as_ref().is_some_and(|all| text(all.pointer("/error/message")).is_some());
    let told = document.as_ref().filter(|_| !is_canonical).and_then(message);
    let mut problem = match told {
        None => Problem::from_openai(head, body),
        Some(message) => {
            let mut problem = Problem::new(Problem::kind_of_status(head.status), message);
            problem.status = Some(head.status);
            problem.retry_after_ms = head.retry_after_ms();
            problem
        }
    };
    if head.status == 400 && matches!(problem.kind, ProblemKind::InvalidRequest) && too_long(&problem.message)
    {
        problem.kind = ProblemKind::ContextLength;
    }
    problem
}

/// The problem of an `error` object inside an answer that began with 200.
pub(crate) fn in_stream(error: &Value) -> Problem {
    let message = text(Some(error)).or_else(|| text(error.get("message")));
    let message = message.unwrap_or_else(|| "The server reported a failure inside its answer.".to_owned());
    let status = error.get("code").and_then(Value::as_u64).and_then(|code| u16::try_from(code).ok());
    match status.filter(|status| (400..600).contains(status)) {
        Some(status) => Problem::new(Problem::kind_of_status(status), message),
        None => {
            let code = text(error.get("code"));
            Problem::new(ProblemKind::Upstream, message).with_code(code)
        }
    }
}

fn message(document: &Value) -> Option<String> {
    let document = document.get(0).unwrap_or(document);
    let places = [
        "/error/message",
        "/error",
        "/message",
        "/detail/0/msg",
        "/detail",
        "/errors/0/message",
        "/error_msg",
    ];
    places.iter().find_map(|place| text(document.pointer(place)))
}

fn text(value: Option<&Value>) -> Option<String> {
    value
        .and_then(Value::as_str)
        .filter(|text| !text.trim().is_empty())
        .map(|text| text.chars().take(2000).collect())
}

/// Servers of open models say so in these words, with no code.
fn too_long(message: &str) -> bool {
    [
        "maximum context length",
        "context length exceeded",
        "exceeds the context",
        "longer than the model's context",
    ]
    .iter()
    .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: u16, body: &str) -> Problem {
        from_answer(&ResponseHead { status, headers: Vec::new() }, body.as_bytes().to_vec())
    }

    #[test]
    fn every_kin_of_the_form_is_read() {
        for body in [
            r#"{"error":{"message":"why"}}"#,
            r#"{"error":"why"}"#,
            r#"{"object":"error","message":"why","code":400}"#,
            r#"{"detail":"why"}"#,
            r#"{"detail":[{"loc":["body"],"msg":"why"}]}"#,
            r#"{"success":false,"errors":[{"code":5007,"message":"why"}]}"#,
            r#"[{"error":{"code":400,"message":"why"}}]"#,
            "why",
        ] {
            let problem = told(422, body);
            assert_eq!((problem.message.as_str(), problem.status), ("why", Some(422)), "{body}");
            assert_eq!(problem.body.is_some(), body.starts_with(r#"{"error":{"#), "{body}");
        }
    }

    #[test]
    fn a_prompt_over_the_window_is_told_apart() {
        let words = r#"{"object":"error","message":"This model's maximum context length is 8192 tokens."}"#;
        assert!(matches!(told(400, words).kind, ProblemKind::ContextLength));
        assert!(matches!(told(500, words).kind, ProblemKind::Upstream));
    }

    #[test]
    fn a_failure_in_a_stream_keeps_its_status() {
        let error = serde_json::json!({"message": "slow down", "code": 429});
        assert!(matches!(in_stream(&error).kind, ProblemKind::RateLimit));
        let error = serde_json::json!({"message": "gone", "code": "server_error"});
        assert_eq!(in_stream(&error).code.as_deref(), Some("server_error"));
    }
}
