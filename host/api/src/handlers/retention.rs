//! `/api/v1/projects/{id}/retention` and `/api/v1/retention/run`: how long telemetry is kept, and deleting what is older.
//!
//! Reading needs `traces:read`; changing and deleting need `admin`. Every project's is for the organization that runs the
//! server.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use brokle_identity::Scope;
use brokle_storage::observations::Removed;
use brokle_storage::sql::projects::Project;
use brokle_telemetry::retention::{Retention, RetentionError};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::plugins::{is_operator, operator_only};
use super::queries::own_project;
use super::traces::failed;
use crate::app::App;
use crate::auth::Authenticated;
use crate::body::{self, CappedBody};
use crate::error::{ApiError, Problem};

/// How long a project's telemetry is kept.
#[derive(Serialize, ToSchema)]
pub(crate) struct Kept {
    /// The project's own number; null: the server's.
    days: Option<i64>,
    /// The server's number.
    default_days: u32,
    /// The most that a project may have.
    max_days: u32,
    /// What began before this moment is deleted.
    #[schema(value_type = String)]
    before: DateTime<Utc>,
}

/// How long a project's telemetry is to be kept.
#[derive(Deserialize, ToSchema)]
#[schema(as = RetentionChange)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// 1 to the server's `max_days`; null for the server's number.
    days: Option<u32>,
}

/// What is to be done.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Run {
    /// Only count.
    dry_run: bool,
}

/// What was deleted, or would be.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deleted {
    /// Whether it was only counted.
    dry_run: bool,
    /// Calls and spans.
    observations: u64,
    /// Scores.
    scores: u64,
    /// Log records.
    logs: u64,
    /// Metrics' points.
    points: u64,
    /// Large inputs and outputs that were stored apart, and of deleted projects, which a dry run doesn't count, all that was.
    blobs: u64,
    /// Months (`YYYYMM`) that were deleted as a whole.
    #[schema(value_type = Vec<String>)]
    months: Vec<String>,
    /// Deleted projects, what was left of whom is among it.
    deleted_projects: Vec<String>,
}

impl Deleted {
    fn new(dry_run: bool, removed: Removed) -> Self {
        let Removed { observations, scores, logs, points, blobs, months } = removed;
        let months = months.iter().map(ToString::to_string).collect();
        Self { dry_run, observations, scores, logs, points, blobs, months, deleted_projects: Vec::new() }
    }
}

impl Kept {
    fn new(retention: &Retention, project: &Project) -> Self {
        let settings = retention.settings();
        let days = project.retention_days;
        let before = retention.before(days.and_then(|days| u32::try_from(days).ok()));
        Self { days, default_days: settings.days, max_days: settings.max_days, before }
    }
}

/// Tells how long the project's telemetry is kept.
#[utoipa::path(get, path = "/api/v1/projects/{id}/retention", tag = "operations",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 200, description = "Days, and before when nothing is kept", body = Kept),
        (status = 403, description = "The key lacks the scope `traces:read`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<Kept>, ApiError> {
    caller.require(Scope::TracesRead)?;
    let project = own_project(&caller, &id)?;
    let project = app.database.projects().get(caller.0.tenant.organization, project).await?;
    Ok(Json(Kept::new(retention(&app)?, &project)))
}

/// Changes how long the project's telemetry is kept. What is older by then is deleted within an hour or so.
#[utoipa::path(put, path = "/api/v1/projects/{id}/retention", tag = "operations",
    security(("bearer" = []), ("api_key" = [])), request_body = Change,
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 200, description = "As it is now", body = Kept),
        (status = 400, description = "`invalid_request`: 1 to `max_days` are expected", body = Problem),
        (status = 403, description = "The key lacks the scope `admin`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
pub(crate) async fn set(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    CappedBody(body): CappedBody,
) -> Result<Json<Kept>, ApiError> {
    caller.require(Scope::Admin)?;
    let project = own_project(&caller, &id)?;
    let Change { days } = body::json(&body)?;
    let retention = retention(&app)?;
    let max = retention.settings().max_days;
    if days.is_some_and(|days| !(1..=max).contains(&days)) {
        return Err(ApiError::invalid_request(format!("days: 1 to {max} is expected")).param("days"));
    }
    let organization = caller.0.tenant.organization;
    let project = app.database.projects().set_retention(organization, project, days, app.clock.now()).await?;
    Ok(Json(Kept::new(retention, &project)))
}

/// Deletes what of the project is too old, now; or counts it.
#[utoipa::path(post, path = "/api/v1/projects/{id}/retention/run", tag = "operations",
    security(("bearer" = []), ("api_key" = [])), request_body = Run,
    params(("id" = String, Path, description = "The project's id")),
    responses((status = 200, description = "What was deleted, or would be", body = Deleted),
        (status = 403, description = "The key lacks the scope `admin`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem),
        (status = 503, description = "`analytics_unavailable`: what was deleted stays so", body = Problem)))]
pub(crate) async fn run_project(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    CappedBody(body): CappedBody,
) -> Result<Json<Deleted>, ApiError> {
    caller.require(Scope::Admin)?;
    let project = own_project(&caller, &id)?;
    let Run { dry_run } = body::json(&body)?;
    let removed = retention(&app)?.run_project(caller.0.tenant.organization, project, dry_run).await?;
    Ok(Json(Deleted::new(dry_run, removed)))
}

/// Deletes what of every project is too old, and what deleted projects left, now; or counts it.
#[utoipa::path(post, path = "/api/v1/retention/run", tag = "operations",
    security(("bearer" = []), ("api_key" = [])), request_body = Run,
    responses((status = 200, description = "What was deleted, or would be", body = Deleted),
        (status = 403, description = "The key lacks the scope `admin`, or isn't of those who run the server: \
            `operator_only`", body = Problem),
        (status = 503, description = "`analytics_unavailable`: what was deleted stays so", body = Problem)))]
pub(crate) async fn run(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    CappedBody(body): CappedBody,
) -> Result<Json<Deleted>, ApiError> {
    caller.require(Scope::Admin)?;
    if !is_operator(&app, &caller).await? {
        return Err(operator_only());
    }
    let Run { dry_run } = body::json(&body)?;
    let report = retention(&app)?.run(dry_run).await?;
    let deleted_projects = report.deleted_projects.iter().map(ToString::to_string).collect();
    let deleted = Deleted::new(dry_run, report.removed);
    Ok(Json(Deleted { deleted_projects, ..deleted }))
}

fn retention(app: &App) -> Result<&Retention, ApiError> {
    app.retention.as_deref().ok_or_else(|| {
        ApiError::new(StatusCode::NOT_FOUND, "no_telemetry", "This server keeps no telemetry.")
    })
}

impl From<RetentionError> for ApiError {
    fn from(error: RetentionError) -> Self {
        match error {
            RetentionError::Storage(error) => error.into(),
            RetentionError::Analytics(error) => failed(error),
            RetentionError::Blobs(_) => {
                let message = "Stored bytes can't be deleted now. Try again.";
                let refusal = Self::new(StatusCode::SERVICE_UNAVAILABLE, "blobs_unavailable", message);
                Self { source: Some(Arc::new(error)), ..refusal }
            }
        }
    }
}
