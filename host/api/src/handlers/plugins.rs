//! `/api/v1/plugins`: the catalogue of components.
//!
//! **Who may what.** Reading needs `plugins:read`, changing `plugins:write`, both in the organization of the key. The
//! instance's own settings (installing, removing, grants, and what holds for everybody) belong to the organization that
//! runs the server, the default one: for others the same request answers 403 `operator_only`. Everybody else decides for
//! their organization or one of its projects, by `scope=organization` or `scope=project` (the key's project); what they
//! see of others' settings is nothing.
//!
//! A refusal answers 422 with its code (`PLUGIN_UNSIGNED`, …); a configuration or grants that can't be, 422 with the
//! first problem's pointer in `param` and all of them in `detail`; a state that doesn't allow it, 409.

mod install;
mod read;
mod write;

use brokle_identity::Scope;
use brokle_plugins::{Actor, Catalogue, CatalogueError, ScopeKey};
use http::StatusCode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};

pub(crate) use self::install::{__path_install, install};
pub(crate) use self::read::{
    __path_config, __path_events, __path_get, __path_grants, __path_list, __path_versions, config, events,
    get, grants, list, versions,
};
pub(crate) use self::write::{
    __path_change, __path_remove, __path_rollback, __path_set_config, __path_set_grants, change, remove,
    rollback, set_config, set_grants,
};
use crate::app::App;
use crate::auth::Authenticated;
use crate::error::ApiError;

/// Where a setting holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Where {
    /// The whole server; for those who run it.
    #[default]
    Instance,
    /// The key's organization.
    Organization,
    /// The key's project.
    Project,
}

/// Where a setting holds.
#[derive(Clone, Copy, Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
pub struct ScopeQuery {
    /// `instance` (if it isn't said), `organization` or `project`.
    #[serde(default)]
    scope: Where,
}

/// A caller who may read.
struct Reader<'a> {
    catalogue: &'a Arc<Catalogue>,
    caller: &'a Authenticated,
    is_operator: bool,
}

impl<'a> Reader<'a> {
    async fn new(app: &'a App, caller: &'a Authenticated) -> Result<Self, ApiError> {
        caller.require(Scope::PluginsRead)?;
        Self::allowed(app, caller).await
    }

    async fn allowed(app: &'a App, caller: &'a Authenticated) -> Result<Self, ApiError> {
        let catalogue = app.plugin_catalogue.as_ref();
        let catalogue = catalogue.ok_or_else(|| ApiError::not_found("This server has no plugins."))?;
        let is_operator = is_operator(app, caller).await?;
        Ok(Self { catalogue, caller, is_operator })
    }

    /// Whose settings these are.
    fn key(&self, scope: Where) -> Result<ScopeKey, ApiError> {
        let tenant = self.caller.0.tenant;
        match scope {
            Where::Instance if self.is_operator => Ok(ScopeKey::default()),
            Where::Instance => Err(operator_only()),
            Where::Organization => Ok(ScopeKey { organization: Some(tenant.organization), project: None }),
            Where::Project => {
                Ok(ScopeKey { organization: Some(tenant.organization), project: Some(tenant.project) })
            }
        }
    }
}

/// A caller who may change things.
struct Writer<'a> {
    reader: Reader<'a>,
    actor: Actor,
}

impl<'a> Writer<'a> {
    async fn new(app: &'a App, caller: &'a Authenticated) -> Result<Self, ApiError> {
        caller.require(Scope::PluginsWrite)?;
        Ok(Self { reader: Reader::allowed(app, caller).await?, actor: Actor::key(caller.0.key_id) })
    }

    /// The same, for those who run the server only.
    async fn operator(app: &'a App, caller: &'a Authenticated) -> Result<Self, ApiError> {
        let writer = Self::new(app, caller).await?;
        if writer.reader.is_operator { Ok(writer) } else { Err(operator_only()) }
    }
}

/// Is the caller's organization the one that runs the server?
pub(super) async fn is_operator(app: &App, caller: &Authenticated) -> Result<bool, ApiError> {
    let operator = app.database.default_tenant().await?;
    Ok(operator.is_some_and(|operator| operator.organization == caller.0.tenant.organization))
}

pub(super) fn operator_only() -> ApiError {
    let message = "Only the organization that runs this server may do this. Others name a narrower scope.";
    ApiError::new(StatusCode::FORBIDDEN, "operator_only", message)
}

impl From<CatalogueError> for ApiError {
    fn from(error: CatalogueError) -> Self {
        let unprocessable = StatusCode::UNPROCESSABLE_ENTITY;
        match error {
            CatalogueError::NotFound => Self::not_found("There is no such plugin or version."),
            CatalogueError::Refused(refusal) => Self::new(unprocessable, refusal.code, refusal.detail),
            CatalogueError::Conflict { code, message } => Self::new(StatusCode::CONFLICT, code, message),
            CatalogueError::Invalid { code, ref problems } => {
                let pointer = problems.first().map(|problem| problem.pointer.clone()).unwrap_or_default();
                Self::new(unprocessable, code, error.to_string()).param(pointer)
            }
            CatalogueError::Source(message) => Self::new(StatusCode::BAD_GATEWAY, "plugin_source", message),
            CatalogueError::Storage(error) => error.into(),
            CatalogueError::Files(error) => Self::internal(error),
        }
    }
}
