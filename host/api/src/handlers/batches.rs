//! `/v1/batches`: files of calls that are made by and by.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use brokle_gateway::batches::{BatchService, NewBatch, write_id};
use brokle_gateway::files;
use brokle_identity::Scope;
use brokle_storage::sql::batches::{Batch, BatchStatus};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use utoipa::{IntoParams, ToSchema};

use super::call::{json_only, refused};
use super::files::ObjectList;
use super::query;
use crate::app::App;
use crate::auth::{Authenticated, authenticate};
use crate::body;
use crate::error::{ApiError, OpenAiError};

/// A batch, in OpenAI's form. Times are seconds since the Unix epoch.
#[derive(Debug, Serialize, ToSchema)]
pub struct BatchObject {
    /// Its id.
    #[schema(example = "batch_01JAZ3V4N8M6Q2R5T7W9X0Y1Z2")]
    pub id: String,
    /// `batch`
    pub object: &'static str,
    /// What its lines ask.
    pub endpoint: String,
    /// What is wrong with its file: a list of `code`, `message`, `param` and `line`.
    pub errors: Option<Value>,
    /// The file of its lines.
    pub input_file_id: String,
    /// `24h`
    pub completion_window: &'static str,
    /// `validating`, `in_progress`, `finalizing`, `cancelling`, `completed`, `failed`, `expired`, `cancelled`.
    pub status: &'static str,
    /// The file of good answers.
    pub output_file_id: Option<String>,
    /// The file of others.
    pub error_file_id: Option<String>,
    /// When it was made.
    pub created_at: i64,
    /// When its lines were read.
    pub in_progress_at: Option<i64>,
    /// Until when it may take.
    pub expires_at: i64,
    /// When its last line was answered.
    pub finalizing_at: Option<i64>,
    /// When it was completed.
    pub completed_at: Option<i64>,
    /// When it failed.
    pub failed_at: Option<i64>,
    /// When its time was over.
    pub expired_at: Option<i64>,
    /// When somebody ended it.
    pub cancelling_at: Option<i64>,
    /// When that was done.
    pub cancelled_at: Option<i64>,
    /// Its lines, and how many have a good answer and another one.
    pub request_counts: RequestCounts,
    /// The caller's own words.
    pub metadata: Value,
}

/// A batch's lines.
#[derive(Debug, Serialize, ToSchema)]
pub struct RequestCounts {
    /// All of them; 0 until they are read.
    pub total: i64,
    /// Those with a good answer.
    pub completed: i64,
    /// Those with another one.
    pub failed: i64,
}

impl From<Batch> for BatchObject {
    fn from(batch: Batch) -> Self {
        let ended =
            |status| batch.ended_at.filter(|_| batch.status == status).map(|ended_at| ended_at.timestamp());
        let (total, completed, failed) = batch.counts;
        let has_errors = batch.errors.as_array().is_some_and(|errors| !errors.is_empty());
        Self {
            id: write_id(batch.id),
            object: "batch",
            completed_at: ended(BatchStatus::Completed),
            failed_at: ended(BatchStatus::Failed),
            expired_at: ended(BatchStatus::Expired),
            cancelled_at: ended(BatchStatus::Cancelled),
            endpoint: batch.endpoint,
            errors: has_errors.then(|| json!({"object": "list", "data": batch.errors})),
            input_file_id: files::write_id(batch.input),
            completion_window: "24h",
            status: batch.status.as_str(),
            output_file_id: batch.output.map(files::write_id),
            error_file_id: batch.failures.map(files::write_id),
            created_at: batch.created_at.timestamp(),
            in_progress_at: batch.in_progress_at.map(|at| at.timestamp()),
            expires_at: batch.expires_at.timestamp(),
            finalizing_at: batch.finalizing_at.map(|at| at.timestamp()),
            cancelling_at: batch.cancelling_at.map(|at| at.timestamp()),
            request_counts: RequestCounts { total, completed, failed },
            metadata: batch.metadata,
        }
    }
}

