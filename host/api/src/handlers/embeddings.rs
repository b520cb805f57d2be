//! `POST /v1/embeddings`

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use brokle_gateway::Operation;

use super::call::{CallErrors, call};
use crate::app::App;
use crate::error::ApiError;

/// Turns texts into vectors.
///
/// OpenAI's request and answer, field by field; what isn't known here is passed on to the provider.
#[utoipa::path(post, path = "/v1/embeddings", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "As in OpenAI's API reference. `model`: a model, or `provider/model`."),
    responses(
        (status = 200, description = "The answer; server-sent events if `stream` is true", body = serde_json::Value),
        CallErrors
    ))]
pub(crate) async fn embeddings(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    call(&app, Operation::Embeddings, request).await
}
