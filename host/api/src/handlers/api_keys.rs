//! `/api/v1/keys`: making, listing, rotating and revoking API keys.
//!
//! **Whose.** The keys of the caller's project and environment; with the scope `admin` a key of any project of the organization
//! can be shown, rotated and revoked by its id. Others' keys are as missing as those that never were.
//!
//! **No key gives more than it has.** Scopes that the caller's key lacks aren't handed out, neither by a new key nor by rotating
//! one that has them (403 `insufficient_scope`); a key that is itself restricted does neither (403 `key_restricted`).

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use brokle_core::ids::ApiKeyId;
use brokle_identity::keys::{DEFAULT_OVERLAP, KeyError, NewKey};
use brokle_identity::{Principal, Scope, Scopes, Secret};
use brokle_storage::sql::api_keys::{ApiKey, Restrictions};
use brokle_storage::sql::{Page, StorageError};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{json, query};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// Keys of a page, unless it is said otherwise.
const DEFAULT_LIMIT: u32 = 50;

/// What a key is restricted to; a list that is empty or missing restricts nothing. `*` is any characters, `?` is one.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KeyRestrictions {
    /// Models, as providers are asked for them: `gpt-4o*`, `anthropic/*`.
    models: Vec<String>,
    /// Routes, whatever their candidates.
    routes: Vec<String>,
    /// Paths: `/v1/chat/completions`.
    endpoints: Vec<String>,
    /// Networks that calls come from: `10.0.0.0/8`.
    cidrs: Vec<String>,
}

impl From<Restrictions> for KeyRestrictions {
    fn from(from: Restrictions) -> Self {
        let Restrictions { models, routes, endpoints, cidrs } = from;
        Self { models, routes, endpoints, cidrs }
    }
}

impl From<KeyRestrictions> for Restrictions {
    fn from(from: KeyRestrictions) -> Self {
        let KeyRestrictions { models, routes, endpoints, cidrs } = from;
        Self { models, routes, endpoints, cidrs }
    }
}

/// A key, without the key itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyView {
    /// Its id, which a rotation doesn't change.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// Enough of it to recognize it.
    #[schema(example = "bk_AbCd...XyZa")]
    pub preview: String,
    /// The project that its calls count for.
    pub project_id: String,
    /// The environment that its calls count for.
    pub environment_id: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// What it is restricted to.
    pub restrictions: KeyRestrictions,
    /// Its own limit.
    pub requests_per_minute: Option<u32>,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// From when on the secret that it had before its last rotation is refused.
    pub previous_expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to about ten seconds.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl From<ApiKey> for KeyView {
    fn from(key: ApiKey) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name,
            preview: key.preview,
            project_id: key.tenant.project.to_string(),
            environment_id: key.tenant.environment.to_string(),
            scopes: key.scopes,
            restrictions: key.restrictions.into(),
            requests_per_minute: key.requests_per_minute,
            expires_at: key.expires_at,
            previous_expires_at: key.previous_expires_at,
            revoked_at: key.revoked_at,
            last_used_at: key.last_used_at,
            created_at: key.created_at,
        }
    }
}

/// A key that was just made, or given another secret.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyMade {
    /// The key itself. It is shown this once.
    pub key: String,
    /// What is known of it from now on.
    #[serde(flatten)]
    pub view: KeyView,
}

impl KeyMade {
    fn new((key, secret): (ApiKey, Secret)) -> Self {
        Self { key: secret.expose().to_owned(), view: key.into() }
    }
}

/// A page of keys.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyPage {
    /// The oldest first; revoked and expired ones too.
    pub data: Vec<KeyView>,
    /// For `cursor`; null after the last page.
    pub next_cursor: Option<String>,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// 1 to 100 characters.
    name: String,
    /// What it may do; `gateway` if it isn't said.
    #[serde(default = "gateway")]
    scopes: Vec<String>,
    /// What it is restricted to.
    #[serde(default)]
    restrictions: KeyRestrictions,
    /// Its own limit, at least 1.
    requests_per_minute: Option<u32>,
    /// From when on it is refused, in the future.
    expires_at: Option<DateTime<Utc>>,
}

fn gateway() -> Vec<String> {
    vec![Scope::Gateway.to_string()]
}

