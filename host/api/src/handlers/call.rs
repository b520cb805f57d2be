//! What the endpoints that call models share.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request};
use axum::response::{IntoResponse, Response};
use brokle_core::ids;
use brokle_gateway::{Asking, Dialect, Operation, Refusal};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};

use crate::app::App;
use crate::auth::{identify, identify_in};
use crate::body;
use crate::boundary::RequestId;
use crate::error::{ApiError, OpenAiError};

/// The refusals of an endpoint that calls a model in OpenAI's form, for the API's description.
#[derive(utoipa::IntoResponses)]
#[expect(dead_code, reason = "it describes; answers are made where they arise")]
pub(super) enum CallErrors {
    /// The request is wrong; `param` names the field
    #[response(status = 400)]
    Invalid(OpenAiError),
    /// There is no valid key
    #[response(status = 401)]
    Unauthenticated(OpenAiError),
    /// There is no such model
    #[response(status = 404)]
    NoModel(OpenAiError),
    /// The body is too large
    #[response(status = 413)]
    TooLarge(OpenAiError),
    /// The body is of another media type than the endpoint takes
    #[response(status = 415)]
    MediaType(OpenAiError),
    /// Too many requests, here or at the provider
    #[response(status = 429)]
    Limited(OpenAiError),
    /// The provider or its plugin failed
    #[response(status = 502)]
    Upstream(OpenAiError),
    /// The provider didn't answer in time
    #[response(status = 504)]
    Late(OpenAiError),
}

/// Passes a call in the canonical form to the gateway.
pub(super) async fn call(app: &App, operation: Operation, request: Request) -> Result<Response, ApiError> {
    call_in(app, None, operation, request).await
}

/// Passes a call to the gateway. Its body is read only for a key that is valid: a stranger can't fill the memory.
pub(super) async fn call_in(
    app: &App,
    dialect: Option<&Asking>,
    operation: Operation,
    request: Request,
) -> Result<Response, ApiError> {
    let gateway = app.gateway.as_ref().ok_or_else(|| ApiError::internal("this server has no gateway"))?;
    let (head, body) = request.into_parts();
    let caller = match dialect {
        Some(asking) => identify_in(app, &head.extensions, &head.headers, asking.dialect).await?,
        None => identify(app, &head.extensions, &head.headers).await?,
    };
    // Before the body is read: what can't be served is refused at next to no cost.
    let id = request_id(app, &head.extensions);
    if caller.is_err() {
        let answer = gateway.serve_in(dialect, operation, caller, &head.headers, Bytes::new(), id).await;
        return Ok(answer.map(Body::new));
    }
    let Some(place) = gateway.admit() else {
        return Ok(gateway.shed(dialect, operation, id).await.map(Body::new));
    };
    match operation.is_form() {
        true => form_only(&head.headers)?,
        false => json_only(&head.headers)?,
    }
    let body = body::read(body, app.body).await?;
    let answer = gateway.serve_in(dialect, operation, caller, &head.headers, body, id).await;
    gateway.others_first().await;
    // Given back at the body's end, not at the handler's.
    Ok(answer.map(|body| Body::new(place.hold(body))))
}

/// What a call's URL says in a dialect that names the model in the body.
pub(super) fn asking(dialect: Dialect, endpoint: &'static str, request: &Request) -> Asking {
    let query = Query::<Vec<(String, String)>>::try_from_uri(request.uri());
    let query = query.map(|Query(query)| query).unwrap_or_default();
    Asking { dialect, endpoint, model: String::new(), streaming: false, query }
}

/// 415 for a body that says it is something else. One that says nothing is taken for JSON, as OpenAI does.
pub(super) fn json_only(headers: &http::HeaderMap) -> Result<(), ApiError> {
    let Some(given) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = given.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let message = "Unsupported media type: the request's body must be application/json.";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// 415 for a body that isn't a form.
pub(super) fn form_only(headers: &http::HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("multipart/form-data") {
        return Ok(());
    }
    let message = "Unsupported media type: the request's body must be multipart/form-data.";
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", message))
}

/// The request's id, as an observation has it: a caller's own is kept if it is a ULID.
pub(super) fn request_id(app: &App, extensions: &http::Extensions) -> ids::RequestId {
    let given = extensions.get::<RequestId>().and_then(|id| id.as_str().parse().ok());
    given.unwrap_or_else(|| ids::RequestId::generate(app.clock.as_ref(), app.random.as_ref()))
}

/// The gateway that a handler needs.
pub(super) fn gateway(app: &App) -> Result<&Arc<brokle_gateway::Gateway>, ApiError> {
    app.gateway.as_ref().ok_or_else(|| ApiError::internal("this server has no gateway"))
}

/// A refusal of the gateway's, in OpenAI's form.
pub(super) fn refused(refusal: &Refusal) -> Response {
    let status = StatusCode::from_u16(refusal.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, refusal.json()).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(after) = refusal.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    response
}
