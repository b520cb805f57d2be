//! `/api/v1/projects/{id}/…`: lists of what a project's calls left behind.
//!
//! One key sees one project: any other id answers as one that doesn't exist. The language of `filter` and the names
//! below are in `docs/queries.md`.

pub mod export;
pub mod metrics;
pub mod signals;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use brokle_core::ids::ProjectId;
use brokle_identity::Scope;
use brokle_storage::observations::query::{
    Filter, GroupKind, MAX_RANGE, Place, Query as Question, QueryStore, Sort, SortBy, Subject,
};
use brokle_storage::observations::{DEFAULT_LIMIT, MAX_LIMIT, Page};
use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::{Map, Value};
use utoipa::IntoParams;

use self::export::Format;
use super::trace_updates;
use super::traces::{failed, store};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// How far back a question goes that doesn't say.
const DEFAULT_RANGE: TimeDelta = TimeDelta::days(7);

/// Which rows, in which order, how many, in which form.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListQuery {
    /// The filter language of `docs/queries.md`.
    pub(super) filter: Option<String>,
    /// Began at this time or later (RFC 3339); 7 days before `to` if it isn't said.
    pub(super) from: Option<DateTime<Utc>>,
    /// Began before this time (RFC 3339); now if it isn't said. At most 366 days after `from`.
    pub(super) to: Option<DateTime<Utc>>,
    /// `time`, `duration`, …, with a minus for the largest first; `-time` if it isn't said.
    pub(super) sort: Option<String>,
    /// How many at most: 1 to 100, 50 if it isn't said; as many as there are in an export.
    pub(super) limit: Option<u32>,
    /// `next_cursor` of the page before.
    pub(super) cursor: Option<String>,
    /// Members that are answered, with commas; all but `input` and `output` if it isn't said.
    pub(super) fields: Option<String>,
    /// `json`, or `ndjson`, `csv` or `parquet` for an export; `Accept` says it too.
    pub(super) format: Option<String>,
}

/// What is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Observations,
    Groups(GroupKind),
    Scores,
}

impl What {
    const fn sorts(self) -> &'static [SortBy] {
        match self {
            Self::Observations => SortBy::OF_OBSERVATIONS,
            Self::Groups(_) => SortBy::OF_GROUPS,
            Self::Scores => SortBy::OF_SCORES,
        }
    }

    /// The members of a row, in the order of an export's columns.
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Observations => &[
                "trace_id",
                "span_id",
                "parent_span_id",
                "name",
                "type",
                "operation",
                "start_time",
                "duration_ms",
                "time_to_first_token_ms",
                "model",
                "model_served",
                "provider",
                "connection_id",
                "usage",
                "cost",
                "streaming",
                "status",
                "status_code",
                "finish_reason",
                "error",
                "user",
                "session",
                "tags",
                "environment_id",
                "key_id",
                "request_id",
                "attributes",
                "input",
                "output",
            ],
            Self::Groups(_) => &[
                "id",
                "name",
                "user",
                "session",
                "start_time",
                "end_time",
                "duration_ms",
                "traces",
                "sessions",
                "observations",
                "errors",
                "input_tokens",
                "output_tokens",
                "cost",
                "update",
            ],
            Self::Scores => &[
                "id",
                "name",
                "value",
                "data_type",
                "source",
                "trace_id",
                "span_id",
                "session",
                "comment",
                "metadata",
                "environment_id",
                "timestamp",
                "created_at",
                "updated_at",
            ],
        }
    }
}

macro_rules! lists {
    ($($name:ident, $path:literal, $what:expr, $doc:literal;)+) => {$(
        #[doc = $doc]
        #[utoipa::path(get, path = $path, tag = "queries", security(("bearer" = []), ("api_key" = [])),
            params(("id" = String, Path, description = "The project's id"), ListQuery),
            responses((status = 200, description = "`{data, next_cursor}`, or the rows as `application/x-ndjson`, `text/csv` or `application/vnd.apache.parquet`", body = Value),
                (status = 400, description = "`invalid_filter` with the place, `range_too_long`, `query_too_expensive`, `invalid_request`", body = Problem),
                (status = 403, description = "The key lacks the scope `traces:read`", body = Problem),
                (status = 404, description = "The key is of another project, or there is none", body = Problem)))]
        pub(crate) async fn $name(
            State(app): State<Arc<App>>,
            caller: Authenticated,
            Path(id): Path<String>,
            headers: HeaderMap,
            query: Result<Query<ListQuery>, QueryRejection>,
        ) -> Result<Response, ApiError> {
            list(&app, &caller, &id, $what, &headers, query).await
        }
    )+};
}

