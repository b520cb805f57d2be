//! `/api/v1/connections`: ways to providers, with the credentials that go with them.
//!
//! **Whose.** A connection serves the key's project, or with `"scope": "organization"` all projects of its organization,
//! which only a key with the scope `admin` may say. Another project's connections, and other organizations', are as
//! missing as those that never were.
//!
//! **Credentials** go in and never come out: answers carry previews (`sk-p...wXyZ`). They are sealed with AES-256-GCM. There
//! may be several (`secrets` instead of `secret`): calls take turns with them.
//!
//! **Before it is saved** a connection is held against the provider's schema, and its vendor is asked for its models with
//! the new credential, or each of the new ones; what fails is answered 422 and nothing is stored. `?verify=false` leaves the vendor alone.

mod shapes;

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use brokle_core::ids::ConnectionId;
use brokle_core::tenancy::Tenant;
use brokle_gateway::{Gateway, Trial, connections as gateway};
use brokle_identity::Scope;
use brokle_identity::connections::{
    Connection, ConnectionError, ConnectionService, ConnectionUpdate, SecretChange,
};
use brokle_storage::sql::{Page, StorageError};
use http::StatusCode;

pub use self::shapes::{
    ChangeConnection, ConnectionPage, ConnectionView, CreateConnection, ListQuery, Serves, TrialError,
    TrialView, VerifyQuery,
};
use self::shapes::{for_gateway, of_new, secrets};
use super::{json, query};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// Connections of a page, unless it is said otherwise.
const DEFAULT_LIMIT: u32 = 50;

/// A caller, and what there is for it.
struct Caller<'a> {
    service: &'a ConnectionService,
    gateway: &'a Arc<Gateway>,
    tenant: Tenant,
    is_admin: bool,
}

impl<'a> Caller<'a> {
    fn new(app: &'a App, caller: &Authenticated, scope: Scope) -> Result<Self, ApiError> {
        caller.require(scope)?;
        let service = app.connections.as_deref();
        let service = service.ok_or_else(|| ApiError::not_found("This server has no connections."))?;
        let gateway = super::call::gateway(app)?;
        let is_admin = caller.0.scopes.allows(Scope::Admin);
        Ok(Self { service, gateway, tenant: caller.0.tenant, is_admin })
    }

    /// A connection that the caller may know of.
    async fn get(&self, id: &str) -> Result<Connection, ApiError> {
        let id: ConnectionId = id.parse().map_err(|_| missing())?;
        let found = match self.service.get(self.tenant.organization, id).await {
            Err(StorageError::NotFound) => return Err(missing()),
            found => found?,
        };
        if self.sees(&found) { Ok(found) } else { Err(missing()) }
    }

    /// One that it may change.
    async fn own(&self, id: &str) -> Result<Connection, ApiError> {
        let found = self.get(id).await?;
        self.may(if found.project.is_some() { Serves::Project } else { Serves::Organization })?;
        Ok(found)
    }

    fn sees(&self, connection: &Connection) -> bool {
        connection.project.is_none_or(|project| project == self.tenant.project)
    }

