//! `POST /v1beta/models/{model}:generateContent`, `:streamGenerateContent`, `:countTokens`: Google's Gemini API in front of
//! any provider.

use std::sync::Arc;

use axum::extract::{Path, Request, State};
use axum::response::Response;
use brokle_gateway::{Asking, Dialect, Operation};
use http::StatusCode;

use super::call::{asking, call_in};
use crate::app::App;
use crate::error::ApiError;

/// Answers a conversation, in Gemini's form.
///
/// `{call}` is `MODEL:generateContent`, `MODEL:streamGenerateContent` (events with `?alt=sse`, else an array) or
/// `MODEL:countTokens`; the model is a route, a model, or `provider/model`. The key goes into a header: one in the URL is
/// refused, since URLs end up in logs.
#[utoipa::path(post, path = "/v1beta/models/{call}", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("call" = String, Path, description = "`MODEL:generateContent` and the like")),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "As in the Gemini API reference."),
    responses(
        (status = 200, description = "The answer", body = serde_json::Value),
        (status = "4XX", description = "`{\"error\":{\"code\",\"message\",\"status\"}}`", body = serde_json::Value),
        (status = "5XX", description = "The same", body = serde_json::Value),
    ))]
pub(crate) async fn call(
    State(app): State<Arc<App>>,
    Path(call): Path<String>,
    request: Request,
) -> Result<Response, ApiError> {
    let known = asking(Dialect::GeminiGenerateContent, "generate-content", &request);
    if known.query.iter().any(|(name, _)| name == "key") {
        let message = "Send the API key in the header x-goog-api-key, not in the URL: URLs end up in logs. \
            Consider a key that was sent in one as known to others.";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "key_in_url", message));
    }
    let (model, method) = call.rsplit_once(':').unwrap_or((&call, ""));
    let (endpoint, operation, streaming) = match method {
        "generateContent" => ("generate-content", Operation::ChatCompletions, false),
        "streamGenerateContent" => ("generate-content", Operation::ChatCompletions, true),
        "countTokens" => ("generate-content.count-tokens", Operation::CountTokens, false),
        _ => {
            let message = format!("There is no method '{}' here.", method.escape_debug());
            return Err(ApiError::not_found(message));
        }
    };
    let asking = Asking { endpoint, streaming, model: model.to_owned(), ..known };
    call_in(&app, Some(&asking), operation, request).await
}
