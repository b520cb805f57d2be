//! `/api/v1/routes`: names with candidates of their own, which callers put into `model`.
//!
//! **Whose.** A route serves the key's project, or with `"scope": "organization"` all projects of its organization, which only
//! a key with the scope `admin` may say. Another project's routes, and other organizations', are as missing as those that
//! never were. In a path a route goes by its id or by its name; of two that have the name the project's own is meant.
//!
//! **Form.** The members are those of a configured route, beside `scope`. What can't be is answered 422 `invalid_route`, `param`
//! with the key, and nothing is stored.
//!
//! **Versions.** Answers carry the version as `ETag`. A change with `If-Match` is made to that version or not at all (412
//! `version_conflict`); without it to the one that serves, and 409 `version_conflict` if another change comes between.

use std::sync::Arc;

use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use brokle_core::ids::RouteId;
use brokle_gateway::Gateway;
use brokle_gateway::routing::definition::Definition;
use brokle_gateway::routing::manage::{ManageError, Stored, Written};
use brokle_gateway::routing::routes::Origin;
use brokle_identity::{Principal, Scope};
use brokle_storage::sql::{Page, StorageError};
use chrono::{DateTime, Utc};
use http::header::{ETAG, IF_MATCH};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::connections::Serves;
use super::{json, query};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::{ApiError, Problem};

/// Routes or versions of a page, unless it is said otherwise.
const DEFAULT_LIMIT: u32 = 50;

/// What a route says: `name`, `candidates` and the rest, as in the configuration file.
#[derive(Debug)]
pub struct RouteDefinition;

impl PartialSchema for RouteDefinition {
    fn schema() -> RefOr<Schema> {
        serde_json::from_value(Definition::json_schema()).unwrap_or_default()
    }
}

impl ToSchema for RouteDefinition {}

/// A version of a route.
#[derive(Debug, Serialize, ToSchema)]
pub struct RouteView {
    /// The route's id.
    pub id: String,
    /// Whom it serves.
    pub scope: Serves,
    /// The project that it serves; null for the whole organization.
    pub project_id: Option<String>,
    /// Counts the changes up from 1.
    pub version: i64,
    /// The id of the key that made this version.
    pub changed_by: String,
    /// When.
    pub changed_at: DateTime<Utc>,
    /// When the route was made.
    pub created_at: DateTime<Utc>,
    /// What it says.
    #[serde(flatten)]
    #[schema(value_type = RouteDefinition)]
    pub definition: Written,
}

impl From<Stored> for RouteView {
    fn from(from: Stored) -> Self {
        Self {
            id: from.id.to_string(),
            scope: if from.project.is_some() { Serves::Project } else { Serves::Organization },
            project_id: from.project.map(|id| id.to_string()),
            version: from.version,
            changed_by: from.changed_by,
            changed_at: from.changed_at,
            created_at: from.created_at,
            definition: from.definition,
        }
    }
}

/// A page of routes or versions.
#[derive(Debug, Serialize, ToSchema)]
pub struct RoutePage {
    /// Routes: the oldest first. Versions: the newest first.
    pub data: Vec<RouteView>,
    /// For `cursor`; null after the last page.
    pub next_cursor: Option<String>,
}

/// A route to be made.
#[derive(Debug, Deserialize, ToSchema)]
pub struct CreateRoute {
    /// `project` (if it isn't said) or `organization`.
    #[serde(default)]
    scope: Serves,
    /// What it says.
    #[serde(flatten)]
    #[schema(value_type = RouteDefinition)]
    definition: Written,
}

/// A version to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollBack {
    /// Whose words the new version has.
    version: i64,
}

/// A route to be tried.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DryRun {
    /// What it would say.
    #[schema(value_type = RouteDefinition)]
    route: Written,
    /// The body of a call that it is tried with; without one the route is checked only.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    request: Option<Box<serde_json::value::RawValue>>,
}

