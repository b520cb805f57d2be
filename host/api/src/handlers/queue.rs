//! `/api/v1/queue/dead-letters`: what the telemetry queue couldn't store.
//!
//! Reading needs `queue:read`, trying again and deleting `queue:write`. A key sees its project's letters. With
//! `scope=instance` the organization that runs the server sees everybody's, and those that can't be read and so are
//! nobody's, but of none what it says: others' prompts are not the operator's to read.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use brokle_identity::Scope;
use brokle_telemetry::{DeadLetter, QueueError, Recorder, Whose};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::plugins::{is_operator, operator_only};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// Letters in a page, if it isn't said.
const DEFAULT_LIMIT: u32 = 50;
/// At most: each may be as large as a call's bodies.
const MAX_LIMIT: u32 = 100;

/// Whose letters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Where {
    /// The key's project's.
    #[default]
    Project,
    /// Everybody's; for those who run the server.
    Instance,
}

/// Whose letters.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ScopeQuery {
    /// `project` (the key's, if it isn't said) or `instance` (everybody's, for those who run the server).
    #[serde(default)]
    #[param(value_type = Option<String>)]
    scope: Where,
}

/// Whose letters, and how many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// `project` (the key's, if it isn't said) or `instance` (everybody's, for those who run the server).
    #[serde(default)]
    #[param(value_type = Option<String>)]
    scope: Where,
    /// How many at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<i64>,
}

/// An observation that couldn't be stored.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterView {
    /// Its number, in the order they died.
    id: String,
    /// When it was given up.
    died_at: DateTime<Utc>,
    /// Why: what the database said.
    reason: String,
    /// Whose it is; null when it can't be read, like all that follows.
    project_id: Option<String>,
    /// Its trace.
    trace_id: Option<String>,
    /// Its span.
    span_id: Option<String>,
    /// When it began.
    started_at: Option<DateTime<Utc>>,
    /// Everything that it says, in the queue's own form, with `input` and `output` as text; for one letter of one's own
    /// project only.
    #[serde(skip_serializing_if = "Option::is_none")]
    observation: Option<Value>,
}

/// A page of dead letters.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadLetterPage {
    /// In the order they died.
    data: Vec<DeadLetterView>,
    /// For the next page; null at the end.
    next_cursor: Option<String>,
}

impl From<&DeadLetter> for DeadLetterView {
    fn from(letter: &DeadLetter) -> Self {
        let observation = letter.observation.as_ref();
        Self {
            id: letter.id.to_string(),
            died_at: letter.died,
            reason: letter.reason.clone(),
            project_id: observation.map(|row| row.tenant.project.to_string()),
            trace_id: observation.map(|row| row.trace_id.to_string()),
            span_id: observation.map(|row| row.span_id.to_string()),
            started_at: observation.and_then(|row| DateTime::from_timestamp_micros(row.start_us)),
            observation: None,
        }
    }
}