lists! {
    observations, "/api/v1/projects/{id}/observations", What::Observations, "Lists calls and spans.";
    traces, "/api/v1/projects/{id}/traces", What::Groups(GroupKind::Trace), "Lists traces with their numbers.";
    sessions, "/api/v1/projects/{id}/sessions", What::Groups(GroupKind::Session), "Lists sessions with their numbers.";
    users, "/api/v1/projects/{id}/users", What::Groups(GroupKind::User), "Lists end users with their numbers.";
    scores, "/api/v1/projects/{id}/scores", What::Scores, "Lists scores.";
}

async fn list(
    app: &App,
    caller: &Authenticated,
    id: &str,
    what: What,
    headers: &HeaderMap,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    let project = project(caller, id)?;
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let fields = Fields::parse(query.fields.as_deref(), what)?;
    let format = Format::of(query.format.as_deref(), headers)?;
    let limit = query.limit;
    let mut question =
        question(app, what, &ListQuery { limit: limit.filter(|_| format == Format::Json), ..query })?;
    question.bodies = fields.has_bodies();
    let store = Arc::clone(store(app)?);
    if format != Format::Json {
        return export::export(export::Export { store, project, what, question, fields, format, limit })
            .await;
    }
    let page = fetch(&*store, project, what, question).await?;
    let data: Vec<_> = page.data.into_iter().map(|row| fields.select(row)).collect();
    Ok(Json(serde_json::json!({ "data": data, "next_cursor": page.next_cursor })).into_response())
}

/// The project of the path, if it is the key's.
pub(super) fn project(caller: &Authenticated, id: &str) -> Result<ProjectId, ApiError> {
    caller.require(Scope::TracesRead)?;
    own_project(caller, id)
}

/// The same for whoever may do something else than read.
pub(super) fn own_project(caller: &Authenticated, id: &str) -> Result<ProjectId, ApiError> {
    let project = caller.0.tenant.project;
    if project.to_string() == id {
        Ok(project)
    } else {
        Err(ApiError::not_found("There is no such project."))
    }
}

/// What the parameters ask.
pub(super) fn question(app: &App, what: What, query: &ListQuery) -> Result<Question, ApiError> {
    let subject = if what == What::Scores { Subject::Scores } else { Subject::Observations };
    // Scores are few, and asked for by what they are about.
    let back = if what == What::Scores {
        TimeDelta::seconds(MAX_RANGE.as_secs().cast_signed())
    } else {
        DEFAULT_RANGE
    };
    let (from, to) = range(app, query.from, query.to, back)?;
    let sort = sort(query.sort.as_deref(), what)?;
    let limit = limit(query.limit)?;
    let after = match &query.cursor {
        None => None,
        Some(text) => {
            let wrong = || {
                let message = "cursor: not a cursor of this list in this order: pass next_cursor as it is";
                ApiError::invalid_request(message).param("cursor")
            };
            let place: Place = text.parse().map_err(|_| wrong())?;
            Some(place).filter(|place| place.is_in(sort)).map(Some).ok_or_else(wrong)?
        }
    };
    Ok(Question {
        filter: filter(query.filter.as_deref(), subject)?,
        sort,
        limit,
        after,
        ..Question::new(from, to)
    })
}

/// How many rows a page has.
pub(super) fn limit(given: Option<u32>) -> Result<u32, ApiError> {
    let limit = given.unwrap_or(DEFAULT_LIMIT);
    if (1..=MAX_LIMIT).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::invalid_request(format!("limit: 1 to {MAX_LIMIT} is expected")).param("limit"))
}

