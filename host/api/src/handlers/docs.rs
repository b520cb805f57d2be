//! `/openapi.json` and `/docs`: the surface's description, and Swagger UI over it. All files are in the binary; the page
//! loads nothing from elsewhere, and its content security policy says so.

use std::sync::{Arc, LazyLock};

use axum::body::Body;
use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use utoipa_swagger_ui::Config;

use crate::error::ApiError;

/// Swagger UI sets styles on its elements and has pictures in its style sheet; scripts come from files only.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

static DESCRIPTION: LazyLock<Bytes> =
    LazyLock::new(|| Bytes::from(serde_json::to_vec(&crate::router::openapi()).unwrap_or_default()));

/// This description.
#[utoipa::path(get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "The OpenAPI description", body = serde_json::Value)))]
pub(crate) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DESCRIPTION.clone())
}

/// `/docs` is a directory: its files are named relative to it.
pub(crate) async fn redirect() -> Redirect {
    Redirect::permanent("/docs/")
}

pub(crate) async fn index() -> Result<Response, ApiError> {
    file(Path("index.html".to_owned())).await
}

pub(crate) async fn file(Path(path): Path<String>) -> Result<Response, ApiError> {
    let config = Config::from("/openapi.json").validator_url("none").display_request_duration(true);
    let found = utoipa_swagger_ui::serve(&path, Arc::new(config))
        .map_err(|error| ApiError::internal(error.to_string()))?
        .ok_or_else(|| ApiError::not_found("There is no such page."))?;
    let mut response = Response::new(Body::from(found.bytes.into_owned()));
    let headers = response.headers_mut();
    let kind = HeaderValue::try_from(found.content_type);
    headers.insert(CONTENT_TYPE, kind.unwrap_or(HeaderValue::from_static("application/octet-stream")));
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    *response.status_mut() = StatusCode::OK;
    Ok(response)
}