/// Lists what can't be stored, oldest first.
#[utoipa::path(get, path = "/api/v1/queue/dead-letters", tag = "operations",
    security(("bearer" = []), ("api_key" = [])), params(ListQuery),
    responses((status = 200, description = "Letters without their content", body = DeadLetterPage),
        (status = 403, description = "The key lacks the scope `queue:read`, or `scope=instance` isn't the caller's to \
            ask for: `operator_only`", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<DeadLetterPage>, ApiError> {
    caller.require(Scope::QueueRead)?;
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let limit = query.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MAX_LIMIT).contains(&limit) {
        return Err(ApiError::invalid_request(format!("limit: 1 to {MAX_LIMIT} is expected")).param("limit"));
    }
    let whose = whose(&app, &caller, query.scope).await?;
    let after = query.cursor.unwrap_or_default();
    let mut letters = recorder(&app)?.dead_letters(whose, after, limit + 1).await.map_err(failed)?;
    let is_last = letters.len() <= limit as usize;
    letters.truncate(limit as usize);
    let next_cursor = letters.last().filter(|_| !is_last).map(|letter| letter.id.to_string());
    Ok(Json(DeadLetterPage { data: letters.iter().map(DeadLetterView::from).collect(), next_cursor }))
}

/// Shows one letter, with what it says.
#[utoipa::path(get, path = "/api/v1/queue/dead-letters/{id}", tag = "operations",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "Its number"), ScopeQuery),
    responses((status = 200, description = "The letter", body = DeadLetterView),
        (status = 404, description = "There is no such letter in the key's project", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<ScopeQuery>, QueryRejection>,
) -> Result<Json<DeadLetterView>, ApiError> {
    caller.require(Scope::QueueRead)?;
    let (whose, id) = named(&app, &caller, &id, query).await?;
    let found = recorder(&app)?.dead_letters(whose, id.saturating_sub(1), 1).await.map_err(failed)?;
    let letter = found.first().filter(|letter| letter.id == id).ok_or_else(missing)?;
    let observation = match whose {
        Whose::Project(_) => {
            letter.observation.as_ref().map(content).transpose().map_err(ApiError::internal)?
        }
        Whose::Everybody => None,
    };
    Ok(Json(DeadLetterView { observation, ..letter.into() }))
}

/// Puts a letter back into the queue. If it fails again it comes back under a new number.
#[utoipa::path(post, path = "/api/v1/queue/dead-letters/{id}/retry", tag = "operations",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "Its number"), ScopeQuery),
    responses((status = 204, description = "It is in the queue again"),
        (status = 404, description = "There is no such letter in the key's project", body = Problem)))]
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<ScopeQuery>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::QueueWrite)?;
    let (whose, id) = named(&app, &caller, &id, query).await?;
    done(recorder(&app)?.redrive(whose, id).await)
}

/// Deletes a letter for good.
#[utoipa::path(delete, path = "/api/v1/queue/dead-letters/{id}", tag = "operations",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "Its number"), ScopeQuery),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "There is no such letter in the key's project", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<ScopeQuery>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::QueueWrite)?;
    let (whose, id) = named(&app, &caller, &id, query).await?;
    done(recorder(&app)?.discard(whose, id).await)
}

fn recorder(app: &App) -> Result<&Recorder, ApiError> {
    let ingest = app.ingest.as_ref();
    Ok(&ingest.ok_or_else(|| ApiError::not_found("This server has no queue."))?.recorder)
}

async fn whose(app: &App, caller: &Authenticated, scope: Where) -> Result<Whose, ApiError> {
    match scope {
        Where::Project => Ok(Whose::Project(caller.0.tenant.project)),
        Where::Instance if is_operator(app, caller).await? => Ok(Whose::Everybody),
        Where::Instance => Err(operator_only()),
    }
}

async fn named(
    app: &App,
    caller: &Authenticated,
    id: &str,
    query: Result<Query<ScopeQuery>, QueryRejection>,
) -> Result<(Whose, i64), ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    // What can't be a letter's number is as missing as somebody else's.
    let id = id.parse().map_err(|_| missing())?;
    Ok((whose(app, caller, query.scope).await?, id))
}

fn content(row: &brokle_core::observation::Observation) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(row)?;
    if let Value::Object(members) = &mut value {
        for (name, body) in [("input", &row.input), ("output", &row.output)] {
            let text = body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned());
            members.insert(name.to_owned(), text.into());
        }
    }
    Ok(value)
}

fn done(outcome: Result<bool, QueueError>) -> Result<StatusCode, ApiError> {
    if outcome.map_err(failed)? { Ok(StatusCode::NO_CONTENT) } else { Err(missing()) }
}

fn missing() -> ApiError {
    ApiError::not_found("There is no such dead letter.")
}

fn failed(error: QueueError) -> ApiError {
    let message = "The telemetry queue can't be used right now.";
    let answer = ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "queue_unavailable", message);
    ApiError { source: Some(Arc::new(error)), ..answer }
}
