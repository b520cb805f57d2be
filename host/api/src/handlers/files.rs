//! `/v1/files`: what projects upload for batches, and what batches make.
//!
//! With `x-brokle-provider` an upload is streamed to that provider, which keeps it, or is kept here for that provider's batches; all
//! else goes by the file's id.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::response::{IntoResponse, Response};
use brokle_core::form::Form;
use brokle_gateway::Operation;
use brokle_gateway::files::{FORM, FileService, NewFile, Place, write_id};
use brokle_identity::Scope;
use brokle_storage::blobs::BlobReader;
use brokle_storage::sql::files::File;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::request::Parts;
use http::{HeaderName, HeaderValue};
use http_body_util::BodyExt as _;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::sync::Semaphore;
use utoipa::{IntoParams, ToSchema};

use super::call::{form_only, gateway, refused, request_id};
use super::query;
use crate::app::App;
use crate::auth::{Authenticated, authenticate};
use crate::body::{self, BodyLimits};
use crate::error::{ApiError, OpenAiError};

/// Uploads that are in memory at once.
static UPLOADS: Semaphore = Semaphore::const_new(4);
/// The provider for whose batches a file is: a connection's name, or a provider's.
const PROVIDER: HeaderName = HeaderName::from_static("x-brokle-provider");
/// OpenAI's purposes of uploads. What isn't a batch's is kept and given back, and means nothing here.
const PURPOSES: [&str; 6] = ["assistants", "batch", "evals", "fine-tune", "user_data", "vision"];
/// OpenAI's bounds of `expires_after`, in seconds.
const EXPIRES_AFTER: std::ops::RangeInclusive<u64> = 3_600..=2_592_000;

/// A file, in OpenAI's form.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileObject {
    /// Its id.
    #[schema(example = "file-01JAZ3V4N8M6Q2R5T7W9X0Y1Z2")]
    pub id: String,
    /// `file`
    pub object: &'static str,
    /// Its size.
    pub bytes: i64,
    /// Seconds since the Unix epoch.
    pub created_at: i64,
    /// When it is forgotten, likewise.
    pub expires_at: i64,
    /// What its owner calls it.
    pub filename: String,
    /// `batch`, `batch_output`, ….
    pub purpose: String,
    /// `processed`; of one that a provider keeps whatever that says.
    pub status: Cow<'static, str>,
}

impl From<File> for FileObject {
    fn from(file: File) -> Self {
        Self {
            id: write_id(file.id),
            object: "file",
            bytes: file.bytes,
            created_at: file.created_at.timestamp(),
            expires_at: file.expires_at.timestamp(),
            filename: file.filename,
            purpose: file.purpose,
            status: "processed".into(),
        }
    }
}

/// A page of a list, in OpenAI's form.
#[derive(Debug, Serialize, ToSchema)]
pub struct ObjectList<T> {
    /// `list`
    pub object: &'static str,
    /// The objects.
    pub data: Vec<T>,
    /// The first one's id.
    pub first_id: Option<String>,
    /// The last one's: `after` of the next page.
    pub last_id: Option<String>,
    /// Whether there is a next page.
    pub has_more: bool,
}

impl<T> ObjectList<T> {
    /// A page of what was read, which is one more than wanted where there is a next one.
    pub(super) fn of(mut data: Vec<T>, limit: u32, id: impl Fn(&T) -> String) -> Self {
        let has_more = data.len() > limit as usize;
        data.truncate(limit as usize);
        Self {
            object: "list",
            first_id: data.first().map(&id),
            last_id: data.last().map(&id),
            data,
            has_more,
        }
    }
}

/// That a file was deleted.
#[derive(Debug, Serialize, ToSchema)]
pub struct FileDeleted {
    /// Its id.
    pub id: String,
    /// `file`
    pub object: &'static str,
    /// True.
    pub deleted: bool,
}

/// What is listed.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct FilesQuery {
    /// Only of this purpose.
    purpose: Option<String>,
    /// Files at most: 1 to 999, otherwise 999.
    limit: Option<u32>,
    /// Only files behind this one.
    after: Option<String>,
    /// `desc` (the newest first) or `asc`.
    order: Option<String>,
}

fn service(app: &App) -> Result<&FileService, ApiError> {
    app.files.as_deref().ok_or_else(|| ApiError::internal("this server keeps no files"))
}

