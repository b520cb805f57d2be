//! What an error means: an answer outside 2xx, or an exception in a stream.
//!
//! An answer names its exception in `x-amzn-errortype` (before a colon) or in the body's `__type` (after a `#`), a stream
//! in the event's name; the body is `{"message"}`. 4xx keep their status, 5xx get the one of their kind. Source: the API
//! reference of Converse and ConverseStream, "Errors"; common errors of AWS's services.

use alloc::borrow::ToOwned;
use alloc::format;
use alloc::string::String;

use brokle_plugin::provider::ResponseHead;
use brokle_plugin::{Problem, ProblemKind};

#[derive(serde::Deserialize, Default)]
#[serde(default)]
struct Document {
    #[serde(alias = "Message")]
    message: Option<String>,
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(rename = "originalMessage")]
    original: Option<String>,
}

/// The problem that an error answer means.
pub(crate) fn from_answer(head: &ResponseHead, body: &[u8]) -> Problem {
    let document = serde_json::from_slice::<Document>(body).unwrap_or_default();
    let named = head.header("x-amzn-errortype").or(document.kind.as_deref()).unwrap_or_default();
    let name = named.split(':').next().unwrap_or_default();
    let name = name.rsplit('#').next().unwrap_or_default();
    let message = document.message.clone().filter(|message| !message.is_empty());
    let message = message.unwrap_or_else(|| shared_canonical::quoted("Bedrock", head.status, body));
    let kind = kind(name, &message).unwrap_or_else(|| Problem::kind_of_status(head.status));
    // The model's own failures come as 424 and 408, overload as 429: their kinds have better ones.
    let ours = matches!(kind, ProblemKind::Upstream | ProblemKind::Overloaded | ProblemKind::Timeout);
    let mut problem = shared_canonical::answered(kind, message, head);
    problem.status = problem.status.filter(|_| !ours);
    problem
}

/// The problem that an exception in a stream means; none for an event that isn't one.
pub(crate) fn from_event(name: &str, data: &[u8]) -> Option<Problem> {
    let is_exception = name.ends_with("Exception") || name.ends_with("Error");
    is_exception.then(|| {
        let document = serde_json::from_slice::<Document>(data).unwrap_or_default();
        let message = document.message.or(document.original).filter(|message| !message.is_empty());
        let message = message.unwrap_or_else(|| format!("Bedrock ended its answer with {name}."));
        Problem::new(kind(name, &message).unwrap_or(ProblemKind::Upstream), message)
    })
}

/// By the exception's name, which a stream begins with a small letter.
fn kind(name: &str, message: &str) -> Option<ProblemKind> {
    let mut name = name.to_owned();
    if let Some(first) = name.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    Some(match name.as_str() {
        "ValidationException" if too_long(message) => ProblemKind::ContextLength,
        "ValidationException" | "ConflictException" | "SerializationException" => ProblemKind::InvalidRequest,
        "ThrottlingException" | "TooManyRequestsException" | "ServiceQuotaExceededException" => {
            ProblemKind::RateLimit
        }
        "ModelNotReadyException" | "ServiceUnavailableException" => ProblemKind::Overloaded,
        "ModelTimeoutException" => ProblemKind::Timeout,
        "ModelErrorException" | "ModelStreamErrorException" | "InternalServerException" => {
            ProblemKind::Upstream
        }
        "AccessDeniedException" => ProblemKind::Permission,
        "ResourceNotFoundException" => ProblemKind::NotFound,
        "UnrecognizedClientException"
        | "InvalidSignatureException"
        | "IncompleteSignatureException"
        | "InvalidClientTokenId"
        | "ExpiredTokenException"
        | "MissingAuthenticationTokenException" => ProblemKind::Authentication,
        _ => return None,
    })
}

/// The API has no exception of its own for a prompt over the context window: each maker's words.
fn too_long(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    [
        "input is too long",
        "prompt is too long",
        "too many tokens",
        "exceed context limit",
        "maximum context length",
        "exceeds the maximum number of tokens",
        "input tokens exceeded",
        "too many input tokens",
    ]
    .into_iter()
    .any(|words| message.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use brokle_plugin::Header;

    fn answer(status: u16, name: &str, message: &str) -> Problem {
        let headers = Vec::from([Header { name: "x-amzn-errortype".into(), value: name.into() }]);
        let body = serde_json::json!({"message": message}).to_string();
        from_answer(&ResponseHead { status, headers }, body.as_bytes())
    }

    #[test]
    fn each_exception_has_its_kind() {
        use ProblemKind as K;
        let cases = [
            (400, "ValidationException", "no", K::InvalidRequest, Some(400)),
            (
                400,
                "ValidationException",
                "Input is too long for requested model.",
                K::ContextLength,
                Some(400),
            ),
            (403, "AccessDeniedException", "no", K::Permission, Some(403)),
            (403, "UnrecognizedClientException:http://x/", "no", K::Authentication, Some(403)),
            (404, "ResourceNotFoundException", "no", K::NotFound, Some(404)),
            (408, "ModelTimeoutException", "no", K::Timeout, None),
            (424, "ModelErrorException", "no", K::Upstream, None),
            (429, "ThrottlingException:http://internal/", "no", K::RateLimit, Some(429)),
            (429, "ModelNotReadyException", "no", K::Overloaded, None),
            (500, "InternalServerException", "no", K::Upstream, None),
            (503, "ServiceUnavailableException", "no", K::Overloaded, None),
        ];
        for (status, name, message, kind, kept) in cases {
            let problem = answer(status, name, message);
            assert_eq!(format!("{:?}", problem.kind), format!("{kind:?}"), "{name}");
            assert_eq!((problem.status, problem.message.as_str()), (kept, message), "{name}");
        }
    }

    #[test]
    fn the_body_names_the_exception_where_no_header_does() {
        let head = ResponseHead { status: 400, headers: Vec::new() };
        let body =
            br#"{"__type":"com.amazon.coral.service#UnrecognizedClientException","Message":"bad token"}"#;
        let problem = from_answer(&head, body);
        assert!(matches!(problem.kind, ProblemKind::Authentication), "{problem:?}");
        assert_eq!(problem.message, "bad token");
    }
}
