//! What an error means, in an answer outside 2xx and inside a stream.
//!
//! Both carry `{"type": "error", "error": {"type", "message"}, "request_id"}`. The type decides;
//! the status where the body can't be read (a proxy's page), of which at most 500 characters are
//! quoted. 4xx keep their status, 5xx get the one of their kind (a client's library knows 503
//! but not 529). Source: Anthropic's API reference, errors.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use brokle_plugin::provider::ResponseHead;
use brokle_plugin::{Problem, ProblemKind};

#[derive(serde::Deserialize)]
struct Envelope {
    error: Error,
    request_id: Option<String>,
}

/// The `error` member.
#[derive(serde::Deserialize)]
pub(crate) struct Error {
    #[serde(rename = "type")]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) message: String,
}

/// The problem that an error answer means.
pub fn from_answer(head: &ResponseHead, body: &[u8]) -> Problem {
    let request_id = head.header("request-id").map(str::to_owned);
    let (mut problem, request_id) = match serde_json::from_slice::<Envelope>(body) {
        Ok(envelope) => (from_error(&envelope.error), request_id.or(envelope.request_id)),
        Err(_) => {
            let message = shared_canonical::quoted("Anthropic", head.status, body);
            (Problem::new(Problem::kind_of_status(head.status), message), request_id)
        }
    };
    if let Some(id) = request_id {
        problem.message = format!("{} (request {id})", problem.message);
    }
    problem.status = (400..500).contains(&head.status).then_some(head.status);
    problem.retry_after_ms = head.retry_after_ms();
    problem
}

/// The problem that an `error` object means, wherever it stands.
pub(crate) fn from_error(error: &Error) -> Problem {
    let kind = match error.kind.as_str() {
        "invalid_request_error" if too_long(&error.message) => ProblemKind::ContextLength,
        "invalid_request_error" | "request_too_large" => ProblemKind::InvalidRequest,
        "authentication_error" => ProblemKind::Authentication,
        "permission_error" | "billing_error" => ProblemKind::Permission,
        "not_found_error" => ProblemKind::NotFound,
        "rate_limit_error" => ProblemKind::RateLimit,
        "overloaded_error" => ProblemKind::Overloaded,
        "timeout_error" => ProblemKind::Timeout,
        "api_error" => ProblemKind::Upstream,
        other => ProblemKind::Other(other.to_owned()),
    };
    let message = match error.message.is_empty() {
        true => format!("Anthropic reported {}.", error.kind),
        false => error.message.clone(),
    };
    Problem::new(kind, message)
}

/// The API has no type of its own for a prompt over the context window.
fn too_long(message: &str) -> bool {
    message.starts_with("prompt is too long") || message.contains("exceed context limit")
}

#[cfg(test)]
mod tests {
    use super::*;
    use brokle_plugin::Header;

    fn head(status: u16, headers: &[(&str, &str)]) -> ResponseHead {
        let headers =
            headers.iter().map(|(name, value)| Header { name: (*name).into(), value: (*value).into() });
        ResponseHead { status, headers: headers.collect() }
    }

    fn body(kind: &str, message: &str) -> Vec<u8> {
        serde_json::json!({"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_body"})
            .to_string()
            .into_bytes()
    }

    #[test]
    fn each_type_has_its_kind_and_4xx_keep_their_status() {
        use ProblemKind as K;
        let cases = [
            (400, "invalid_request_error", K::InvalidRequest, Some(400)),
            (401, "authentication_error", K::Authentication, Some(401)),
            (402, "billing_error", K::Permission, Some(402)),
            (403, "permission_error", K::Permission, Some(403)),
            (404, "not_found_error", K::NotFound, Some(404)),
            (413, "request_too_large", K::InvalidRequest, Some(413)),
            (429, "rate_limit_error", K::RateLimit, Some(429)),
            (500, "api_error", K::Upstream, None),
            (504, "timeout_error", K::Timeout, None),
            (529, "overloaded_error", K::Overloaded, None),
        ];
        for (status, name, kind, kept) in cases {
            let problem = from_answer(&head(status, &[]), &body(name, "why"));
            assert_eq!(format!("{:?}", problem.kind), format!("{kind:?}"), "{name}");
            assert_eq!(
                (problem.status, problem.message.as_str()),
                (kept, "why (request req_body)"),
                "{name}"
            );
        }
    }

    #[test]
    fn the_header_names_the_request_and_the_wait() {
        let head = head(429, &[("retry-after", "7"), ("request-id", "req_head")]);
        let problem = from_answer(&head, &body("rate_limit_error", "slow down"));
        assert_eq!(problem.retry_after_ms, Some(7000));
        assert_eq!(problem.message, "slow down (request req_head)");
    }

    #[test]
    fn a_prompt_over_the_window_is_told_apart() {
        let body = body("invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum");
        assert!(matches!(from_answer(&head(400, &[]), &body).kind, ProblemKind::ContextLength));
    }

    #[test]
    fn a_page_of_a_proxy_is_quoted() {
        let problem = from_answer(&head(503, &[]), b"<html>no backend</html>");
        assert!(matches!(problem.kind, ProblemKind::Overloaded));
        assert_eq!(problem.message, "<html>no backend</html>");
    }
}
