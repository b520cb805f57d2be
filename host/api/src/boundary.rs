//! The layers that every request passes, in one function: its id, its span, the panic guard, the shape of its errors, its
//! line in the log.
//!
//! **Id.** A caller's `X-Request-Id` is kept if it is 1 to 128 visible ASCII characters; otherwise the request gets a ULID.
//! Every answer carries it.
//!
//! **Log.** One line per request when its answer's head is ready. Failures of ours (5xx) are errors, with their cause;
//! otherwise it is `info`, and `debug` for a success under `/v1` (the hot path, whose calls are recorded as observations)
//! and for what machines poll (`/health`, `/metrics`). Calls that are refused for want of room share a line a second. The span's fields (`request_id`, `trace_id`, `organization_id`,
//! `project_id`, `environment_id`, `key_id`) stand on every line that a request causes. No line holds a body, a query
//! string or a secret.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use brokle_core::ids;
use brokle_gateway::{Dialect, Shed};
use brokle_telemetry::otlp::Encoding;
use futures_util::FutureExt;
use http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Version};
use tokio::time::Instant;
use tracing::field::Empty;
use tracing::{Instrument, Level, Span};

use crate::app::App;
use crate::error::ApiError;
use crate::handlers::otlp;
use crate::server::PeerAddress;

/// The header that a request's id travels in.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id that is taken over from a caller.
pub const MAX_REQUEST_ID: usize = 128;

/// A request's id: a request extension, and the answer's `X-Request-Id`.
#[derive(Clone, Debug)]
pub struct RequestId(HeaderValue);

impl RequestId {
    fn of(headers: &HeaderMap, app: &App) -> Self {
        let given = headers.get(REQUEST_ID).filter(|value| {
            let bytes = value.as_bytes();
            (1..=MAX_REQUEST_ID).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
        });
        Self(given.cloned().unwrap_or_else(|| {
            let id = ids::RequestId::generate(app.clock.as_ref(), app.random.as_ref());
            // A ULID is letters and digits; the empty value is never made.
            HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static(""))
        }))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.to_str().unwrap_or_default()
    }
}

/// Is it a path whose errors have OpenAI's form?
#[must_use]
pub fn is_openai(path: &str) -> bool {
    path == "/v1" || path.starts_with("/v1/")
}

/// What Gemini's clients call of a model, under `/v1beta` and under `/v1`.
const METHODS: [&str; 3] = ["generateContent", "streamGenerateContent", "countTokens"];

/// The dialect whose clients call a path.
#[must_use]
pub fn dialect_of(path: &str) -> Option<Dialect> {
    let under =
        |base: &str| path.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if under("/v1/messages") {
        Some(Dialect::AnthropicMessages)
    } else if under("/v1/responses") {
        Some(Dialect::OpenAiResponses)
    } else {
        let method = path.strip_prefix("/v1/models/").and_then(|rest| rest.rsplit_once(':'));
        let generates = method.is_some_and(|(_, method)| METHODS.contains(&method));
        (generates || under("/v1beta")).then_some(Dialect::GeminiGenerateContent)
    }
}

/// Which form a request's errors have.
#[derive(Clone, Copy, Debug)]
enum Form {
    OpenAi,
    Dialect(Dialect),
    Otlp(Encoding),
    Problem,
}

impl Form {
    fn of(request: &Request) -> Self {
        let path = request.uri().path();
        if otlp::PATHS.contains(&path) {
            return Self::Otlp(otlp::encoding(request.headers()).unwrap_or(Encoding::Json));
        }
        if let Some(dialect) = dialect_of(path) {
            return Self::Dialect(dialect);
        }
        if is_openai(path) { Self::OpenAi } else { Self::Problem }
    }
}

/// Passes the request on, and sees to it that the answer is in shape whatever happens.
pub async fn boundary(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let id = RequestId::of(request.headers(), &app);
    request.extensions_mut().insert(id.clone());
    let line = Line { method: request.method().clone(), path: request.uri().path().to_owned(), begun };
    let form = Form::of(&request);
    let span = span(&request, &id);
    let mut response = match ambiguity(&request) {
        Some(message) => {
            let error = ApiError::new(StatusCode::BAD_REQUEST, "ambiguous_request", message);
            // What follows on this connection may have been meant as a part of this request.
            ([(CONNECTION, "close")], error).into_response()
        }
        None => {
            let answer = AssertUnwindSafe(next.run(request)).catch_unwind().instrument(span.clone()).await;
            answer.unwrap_or_else(|panic| {
                app.metrics.panics.inc();
                ApiError::internal(describe(panic.as_ref())).into_response()
            })
        }
    };
    let error = response.extensions_mut().remove::<ApiError>();
    if let Some(error) = &error {
        response = shape(error, form, &id, response);
    }
    response.headers_mut().insert(REQUEST_ID, id.0);
    if response.extensions().get::<Shed>().is_none() {
        span.in_scope(|| line.write(response.status(), error.as_ref()));
    }
    response
}

