//! `POST /v1/messages` and `/v1/messages/count_tokens`: Anthropic's Messages API in front of any provider.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::response::Response;
use brokle_gateway::{Dialect, Operation};

use super::call::{asking, call_in};
use crate::app::App;
use crate::error::ApiError;

/// Answers a conversation, in Anthropic's form.
///
/// A model that Anthropic serves gets the caller's bytes and answers with its own; for any other both are translated.
#[utoipa::path(post, path = "/v1/messages", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "As in Anthropic's API reference. `model`: a route, a model, or `provider/model`."),
    responses(
        (status = 200, description = "The message; server-sent events if `stream` is true", body = serde_json::Value),
        (status = "4XX", description = "`{\"type\":\"error\",\"error\":{\"type\",\"message\"},\"request_id\"}`", body = serde_json::Value),
        (status = "5XX", description = "The same", body = serde_json::Value),
    ))]
pub(crate) async fn messages(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let asking = asking(Dialect::AnthropicMessages, "messages", &request);
    call_in(&app, Some(&asking), Operation::ChatCompletions, request).await
}

/// Counts the tokens of a message before it is sent.
///
/// By Anthropic where it serves the model; otherwise an estimate, with the header `x-brokle-estimated: true`.
#[utoipa::path(post, path = "/v1/messages/count_tokens", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "As in Anthropic's API reference."),
    responses(
        (status = 200, description = "`{\"input_tokens\"}`", body = serde_json::Value),
        (status = "4XX", description = "As of `/v1/messages`", body = serde_json::Value),
    ))]
pub(crate) async fn count_tokens(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Response, ApiError> {
    let asking = asking(Dialect::AnthropicMessages, "messages.count-tokens", &request);
    call_in(&app, Some(&asking), Operation::CountTokens, request).await
}
