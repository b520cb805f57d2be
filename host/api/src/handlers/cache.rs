//! `/v1/cache`: the project's stored answers.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use brokle_gateway::cache::Selection;
use brokle_identity::Scope;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::call::{gateway, json_only};
use crate::app::App;
use crate::auth::{Authenticated, authenticate};
use crate::body;
use crate::error::{ApiError, OpenAiError};

/// Which answers go: those that each condition takes.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Invalidation {
    /// All of the project's. Nothing else may be said beside it.
    #[serde(default)]
    all: bool,
    /// The one that `x-brokle-cache-key` named.
    key: Option<String>,
    /// Those of this model, as callers wrote it or as the provider named it.
    model: Option<String>,
    /// Those of this route.
    route: Option<String>,
    /// Those that are at least so many seconds old.
    older_than_seconds: Option<u64>,
}

/// What became of it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Invalidated {
    /// Answers that were there and are gone.
    removed: u64,
}

/// Tells how many of the project's answers are stored.
#[utoipa::path(get, path = "/v1/cache/status", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "`enabled`, and if it is: `store` (`memory` or `redis`), `available`, `entries`, `semantic_entries`, `bytes`, `stored_cost` \
            (what they cost, in dollars, as text), `ttl_seconds`, `max_entry_bytes`, `max_bytes` (of all projects)", body = serde_json::Value),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `gateway`", body = OpenAiError),
    ))]
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    caller: Authenticated,
) -> Result<Json<serde_json::Value>, ApiError> {
    caller.require(Scope::Gateway)?;
    let Some(cache) = gateway(&app)?.cache() else { return Ok(Json(serde_json::json!({"enabled": false}))) };
    let status = cache.status(caller.0.tenant).await;
    Ok(Json(serde_json::to_value(status).map_err(ApiError::internal)?))
}

/// Removes stored answers of the project.
#[utoipa::path(post, path = "/v1/cache/invalidate", tag = "models",
    security(("bearer" = []), ("api_key" = [])),
    request_body(content = Invalidation),
    responses(
        (status = 200, description = "How many were removed", body = Invalidated),
        (status = 400, description = "It says nothing, or something that can't be; `param` names the field", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `gateway`", body = OpenAiError),
        (status = 503, description = "`cache_unavailable`: the shared cache can't be asked", body = OpenAiError),
    ))]
pub(crate) async fn invalidate(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<Json<Invalidated>, ApiError> {
    let (head, body) = request.into_parts();
    let caller = authenticate(&app, &head.extensions, &head.headers).await?;
    caller.require(Scope::Gateway)?;
    json_only(&head.headers)?;
    let body = body::read(body, app.body).await?;
    let wanted: Invalidation = body::json(&body)?;
    let selection = selection(wanted)?;
    let removed = match gateway(&app)?.cache() {
        Some(cache) => cache.invalidate(caller.0.tenant, &selection).await.map_err(|_| {
            let message = "The shared cache can't be asked right now: some answers may have been removed. Try again shortly.";
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "cache_unavailable", message).retry_after(Duration::from_secs(1))
        })?,
        None => 0,
    };
    Ok(Json(Invalidated { removed }))
}

fn selection(wanted: Invalidation) -> Result<Selection, ApiError> {
    let Invalidation { all, key, model, route, older_than_seconds } = wanted;
    let key = key.map(|key| key.parse()).transpose();
    let key = key.map_err(|_| {
        ApiError::invalid_request("'key' must be 64 hexadecimal digits, as in x-brokle-cache-key.")
            .param("key")
    })?;
    let selection = Selection { key, model, route, older_than: older_than_seconds.map(Duration::from_secs) };
    // Neither a slip that removes everything, nor one that keeps what was meant to go.
    if all == (selection == Selection::default()) {
        return Ok(selection);
    }
    let message = "Say either \"all\": true, or which: key, model, route, older_than_seconds.";
    Err(ApiError::invalid_request(message).param("all"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Selection, ApiError> {
        selection(serde_json::from_str(json).unwrap())
    }

    #[test]
    fn it_is_either_all_or_some() {
        assert_eq!(read(r#"{"all":true}"#).unwrap(), Selection::default());
        assert_eq!(read(r#"{"model":"m"}"#).unwrap().model.as_deref(), Some("m"));
        assert_eq!(read(r#"{"older_than_seconds":0}"#).unwrap().older_than, Some(Duration::ZERO));
        for bad in ["{}", r#"{"all":false}"#, r#"{"all":true,"model":"m"}"#] {
            assert_eq!(read(bad).unwrap_err().param.as_deref(), Some("all"), "{bad}");
        }
        assert_eq!(read(r#"{"key":"x"}"#).unwrap_err().param.as_deref(), Some("key"));
    }
}
