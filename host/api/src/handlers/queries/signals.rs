//! `/api/v1/projects/{id}/logs` and `…/metrics/{series,points}`: what came by `/v1/logs` and `/v1/metrics`.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use brokle_storage::observations::Page;
use brokle_storage::observations::query::{Place, Sort};
use brokle_storage::observations::signal::{LogsQuery, PointsQuery};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::IntoParams;

use super::super::traces::{failed, store};
use super::{DEFAULT_RANGE, limit, project, range};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// How far back a question about points goes that doesn't say: they are many.
const POINTS_RANGE: TimeDelta = TimeDelta::days(1);
/// The first of the four numbers of each of OpenTelemetry's levels.
const SEVERITIES: [(&str, u8); 6] =
    [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17), ("fatal", 21)];

/// Which log records.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Logs {
    /// Of this time or later (RFC 3339); 7 days before `to` if it isn't said.
    from: Option<DateTime<Utc>>,
    /// Before this time (RFC 3339); now if it isn't said. At most 366 days after `from`.
    to: Option<DateTime<Utc>>,
    /// Of this severity or a higher one: `trace`, `debug`, `info`, `warn`, `error`, `fatal`, or OpenTelemetry's number.
    severity: Option<String>,
    /// Written in this trace.
    trace_id: Option<String>,
    /// Written in this span.
    span_id: Option<String>,
    /// Of this `service.name`.
    service: Option<String>,
    /// Events of this name.
    event_name: Option<String>,
    /// With this text in the body, in any case.
    text: Option<String>,
    /// How many at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which points.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Points {
    /// Of this time or later (RFC 3339); a day before `to` if it isn't said.
    from: Option<DateTime<Utc>>,
    /// Before this time (RFC 3339); now if it isn't said. At most 366 days after `from`.
    to: Option<DateTime<Utc>>,
    /// Of this metric.
    name: Option<String>,
    /// Of this series: 16 hex digits.
    series: Option<String>,
    /// How many at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists log records, the newest first.
#[utoipa::path(get, path = "/api/v1/projects/{id}/logs", tag = "queries", security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id"), Logs),
    responses((status = 200, description = "`{data, next_cursor}`", body = Value),
        (status = 400, description = "`invalid_request`, `range_too_long`, `query_too_expensive`", body = Problem),
        (status = 403, description = "The key lacks the scope `traces:read`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
pub(crate) async fn logs(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<Logs>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let project = project(&caller, &id)?;
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let (from, to) = range(&app, query.from, query.to, DEFAULT_RANGE)?;
    let question = LogsQuery {
        from,
        to,
        min_severity: query.severity.as_deref().map(severity).transpose()?,
        trace_id: parsed("trace_id", "32 lower-case hex digits are expected", query.trace_id.as_deref())?,
        span_id: parsed("span_id", "16 lower-case hex digits are expected", query.span_id.as_deref())?,
        service: query.service,
        event_name: query.event_name,
        text: query.text.filter(|text| !text.is_empty()),
        limit: limit(query.limit)?,
        after: cursor(query.cursor.as_deref())?,
    };
    answer(store(&app)?.logs(project, question).await.map_err(failed)?)
}

/// Lists the series of metrics, by name, each with its latest point.
#[utoipa::path(get, path = "/api/v1/projects/{id}/metrics/series", tag = "queries",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id"), Points),
    responses((status = 200, description = "`{data, next_cursor}`", body = Value),
        (status = 400, description = "`invalid_request`, `range_too_long`, `query_too_expensive`", body = Problem),
        (status = 403, description = "The key lacks the scope `traces:read`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
pub(crate) async fn series(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<Points>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let project = project(&caller, &id)?;
    let question = question(&app, query)?;
    answer(store(&app)?.series(project, question).await.map_err(failed)?)
}

/// Lists metrics' data points, the newest first.
#[utoipa::path(get, path = "/api/v1/projects/{id}/metrics/points", tag = "queries",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id"), Points),
    responses((status = 200, description = "`{data, next_cursor}`", body = Value),
        (status = 400, description = "`invalid_request`, `range_too_long`, `query_too_expensive`", body = Problem),
        (status = 403, description = "The key lacks the scope `traces:read`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
pub(crate) async fn points(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<Points>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    let project = project(&caller, &id)?;
    let question = question(&app, query)?;
    answer(store(&app)?.points(project, question).await.map_err(failed)?)
}

fn question(app: &App, query: Result<Query<Points>, QueryRejection>) -> Result<PointsQuery, ApiError> {
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let (from, to) = range(app, query.from, query.to, POINTS_RANGE)?;
    let series = |text: &str| {
        let number = i64::from_str_radix(text, 16).ok().filter(|number| *number >= 0 && text.len() == 16);
        number.ok_or_else(|| ApiError::invalid_request("series: 16 hex digits are expected").param("series"))
    };
    Ok(PointsQuery {
        from,
        to,
        name: query.name,
        series: query.series.as_deref().map(series).transpose()?,
        limit: limit(query.limit)?,
        after: cursor(query.cursor.as_deref())?,
    })
}

fn answer<T: Serialize>(page: Page<T, Place>) -> Result<Json<Value>, ApiError> {
    Ok(Json(serde_json::to_value(page).map_err(ApiError::internal)?))
}

fn severity(text: &str) -> Result<u8, ApiError> {
    let named =
        SEVERITIES.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, number)| *number);
    let number = named.or_else(|| text.parse().ok().filter(|number| (1..=24).contains(number)));
    number.ok_or_else(|| {
        let message = "severity: trace, debug, info, warn, error, fatal, or 1 to 24 is expected";
        ApiError::invalid_request(message).param("severity")
    })
}

fn parsed<T: std::str::FromStr>(
    name: &'static str,
    expected: &str,
    text: Option<&str>,
) -> Result<Option<T>, ApiError> {
    let wrong = |_| ApiError::invalid_request(format!("{name}: {expected}")).param(name);
    text.map(|text| text.parse().map_err(wrong)).transpose()
}

fn cursor(text: Option<&str>) -> Result<Option<Place>, ApiError> {
    let wrong = || {
        let message = "cursor: not a cursor of this list: pass next_cursor as it is";
        ApiError::invalid_request(message).param("cursor")
    };
    let place = text.map(|text| text.parse::<Place>().map_err(|_| wrong())).transpose()?;
    if place.as_ref().is_some_and(|place| !place.is_in(Sort::default())) { Err(wrong()) } else { Ok(place) }
}
