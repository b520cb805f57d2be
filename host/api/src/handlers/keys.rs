//! `/v1/auth`: what a key is good for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use brokle_identity::{Secret, api_key};
use chrono::{DateTime, Utc};
use http::{Extensions, HeaderMap};
use serde::Serialize;
use utoipa::ToSchema;

use super::api_keys::KeyRestrictions;
use crate::app::App;
use crate::auth::{authenticate, presented_key};
use crate::error::{ApiError, OpenAiError};

/// A valid key, as far as its holder may know.
#[derive(Debug, Serialize, ToSchema)]
pub struct ValidatedKey {
    /// Always true: a key that isn't valid is answered 401.
    pub valid: bool,
    /// The key's id.
    pub key_id: String,
    /// Enough of the key to recognize it.
    #[schema(example = "bk_AbCd...XyZa")]
    pub preview: String,
    /// Whose it is.
    pub organization_id: String,
    /// The project that calls count for.
    pub project_id: String,
    /// The environment that calls count for.
    pub environment_id: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What it is restricted to.
    pub restrictions: KeyRestrictions,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Checks the key that the request is made with.
#[utoipa::path(post, path = "/v1/auth/validate-key", tag = "keys",
    security(("bearer" = []), ("api_key" = [])),
    responses(
        (status = 200, description = "The key is valid", body = ValidatedKey),
        (status = 401, description = "There is no key, or it is unknown, revoked or expired", body = OpenAiError),
        (status = 429, description = "Too many unknown keys from this address", body = OpenAiError),
        (status = 503, description = "The database is away and the key isn't in memory", body = OpenAiError),
    ))]
pub(crate) async fn validate_key(
    State(app): State<Arc<App>>,
    extensions: Extensions,
    headers: HeaderMap,
) -> Result<Json<ValidatedKey>, ApiError> {
    let principal = authenticate(&app, &extensions, &headers).await?.0;
    let key = Secret::new(presented_key(&headers).unwrap_or_default().to_owned());
    Ok(Json(ValidatedKey {
        valid: true,
        key_id: principal.key_id.to_string(),
        preview: api_key::preview(&key),
        organization_id: principal.tenant.organization.to_string(),
        project_id: principal.tenant.project.to_string(),
        environment_id: principal.tenant.environment.to_string(),
        scopes: principal.scopes.iter().map(|scope| scope.to_string()).collect(),
        restrictions: principal.allowed.restrictions().clone().into(),
        expires_at: principal.expires_at,
    }))
}