/// Keeps a file.
///
/// A form with `file`, `purpose` (`batch` for the lines of a batch) and, if it isn't to be kept as long as others,
/// `expires_after[anchor]` (`created_at`) and `expires_after[seconds]`. With the header `x-brokle-provider`, a connection's name
/// or a provider's, it is for that provider's batches: its purpose is `batch` then, and it goes there and is kept there; where a
/// provider has no files (Anthropic), it is kept here, and its lines go with the batch.
#[utoipa::path(post, path = "/v1/files", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    params(("x-brokle-provider" = Option<String>, Header, description = "The provider whose batches it is for")),
    request_body(content = Vec<u8>, content_type = "multipart/form-data", description = "`file`, `purpose`"),
    responses(
        (status = 200, description = "The file", body = FileObject),
        (status = 400, description = "The form is wrong; `param` names the field", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 403, description = "The key lacks the scope `gateway`, guardrails rule on it, or the project's quota is used up", body = OpenAiError),
        (status = 404, description = "There is no such provider", body = OpenAiError),
        (status = 413, description = "The file is too large", body = OpenAiError),
        (status = 429, description = "The key's requests are used up, where it is for a provider", body = OpenAiError),
        (status = 503, description = "It can't be kept now", body = OpenAiError),
    ))]
pub(crate) async fn create(State(app): State<Arc<App>>, request: Request) -> Result<Response, ApiError> {
    let (head, body) = request.into_parts();
    let caller = authenticate(&app, &head.extensions, &head.headers).await?;
    caller.require(Scope::Gateway)?;
    form_only(&head.headers)?;
    let files = service(&app)?;
    let mut connection = None;
    if let Some(provider) = head.headers.get(PROVIDER) {
        let Ok(provider) = provider.to_str() else {
            return Err(ApiError::invalid_request("'x-brokle-provider' is a name."));
        };
        match files.place(&caller.0, provider).await {
            Ok(Place::Here(id)) => connection = Some(id),
            Ok(Place::There) => return relay(&app, files, &caller, provider, &head, body).await,
            Err(refusal) => return Ok(refused(&refusal)),
        }
    }
    let limits = BodyLimits { max_bytes: files.settings().max_bytes + FORM, ..app.body };
    let Ok(_upload) = UPLOADS.try_acquire() else {
        let message = "As many files are being uploaded as the server takes at once. Try again shortly.";
        let busy = ApiError::new(http::StatusCode::SERVICE_UNAVAILABLE, "overloaded", message);
        return Err(busy.retry_after(Duration::from_secs(1)));
    };
    let body = body::read(body, limits).await?;
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let new = NewFile { connection, ..read(kind, &body)? };
    Ok(match files.create(caller.0.tenant, new).await {
        Ok(file) => Json(FileObject::from(file)).into_response(),
        Err(refusal) => refused(&refusal),
    })
}

/// Sends a file to the provider that keeps it.
async fn relay(
    app: &App,
    files: &FileService,
    caller: &Authenticated,
    provider: &str,
    head: &Parts,
    body: Body,
) -> Result<Response, ApiError> {
    let id = request_id(app, &head.extensions);
    let gateway = gateway(app)?;
    let Some(_place) = gateway.admit() else {
        return Ok(gateway.shed(None, Operation::Raw, id).await.map(Body::new));
    };
    let number = |value: &HeaderValue| value.to_str().ok()?.parse().ok();
    let length = head.headers.get(CONTENT_LENGTH).and_then(number);
    let kind = head.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let body = body.map_err(Into::into).boxed_unsync();
    Ok(match files.upload(&caller.0, provider, kind, length, body).await {
        Ok(file) => Json(FileObject::from(file)).into_response(),
        Err(refusal) => refused(&refusal),
    })
}

/// Reads the form.
fn read(kind: &str, body: &Bytes) -> Result<NewFile, ApiError> {
    let form = Form::parse(kind, body).map_err(|error| {
        let message = format!("We could not parse the form of your request: {error}.");
        ApiError::new(http::StatusCode::BAD_REQUEST, "invalid_form", message)
    })?;
    let missing = |name: &'static str| {
        let message = format!("Missing required parameter: '{name}'.");
        ApiError::new(http::StatusCode::BAD_REQUEST, "missing_required_parameter", message).param(name)
    };
    let (filename, content) = form.file("file").ok_or_else(|| missing("file"))?;
    let purpose = form.field(body, "purpose").ok_or_else(|| missing("purpose"))?;
    if !PURPOSES.contains(&purpose) {
        let message = format!("'purpose' must be one of {}.", PURPOSES.join(", "));
        return Err(ApiError::invalid_request(message).param("purpose"));
    }
    // Without controls, and not endless: it comes back in a header.
    let filename: String = filename.chars().filter(|one| !one.is_control()).take(255).collect();
    let keep = match form.field(body, "expires_after[seconds]") {
        None => None,
        Some(text) => {
            let seconds = text.trim().parse().ok().filter(|seconds| EXPIRES_AFTER.contains(seconds));
            let anchored =
                form.field(body, "expires_after[anchor]").is_none_or(|anchor| anchor == "created_at");
            let seconds = seconds.filter(|_| anchored).ok_or_else(|| {
                let message = "'expires_after' is 3600 to 2592000 seconds after 'created_at'.";
                ApiError::invalid_request(message).param("expires_after")
            })?;
            Some(Duration::from_secs(seconds))
        }
    };
    let filename = if filename.is_empty() { "upload".to_owned() } else { filename };
    Ok(NewFile {
        filename,
        purpose: purpose.to_owned(),
        content: body.slice(content),
        keep,
        connection: None,
    })
}

