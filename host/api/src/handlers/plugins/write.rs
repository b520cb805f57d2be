//! On, off, back, out; configuration and grants.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use brokle_plugins::Entry;
use http::StatusCode;
use serde::Deserialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::read::parsed;
use super::{ScopeQuery, Where, Writer};
use crate::app::App;
use crate::auth::Authenticated;
use crate::body::CappedBody;
use crate::error::{ApiError, Problem};

/// What is to change.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = PluginChange)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// On or off; `null` leaves it to the wider scope, version and configuration too.
    #[serde(default, deserialize_with = "crate::handlers::present")]
    #[schema(value_type = Option<bool>)]
    enabled: Option<Option<bool>>,
    /// The version that serves, by number or hash; with `enabled: true`.
    version: Option<String>,
    /// Where: `instance` if it isn't said.
    #[serde(default)]
    scope: Where,
}

/// Switches a component on or off in a scope.
#[utoipa::path(patch, path = "/api/v1/plugins/{id}", tag = "plugins", security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id")), request_body = Change,
    responses((status = 200, description = "The component as it is now", body = Value),
        (status = 409, description = "It waits for grants, or its name is taken", body = Problem),
        (status = 422, description = "The version is refused, or the configuration doesn't fit it", body = Problem)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    CappedBody(body): CappedBody,
) -> Result<Json<Entry>, ApiError> {
    let writer = Writer::new(&app, &caller).await?;
    let change: Change =
        serde_json::from_slice(&body).map_err(|error| ApiError::invalid_request(error.to_string()))?;
    let key = writer.reader.key(change.scope)?;
    let (catalogue, actor) = (writer.reader.catalogue, &writer.actor);
    match (change.enabled, change.version.as_deref()) {
        (Some(Some(true)), version) => catalogue.enable(&id, key, version, actor).await?,
        (Some(Some(false)), None) => catalogue.disable(&id, key, actor).await?,
        (Some(None), None) => catalogue.inherit(&id, key, actor).await?,
        _ => {
            let message = "enabled is expected: true (with or without version), false or null";
            return Err(ApiError::invalid_request(message).param("enabled"));
        }
    }
    Ok(Json(writer.reader.shown(&catalogue.get(&id)?)))
}

/// Returns to the version that served in a scope before.
#[utoipa::path(post, path = "/api/v1/plugins/{id}/rollback", tag = "plugins",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id"), ScopeQuery),
    responses((status = 200, description = "The component as it is now", body = Value),
        (status = 409, description = "There is no version to return to: `PLUGIN_NO_PREVIOUS`", body = Problem)))]
pub(crate) async fn rollback(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<ScopeQuery>, QueryRejection>,
) -> Result<Json<Entry>, ApiError> {
    let writer = Writer::new(&app, &caller).await?;
    let key = writer.reader.key(parsed(query)?.scope)?;
    writer.reader.catalogue.rollback(&id, key, &writer.actor).await?;
    Ok(Json(writer.reader.shown(&writer.reader.catalogue.get(&id)?)))
}

/// Grants a component what it asks for, or less.
#[utoipa::path(put, path = "/api/v1/plugins/{id}/grants", tag = "plugins",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id; it needn't be installed yet")),
    request_body = Value,
    responses((status = 204, description = "Granted; what waited for it has started"),
        (status = 422, description = "The component doesn't ask for it: `PLUGIN_GRANTS`, the key in `param`", body = Problem)))]
pub(crate) async fn set_grants(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    CappedBody(body): CappedBody,
) -> Result<StatusCode, ApiError> {
    let writer = Writer::operator(&app, &caller).await?;
    if id.is_empty() || id.len() > 128 {
        return Err(ApiError::invalid_request("an id of 1 to 128 characters is expected").param("id"));
    }
    writer.reader.catalogue.set_grants(&id, json_of(&body)?, &writer.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Configures a component in a scope; `null` leaves it to the wider scope.
#[utoipa::path(put, path = "/api/v1/plugins/{id}/config", tag = "plugins",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id"), ScopeQuery), request_body = Value,
    responses((status = 204, description = "Calls that begin from now on have it"),
        (status = 422, description = "It doesn't fit: `PLUGIN_CONFIG`, the key in `param`", body = Problem)))]
pub(crate) async fn set_config(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<ScopeQuery>, QueryRejection>,
    CappedBody(body): CappedBody,
) -> Result<StatusCode, ApiError> {
    let writer = Writer::new(&app, &caller).await?;
    let key = writer.reader.key(parsed(query)?.scope)?;
    let config = Some(json_of(&body)?).filter(|config| !config.is_null());
    writer.reader.catalogue.set_config(&id, key, config, &writer.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Which version.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct RemoveQuery {
    /// By number or hash; all of them if it isn't said.
    version: Option<String>,
}

/// Removes versions that serve nowhere.
#[utoipa::path(delete, path = "/api/v1/plugins/{id}", tag = "plugins", security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id"), RemoveQuery),
    responses((status = 204, description = "Removed"),
        (status = 409, description = "A scope has it enabled: `PLUGIN_IN_USE`", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<RemoveQuery>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let writer = Writer::operator(&app, &caller).await?;
    writer.reader.catalogue.remove(&id, parsed(query)?.version.as_deref(), &writer.actor).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn json_of(body: &[u8]) -> Result<Value, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::invalid_request(format!("not JSON: {error}")))
}
