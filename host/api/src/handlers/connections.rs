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

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use brokle_core::ids::ConnectionId;
use brokle_core::tenancy::Tenant;
use brokle_gateway::{Gateway, Trial, connections as gateway};
use brokle_identity::connections::{
    Connection, ConnectionError, ConnectionService, ConnectionUpdate, NewConnection, Options, SecretChange,
    previews,
};
use brokle_identity::{Scope, Secret};
use brokle_storage::sql::{Page, StorageError};
use chrono::{DateTime, Utc};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// Connections of a page, unless it is said otherwise.
const DEFAULT_LIMIT: u32 = 50;
/// The longest credential: 16 KiB; a service account's key has about 2.
const MAX_SECRET: usize = 16 << 10;

/// Whom a connection serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Serves {
    /// The key's project.
    #[default]
    Project,
    /// All projects of the key's organization.
    Organization,
}

/// A way to a provider.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionView {
    /// Its id.
    pub id: String,
    /// Whom it serves.
    pub scope: Serves,
    /// The project that it serves; null for the whole organization.
    pub project_id: Option<String>,
    /// The short name or id of the provider's plugin.
    #[schema(example = "openai")]
    pub provider: String,
    /// What people call it.
    pub name: String,
    /// Where the provider is reached; null leaves it to the plugin.
    pub base_url: Option<String>,
    /// Enough of the credential to recognize it; of the first, if there are several.
    #[schema(example = "sk-p...wXyZ")]
    pub secret_preview: Option<String>,
    /// The same of each.
    pub secret_previews: Vec<String>,
    /// The plugin's options.
    #[schema(value_type = Object)]
    pub options: Options,
    /// Sent with every request.
    pub headers: BTreeMap<String, String>,
    /// Lower comes first.
    pub priority: i32,
    /// The share of the traffic among equals.
    pub weight: i32,
    /// How often it is asked whether it is there, in seconds; null: never.
    pub health_check_seconds: Option<i32>,
    /// Is it used?
    pub enabled: bool,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl From<Connection> for ConnectionView {
    fn from(from: Connection) -> Self {
        let secret_previews = previews(from.secret_preview.as_deref());
        Self {
            id: from.id.to_string(),
            scope: if from.project.is_some() { Serves::Project } else { Serves::Organization },
            project_id: from.project.map(|id| id.to_string()),
            provider: from.provider,
            name: from.name,
            base_url: from.base_url,
            secret_preview: secret_previews.first().cloned(),
            secret_previews,
            options: from.options,
            headers: from.headers,
            priority: from.priority,
            weight: from.weight,
            health_check_seconds: from.health_check_seconds,
            enabled: from.enabled,
            created_at: from.created_at,
            updated_at: from.updated_at,
        }
    }
}

/// A page of connections.
#[derive(Debug, Serialize, ToSchema)]
pub struct ConnectionPage {
    /// The oldest first.
    pub data: Vec<ConnectionView>,
    /// For `cursor`; null after the last page.
    pub next_cursor: Option<String>,
}

/// A connection to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateConnection {
    /// The short name or id of the provider's plugin.
    provider: String,
    /// What people call it: 1 to 100 characters, unique for whom it serves.
    name: String,
    /// `project` (if it isn't said) or `organization`.
    #[serde(default)]
    scope: Serves,
    /// Where the provider is reached, if not where its plugin says.
    #[serde(default)]
    base_url: Option<String>,
    /// The provider's key.
    #[serde(default)]
    secret: Option<String>,
    /// Several keys instead, 1 to 16, which calls take turns with.
    #[serde(default)]
    secrets: Option<Vec<String>>,
    /// The plugin's options.
    #[serde(default)]
    #[schema(value_type = Object)]
    options: Options,
    /// Sent with every request.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Lower comes first; 0 if it isn't said.
    #[serde(default)]
    priority: i32,
    /// The share of the traffic among equals; 1 if it isn't said.
    #[serde(default = "one")]
    weight: i32,
    /// How often it is asked whether it is there, in seconds, 10 to 86,400; never, if it isn't said.
    #[serde(default)]
    health_check_seconds: Option<i32>,
    /// Is it used? Yes, if it isn't said.
    #[serde(default = "yes")]
    enabled: bool,
}

fn one() -> i32 {
    1
}

fn yes() -> bool {
    true
}

