//! How a request fails: one type for every handler, turned into one of several forms by the path that was asked for.
//!
//! - `/v1/traces`, `/v1/logs`, `/v1/metrics` and the like answer `google.rpc.Status` in the encoding that was sent.
//! - Paths of a dialect (`/v1/messages`, `/v1/responses`, `/v1beta`) answer in that dialect's form.
//! - Any other `/v1/*` answers as OpenAI does: `{"error":{"message","type","param","code"}}`, so that its clients understand it.
//! - Everything else answers an RFC 9457 problem (`application/problem+json`) with a stable `code` and the `request_id`.
//!
//! A handler's [`ApiError`] travels in the response's extensions to [`crate::boundary`], which knows the path and the
//! request's id, logs the failure once, and writes the body.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use brokle_gateway::Dialect;
use brokle_identity::AuthError;
use brokle_storage::sql::StorageError;
use brokle_telemetry::otlp::Encoding;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A failed request. What it shows is `message`; `source` stays in the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The answer's status.
    pub status: StatusCode,
    /// The stable name of what went wrong, for programs.
    pub code: &'static str,
    /// What the client is told.
    pub message: Cow<'static, str>,
    /// The field or parameter that is wrong.
    pub param: Option<Cow<'static, str>>,
    /// When trying again may help.
    pub retry_after: Option<Duration>,
    /// What really happened; logged, never answered.
    #[source]
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// A failure that says no more than this.
    #[must_use]
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, code, message: message.into(), param: None, retry_after: None, source: None }
    }

    /// The client's request makes no sense. 400.
    #[must_use]
    pub fn invalid_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", message)
    }

    /// There is no such thing, or it is somebody else's. 404.
    #[must_use]
    pub fn not_found(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    /// A bug of ours. 500.
    #[must_use]
    pub fn internal(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            source: Some(Arc::from(source.into())),
            ..Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal_error",
                "The server had an error while processing your request.",
            )
        }
    }

    /// Names the field or parameter that is wrong.
    #[must_use]
    pub fn param(mut self, param: impl Into<Cow<'static, str>>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// OpenAI's word for the kind of failure.
    #[must_use]
    pub fn openai_type(&self) -> &'static str {
        match self.status {
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            status if status.is_server_error() => "server_error",
            _ => "invalid_request_error",
        }
    }

    /// The whole answer in OpenAI's form.
    #[must_use]
    pub fn openai_response(&self) -> Response {
        let body = OpenAiError {
            error: OpenAiErrorBody {
                message: self.message.to_string(),
                kind: self.openai_type().to_owned(),
                param: self.param.as_deref().map(str::to_owned),
                code: Some(self.code.to_owned()),
            },
        };
        self.response(serde_json::to_vec(&body), "application/json")
    }

    /// The whole answer in a dialect's form.
    #[must_use]
    pub fn dialect_response(&self, dialect: Dialect, request_id: &str) -> Response {
        let status = self.status.as_u16();
        let body = dialect.error_of(status, self.code, self.param.as_deref(), &self.message, request_id);
        let mut response = self.response(Ok(body.to_vec()), "application/json");
        dialect.identify(response.headers_mut(), request_id);
        response
    }

    /// The whole answer as a problem.
    #[must_use]
    pub fn problem_response(&self, request_id: &str) -> Response {
        let body = Problem {
            kind: "about:blank".to_owned(),
            title: self.status.canonical_reason().unwrap_or("Error").to_owned(),
            status: self.status.as_u16(),
            detail: self.message.to_string(),
            code: self.code.to_owned(),
            param: self.param.as_deref().map(str::to_owned),
            request_id: request_id.to_owned(),
        };
        self.response(serde_json::to_vec(&body), "application/problem+json")
    }

    /// The whole answer to a sender of OpenTelemetry data: `google.rpc.Status`.
    #[must_use]
    pub fn otlp_response(&self, encoding: Encoding) -> Response {
        let body = encoding.failed(self.status.as_u16(), self.code, &self.message);
        self.response(Ok(body), encoding.media_type())
    }

    fn response(&self, body: serde_json::Result<Vec<u8>>, content_type: &'static str) -> Response {
        let mut response = Response::new(Body::from(body.unwrap_or_default()));
        *response.status_mut() = self.status;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        self.write_headers(response.headers_mut());
        response
    }

    fn write_headers(&self, headers: &mut HeaderMap) {
        if let Some(after) = self.retry_after {
            // Whole seconds, and never none: zero would invite a client to try again at once.
            headers.insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
    }
}

impl IntoResponse for ApiError {
    /// The status, with the error itself for [`crate::boundary`] to shape.
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status;
        response.extensions_mut().insert(self);
        response
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let unauthorized = |message| Self::new(StatusCode::UNAUTHORIZED, "invalid_api_key", message);
        match error {
            AuthError::Missing => unauthorized(
                "You didn't provide an API key. Send it as `Authorization: Bearer bk_...` or as `X-API-Key`.",
            ),
            AuthError::Malformed | AuthError::Unknown => unauthorized("Incorrect API key provided."),
            AuthError::Revoked => unauthorized("The API key was revoked."),
            AuthError::Expired => unauthorized("The API key has expired."),
            AuthError::Endpoint => Self::new(
                StatusCode::FORBIDDEN,
                "endpoint_not_allowed",
                "This API key may not be used for this endpoint.",
            ),
            AuthError::Address => Self::new(
                StatusCode::FORBIDDEN,
                "address_not_allowed",
                "This API key may not be used from this address.",
            ),
            AuthError::Unavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "auth_unavailable",
                "API keys can't be checked at the moment. Try again.",
            )
            .retry_after(Duration::from_secs(1)),
        }
    }
}

impl From<StorageError> for ApiError {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::NotFound => Self::not_found("There is no such resource."),
            StorageError::Conflict(_) => {
                Self::new(StatusCode::CONFLICT, "already_exists", "It already exists.")
            }
            StorageError::Invalid(_) => Self::invalid_request("A value can't be stored."),
            StorageError::Unavailable(_) => Self {
                source: Some(Arc::new(error)),
                ..Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "database_unavailable",
                    "The database is unavailable. Try again.",
                )
                .retry_after(Duration::from_secs(1))
            },
            other => Self::internal(other),
        }
    }
}

/// An error under `/v1`, in OpenAI's form.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OpenAiError {
    /// The error.
    pub error: OpenAiErrorBody,
}

/// What an error under `/v1` says.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct OpenAiErrorBody {
    /// For people.
    pub message: String,
    /// The kind, such as `invalid_request_error`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The parameter that is wrong.
    pub param: Option<String>,
    /// For programs, such as `invalid_api_key`.
    pub code: Option<String>,
}

/// An error elsewhere: an RFC 9457 problem.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: `code` tells more.
    #[serde(rename = "type")]
    pub kind: String,
    /// The status in words.
    pub title: String,
    /// The status.
    pub status: u16,
    /// For people.
    pub detail: String,
    /// For programs; stable.
    pub code: String,
    /// The field or parameter that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub param: Option<String>,
    /// The answer's `X-Request-Id`.
    pub request_id: String,
}
