//! `/v1/providers/{name}/{*path}`: a provider's own API, as it is.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{OriginalUri, Path, Request, State};
use axum::response::Response;
use brokle_gateway::{Operation, RawCall};
use http_body_util::BodyExt as _;

use super::call::{gateway, request_id};
use crate::app::App;
use crate::auth::identify;
use crate::error::{ApiError, OpenAiError};

/// Calls a provider's own API.
///
/// Method, path, query, headers and body go to the connection's base URL as they came, with the connection's credential;
/// the answer comes back as it is. The key needs the scope `providers:relay`. Any method; `name` is a connection's or a
/// provider's.
#[utoipa::path(method(get, post, put, patch, delete), path = "/v1/providers/{name}/{path}", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    params(("name" = String, Path, description = "A connection's name, or a provider's"),
        ("path" = String, Path, description = "What comes after the base URL")),
    responses(
        (status = 200, description = "The provider's answer, whatever its status"),
        (status = 400, description = "The path can't be relayed", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key lacks the scope, or guardrails rule on it", body = OpenAiError),
        (status = 404, description = "There is no such provider whose own API can be called", body = OpenAiError),
        (status = 429, description = "Too many requests", body = OpenAiError),
    ))]
pub(crate) async fn relay(
    State(app): State<Arc<App>>,
    Path(named): Path<(String, String)>,
    OriginalUri(uri): OriginalUri,
    request: Request,
) -> Result<Response, ApiError> {
    let gateway = Arc::clone(gateway(&app)?);
    let (name, _) = named;
    let (head, body) = request.into_parts();
    let caller = identify(&app, &head.extensions, &head.headers).await?;
    let id = request_id(&app, &head.extensions);
    let Some(place) = gateway.admit() else {
        return Ok(gateway.shed(None, Operation::Raw, id).await.map(Body::new));
    };
    // As it was written: what it decodes to is for the gateway to judge.
    let written = uri.path_and_query().map(http::uri::PathAndQuery::as_str).unwrap_or_default();
    let path = written.strip_prefix("/v1/providers/").and_then(|rest| rest.get(rest.find('/')?..));
    let call = RawCall {
        provider: &name,
        method: head.method,
        path: path.unwrap_or_default(),
        caller,
        headers: &head.headers,
        body: body.map_err(Into::into).boxed_unsync(),
        request_id: id,
    };
    let answer = gateway.relay(call).await;
    Ok(answer.map(|body| Body::new(place.hold(body))))
}