/// What is to change: fields that aren't there stay as they are, null clears.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ChangeConnection {
    /// A new name.
    name: Option<String>,
    /// A new address; null leaves it to the plugin.
    #[serde(deserialize_with = "super::present")]
    #[schema(value_type = Option<String>)]
    base_url: Option<Option<String>>,
    /// A new credential; null takes it away.
    #[serde(deserialize_with = "super::present")]
    #[schema(value_type = Option<String>)]
    secret: Option<Option<String>>,
    /// New credentials instead, all of them.
    secrets: Option<Vec<String>>,
    /// New options, all of them.
    #[schema(value_type = Option<Object>)]
    options: Option<Options>,
    /// New headers, all of them.
    headers: Option<BTreeMap<String, String>>,
    /// A new priority.
    priority: Option<i32>,
    /// A new weight.
    weight: Option<i32>,
    /// How often it is asked whether it is there, in seconds; null: never.
    #[serde(deserialize_with = "super::present")]
    #[schema(value_type = Option<i32>)]
    health_check_seconds: Option<Option<i32>>,
    /// On or off.
    enabled: Option<bool>,
}

/// What came of a trial.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialView {
    /// Whether the vendor answered as it should; null if it has nothing to be asked for that costs nothing.
    pub ok: Option<bool>,
    /// How long the vendor took.
    pub latency_ms: Option<f64>,
    /// How many models it listed.
    pub models: Option<usize>,
    /// Why it failed.
    pub error: Option<TrialError>,
}

/// Why a trial failed.
#[derive(Debug, Serialize, ToSchema)]
pub struct TrialError {
    /// The status that the vendor answered, or that a caller would have got.
    pub status: u16,
    /// A stable code.
    pub code: String,
    /// The vendor's words, or ours.
    pub message: String,
}

impl From<Trial> for TrialView {
    fn from(trial: Trial) -> Self {
        let none = Self { ok: None, latency_ms: None, models: None, error: None };
        match trial {
            Trial::Untested => none,
            Trial::Works { latency, models } => {
                Self { ok: Some(true), latency_ms: Some(latency.as_secs_f64() * 1e3), models, ..none }
            }
            Trial::Fails { status, code, message } => {
                Self { ok: Some(false), error: Some(TrialError { status, code, message }), ..none }
            }
        }
    }
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ListQuery {
    /// How many are looked at, at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Whether the vendor is asked before anything is saved.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct VerifyQuery {
    /// `true` if it isn't said.
    #[serde(default = "yes")]
    verify: bool,
}

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

/// One credential, or several.
fn secrets(one: Option<String>, several: Option<Vec<String>>) -> Result<Vec<Secret>, ApiError> {
    let param = if one.is_some() { "secret" } else { "secrets" };
    let refuse = |what: &str| wrong(format!("{param}: {what}")).param(param);
    let texts = match (one, several) {
        (Some(_), Some(_)) => return Err(refuse("it comes with secrets: one of the two is expected")),
        (_, Some(several)) if several.is_empty() => return Err(refuse("at least one is expected")),
        (one, several) => one.into_iter().chain(several.into_iter().flatten()),
    };
    let secret = |text: String| match text.trim() {
        "" => Err(refuse("1 to 16,384 characters are expected")),
        text if text.len() > MAX_SECRET => Err(refuse("1 to 16,384 characters are expected")),
        text => Ok(Secret::new(text.to_owned())),
    };
    texts.map(secret).collect()
}

pub(super) fn json<T>(body: Result<Json<T>, JsonRejection>) -> Result<T, ApiError> {
    body.map(|Json(body)| body).map_err(|rejection| ApiError::invalid_request(rejection.body_text()))
}

pub(super) fn query<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, ApiError> {
    query.map(|Query(query)| query).map_err(|rejection| ApiError::invalid_request(rejection.body_text()))
}

/// The same, as the gateway wants it.
fn for_gateway(connection: &Connection, secrets: Vec<Secret>) -> gateway::NewConnection {
    gateway::NewConnection {
        id: Some(connection.id.to_string()),
        name: connection.name.clone(),
        base_url: connection.base_url.clone(),
        secrets,
        options: connection.options.clone(),
        headers: connection.headers.clone().into_iter().collect(),
        priority: connection.priority,
        weight: u32::try_from(connection.weight).unwrap_or(0),
        models: Vec::new(),
        gate: None,
        health_check: None,
        raw: true,
    }
}

impl CreateConnection {
    fn read(self, tenant: Tenant) -> Result<NewConnection, ApiError> {
        Ok(NewConnection {
            project: (self.scope == Serves::Project).then_some(tenant.project),
            provider: self.provider,
            name: self.name,
            base_url: self.base_url,
            secrets: secrets(self.secret, self.secrets)?,
            options: self.options,
            headers: self.headers,
            priority: self.priority,
            weight: self.weight,
            health_check_seconds: self.health_check_seconds,
            enabled: self.enabled,
        })
    }
}

fn of_new(new: &NewConnection) -> gateway::NewConnection {
    gateway::NewConnection {
        id: None,
        name: new.name.clone(),
        base_url: new.base_url.clone(),
        secrets: new.secrets.clone(),
        options: new.options.clone(),
        headers: new.headers.clone().into_iter().collect(),
        priority: new.priority,
        weight: u32::try_from(new.weight).unwrap_or(0),
        models: Vec::new(),
        gate: None,
        health_check: None,
        raw: true,
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
