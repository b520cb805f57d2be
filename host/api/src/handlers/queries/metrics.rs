//! `/api/v1/projects/{id}/metrics`: counts, sums and percentiles by time and dimensions.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use brokle_storage::observations::query::Subject;
use brokle_storage::observations::query::metrics::{
    Bucket, Dimension, MAX_CELLS, MAX_DIMENSIONS, MAX_MEASURES, Measure, MetricsQuery,
};
use chrono::{DateTime, SecondsFormat, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::{DEFAULT_RANGE, filter, project, range};
use crate::app::App;
use crate::auth::Authenticated;
use crate::body::CappedBody;
use crate::error::{ApiError, Problem};
use crate::handlers::traces::{failed, store};

/// What is measured, in a URL.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct InUrl {
    /// Measures, with commas: `count,latency_p95,cost`. At most 20.
    measures: String,
    /// Dimensions, with commas: `model,user`. At most 3.
    dimensions: Option<String>,
    /// `minute`, `hour`, `day`, `week` or `month`; the whole time if it isn't said.
    bucket: Option<String>,
    /// The filter language of `docs/queries.md`.
    filter: Option<String>,
    /// Began at this time or later (RFC 3339); 7 days before `to` if it isn't said.
    from: Option<DateTime<Utc>>,
    /// Began before this time (RFC 3339); now if it isn't said. At most 366 days after `from`.
    to: Option<DateTime<Utc>>,
}

/// What is measured, as JSON.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Wanted {
    /// Measures: `count`, `latency_p95`, `scores.helpfulness.avg`, …. 1 to 20.
    measures: Vec<String>,
    /// Dimensions: `model`, `user`, …. At most 3.
    #[serde(default)]
    dimensions: Vec<String>,
    /// `minute`, `hour`, `day`, `week` or `month`; the whole time if it isn't said.
    bucket: Option<String>,
    /// The filter language of `docs/queries.md`.
    filter: Option<String>,
    /// Began at this time or later (RFC 3339); 7 days before `to` if it isn't said.
    from: Option<DateTime<Utc>>,
    /// Began before this time (RFC 3339); now if it isn't said. At most 366 days after `from`.
    to: Option<DateTime<Utc>>,
}

/// Measures calls and spans.
#[utoipa::path(get, path = "/api/v1/projects/{id}/metrics", tag = "queries",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id"), InUrl),
    responses((status = 200, description = "`data`: by time and dimensions; `from`, `to`, `source` (`rollups` or `rows`)", body = Value),
        (status = 400, description = "`invalid_filter`, `range_too_long`, `query_too_expensive`, `invalid_request`", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    query: Result<Query<InUrl>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    project(&caller, &id)?;
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let names = |text: &str| text.split(',').map(|name| name.trim().to_owned()).collect();
    let wanted = Wanted {
        measures: names(&query.measures),
        dimensions: query.dimensions.as_deref().map(names).unwrap_or_default(),
        bucket: query.bucket,
        filter: query.filter,
        from: query.from,
        to: query.to,
    };
    answer(&app, &caller, &id, wanted).await
}

/// The same, asked as JSON.
#[utoipa::path(post, path = "/api/v1/projects/{id}/metrics", tag = "queries",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The project's id")), request_body = Wanted,
    responses((status = 200, description = "As `GET` answers", body = Value),
        (status = 400, description = "As `GET` refuses", body = Problem),
        (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
pub(crate) async fn post(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    CappedBody(body): CappedBody,
) -> Result<Json<Value>, ApiError> {
    project(&caller, &id)?;
    let wanted =
        serde_json::from_slice(&body).map_err(|error| ApiError::invalid_request(error.to_string()))?;
    answer(&app, &caller, &id, wanted).await
}

async fn answer(
    app: &App,
    caller: &Authenticated,
    id: &str,
    wanted: Wanted,
) -> Result<Json<Value>, ApiError> {
    let project = project(caller, id)?;
    let question = question(app, wanted)?;
    let found = store(app)?.metrics(project, question.clone()).await.map_err(failed)?;
    let data: Vec<_> = found
        .cells
        .into_iter()
        .map(|cell| {
            let mut row = Map::new();
            if let Some(begin) = cell.bucket {
                row.insert("bucket".to_owned(), json!(begin.to_rfc3339_opts(SecondsFormat::Secs, true)));
            }
            let dimensions = question.dimensions.iter().map(|dimension| dimension.as_str().to_owned());
            row.extend(dimensions.zip(cell.dimensions.into_iter().map(Value::from)));
            let measures = question.measures.iter().map(Measure::to_string);
            row.extend(measures.zip(cell.values.iter().map(|value| json!(value))));
            row
        })
        .collect();
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Micros, true);
    Ok(Json(json!({
        "data": data,
        "from": time(question.from),
        "to": time(question.to),
        "source": if found.from_rollups { "rollups" } else { "rows" },
    })))
}

fn question(app: &App, wanted: Wanted) -> Result<MetricsQuery, ApiError> {
    let wrong = |param: &'static str, message: String| {
        ApiError::invalid_request(format!("{param}: {message}")).param(param)
    };
    if !(1..=MAX_MEASURES).contains(&wanted.measures.len()) {
        return Err(wrong("measures", format!("1 to {MAX_MEASURES} are expected")));
    }
    if wanted.dimensions.len() > MAX_DIMENSIONS {
        return Err(wrong("dimensions", format!("at most {MAX_DIMENSIONS} are expected")));
    }
    let measures = wanted.measures.iter().map(|name| {
        name.parse::<Measure>()
            .map_err(|_| wrong("measures", format!("{name:?} is none; docs/queries.md lists them")))
    });
    let measures = measures.collect::<Result<Vec<_>, _>>()?;
    let dimensions = wanted.dimensions.iter().map(|name| {
        name.parse::<Dimension>().map_err(|_| {
            let known: Vec<_> = Dimension::ALL.iter().map(|one| one.as_str()).collect();
            wrong("dimensions", format!("{name:?} is none of {}", known.join(", ")))
        })
    });
    let dimensions = dimensions.collect::<Result<Vec<_>, _>>()?;
    let bucket = wanted.bucket.map(|name| {
        name.parse::<Bucket>()
            .map_err(|_| wrong("bucket", "minute, hour, day, week or month is expected".to_owned()))
    });
    let bucket = bucket.transpose()?;
    let (from, to) = range(app, wanted.from, wanted.to, DEFAULT_RANGE)?;
    if bucket == Some(Bucket::Minute)
        && (to - from).num_minutes() > i64::try_from(MAX_CELLS).unwrap_or(i64::MAX)
    {
        let message = format!("bucket: the time has more than {MAX_CELLS} minutes");
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "query_too_expensive", message).param("bucket"));
    }
    let filter = filter(wanted.filter.as_deref(), Subject::Observations)?;
    Ok(MetricsQuery { filter, from, to, measures, dimensions, bucket })
}