pub(super) fn filter(text: Option<&str>, subject: Subject) -> Result<Filter, ApiError> {
    Filter::parse(text.unwrap_or_default(), subject).map_err(|error| {
        ApiError::new(StatusCode::BAD_REQUEST, "invalid_filter", format!("filter: {error}")).param("filter")
    })
}

/// From when to when, within bounds.
pub(super) fn range(
    app: &App,
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
    back: TimeDelta,
) -> Result<(DateTime<Utc>, DateTime<Utc>), ApiError> {
    let to = to.unwrap_or_else(|| app.clock.now());
    let from = from.or_else(|| to.checked_sub_signed(back)).unwrap_or(to);
    if from >= to {
        return Err(ApiError::invalid_request("from: a time before `to` is expected").param("from"));
    }
    if (to - from).to_std().unwrap_or_default() > MAX_RANGE {
        let message = "from: at most 366 days before `to` are expected";
        return Err(ApiError::new(StatusCode::BAD_REQUEST, "range_too_long", message).param("from"));
    }
    Ok((from, to))
}

fn sort(text: Option<&str>, what: What) -> Result<Sort, ApiError> {
    let Some(text) = text else { return Ok(Sort::default()) };
    let (descending, name) = text.strip_prefix('-').map_or((false, text), |name| (true, name));
    let found = what.sorts().iter().find(|by| by.as_str() == name);
    found.map(|by| Sort { by: *by, descending }).ok_or_else(|| {
        let known: Vec<_> = what.sorts().iter().map(|by| by.as_str()).collect();
        ApiError::invalid_request(format!(
            "sort: one of {} is expected, or one after a minus",
            known.join(", ")
        ))
        .param("sort")
    })
}

/// A page of rows as JSON.
pub(super) async fn fetch(
    store: &dyn QueryStore,
    project: ProjectId,
    what: What,
    question: Question,
) -> Result<Page<Map<String, Value>, Place>, ApiError> {
    fn as_json<T: serde::Serialize>(
        page: Page<T, Place>,
    ) -> Result<Page<Map<String, Value>, Place>, ApiError> {
        let row = |row: T| match serde_json::to_value(row) {
            Ok(Value::Object(members)) => Ok(members),
            Ok(_) => Err(ApiError::internal("a row isn't an object")),
            Err(error) => Err(ApiError::internal(error)),
        };
        let data = page.data.into_iter().map(row).collect::<Result<_, _>>()?;
        Ok(Page { data, next_cursor: page.next_cursor })
    }
    match what {
        What::Observations => as_json(store.observations(project, question).await.map_err(failed)?),
        What::Groups(kind) => {
            let mut page = as_json(store.groups(project, kind, question).await.map_err(failed)?)?;
            if kind == GroupKind::Trace {
                trace_updates::merge(store, project, &mut page.data).await?;
            }
            Ok(page)
        }
        What::Scores => as_json(store.scores(project, question).await.map_err(failed)?),
    }
}

/// Which members are answered.
#[derive(Clone, Debug)]
pub(super) struct Fields(Vec<&'static str>);

impl Fields {
    fn parse(text: Option<&str>, what: What) -> Result<Self, ApiError> {
        let known = what.fields();
        let Some(text) = text else {
            return Ok(Self(
                known.iter().copied().filter(|name| !["input", "output"].contains(name)).collect(),
            ));
        };
        let named = |name: &str| known.iter().copied().find(|one| *one == name.trim());
        let fields: Option<Vec<_>> = text.split(',').map(named).collect();
        let fields = fields.ok_or_else(|| {
            ApiError::invalid_request(format!("fields: some of {} are expected", known.join(", ")))
                .param("fields")
        })?;
        Ok(Self(fields))
    }

    fn has_bodies(&self) -> bool {
        self.0.iter().any(|name| ["input", "output"].contains(name))
    }

    pub(super) fn names(&self) -> &[&'static str] {
        &self.0
    }

    pub(super) fn select(&self, mut row: Map<String, Value>) -> Map<String, Value> {
        row.retain(|name, _| self.0.contains(&name.as_str()));
        row
    }
}
