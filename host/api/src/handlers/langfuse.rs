//! Scores as Langfuse's API and SDKs send them, with their key pair.
//!
//! `POST /api/public/scores` takes one, or a list (SDKs from version 5): all accepted is 202, otherwise 207 with the
//! reasons, which those SDKs log and don't send again. `POST /api/public/ingestion` takes events of the older ones, of
//! which only `score-create` is known here: each other one is refused by itself, and the answer (207) says so event by
//! event, as theirs does.
//! `environment`, `configId` and `queueId` are read over: the environment is the key's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use brokle_identity::Scope;
use brokle_storage::observations::{DataType, MAX_BATCH, Score, Source};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::score_configs::{Rules, rules};
use super::scores::{NewScore, made};
use super::traces::{failed, store};
use crate::app::App;
use crate::auth::{self, Authenticated};
use crate::body;
use crate::error::ApiError;

/// A score as Langfuse writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TheirScore {
    id: Option<String>,
    trace_id: Option<String>,
    observation_id: Option<String>,
    session_id: Option<String>,
    name: String,
    value: Value,
    data_type: Option<String>,
    source: Option<String>,
    comment: Option<String>,
    metadata: Option<Value>,
    timestamp: Option<DateTime<Utc>>,
}

impl TheirScore {
    fn into_ours(self) -> Result<NewScore, (&'static str, String)> {
        let data_type = match self.data_type.as_deref() {
            None => None,
            Some("NUMERIC") => Some(DataType::Numeric),
            Some("CATEGORICAL") => Some(DataType::Categorical),
            Some("BOOLEAN") => Some(DataType::Boolean),
            Some("TEXT") => Some(DataType::Text),
            Some(_) => {
                return Err(("dataType", "NUMERIC, CATEGORICAL, BOOLEAN or TEXT is expected".to_owned()));
            }
        };
        let source = match self.source.as_deref() {
            None | Some("API") => Source::Api,
            Some("EVAL") => Source::Evaluator,
            Some("ANNOTATION") => Source::Annotation,
            Some(_) => return Err(("source", "API, EVAL or ANNOTATION is expected".to_owned())),
        };
        let metadata = match self.metadata {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(metadata)) => metadata,
            Some(other) => [("metadata".to_owned(), other)].into_iter().collect(),
        };
        Ok(NewScore {
            id: self.id,
            name: self.name,
            value: self.value,
            data_type,
            source,
            // Both may be said; the trace is the nearer one.
            session: self.session_id.filter(|_| self.trace_id.is_none()),
            trace_id: self.trace_id,
            span_id: self.observation_id,
            comment: self.comment,
            metadata,
            timestamp: self.timestamp,
        })
    }
}

