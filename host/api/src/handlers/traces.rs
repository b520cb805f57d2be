//! `/api/v1/traces`: what became of calls.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use brokle_identity::Scope;
use brokle_storage::observations::{AnalyticsError, QueryStore, TraceFilter};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use utoipa::IntoParams;

use super::queries;
use super::trace_updates;
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// Which traces, and how many.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// Began at this time or later (RFC 3339).
    from: Option<DateTime<Utc>>,
    /// Began before this time (RFC 3339).
    to: Option<DateTime<Utc>>,
    /// This model was asked for, or served.
    model: Option<String>,
    /// This provider served it.
    provider: Option<String>,
    /// `ok`, `error`, `aborted` or `timeout`.
    status: Option<String>,
    /// The client's end user.
    user: Option<String>,
    /// The client's session.
    session: Option<String>,
    /// What it is about: `generation`, `embedding`, ….
    #[serde(rename = "type")]
    #[param(rename = "type")]
    kind: Option<String>,
    /// What it is called.
    name: Option<String>,
    /// How many at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the project's calls, newest first.
#[utoipa::path(get, path = "/api/v1/traces", tag = "traces",
    security(("bearer" = []), ("api_key" = [])), params(ListQuery),
    responses((status = 200, description = "`{data, next_cursor}`: calls without their content", body = serde_json::Value),
        (status = 400, description = "A parameter is wrong", body = Problem),
        (status = 403, description = "The key lacks the scope `traces:read`", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<serde_json::Value>, ApiError> {
    caller.require(Scope::TracesRead)?;
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let limit = queries::limit(query.limit)?;
    let filter = TraceFilter {
        from: query.from,
        to: query.to,
        model: query.model,
        provider: query.provider,
        status: parsed("status", query.status)?,
        user: query.user,
        session: query.session,
        kind: parsed("type", query.kind)?,
        name: query.name,
    };
    let cursor = parsed("cursor", query.cursor)?;
    let page = store(&app)?.list(caller.0.tenant.project, filter, limit, cursor).await.map_err(failed)?;
    Ok(Json(serde_json::to_value(page).map_err(ApiError::internal)?))
}

/// Shows one trace as a tree.
#[utoipa::path(get, path = "/api/v1/traces/{trace_id}", tag = "traces",
    security(("bearer" = []), ("api_key" = [])),
    params(("trace_id" = String, Path, description = "32 hex digits, as in `x-brokle-trace-id`")),
    responses((status = 200, description = "The trace with its observations, children in their parents", body = serde_json::Value),
        (status = 404, description = "There is no such trace in the key's project", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(trace_id): Path<String>,
) -> Result<Json<serde_json::Value>, ApiError> {
    caller.require(Scope::TracesRead)?;
    // What can't be a trace's id is as missing as somebody else's.
    let missing = || ApiError::not_found("There is no such trace.");
    let trace_id = trace_id.parse().map_err(|_| missing())?;
    let (store, project) = (store(&app)?, caller.0.tenant.project);
    let asked = (store.trace(project, trace_id), store.trace_updates(project, vec![trace_id]));
    let (trace, said) = tokio::try_join!(asked.0, asked.1).map_err(failed)?;
    let mut trace = serde_json::to_value(trace.ok_or_else(missing)?).map_err(ApiError::internal)?;
    trace_updates::show_one(said, trace_id, &mut trace)?;
    Ok(Json(trace))
}

pub(super) fn store(app: &App) -> Result<&Arc<dyn QueryStore>, ApiError> {
    app.observations.as_ref().ok_or_else(|| ApiError::internal("this server has no store of observations"))
}

fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
    name: &'static str,
    text: Option<String>,
) -> Result<Option<T>, ApiError> {
    let parse = |text: String| {
        text.parse().map_err(|error| ApiError::invalid_request(format!("{name}: {error}")).param(name))
    };
    text.map(parse).transpose()
}

pub(super) fn failed(error: AnalyticsError) -> ApiError {
    if let AnalyticsError::TooMuch(cost) = &error {
        let message = format!("The question costs too much: {cost}. Narrow the time, or filter by more.");
        return ApiError::new(StatusCode::BAD_REQUEST, "query_too_expensive", message);
    }
    let answer = ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "analytics_unavailable",
        "Traces can't be read right now.",
    );
    ApiError { source: Some(Arc::new(error)), ..answer }
}