/// What came of a dry run.
#[derive(Debug, Serialize, ToSchema)]
pub struct DryRunView {
    /// Always true: what isn't is answered 422.
    pub valid: bool,
    /// What would be decided, as `POST /v1/route` tells it; null without a request.
    #[schema(value_type = Option<Object>)]
    pub decision: Option<brokle_gateway::Explanation>,
}

/// Which page.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct RoutesQuery {
    /// How many at most: 1 to 100, 50 if it isn't said.
    limit: Option<u32>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

impl RoutesQuery {
    fn limit(&self) -> Result<u32, ApiError> {
        match self.limit.unwrap_or(DEFAULT_LIMIT) {
            limit @ 1..=100 => Ok(limit),
            _ => Err(ApiError::invalid_request("limit: 1 to 100 is expected").param("limit")),
        }
    }

    fn after<T: std::str::FromStr>(&self) -> Result<Option<T>, ApiError> {
        let wrong =
            || ApiError::invalid_request("cursor: the next_cursor of a page is expected").param("cursor");
        self.cursor.as_deref().map(|text| text.parse().map_err(|_| wrong())).transpose()
    }
}

/// A caller, and what there is for it.
struct Caller<'a> {
    gateway: &'a Arc<Gateway>,
    principal: &'a Principal,
}

impl<'a> Caller<'a> {
    fn new(app: &'a App, caller: &'a Authenticated, scope: Scope) -> Result<Self, ApiError> {
        caller.require(scope)?;
        Ok(Self { gateway: super::call::gateway(app)?, principal: &caller.0 })
    }

    /// A route that the caller may know of.
    async fn get(&self, route: &str) -> Result<Stored, ApiError> {
        match self.gateway.stored_route(self.principal.tenant, route).await {
            Err(StorageError::NotFound) => Err(missing()),
            found => Ok(found?),
        }
    }

    /// One that it may change, in the version that it means.
    async fn own(&self, route: &str, headers: &HeaderMap) -> Result<Stored, ApiError> {
        let found = self.get(route).await?;
        self.may(if found.project.is_some() { Serves::Project } else { Serves::Organization })?;
        match headers.get(IF_MATCH) {
            Some(wanted) if wanted != "*" && *wanted != *etag(found.version) => {
                Err(conflict(StatusCode::PRECONDITION_FAILED, found.version))
            }
            _ => Ok(found),
        }
    }

