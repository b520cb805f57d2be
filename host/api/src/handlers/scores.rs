//! `/v1/scores`: what people, evaluators and programs thought of traces, observations and sessions.
//!
//! A 201 says that the scores are on disk. An `id` that the sender chose makes sending again harmless: what came last
//! replaces what is there. A batch is stored as a whole or not at all. A score whose name has a config is what that says
//! ([`super::score_configs`]).

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use brokle_core::ids::RequestId;
use brokle_identity::Scope;
use brokle_storage::observations::query::filter::{Field, Filter, Term, Test, Value as Wanted};
use brokle_storage::observations::query::{Key, Subject};
use brokle_storage::observations::{DataType, MAX_BATCH, MAX_ID, Score, ScoreValue, Source};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::queries::{self, ListQuery};
use super::score_configs::{Rule, Rules, rules};
use super::traces::{failed, store};
use crate::app::App;
use crate::auth::Authenticated;
use crate::body::CappedBody;
use crate::error::{ApiError, OpenAiError};

/// A score to store.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewScore {
    /// Makes sending it again harmless; made up when it isn't said.
    pub(super) id: Option<String>,
    /// What was looked at.
    pub(super) name: String,
    /// A number, `true` or `false`, or a text.
    pub(super) value: Value,
    /// `numeric`, `categorical`, `boolean` or `text`; by the value when it isn't said, a text being a category.
    #[schema(value_type = Option<String>)]
    pub(super) data_type: Option<DataType>,
    /// `api` (the default), `evaluator` or `annotation`.
    #[schema(value_type = Option<String>)]
    #[serde(default)]
    pub(super) source: Source,
    /// The trace that it is about: 32 hex digits.
    pub(super) trace_id: Option<String>,
    /// The observation of the trace: 16 hex digits. Also `observation_id`.
    #[serde(alias = "observation_id")]
    pub(super) span_id: Option<String>,
    /// The session that it is about, instead of a trace. Also `session_id`.
    #[serde(alias = "session_id")]
    pub(super) session: Option<String>,
    /// Why.
    pub(super) comment: Option<String>,
    /// Whatever else is to be said.
    #[serde(default)]
    #[schema(value_type = Object)]
    pub(super) metadata: Map<String, Value>,
    /// When it was given; now if it isn't said.
    pub(super) timestamp: Option<DateTime<Utc>>,
}

/// Scores to store together.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewScores {
    /// 1 to 1,000.
    scores: Vec<NewScore>,
}

/// Stores a score.
#[utoipa::path(post, path = "/v1/scores", tag = "scores", security(("bearer" = []), ("api_key" = [])),
    request_body = NewScore,
    responses((status = 201, description = "On disk: the score as it is stored", body = Value),
        (status = 400, description = "`invalid_score`, with the member", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `traces:write`", body = OpenAiError)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    CappedBody(body): CappedBody,
) -> Result<(StatusCode, Json<Score>), ApiError> {
    caller.require(Scope::TracesWrite)?;
    let new: NewScore = serde_json::from_slice(&body).map_err(|error| invalid("body", error))?;
    let rules = rules(&app, &caller).await?;
    let score = made(&app, &caller, new, &rules).map_err(|(member, message)| invalid(member, message))?;
    store(&app)?.put_scores(caller.0.tenant.project, vec![score.clone()]).await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(score)))
}