/// A batch that is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchRequest {
    /// The file of its lines, uploaded with `purpose=batch`.
    pub input_file_id: String,
    /// What its lines ask: `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/moderations` or `/v1/responses`; of a
    /// file that a provider keeps also without the version, where it has none there.
    pub endpoint: String,
    /// `24h`
    pub completion_window: String,
    /// 16 pairs of texts at most.
    #[schema(value_type = Option<Object>)]
    pub metadata: Option<Map<String, Value>>,
}

/// What is listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct BatchesQuery {
    /// Batches at most: 1 to 100, otherwise 20.
    limit: Option<u32>,
    /// Only batches before this one.
    after: Option<String>,
}

fn service(app: &App) -> Result<&BatchService, ApiError> {
    app.batches.as_deref().ok_or_else(|| ApiError::internal("this server has no batches"))
}

fn answered(batch: Result<Batch, brokle_gateway::Refusal>) -> Response {
    match batch {
        Ok(batch) => Json(BatchObject::from(batch)).into_response(),
        Err(refusal) => refused(&refusal),
    }
}

/// Makes a batch of a file's calls.
///
/// They are made for this key, within its limits and budgets, and answered within 24 hours: here, or by the provider that keeps
/// the file.
#[utoipa::path(post, path = "/v1/batches", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    request_body = BatchRequest,
    responses(
        (status = 200, description = "The batch", body = BatchObject),
        (status = 400, description = "The request is wrong; `param` names the field", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `gateway`, or isn't for the endpoint", body = OpenAiError),
        (status = 404, description = "There is no such file", body = OpenAiError),
        (status = 429, description = "The project has too many batches that haven't ended", body = OpenAiError),
    ))]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let caller = authenticate(&app, &head.extensions, &head.headers).await?;
    caller.require(Scope::Gateway)?;
    json_only(&head.headers)?;
    let body = body::read(body, app.body).await?;
    let asked: BatchRequest = serde_json::from_slice(&body).map_err(|error| {
        let message = format!("We could not parse the JSON body of your request: {error}.");
        ApiError::invalid_request(message)
    })?;
    let new = NewBatch {
        endpoint: asked.endpoint,
        input_file_id: asked.input_file_id,
        completion_window: asked.completion_window,
        metadata: asked.metadata.unwrap_or_default(),
    };
    Ok(answered(service(&app)?.create(&caller.0, new).await))
}

/// Lists the project's batches, the newest first.
#[utoipa::path(get, path = "/v1/batches", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    params(BatchesQuery),
    responses(
        (status = 200, description = "The batches", body = ObjectList<BatchObject>),
        (status = 400, description = "A parameter is wrong", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 503, description = "They can't be read now", body = OpenAiError),
    ))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    asked: Result<Query<BatchesQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Gateway)?;
    let asked = query(asked)?;
    let limit = asked.limit.unwrap_or(20).clamp(1, 100);
    let listed = service(&app)?.list(caller.0.tenant, asked.after.as_deref(), limit + 1).await;
    Ok(match listed {
        Ok(batches) => {
            let batches = batches.into_iter().map(BatchObject::from).collect();
            Json(ObjectList::of(batches, limit, |batch: &BatchObject| batch.id.clone())).into_response()
        }
        Err(refusal) => refused(&refusal),
    })
}

/// A batch of the project's.
#[utoipa::path(get, path = "/v1/batches/{id}", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The batch's id")),
    responses(
        (status = 200, description = "The batch", body = BatchObject),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such batch", body = OpenAiError),
    ))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Gateway)?;
    Ok(answered(service(&app)?.get(caller.0.tenant, &id).await))
}

/// Ends a batch of the project's, as soon as the lines under way are answered.
#[utoipa::path(post, path = "/v1/batches/{id}/cancel", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The batch's id")),
    responses(
        (status = 200, description = "The batch", body = BatchObject),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such batch", body = OpenAiError),
        (status = 409, description = "It has ended", body = OpenAiError),
    ))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Gateway)?;
    Ok(answered(service(&app)?.cancel(caller.0.tenant, &id).await))
}