    fn may(&self, scope: Serves) -> Result<(), ApiError> {
        if scope == Serves::Project || self.principal.scopes.allows(Scope::Admin) {
            return Ok(());
        }
        let message = "Routes of the whole organization are changed with the scope `admin`.";
        Err(ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", message))
    }
}

fn missing() -> ApiError {
    ApiError::not_found("There is no such route.")
}

fn etag(version: i64) -> String {
    format!("\"{version}\"")
}

fn conflict(status: StatusCode, serves: i64) -> ApiError {
    let message = format!("Somebody else changed the route: version {serves} of it serves.");
    ApiError::new(status, "version_conflict", message)
}

fn unprocessable(code: &'static str, message: String) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message)
}

fn failed(error: ManageError) -> ApiError {
    match error {
        ManageError::Invalid(fault) => {
            let error = unprocessable("invalid_route", fault.to_string());
            if fault.key.is_empty() { error } else { error.param(fault.key) }
        }
        ManageError::Changed { serves } => conflict(StatusCode::CONFLICT, serves),
        ManageError::Full => {
            ApiError::new(StatusCode::CONFLICT, "too_many_routes", "An organization has 500 routes at most.")
        }
        ManageError::Refused(refusal) => {
            let message = format!("The request would be refused ({}): {}", refusal.code, refusal.message);
            unprocessable("request_refused", message).param("request")
        }
        ManageError::Storage(StorageError::NotFound) => missing(),
        ManageError::Storage(error) => error.into(),
    }
}

/// A version, with its tag.
fn shown(status: StatusCode, route: Stored) -> Response {
    (status, [(ETAG, etag(route.version))], Json(RouteView::from(route))).into_response()
}

/// Lists the routes that serve the key's project and aren't configured.
#[utoipa::path(get, path = "/api/v1/routes", tag = "routes",
    security(("bearer" = []), ("api_key" = [])), params(RoutesQuery),
    responses((status = 200, description = "A page", body = RoutePage),
        (status = 403, description = "The key lacks the scope", body = Problem)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    asked: Result<Query<RoutesQuery>, QueryRejection>,
) -> Result<Json<RoutePage>, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::RoutesRead)?;
    let asked = query(asked)?;
    let (limit, after) = (asked.limit()?, asked.after::<RouteId>()?);
    let rows = caller.gateway.list_routes(caller.principal.tenant, Page { after, limit }).await?;
    let next_cursor = rows.last().filter(|_| rows.len() >= limit as usize).map(|last| last.id.to_string());
    Ok(Json(RoutePage { data: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Makes a route.
#[utoipa::path(post, path = "/api/v1/routes", tag = "routes",
    security(("bearer" = []), ("api_key" = [])), request_body = CreateRoute,
    responses((status = 201, description = "It serves within a second or two", body = RouteView),
        (status = 403, description = "The key lacks the scope", body = Problem),
        (status = 409, description = "There is one of this name, or there are too many", body = Problem),
        (status = 422, description = "A member is wrong, `param` says which: nothing is stored", body = Problem)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    body: Result<Json<CreateRoute>, JsonRejection>,
) -> Result<Response, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::RoutesWrite)?;
    let body = json(body)?;
    caller.may(body.scope)?;
    let origin = match body.scope {
        Serves::Project => Origin::Project,
        Serves::Organization => Origin::Organization,
    };
    let made = caller.gateway.create_route(caller.principal, origin, body.definition).await;
    Ok(shown(StatusCode::CREATED, made.map_err(failed)?))
}

/// Shows a route.
#[utoipa::path(get, path = "/api/v1/routes/{route}", tag = "routes",
    security(("bearer" = []), ("api_key" = [])), params(("route" = String, Path, description = "Its id or name")),
    responses((status = 200, description = "The version that serves; `ETag` has its number", body = RouteView),
        (status = 404, description = "The key's project has none of this id or name", body = Problem)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(route): Path<String>,
) -> Result<Response, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::RoutesRead)?;
    Ok(shown(StatusCode::OK, caller.get(&route).await?))
}

/// Changes a route: the members that are there take the place of the old ones, null takes one away. The name stays.
#[utoipa::path(patch, path = "/api/v1/routes/{route}", tag = "routes",
    security(("bearer" = []), ("api_key" = [])),
    params(("route" = String, Path, description = "Its id or name"),
        ("If-Match" = Option<String>, Header, description = "The version that is meant, as `ETag` told it")),
    request_body = serde_json::Value,
    responses((status = 200, description = "The new version, which serves", body = RouteView),
        (status = 404, description = "The key's project has none of this id or name", body = Problem),
        (status = 409, description = "Another change came between", body = Problem),
        (status = 412, description = "Another version serves than `If-Match` says", body = Problem),
        (status = 422, description = "A member is wrong, `param` says which: nothing has changed", body = Problem)))]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Result<Json<Written>, JsonRejection>,
) -> Result<Response, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::RoutesWrite)?;
    let body = json(body)?;
    let found = caller.own(&route, &headers).await?;
    let changed = caller.gateway.change_route(caller.principal, found, body).await;
    Ok(shown(StatusCode::OK, changed.map_err(failed)?))
}