/// Stores up to 1,000 scores, all or none.
#[utoipa::path(post, path = "/v1/scores/batch", tag = "scores", security(("bearer" = []), ("api_key" = [])),
    request_body = NewScores,
    responses((status = 201, description = "On disk: `data`, the scores as they are stored", body = Value),
        (status = 400, description = "`invalid_score`, with the score's place and the member; none was stored", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `traces:write`", body = OpenAiError)))]
pub(crate) async fn create_batch(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    CappedBody(body): CappedBody,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    caller.require(Scope::TracesWrite)?;
    let NewScores { scores } = serde_json::from_slice(&body).map_err(|error| invalid("body", error))?;
    if !(1..=MAX_BATCH).contains(&scores.len()) {
        return Err(invalid("scores", format!("1 to {MAX_BATCH} are expected")));
    }
    let rules = rules(&app, &caller).await?;
    let mut made_of = Vec::with_capacity(scores.len());
    for (at, new) in scores.into_iter().enumerate() {
        let score = made(&app, &caller, new, &rules)
            .map_err(|(member, message)| invalid(format!("scores[{at}].{member}"), message))?;
        made_of.push(score);
    }
    store(&app)?.put_scores(caller.0.tenant.project, made_of.clone()).await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(json!({ "data": made_of }))))
}

/// Which scores, and how many.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScoreQuery {
    /// The filter language of `docs/queries.md`.
    filter: Option<String>,
    /// About this trace or its observations.
    trace_id: Option<String>,
    /// About this observation.
    span_id: Option<String>,
    /// About this session.
    session: Option<String>,
    /// Called so.
    name: Option<String>,
    /// `api`, `evaluator` or `annotation`.
    source: Option<String>,
    /// `numeric`, `categorical`, `boolean` or `text`.
    data_type: Option<String>,
    /// Given at this time or later (RFC 3339); 366 days before `to` if it isn't said.
    from: Option<DateTime<Utc>>,
    /// Given before this time; now if it isn't said.
    to: Option<DateTime<Utc>>,
    /// `time` or `value`, with a minus for the largest first; `-time` if it isn't said.
    sort: Option<String>,
    /// How many at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Lists the project's scores, newest first.