/// What another server on the way could have taken for another request. What hyper lets through of that: it refuses signed,
/// listed and differing lengths and folded lines by itself, and where both a length and chunks are given it goes by the
/// chunks and closes the connection (RFC 9112 §6.1).
fn ambiguity(request: &Request) -> Option<&'static str> {
    let several = |name| request.headers().get_all(name).into_iter().nth(1).is_some();
    if several(TRANSFER_ENCODING) {
        return Some("The request has more than one Transfer-Encoding.");
    }
    // RFC 9112 §3.2. HTTP/2 has `:authority` instead.
    if several(HOST) {
        return Some("The request has more than one Host.");
    }
    let needs_host = request.version() == Version::HTTP_11 && !request.headers().contains_key(HOST);
    needs_host.then_some("The request has no Host.")
}

/// Writes the error's body; headers that the handler or router set (`Allow`, for instance) stay.
fn shape(error: &ApiError, form: Form, id: &RequestId, answered: Response) -> Response {
    let mut response = match form {
        Form::OpenAi => error.openai_response(),
        Form::Dialect(dialect) => error.dialect_response(dialect, id.as_str()),
        Form::Otlp(encoding) => error.otlp_response(encoding),
        Form::Problem => error.problem_response(id.as_str()),
    };
    for (name, value) in answered.headers() {
        if name != http::header::CONTENT_LENGTH && name != http::header::CONTENT_TYPE {
            response.headers_mut().append(name.clone(), value.clone());
        }
    }
    *response.extensions_mut() = answered.into_parts().0.extensions;
    response
}

fn span(request: &Request, id: &RequestId) -> Span {
    let peer = request.extensions().get().map(|PeerAddress(peer)| tracing::field::display(peer.ip()));
    let trace = request.headers().get("traceparent").and_then(|value| trace_id(value.as_bytes()));
    tracing::info_span!(
        "request",
        request_id = id.as_str(),
        trace_id = trace,
        organization_id = Empty,
        project_id = Empty,
        environment_id = Empty,
        key_id = Empty,
        peer = peer,
    )
}

/// The trace's id in a [W3C `traceparent`](https://www.w3.org/TR/trace-context/#traceparent-header): 32 hex digits in
/// lower case, not all zero.
fn trace_id(header: &[u8]) -> Option<&str> {
    let id = header.get(3..35)?;
    let is_hex = id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let is_delimited = header.get(2) == Some(&b'-') && header.get(35) == Some(&b'-');
    let is_valid = is_hex && is_delimited && id.iter().any(|byte| *byte != b'0');
    if is_valid { std::str::from_utf8(id).ok() } else { None }
}

fn describe(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("a handler panicked: {}", text.unwrap_or("no message"))
}

/// A request's line in the log.
struct Line {
    method: http::Method,
    path: String,
    begun: Instant,
}

impl Line {
    fn write(&self, status: StatusCode, error: Option<&ApiError>) {
        let (method, path) = (self.method.as_str(), self.path.as_str());
        let duration_ms = self.begun.elapsed().as_secs_f64() * 1_000.0;
        let (status, code) = (status.as_u16(), error.map(|error| error.code));
        let source =
            error.and_then(|error| error.source.as_deref()).map(|source| source as &dyn std::error::Error);
        match self.level(status) {
            Level::ERROR => {
                tracing::error!(method, path, status, duration_ms, code, error = source, "request failed");
            }
            Level::INFO => tracing::info!(method, path, status, duration_ms, code, error = source, "request"),
            _ => tracing::debug!(method, path, status, duration_ms, code, error = source, "request"),
        }
    }

    fn level(&self, status: u16) -> Level {
        let is_polled = self.path.starts_with("/health") || self.path == "/metrics";
        match status {
            // A health check that says no is an answer, not a failure.
            _ if is_polled => Level::DEBUG,
            500.. => Level::ERROR,
            ..400 if is_openai(&self.path) || dialect_of(&self.path).is_some() => Level::DEBUG,
            _ => Level::INFO,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_tells_its_dialect() {
        for (path, dialect) in [
            ("/v1/messages", Some(Dialect::AnthropicMessages)),
            ("/v1/messages/count_tokens", Some(Dialect::AnthropicMessages)),
            ("/v1/messagesx", None),
            ("/v1/responses/resp_1", Some(Dialect::OpenAiResponses)),
            ("/v1beta/models/x:generateContent", Some(Dialect::GeminiGenerateContent)),
            ("/v1beta/x", Some(Dialect::GeminiGenerateContent)),
            ("/v1/models/a/b:streamGenerateContent", Some(Dialect::GeminiGenerateContent)),
            ("/v1/models/a/b:c", None),
            ("/v1/chat/completions", None),
            ("/api/v1/traces", None),
        ] {
            assert_eq!(dialect_of(path), dialect, "{path}");
        }
    }

    #[test]
    fn a_trace_id_is_taken_from_a_well_formed_header_only() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace_id(format!("00-{id}-00f067aa0ba902b7-01").as_bytes()), Some(id));
        for bad in [
            "",
            "00-short-00f067aa0ba902b7-01",
            &format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()),
            &format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            &format!("00-{id}"),
        ] {
            assert_eq!(trace_id(bad.as_bytes()), None, "{bad}");
        }
    }
}
