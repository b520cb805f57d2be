//! `/v1/realtime`: sessions over a WebSocket.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::response::Response;
use brokle_gateway::{Operation, RealtimeCall};
use http::StatusCode;
use hyper::upgrade::OnUpgrade;

use super::call::{gateway, request_id};
use crate::app::App;
use crate::auth::identify_socket;
use crate::error::{ApiError, OpenAiError};

/// Opens a realtime session.
///
/// A WebSocket handshake. Messages pass as they are between the caller and the model's provider, until either closes. The key
/// comes in a header, or from browsers as the subprotocol `openai-insecure-api-key.KEY`.
#[utoipa::path(get, path = "/v1/realtime", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("model" = String, Query, description = "A route, a model, or `provider/model`")),
    responses(
        (status = 101, description = "The session is open"),
        (status = 400, description = "The model is missing, or its provider has no such sessions", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key isn't for this model, or guardrails rule on it", body = OpenAiError),
        (status = 404, description = "There is no such model", body = OpenAiError),
        (status = 426, description = "It is no WebSocket handshake", body = OpenAiError),
        (status = 429, description = "Too many requests, here or at the provider", body = OpenAiError),
        (status = 502, description = "The provider failed", body = OpenAiError),
    ))]
pub(crate) async fn realtime(
    State(app): State<Arc<App>>,
    mut request: Request,
) -> Result<Response, ApiError> {
    let gateway = Arc::clone(gateway(&app)?);
    let upgrade = request.extensions_mut().remove::<OnUpgrade>();
    let (head, _) = request.into_parts();
    let caller = identify_socket(&app, &head.extensions, &head.headers).await?;
    let id = request_id(&app, &head.extensions);
    let query = Query::<Vec<(String, String)>>::try_from_uri(&head.uri);
    let query = query.map(|Query(query)| query).unwrap_or_default();
    let mut model = None;
    for (name, value) in &query {
        if name != "model" {
            // It would mean another kind of session.
            let name: String = name.chars().take(100).collect();
            let message = format!("Unknown parameter: '{}'.", name.escape_debug());
            return Err(ApiError::new(StatusCode::BAD_REQUEST, "invalid_request", message));
        }
        model = Some(value.as_str());
    }
    let Some(place) = gateway.admit() else {
        return Ok(gateway.shed(None, Operation::Realtime, id).await.map(Body::new));
    };
    let leaving = app.lifecycle.draining().clone().cancelled_owned();
    let call = RealtimeCall {
        model,
        caller,
        headers: &head.headers,
        upgrade,
        request_id: id,
        leaving: Box::pin(leaving),
    };
    let (answer, session) = gateway.realtime(call).await;
    if let Some(session) = session {
        app.lifecycle.busy().spawn(async move {
            // The gateway's place is the session's until its end.
            let _place = place;
            session.await;
        });
    }
    Ok(answer.map(Body::new))
}