    fn may(&self, scope: Serves) -> Result<(), ApiError> {
        if scope == Serves::Project || self.is_admin {
            return Ok(());
        }
        let message = "Connections of the whole organization are changed with the scope `admin`.";
        Err(ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", message))
    }

    /// Holds it against the provider's schema and, if that is wanted, against the vendor.
    async fn check(&self, provider: &str, new: gateway::NewConnection, verify: bool) -> Result<(), ApiError> {
        if !verify {
            return self.gateway.check_connection(self.tenant, provider, new).map_err(wrong);
        }
        match self.gateway.try_connection(self.tenant, provider, new).await.map_err(wrong)? {
            Trial::Works { .. } | Trial::Untested => Ok(()),
            Trial::Fails { status, code, message } => {
                let text = format!("The provider refused it ({status}, {code}): {message}");
                Err(unprocessable("connection_test_failed", text))
            }
        }
    }
}

fn missing() -> ApiError {
    ApiError::not_found("There is no such connection.")
}

fn unprocessable(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
}

fn wrong(message: String) -> ApiError {
    unprocessable("invalid_connection", message)
}

fn failed(error: ConnectionError) -> ApiError {
    match error {
        ConnectionError::Invalid { field, .. } => wrong(error.to_string()).param(field),
        ConnectionError::Overtaken => {
            ApiError::new(StatusCode::CONFLICT, "overtaken", "Somebody else is changing this connection.")
        }
        ConnectionError::Seal(error) => ApiError::internal(error),
        ConnectionError::Storage(StorageError::NotFound) => missing(),
        ConnectionError::Storage(error) => error.into(),
    }
}

/// Lists what serves the key's project, its organization's connections included.
#[utoipa::path(get, path = "/api/v1/connections", tag = "connections",
    security(("bearer" = []), ("api_key" = [])), params(ListQuery),
    responses((status = 200, description = "Without their credentials", body = ConnectionPage),
        (status = 403, description = "The key lacks the scope `connections:read`", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    asked: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<ConnectionPage>, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::ConnectionsRead)?;
    let asked = query(asked)?;
    let limit = asked.limit.unwrap_or(DEFAULT_LIMIT);
    if !(1..=100).contains(&limit) {
        return Err(ApiError::invalid_request("limit: 1 to 100 is expected").param("limit"));
    }
    let wrong_cursor =
        |_| ApiError::invalid_request("cursor: the next_cursor of a page is expected").param("cursor");
    let after = asked.cursor.map(|text| text.parse::<ConnectionId>()).transpose().map_err(wrong_cursor)?;
    let rows = caller.service.list(caller.tenant.organization, Page { after, limit }).await?;
    let more = rows.len() >= limit as usize;
    let next_cursor = rows.last().filter(|_| more).map(|last| last.id.to_string());
    let data = rows.into_iter().filter(|one| caller.sees(one)).map(Into::into).collect();
    Ok(Json(ConnectionPage { data, next_cursor }))
}

/// Makes a connection.
#[utoipa::path(post, path = "/api/v1/connections", tag = "connections",
    security(("bearer" = []), ("api_key" = [])), params(VerifyQuery), request_body = CreateConnection,
    responses((status = 201, description = "It serves within a second or two", body = ConnectionView),
        (status = 403, description = "The key lacks the scope", body = Problem),
        (status = 409, description = "There is one of this name", body = Problem),
        (status = 422, description = "A field is wrong, or the vendor refused it: nothing is stored", body = Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    asked: Result<Query<VerifyQuery>, QueryRejection>,
    body: Result<Json<CreateConnection>, JsonRejection>,
) -> Result<(StatusCode, Json<ConnectionView>), ApiError> {
    let caller = Caller::new(&app, &caller, Scope::ConnectionsWrite)?;
    let (asked, body) = (query(asked)?, json(body)?);
    caller.may(body.scope)?;
    let new = body.read(caller.tenant)?;
    caller.check(&new.provider, of_new(&new), asked.verify).await?;
    let made = caller.service.create(caller.tenant.organization, new).await.map_err(failed)?;
    caller.gateway.poll_revision().await;
    Ok((StatusCode::CREATED, Json(made.into())))
}

/// Shows a connection.
#[utoipa::path(get, path = "/api/v1/connections/{id}", tag = "connections",
    security(("bearer" = []), ("api_key" = [])), params(("id" = String, Path, description = "Its id")),
    responses((status = 200, description = "Without its credential", body = ConnectionView),
        (status = 404, description = "The key's project has none of this id", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<Json<ConnectionView>, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::ConnectionsRead)?;
    Ok(Json(caller.get(&id).await?.into()))
}

/// Changes a connection.
#[utoipa::path(patch, path = "/api/v1/connections/{id}", tag = "connections",
    security(("bearer" = []), ("api_key" = [])), params(("id" = String, Path, description = "Its id"), VerifyQuery),
    request_body = ChangeConnection,
    responses((status = 200, description = "As it is now", body = ConnectionView),
        (status = 404, description = "The key's project has none of this id", body = Problem),
        (status = 422, description = "A field is wrong, or the vendor refused it: nothing has changed", body = Problem)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
    asked: Result<Query<VerifyQuery>, QueryRejection>,
    body: Result<Json<ChangeConnection>, JsonRejection>,
) -> Result<Json<ConnectionView>, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::ConnectionsWrite)?;
    let (asked, body) = (query(asked)?, json(body)?);
    let mut next = caller.own(&id).await?;
    let id = next.id;
    let change = match (body.secret, body.secrets) {
        (None, None) => SecretChange::Keep,
        (Some(None), None) => SecretChange::Clear,
        (one, several) => SecretChange::Set(secrets(one.flatten(), several)?),
    };
    let reaches = body.base_url.is_some()
        || body.options.is_some()
        || body.headers.is_some()
        || !matches!(change, SecretChange::Keep);
    let update = ConnectionUpdate {
        name: body.name,
        base_url: body.base_url,
        secret: change,
        options: body.options,
        headers: body.headers,
        priority: body.priority,
        weight: body.weight,
        health_check_seconds: body.health_check_seconds,
        enabled: body.enabled,
    };
    if reaches {
        let address = |connection: &Connection| {
            let new = for_gateway(connection, Vec::new());
            caller.gateway.origin_of(caller.tenant, &connection.provider, new)
        };
        let before = address(&next);
        next.base_url = update.base_url.clone().unwrap_or(next.base_url);
        next.options = update.options.clone().unwrap_or(next.options);
        next.headers = update.headers.clone().unwrap_or(next.headers);
        let secrets = match &update.secret {
            SecretChange::Set(secrets) => secrets.clone(),
            SecretChange::Clear => Vec::new(),
            SecretChange::Keep => {
                // The credential goes where it was meant to go: another address needs it again, whatever it comes from.
                if next.sealed_secret.is_some() && (before.is_none() || before != address(&next)) {
                    let message = "secret: another address needs the credential again".to_owned();
                    return Err(wrong(message).param("secret"));
                }
                caller.service.open_secrets(caller.tenant.organization, id).await.map_err(failed)?
            }
        };
        caller.check(&next.provider, for_gateway(&next, secrets), asked.verify).await?;
    }
    let changed = caller.service.update(caller.tenant.organization, id, &update).await.map_err(failed)?;
    caller.gateway.poll_revision().await;
    Ok(Json(changed.into()))
}

