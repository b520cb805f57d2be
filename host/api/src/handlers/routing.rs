//! `POST /v1/route`: who would be asked, and why.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use brokle_identity::Scope;

use super::call::{gateway, json_only, refused};
use crate::app::App;
use crate::auth::authenticate;
use crate::body;
use crate::error::{ApiError, OpenAiError};

/// Explains a routing decision.
///
/// Takes the body of a call to `/v1/chat/completions`, `/v1/completions` or `/v1/embeddings` (`messages`, `prompt` or
/// `input` says which) and the header `x-brokle-route`, and answers with the candidates, what is known of them, the order in
/// which they would be asked, and the policy's reason. No provider is called. Where chance has a part, a call may be decided
/// otherwise.
#[utoipa::path(post, path = "/v1/route", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = serde_json::Value, content_type = "application/json",
        description = "As for the call. `model`: a route, a model, or `provider/model`."),
    responses(
        (status = 200, description = "`model`, `route` (null for a model), `policy`, `order` (connection, provider, model; \
            empty if the policy refuses), `reason`, `fallback` (why the policy isn't followed, or null), `candidates` with \
            priority, weight, available, cooling_ms, latency_ms, first_token_ms, error_rate, in_flight, \
            remaining_requests, remaining_tokens, input_price, output_price, context_window, features, attributes",
            body = serde_json::Value),
        (status = 400, description = "The request is wrong; `param` names the field", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `gateway`", body = OpenAiError),
        (status = 404, description = "There is no such model or route", body = OpenAiError),
        (status = 413, description = "The body is too large", body = OpenAiError),
        (status = 429, description = "Too many requests", body = OpenAiError),
    ))]
pub(crate) async fn explain(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let caller = authenticate(&app, &head.extensions, &head.headers).await?;
    caller.require(Scope::Gateway)?;
    json_only(&head.headers)?;
    let body = body::read(body, app.body).await?;
    match gateway(&app)?.explain(&caller.0, &head.headers, body).await {
        Ok(explanation) => Ok(Json(explanation).into_response()),
        Err(refusal) => Ok(refused(&refusal)),
    }
}