/// Deletes a route with its versions. Calls that have begun end on it.
#[utoipa::path(delete, path = "/api/v1/routes/{route}", tag = "routes",
    security(("bearer" = []), ("api_key" = [])),
    params(("route" = String, Path, description = "Its id or name"),
        ("If-Match" = Option<String>, Header, description = "The version that is meant, as `ETag` told it")),
    responses((status = 204, description = "It is gone"),
        (status = 404, description = "The key's project has none of this id or name", body = Problem),
        (status = 409, description = "A change came between", body = Problem),
        (status = 412, description = "Another version serves than `If-Match` says", body = Problem)))]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(route): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::RoutesWrite)?;
    let found = caller.own(&route, &headers).await?;
    caller.gateway.delete_route(caller.principal.tenant, &found).await.map_err(failed)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lists a route's versions, with who made them and when; the last 100 are kept.
#[utoipa::path(get, path = "/api/v1/routes/{route}/versions", tag = "routes",
    security(("bearer" = []), ("api_key" = [])),
    params(("route" = String, Path, description = "Its id or name"), RoutesQuery),
    responses((status = 200, description = "A page, the newest first", body = RoutePage),
        (status = 404, description = "The key's project has none of this id or name", body = Problem)))]
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(route): Path<String>,
    asked: Result<Query<RoutesQuery>, QueryRejection>,
) -> Result<Json<RoutePage>, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::RoutesRead)?;
    let asked = query(asked)?;
    let (limit, before) = (asked.limit()?, asked.after::<i64>()?.unwrap_or(i64::MAX));
    let (found, tenant) = (caller.get(&route).await?, caller.principal.tenant);
    let rows = caller.gateway.route_versions(tenant, found.id, before, limit).await?;
    let next_cursor =
        rows.last().filter(|_| rows.len() >= limit as usize).map(|last| last.version.to_string());
    Ok(Json(RoutePage { data: rows.into_iter().map(Into::into).collect(), next_cursor }))
}

/// Makes a new version that says what an old one says.
#[utoipa::path(post, path = "/api/v1/routes/{route}/rollback", tag = "routes",
    security(("bearer" = []), ("api_key" = [])),
    params(("route" = String, Path, description = "Its id or name"),
        ("If-Match" = Option<String>, Header, description = "The version that is meant, as `ETag` told it")),
    request_body = RollBack,
    responses((status = 200, description = "The new version, which serves", body = RouteView),
        (status = 404, description = "There is no such route, or no such version of it", body = Problem),
        (status = 412, description = "Another version serves than `If-Match` says", body = Problem),
        (status = 422, description = "What the old version says can't be any more", body = Problem)))]
pub(crate) async fn roll_back(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    Path(route): Path<String>,
    headers: HeaderMap,
    body: Result<Json<RollBack>, JsonRejection>,
) -> Result<Response, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::RoutesWrite)?;
    let body = json(body)?;
    let found = caller.own(&route, &headers).await?;
    let back = caller.gateway.roll_back_route(caller.principal, found, body.version).await;
    Ok(shown(StatusCode::OK, back.map_err(failed)?))
}

/// Checks a route, and says what it would choose for a request. Nothing is stored, and no provider is called.
#[utoipa::path(post, path = "/api/v1/routes/dry-run", tag = "routes",
    security(("bearer" = []), ("api_key" = [])), request_body = DryRun,
    responses((status = 200, description = "It could be made", body = DryRunView),
        (status = 422, description = "A member is wrong, `param` says which, or the request would be refused",
            body = Problem)))]
pub(crate) async fn dry_run(
    State(app): State<Arc<App>>,
    caller: Authenticated,
    headers: HeaderMap,
    body: Result<Json<DryRun>, JsonRejection>,
) -> Result<Json<DryRunView>, ApiError> {
    let caller = Caller::new(&app, &caller, Scope::RoutesWrite)?;
    let body = json(body)?;
    let request = body.request.map(|request| (&headers, String::from(Box::<str>::from(request)).into()));
    let tried = caller.gateway.try_route(caller.principal, body.route, request).await;
    Ok(Json(DryRunView { valid: true, decision: tried.map_err(failed)? }))
}