/// Deletes a connection and its credential. Calls that have begun end on it.
#[utoipa::path(delete, path = "/api/v1/connections/{id}", tag = "connections",
    security(("bearer" = []), ("api_key" = [])), params(("id" = String, Path, description = "Its id")),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "The key's project has none of this id", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::ConnectionsWrite)?;
    let found = caller.own(&id).await?;
    match caller.service.delete(caller.tenant.organization, found.id).await {
        Err(StorageError::NotFound) => return Err(missing()),
        deleted => deleted?,
    }
    caller.gateway.poll_revision().await;
    Ok(StatusCode::NO_CONTENT)
}

/// Tries a connection out and stores nothing.
#[utoipa::path(post, path = "/api/v1/connections/test", tag = "connections",
    security(("bearer" = []), ("api_key" = [])), request_body = CreateConnection,
    responses((status = 200, description = "What came of it", body = TrialView),
        (status = 422, description = "A field is wrong: the vendor wasn't asked", body = Problem)))]
pub(crate) async fn test(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    body: Result<Json<CreateConnection>, JsonRejection>,
) -> Result<Json<TrialView>, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::ConnectionsWrite)?;
    let new = json(body)?.read(caller.tenant)?;
    let tried = caller.gateway.try_connection(caller.tenant, &new.provider, of_new(&new)).await;
    Ok(Json(tried.map_err(wrong)?.into()))
}
