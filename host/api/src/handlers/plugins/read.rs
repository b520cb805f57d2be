//! What there is.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use brokle_plugins::Entry;
use brokle_storage::sql::plugins::{Event, EventFilter};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::IntoParams;

use super::{Reader, ScopeQuery, Where};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// Events in a page if it isn't said.
const EVENTS: u32 = 50;
/// Events in a page at most.
const MAX_EVENTS: u32 = 100;

/// Lists the components with their versions and settings.
#[utoipa::path(get, path = "/api/v1/plugins", tag = "plugins", security(("bearer" = []), ("api_key" = [])),
    responses((status = 200, description = "`{data, next_cursor}`: every component, with versions and settings", body = Value),
        (status = 403, description = "The key lacks the scope `plugins:read`", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
) -> Result<Json<Value>, ApiError> {
    let reader = Reader::new(&app, &caller).await?;
    let data: Vec<Entry> = reader.catalogue.list().iter().map(|entry| reader.shown(entry)).collect();
    Ok(Json(json!({ "data": data, "next_cursor": null })))
}

/// One component.
#[utoipa::path(get, path = "/api/v1/plugins/{id}", tag = "plugins", security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id")),
    responses((status = 200, description = "The component, with versions and settings", body = Value),
        (status = 404, description = "There is none", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Entry>, ApiError> {
    let reader = Reader::new(&app, &caller).await?;
    Ok(Json(reader.shown(&reader.catalogue.get(&id)?)))
}

/// A component's versions.
#[utoipa::path(get, path = "/api/v1/plugins/{id}/versions", tag = "plugins",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id")),
    responses((status = 200, description = "`{data, next_cursor}`: the versions, in order of installation", body = Value),
        (status = 404, description = "There is none", body = Problem)))]
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let reader = Reader::new(&app, &caller).await?;
    Ok(Json(json!({ "data": reader.catalogue.get(&id)?.versions, "next_cursor": null })))
}

/// What a component asks for, and what operators grant it.
#[utoipa::path(get, path = "/api/v1/plugins/{id}/grants", tag = "plugins",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id")),
    responses((status = 200, description = "`{asked, granted}`", body = Value),
        (status = 403, description = "The key is not of the organization that runs the server", body = Problem)))]
pub(crate) async fn grants(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Value>, ApiError> {
    let reader = Reader::new(&app, &caller).await?;
    reader.key(Where::Instance)?;
    let (asked, granted) = reader.catalogue.grants(&id).await?;
    Ok(Json(json!({ "asked": asked, "granted": granted })))
}

/// A component's configuration in a scope.
#[utoipa::path(get, path = "/api/v1/plugins/{id}/config", tag = "plugins",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id"), ScopeQuery),
    responses((status = 200, description = "`{config, effective}`: the scope's own, and with it the one that holds", body = Value),
        (status = 404, description = "There is none", body = Problem)))]
pub(crate) async fn config(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<ScopeQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let reader = Reader::new(&app, &caller).await?;
    let key = reader.key(parsed(query)?.scope)?;
    let (config, effective) = reader.catalogue.config(&id, key).await?;
    // What the instance is configured with is shown to those who run it: a tenant sees their own.
    let effective = if reader.is_operator { effective } else { config.clone() };
    Ok(Json(json!({ "config": config, "effective": effective })))
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventsQuery {
    /// `instance` (if it isn't said) or `organization`.
    #[serde(default)]
    scope: Where,
    /// How many at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// An event as it is shown.
#[derive(Serialize)]
struct Shown {
    id: String,
    at: chrono::DateTime<chrono::Utc>,
    plugin_id: String,
    version: Option<String>,
    sha256: Option<String>,
    organization_id: Option<String>,
    project_id: Option<String>,
    event: String,
    state: Option<String>,
    code: Option<String>,
    reason: Option<String>,
    actor: String,
}

impl From<Event> for Shown {
    fn from(event: Event) -> Self {
        Self {
            id: event.id.to_string(),
            at: event.at,
            plugin_id: event.plugin_id,
            version: event.version,
            sha256: event.sha256,
            organization_id: event.scope.organization.map(|id| id.to_string()),
            project_id: event.scope.project.map(|id| id.to_string()),
            event: event.event,
            state: event.state,
            code: event.code,
            reason: event.reason,
            actor: event.actor,
        }
    }
}

/// What happened to a component, newest first.
#[utoipa::path(get, path = "/api/v1/plugins/{id}/events", tag = "plugins",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The component's id"), EventsQuery),
    responses((status = 200, description = "`{data, next_cursor}`: who did what, when and why", body = Value),
        (status = 400, description = "A parameter is wrong", body = Problem)))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let reader = Reader::new(&app, &caller).await?;
    let query = parsed(query)?;
    let key = reader.key(query.scope)?;
    let limit = query.limit.unwrap_or(EVENTS);
    if !(1..=MAX_EVENTS).contains(&limit) {
        return Err(ApiError::invalid_request("limit: 1 to 100 is expected").param("limit"));
    }
    let before = query.cursor.map(|cursor| cursor.parse()).transpose();
    let before = before.map_err(|_| ApiError::invalid_request("cursor: not one of ours").param("cursor"))?;
    let filter = EventFilter { plugin_id: Some(&id), before, limit };
    let data: Vec<Shown> = reader.catalogue.events(key, filter).await?.into_iter().map(Shown::from).collect();
    let full = data.len() == limit as usize;
    let next_cursor = data.last().filter(|_| full).map(|event| event.id.clone());
    Ok(Json(json!({ "data": data, "next_cursor": next_cursor })))
}

impl Reader<'_> {
    /// What the caller may see of a component.
    pub(super) fn shown(&self, entry: &Entry) -> Entry {
        if self.is_operator { entry.clone() } else { entry.seen_by(self.caller.0.tenant.organization) }
    }
}

/// A query, or what is wrong with it.
pub(super) fn parsed<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|error| ApiError::invalid_request(error.body_text()))
}