/// Takes a score, or a list of scores, of Langfuse's API.
#[utoipa::path(post, path = "/api/public/scores", tag = "scores", security(("bearer" = []), ("api_key" = [])),
    request_body(description = "A score as Langfuse writes it, or a list of up to 1,000; `Authorization: Basic` with a key pair \
        whose secret is an API key", content = Value),
    responses((status = 200, description = "One: on disk, its `id`", body = Value),
        (status = 202, description = "A list: all on disk, `accepted`", body = Value),
        (status = 207, description = "A list: `accepted` are on disk, `rejected` aren't, `errors` say why", body = Value),
        (status = 400, description = "`invalid_score`", body = crate::error::Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (caller, rules, body) = read(&app, request).await?;
    if let Value::Array(list) = body {
        return create_list(&app, &caller, &rules, list).await;
    }
    let score = theirs(&app, &caller, body, &rules)
        .map_err(|message| ApiError::new(StatusCode::BAD_REQUEST, "invalid_score", message))?;
    let id = score.id.clone();
    store(&app)?.put_scores(caller.0.tenant.project, vec![score]).await.map_err(failed)?;
    Ok((StatusCode::OK, Json(json!({ "id": id }))))
}

async fn create_list(
    app: &App,
    caller: &Authenticated,
    rules: &Rules,
    list: Vec<Value>,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    if list.len() > MAX_BATCH {
        return Err(ApiError::invalid_request(format!("at most {MAX_BATCH} scores are expected")));
    }
    let (mut scores, mut errors) = (Vec::new(), Vec::new());
    for (at, body) in list.into_iter().enumerate() {
        match theirs(app, caller, body, rules) {
            Ok(score) => scores.push(score),
            Err(message) => errors.push(json!({ "index": at, "message": message })),
        }
    }
    let accepted = scores.len();
    if accepted > 0 {
        store(app)?.put_scores(caller.0.tenant.project, scores).await.map_err(failed)?;
    }
    if errors.is_empty() {
        return Ok((StatusCode::ACCEPTED, Json(json!({ "message": "Accepted", "accepted": accepted }))));
    }
    let answer = json!({ "accepted": accepted, "rejected": errors.len(), "errors": errors });
    Ok((StatusCode::MULTI_STATUS, Json(answer)))
}

#[derive(Debug, Deserialize)]
struct Batch {
    batch: Vec<Event>,
}

#[derive(Debug, Deserialize)]
struct Event {
    id: String,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    body: Value,
}

/// Takes the score events of Langfuse's SDKs.
#[utoipa::path(post, path = "/api/public/ingestion", tag = "scores", security(("bearer" = []), ("api_key" = [])),
    request_body(description = "Events as Langfuse's SDKs send them: `score-create`; traces come by OpenTelemetry", content = Value),
    responses((status = 207, description = "`successes` and `errors`, event by event; what succeeded is on disk", body = Value),
        (status = 400, description = "No batch", body = crate::error::Problem)))]
pub(crate) async fn ingest(
    State(app): State<Arc<App>>,
    request: Request,
) -> Result<(StatusCode, Json<Value>), ApiError> {
    let (caller, rules, body) = read(&app, request).await?;
    let Batch { batch } = serde_json::from_value(body)
        .map_err(|error| ApiError::invalid_request(format!("batch: {error}")).param("batch"))?;
    if batch.len() > MAX_BATCH {
        return Err(ApiError::invalid_request(format!("batch: at most {MAX_BATCH} events are expected"))
            .param("batch"));
    }
    let (mut scores, mut successes, mut errors) = (Vec::new(), Vec::new(), Vec::new());
    for Event { id, kind, body } in batch {
        let made = if kind == "score-create" {
            theirs(&app, &caller, body, &rules)
        } else {
            Err(format!(
                "events of the type {kind:?} aren't taken here: send traces by OpenTelemetry, to /api/public/otel"
            ))
        };
        match made {
            Ok(score) => {
                scores.push(score);
                successes.push(json!({ "id": id, "status": 201 }));
            }
            Err(message) => {
                errors.push(
                    json!({ "id": id, "status": 400, "message": message, "error": "InvalidRequestError" }),
                );
            }
        }
    }
    if !scores.is_empty() {
        store(&app)?.put_scores(caller.0.tenant.project, scores).await.map_err(failed)?;
    }
    Ok((StatusCode::MULTI_STATUS, Json(json!({ "successes": successes, "errors": errors }))))
}

/// Who sends what. The key is checked before the body is read.
async fn read(app: &Arc<App>, request: Request) -> Result<(Authenticated, Rules, Value), ApiError> {
    let caller = auth::authenticate_pair(app, request.extensions(), request.headers()).await?;
    caller.require(Scope::TracesWrite)?;
    let body = body::read(request.into_body(), app.body).await?;
    let body = serde_json::from_slice(&body)
        .map_err(|error| ApiError::invalid_request(format!("not JSON: {error}")))?;
    let rules = rules(app, &caller).await?;
    Ok((caller, rules, body))
}

fn theirs(app: &App, caller: &Authenticated, body: Value, rules: &Rules) -> Result<Score, String> {
    let theirs: TheirScore = serde_json::from_value(body).map_err(|error| error.to_string())?;
    let score = theirs.into_ours().and_then(|new| made(app, caller, new, rules));
    score.map_err(|(member, message)| format!("{member}: {message}"))
}