/// How a key is rotated.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RotateKey {
    /// Until when the old secret goes on, 90 days from now at most; a day if it isn't said. What is past ends it at once.
    old_until: Option<DateTime<Utc>>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct KeysQuery {
    /// How many at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// A caller who may hand out these scopes.
fn may_give(principal: &Principal, scopes: &[String]) -> Result<(), ApiError> {
    let forbidden = |code, message: String| Err(ApiError::new(StatusCode::FORBIDDEN, code, message));
    if !principal.allowed.everything() {
        return forbidden("key_restricted", "A key that is restricted makes and rotates none.".to_owned());
    }
    // An unknown scope is the key service's to refuse.
    match Scopes::parse(scopes) {
        Ok(wanted) if !principal.scopes.allows_all(wanted) => {
            forbidden("insufficient_scope", "This API key lacks one of these scopes itself.".to_owned())
        }
        _ => Ok(()),
    }
}

fn failed(error: KeyError) -> ApiError {
    let invalid = |message| ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_key", message);
    match error {
        KeyError::UnknownScope(unknown) => invalid(unknown.to_string()).param("scopes"),
        KeyError::Invalid { field, .. } => invalid(error.to_string()).param(field),
        KeyError::Storage(StorageError::NotFound) => missing(),
        KeyError::Storage(error) => error.into(),
    }
}

fn missing() -> ApiError {
    ApiError::not_found("There is no such key.")
}

/// A key that the caller may know of.
async fn find(app: &App, principal: &Principal, id: &str) -> Result<ApiKey, ApiError> {
    let id: ApiKeyId = id.parse().map_err(|_| missing())?;
    let key = match app.keys.get(principal.tenant.organization, id).await {
        Err(StorageError::NotFound) => return Err(missing()),
        found => found?,
    };
    match key.tenant == principal.tenant || principal.scopes.allows(Scope::Admin) {
        true => Ok(key),
        false => Err(missing()),
    }
}

/// Lists the keys of the caller's project and environment.
#[utoipa::path(get, path = "/api/v1/keys", tag = "keys",
    security(("bearer" = []), ("api_key" = [])), params(KeysQuery),
    responses((status = 200, description = "A page", body = KeyPage),
        (status = 403, description = "The key lacks the scope `keys:read`", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    asked: Result<Query<KeysQuery>, QueryRejection>,
) -> Result<Json<KeyPage>, ApiError> {
    caller.require(Scope::KeysRead)?;
    let asked = query(asked)?;
    let limit = match asked.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=100 => limit,
        _ => return Err(ApiError::invalid_request("limit: 1 to 100 is expected").param("limit")),
    };
    let wrong =
        |_| ApiError::invalid_request("cursor: the next_cursor of a page is expected").param("cursor");
    let after = asked.cursor.as_deref().map(str::parse).transpose().map_err(wrong)?;
    let rows = app.keys.list(caller.0.tenant, Page { after, limit }).await?;
    let next_cursor = rows.last().filter(|_| rows.len() >= limit as usize).map(|last| last.id.to_string());
    Ok(Json(KeyPage { data: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Makes a key for the caller's project and environment.
#[utoipa::path(post, path = "/api/v1/keys", tag = "keys",
    security(("bearer" = []), ("api_key" = [])), request_body = CreateKey,
    responses((status = 201, description = "The key, which is shown this once", body = KeyMade),
        (status = 403, description = "The caller's key lacks the scope `keys:write` or one that it would give, or is \
            itself restricted", body = Problem),
        (status = 422, description = "A member is wrong, `param` says which: no key is made", body = Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    body: Result<Json<CreateKey>, JsonRejection>,
) -> Result<(StatusCode, Json<KeyMade>), ApiError> {
    caller.require(Scope::KeysWrite)?;
    let CreateKey { name, scopes, restrictions, requests_per_minute, expires_at } = json(body)?;
    may_give(&caller.0, &scopes)?;
    let new = NewKey { name, scopes, expires_at, requests_per_minute, restrictions: restrictions.into() };
    let made = app.keys.create(caller.0.tenant, new).await.map_err(failed)?;
    Ok((StatusCode::CREATED, Json(KeyMade::new(made))))
}

/// Shows a key.
#[utoipa::path(get, path = "/api/v1/keys/{id}", tag = "keys",
    security(("bearer" = []), ("api_key" = [])), params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The key, without the key itself", body = KeyView),
        (status = 404, description = "There is none of this id", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<KeyView>, ApiError> {
    caller.require(Scope::KeysRead)?;
    Ok(Json(find(&app, &caller.0, &id).await?.into()))
}

/// Revokes a key for good: here at once, on other servers within about a second.
#[utoipa::path(delete, path = "/api/v1/keys/{id}", tag = "keys",
    security(("bearer" = []), ("api_key" = [])), params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "The key as it is now", body = KeyView),
        (status = 404, description = "There is none of this id", body = Problem)))]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<KeyView>, ApiError> {
    caller.require(Scope::KeysWrite)?;
    let key = find(&app, &caller.0, &id).await?;
    Ok(Json(app.keys.revoke(key.tenant.organization, key.id).await?.into()))
}

/// Gives a key another secret. The one that it has goes on for a day, or as `old_until` says; one from an earlier rotation ends
/// now. Its id stays, and so do its limits and budgets.
#[utoipa::path(post, path = "/api/v1/keys/{id}/rotate", tag = "keys",
    security(("bearer" = []), ("api_key" = [])), params(("id" = String, Path, description = "Its id")),
    request_body = RotateKey,
    responses((status = 200, description = "The key with its new secret, which is shown this once", body = KeyMade),
        (status = 403, description = "The caller's key lacks the scope `keys:write` or one that the key has, or is \
            itself restricted", body = Problem),
        (status = 404, description = "There is none of this id, or it was revoked", body = Problem),
        (status = 422, description = "`old_until` is too far off", body = Problem)))]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    body: Result<Json<RotateKey>, JsonRejection>,
) -> Result<Json<KeyMade>, ApiError> {
    caller.require(Scope::KeysWrite)?;
    let asked = json(body)?;
    let key = find(&app, &caller.0, &id).await?;
    may_give(&caller.0, &key.scopes)?;
    let until = asked.old_until.unwrap_or_else(|| app.clock.now() + DEFAULT_OVERLAP);
    let rotated = app.keys.rotate(key.tenant.organization, key.id, until).await.map_err(failed)?;
    Ok(Json(KeyMade::new(rotated)))
}
