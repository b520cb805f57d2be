//! `POST /v1/responses`: OpenAI's Responses API in front of any provider.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use brokle_gateway::{Dialect, Operation};

use super::call::{asking, call_in};
use crate::app::App;
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