#[utoipa::path(get, path = "/v1/scores", tag = "scores", security(("bearer" = []), ("api_key" = [])),
    params(ScoreQuery),
    responses((status = 200, description = "`{data, next_cursor}`", body = Value),
        (status = 400, description = "A parameter is wrong", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `traces:read`", body = OpenAiError)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    query: Result<Query<ScoreQuery>, QueryRejection>,
) -> Result<Json<Value>, ApiError> {
    caller.require(Scope::TracesRead)?;
    let Query(query) = query.map_err(|rejection| ApiError::invalid_request(rejection.body_text()))?;
    let mut terms = Vec::new();
    for (key, param, text) in [
        (Key::Trace, "trace_id", &query.trace_id),
        (Key::Span, "span_id", &query.span_id),
        (Key::Session, "session", &query.session),
        (Key::Name, "name", &query.name),
        (Key::Source, "source", &query.source),
        (Key::DataType, "data_type", &query.data_type),
    ] {
        let Some(text) = text else { continue };
        let value = match key {
            Key::Trace | Key::Span => {
                // The language knows what an id is.
                let filter = Filter::parse(&format!("{}:{text}", key.as_str()), Subject::Scores);
                let filter = filter.ok().filter(|filter| filter.terms.len() == 1).ok_or_else(|| {
                    ApiError::invalid_request(format!("{param}: {}", key.kind().expected())).param(param)
                })?;
                terms.extend(filter.terms);
                continue;
            }
            _ => Wanted::Text(text.clone()),
        };
        terms.push(Term { negated: false, test: Test::AnyOf(Field::Key(key), vec![value]) });
    }
    let all = ListQuery {
        filter: query.filter,
        from: query.from,
        to: query.to,
        sort: query.sort,
        limit: query.limit,
        cursor: query.cursor,
        ..ListQuery::default()
    };
    let mut question = queries::question(&app, queries::What::Scores, &all)?;
    question.filter.terms.extend(terms);
    let page = store(&app)?.scores(caller.0.tenant.project, question).await.map_err(failed)?;
    Ok(Json(serde_json::to_value(page).map_err(ApiError::internal)?))
}

/// Deletes a score.
#[utoipa::path(delete, path = "/v1/scores/{id}", tag = "scores", security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The score's id")),
    responses((status = 204, description = "It was there and is gone"),
        (status = 403, description = "The key lacks the scope `traces:write`", body = OpenAiError),
        (status = 404, description = "There is no such score in the key's project", body = OpenAiError)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    caller.require(Scope::TracesWrite)?;
    let missing = || ApiError::not_found("There is no such score.");
    if id.len() > MAX_ID {
        return Err(missing());
    }
    let deleted = store(&app)?.delete_score(caller.0.tenant.project, id).await.map_err(failed)?;
    if deleted { Ok(StatusCode::NO_CONTENT) } else { Err(missing()) }
}

fn invalid(member: impl Into<String>, message: impl std::fmt::Display) -> ApiError {
    let member = member.into();
    let message = format!("{member}: {message}");
    ApiError::new(StatusCode::BAD_REQUEST, "invalid_score", message).param(member)
}

/// The score that it will be, checked; or the member that is wrong, and what is expected of it.
pub(super) fn made(
    app: &App,
    caller: &Authenticated,
    new: NewScore,
    rules: &Rules,
) -> Result<Score, (&'static str, String)> {
    fn id<T: std::str::FromStr>(
        member: &'static str,
        digits: usize,
        text: Option<&str>,
    ) -> Result<Option<T>, (&'static str, String)> {
        let parse = |text: &str| {
            text.parse().map_err(|_| (member, format!("{digits} lower-case hex digits are expected")))
        };
        text.map(parse).transpose()
    }
    let now = app.clock.now();
    let rule = rules.get(&new.name);
    let data_type = new.data_type.or(rule.map(Rule::data_type));
    let value = value_of(new.value, data_type).map_err(|message| ("value", message.to_owned()))?;
    rule.map_or(Ok(()), |rule| rule.admits(&value)).map_err(|message| ("value", message))?;
    let score = Score {
        id: new.id.unwrap_or_else(|| RequestId::generate(&*app.clock, &*app.random).to_string()),
        name: new.name,
        data_type: value.data_type(),
        value,
        source: new.source,
        trace_id: id("trace_id", 32, new.trace_id.as_deref())?,
        span_id: id("span_id", 16, new.span_id.as_deref())?,
        session: new.session,
        comment: new.comment,
        metadata: new.metadata,
        environment_id: caller.0.tenant.environment,
        timestamp: new.timestamp.unwrap_or(now),
        created_at: now,
        updated_at: now,
    };
    score.check().map_err(|error| (error.member, error.message))?;
    Ok(score)
}

fn value_of(value: Value, data_type: Option<DataType>) -> Result<ScoreValue, &'static str> {
    Ok(match (data_type, value) {
        (None | Some(DataType::Numeric), Value::Number(number)) => {
            ScoreValue::Numeric(number.as_f64().ok_or("a finite number is expected")?)
        }
        (None | Some(DataType::Boolean), Value::Bool(flag)) => ScoreValue::Boolean(flag),
        // Langfuse writes flags as numbers.
        (Some(DataType::Boolean), Value::Number(number)) if number.as_f64() == Some(1.0) => {
            ScoreValue::Boolean(true)
        }
        (Some(DataType::Boolean), Value::Number(number)) if number.as_f64() == Some(0.0) => {
            ScoreValue::Boolean(false)
        }
        (None | Some(DataType::Categorical), Value::String(text)) => ScoreValue::Categorical(text),
        (Some(DataType::Text), Value::String(text)) => ScoreValue::Text(text),
        (None, _) => return Err("a number, true, false or a text is expected"),
        (Some(DataType::Numeric), _) => return Err("a number is expected of a numeric score"),
        (Some(DataType::Boolean), _) => {
            return Err("true or false (or 1 or 0) is expected of a boolean score");
        }
        (Some(DataType::Categorical | DataType::Text), _) => return Err("a text is expected"),
    })
}
