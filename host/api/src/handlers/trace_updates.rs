//! `PATCH /api/v1/projects/{id}/traces/{trace_id}`: labels, the user and a bookmark, said after the fact.
//!
//! Each member is written by itself, nothing is read before: two who change different members don't undo each other, and
//! of two who change the same one the last one counts.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use brokle_core::ids::ProjectId;
use brokle_core::observation::TraceId;
use brokle_identity::Scope;
use brokle_storage::observations::QueryStore;
use brokle_storage::observations::update::{MAX_TAGS, TraceUpdate};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::queries::own_project;
use super::traces::{failed, store};
use crate::app::App;
use crate::auth::Authenticated;
use crate::body::{self, CappedBody};
use crate::error::{ApiError, Problem};

/// Bytes of a label or a user's name.
const MAX_NAME: usize = 512;
/// Traces that are asked about at once.
const ASKED: usize = 500;

/// What to say of a trace; what isn't there stays as it is.
#[derive(Deserialize, ToSchema)]
#[schema(as = TraceChange)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// Its labels, at most 50, in place of those that it has.
    tags: Option<Vec<String>>,
    /// Its end user; null for none.
    #[serde(default, deserialize_with = "super::present")]
    #[schema(value_type = Option<String>)]
    user: Option<Option<String>>,
    /// Whether somebody wants to find it again.
    bookmarked: Option<bool>,
}

/// Says something of a trace after the fact.
#[utoipa::path(patch, path = "/api/v1/projects/{id}/traces/{trace_id}", tag = "traces",
    security(("bearer" = []), ("api_key" = [])), request_body = Change,
    params(("id" = String, Path, description = "The project's id"),
        ("trace_id" = String, Path, description = "32 hex digits; the trace needn't be stored yet")),
    responses((status = 200, description = "On disk: what was said", body = Value),
        (status = 400, description = "`invalid_request` with the member", body = Problem),
        (status = 403, description = "The key lacks the scope `traces:write`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none; no trace has this id", body = Problem)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path((id, trace_id)): Path<(String, String)>,
    CappedBody(body): CappedBody,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::TracesWrite)?;
    let project = own_project(&caller, &id)?;
    let trace: TraceId = trace_id.parse().map_err(|_| ApiError::not_found("There is no such trace."))?;
    let update = checked(body::json(&body)?)?;
    let said = json!({ "trace_id": trace, "update": update });
    store(&app)?.update_trace(project, trace, update, app.clock.now()).await.map_err(failed)?;
    Ok(Json(said))
}

fn checked(change: Change) -> Result<TraceUpdate, ApiError> {
    let is_name = |text: &String| (1..=MAX_NAME).contains(&text.len()) && !text.chars().any(char::is_control);
    let mut tags = change.tags;
    if let Some(tags) = &mut tags {
        let mut seen = std::collections::HashSet::new();
        tags.retain(|tag| seen.insert(tag.clone()));
        if tags.len() > MAX_TAGS || !tags.iter().all(is_name) {
            let message = "tags: at most 50 of 1 to 512 bytes without control characters are expected";
            return Err(ApiError::invalid_request(message).param("tags"));
        }
    }
    if let Some(Some(user)) = &change.user
        && !is_name(user)
    {
        let message = "user: 1 to 512 bytes without control characters, or null, are expected";
        return Err(ApiError::invalid_request(message).param("user"));
    }
    let update = TraceUpdate { tags, user: change.user, bookmarked: change.bookmarked };
    if update.is_empty() {
        return Err(ApiError::invalid_request("one of tags, user and bookmarked is expected"));
    }
    Ok(update)
}

/// Puts what was said of traces into their rows: `user` in place, all of it as `update`.
pub(super) async fn merge(
    store: &dyn QueryStore,
    project: ProjectId,
    rows: &mut [Map<String, Value>],
) -> Result<(), ApiError> {
    let id = |row: &Map<String, Value>| row.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let mut said: HashMap<TraceId, TraceUpdate> = HashMap::new();
    let traces: Vec<TraceId> = rows.iter().filter_map(id).collect();
    for traces in traces.chunks(ASKED) {
        said.extend(store.trace_updates(project, traces.to_vec()).await.map_err(failed)?);
    }
    for row in rows {
        if let Some(update) = id(row).and_then(|trace| said.remove(&trace)) {
            show(row, update)?;
        }
    }
    Ok(())
}

/// The same for one, of which `said` tells.
pub(super) fn show_one(
    mut said: HashMap<TraceId, TraceUpdate>,
    trace: TraceId,
    row: &mut Value,
) -> Result<(), ApiError> {
    match (said.remove(&trace), row) {
        (Some(update), Value::Object(row)) => show(row, update),
        _ => Ok(()),
    }
}

fn show(row: &mut Map<String, Value>, update: TraceUpdate) -> Result<(), ApiError> {
    if let (Some(user), Some(shown)) = (&update.user, row.get_mut("user")) {
        *shown = json!(user);
    }
    row.insert("update".to_owned(), serde_json::to_value(update).map_err(ApiError::internal)?);
    Ok(())
}
