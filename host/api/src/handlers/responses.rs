//! `/v1/responses`: OpenAI's Responses API in front of any provider, and what its vendor keeps.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::response::Response;
use brokle_gateway::{Asking, Dialect, ObjectCall, Operation};
use brokle_identity::AuthError;
use http::request::Parts;

use super::call::{asking, call_in, gateway, request_id};
use crate::app::App;
use crate::auth::presented_key;
use crate::error::{ApiError, OpenAiError};

/// Makes a response.
///
/// A model whose provider has this API gets the caller's bytes and answers with its own; for any other both are translated.
#[utoipa::path(post, path = "/v1/responses", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "As in OpenAI's API reference. `model`: a route, a model, or `provider/model`."),
    responses(
        (status = 200, description = "The response; server-sent events if `stream` is true", body = serde_json::Value),
        (status = 400, description = "The request is wrong, or the model's provider can't serve it; `param` names the field", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such model", body = OpenAiError),
        (status = 429, description = "Too many requests, here or at the provider", body = OpenAiError),
        (status = 502, description = "The provider failed", body = OpenAiError),
    ))]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let asking = asking(Dialect::OpenAiResponses, "responses", &request);
    call_in(&app, Some(&asking), Operation::ChatCompletions, request).await
}

/// A response that its provider keeps.
///
/// For the project whose call made it, as long as this server remembers that; otherwise 404 `response_not_found`.
#[utoipa::path(get, path = "/v1/responses/{id}", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The response's id")),
    responses(
        (status = 200, description = "As in OpenAI's API reference", body = serde_json::Value),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such response", body = OpenAiError),
    ))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let asking = asking(Dialect::OpenAiResponses, "responses.get", &request);
    kept(&app, asking, &id, &request.into_parts().0).await
}

/// Has a response's provider forget it.
///
/// For the project whose call made it, as long as this server remembers that; otherwise 404 `response_not_found`.
#[utoipa::path(delete, path = "/v1/responses/{id}", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The response's id")),
    responses(
        (status = 200, description = "As in OpenAI's API reference", body = serde_json::Value),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such response", body = OpenAiError),
    ))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let asking = asking(Dialect::OpenAiResponses, "responses.delete", &request);
    kept(&app, asking, &id, &request.into_parts().0).await
}

/// Ends a response that is made in the background.
///
/// For the project whose call made it, as long as this server remembers that; otherwise 404 `response_not_found`.
#[utoipa::path(post, path = "/v1/responses/{id}/cancel", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The response's id")),
    responses(
        (status = 200, description = "As in OpenAI's API reference", body = serde_json::Value),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such response", body = OpenAiError),
    ))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let asking = asking(Dialect::OpenAiResponses, "responses.cancel", &request);
    kept(&app, asking, &id, &request.into_parts().0).await
}

/// What a response was asked with.
///
/// For the project whose call made it, as long as this server remembers that; otherwise 404 `response_not_found`.
#[utoipa::path(get, path = "/v1/responses/{id}/input_items", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The response's id")),
    responses(
        (status = 200, description = "As in OpenAI's API reference", body = serde_json::Value),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such response", body = OpenAiError),
    ))]
pub(crate) async fn input_items(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let asking = asking(Dialect::OpenAiResponses, "responses.input-items", &request);
    kept(&app, asking, &id, &request.into_parts().0).await
}

async fn kept(app: &App, asking: Asking, id: &str, head: &Parts) -> Result<Response, ApiError> {
    let caller = match presented_key(&head.headers) {
        Some(key) => app.keys.authenticate(key).await,
        None => Err(AuthError::Missing),
    };
    let request_id = request_id(app, &head.extensions);
    let call = ObjectCall { asking, id, caller, headers: &head.headers, request_id };
    Ok(gateway(app)?.object(call).await.map(Body::new))
}
