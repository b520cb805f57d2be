//! `POST /v1/images/…`, `/v1/audio/…`, `/v1/moderations`, `/v1/rerank`

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use brokle_gateway::Operation;

use super::call::{CallErrors, call};
use crate::app::App;
use crate::error::ApiError;

/// Makes images.
#[utoipa::path(post, path = "/v1/images/generations", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "What isn't known here is passed on to the provider. `model`: a model, or `provider/model`."),
    responses(
        (status = 200, description = "As OpenAI answers", body = serde_json::Value),
        CallErrors
    ))]
pub(crate) async fn generate_images(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    call(&app, Operation::ImageGenerations, request).await
}

/// Changes images.
#[utoipa::path(post, path = "/v1/images/edits", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "multipart/form-data",
        description = "What isn't known here is passed on to the provider. `model`: a model, or `provider/model`."),
    responses(
        (status = 200, description = "As OpenAI answers", body = serde_json::Value),
        CallErrors
    ))]
pub(crate) async fn edit_images(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    call(&app, Operation::ImageEdits, request).await
}

/// Reads a text aloud.
#[utoipa::path(post, path = "/v1/audio/speech", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "What isn't known here is passed on to the provider. `model`: a model, or `provider/model`."),
    responses(
        (status = 200, description = "The recording, as it comes", body = Vec<u8>),
        CallErrors
    ))]
pub(crate) async fn speak(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    call(&app, Operation::Speech, request).await
}

/// Writes down what is said.
#[utoipa::path(post, path = "/v1/audio/transcriptions", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "multipart/form-data",
        description = "What isn't known here is passed on to the provider. `model`: a model, or `provider/model`."),
    responses(
        (status = 200, description = "The transcript, in the form that `response_format` names", body = serde_json::Value),
        CallErrors
    ))]
pub(crate) async fn transcribe(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    call(&app, Operation::Transcriptions, request).await
}

/// Writes down in English what is said.
#[utoipa::path(post, path = "/v1/audio/translations", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "multipart/form-data",
        description = "What isn't known here is passed on to the provider. `model`: a model, or `provider/model`."),
    responses(
        (status = 200, description = "The transcript, in the form that `response_format` names", body = serde_json::Value),
        CallErrors
    ))]
pub(crate) async fn translate(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    call(&app, Operation::Translations, request).await
}

/// Classifies texts. `model` may be left out: `omni-moderation-latest`.
#[utoipa::path(post, path = "/v1/moderations", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "What isn't known here is passed on to the provider. `model`: a model, or `provider/model`."),
    responses(
        (status = 200, description = "As OpenAI answers", body = serde_json::Value),
        CallErrors
    ))]
pub(crate) async fn moderate(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    call(&app, Operation::Moderations, request).await
}

/// Orders documents by how well they answer a query: `query`, `documents`, `top_n`, `return_documents`.
#[utoipa::path(post, path = "/v1/rerank", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "What isn't known here is passed on to the provider. `model`: a model, or `provider/model`."),
    responses(
        (status = 200, description = "`results`, each with `index` and `relevance_score`", body = serde_json::Value),
        CallErrors
    ))]
pub(crate) async fn rerank(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    call(&app, Operation::Rerank, request).await
}