/// Lists the project's files.
#[utoipa::path(get, path = "/v1/files", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    params(FilesQuery),
    responses(
        (status = 200, description = "The files", body = ObjectList<FileObject>),
        (status = 400, description = "A parameter is wrong", body = OpenAiError),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 503, description = "They can't be read now", body = OpenAiError),
    ))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    asked: Result<Query<FilesQuery>, QueryRejection>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Gateway)?;
    let asked = query(asked)?;
    let newest_first = match asked.order.as_deref() {
        None | Some("desc") => true,
        Some("asc") => false,
        Some(_) => return Err(ApiError::invalid_request("'order' must be 'asc' or 'desc'.").param("order")),
    };
    let limit = asked.limit.unwrap_or(999).clamp(1, 999);
    let purpose = asked.purpose.unwrap_or_default();
    let after = asked.after.as_deref();
    let listed = service(&app)?.list(caller.0.tenant, &purpose, newest_first, after, limit + 1).await;
    Ok(match listed {
        Ok(files) => {
            let files = files.into_iter().map(FileObject::from).collect();
            Json(ObjectList::of(files, limit, |file: &FileObject| file.id.clone())).into_response()
        }
        Err(refusal) => refused(&refusal),
    })
}

/// A file of the project's.
#[utoipa::path(get, path = "/v1/files/{id}", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "The file", body = FileObject),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such file", body = OpenAiError),
    ))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Gateway)?;
    let files = service(&app)?;
    let found = async {
        let file = files.get(caller.0.tenant, &id).await?;
        let status = files.state(&file).await?.into();
        Ok(FileObject { status, ..FileObject::from(file) })
    };
    Ok(match found.await {
        Ok(file) => Json(file).into_response(),
        Err(refusal) => refused(&refusal),
    })
}

/// Deletes a file of the project's.
#[utoipa::path(delete, path = "/v1/files/{id}", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "It is deleted", body = FileDeleted),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such file", body = OpenAiError),
        (status = 409, description = "A batch that hasn't ended needs it", body = OpenAiError),
    ))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Gateway)?;
    Ok(match service(&app)?.delete(caller.0.tenant, &id).await {
        Ok(()) => Json(FileDeleted { id, object: "file", deleted: true }).into_response(),
        Err(refusal) => refused(&refusal),
    })
}

/// What is in a file of the project's.
#[utoipa::path(get, path = "/v1/files/{id}/content", tag = "batches",
    security(("bearer" = []), ("api_key" = [])),
    params(("id" = String, Path, description = "The file's id")),
    responses(
        (status = 200, description = "Its bytes", content_type = "application/octet-stream"),
        (status = 401, description = "There is no valid key", body = OpenAiError),
        (status = 404, description = "There is no such file", body = OpenAiError),
    ))]
pub(crate) async fn content(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    caller.require(Scope::Gateway)?;
    let files = service(&app)?;
    let read = async {
        let file = files.get(caller.0.tenant, &id).await?;
        let reader = files.content(&file).await?;
        Ok::<_, brokle_gateway::Refusal>((file, reader))
    };
    let (file, reader) = match read.await {
        Ok(read) => read,
        Err(refusal) => return Ok(refused(&refusal)),
    };
    let mut response = Response::new(Body::from_stream(pieces(reader)));
    let headers = response.headers_mut();
    // Whatever it is, it is nobody's page.
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
    if file.connection.is_none() {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(file.bytes));
    }
    Ok(response)
}

fn pieces(reader: BlobReader) -> impl futures_util::Stream<Item = std::io::Result<Bytes>> {
    futures_util::stream::try_unfold(reader, |mut reader| async move {
        let mut piece = BytesMut::with_capacity(64 << 10);
        let size = reader.read_buf(&mut piece).await?;
        Ok((size > 0).then(|| (piece.freeze(), reader)))
    })
}
