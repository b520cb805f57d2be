//! Routes that organizations and projects define for themselves: made, changed, rolled back, deleted, tried.
//!
//! A route is checked as a configured one is, its policy asked about its own configuration, before anything is stored. Each
//! change is a version; rolling back makes a new one with an old one's words. A change is refused when somebody else's came
//! between reading and writing, so that none is lost.
//!
//! **Bounds**: 500 routes an organization, 64 KiB a definition, 100 versions a route.

use std::sync::Arc;

use brokle_core::ids::RouteId;
use brokle_core::tenancy::Tenant;
use brokle_identity::Principal;
use brokle_storage::sql::{Page, StorageError};
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Map, Value};

pub use brokle_storage::sql::routes::{Definition as Written, Route as Stored};

use super::definition::Definition;
use super::explain::Explanation;
use super::routes::{Fault, Origin, PolicyFault, Route, choose};
use crate::gateway::Gateway;
use crate::refusal::Refusal;

/// The most routes of an organization.
const MAX_ROUTES: i64 = 500;
/// The largest definition, in bytes of JSON.
const MAX_DEFINITION: usize = 64 << 10;

/// Why a route isn't as somebody wants it.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// A definition that can't be.
    #[error(transparent)]
    Invalid(#[from] Fault),
    /// Another version serves than the one that the change was made for.
    #[error("version {serves} of the route serves")]
    Changed {
        /// The one that does.
        serves: i64,
    },
    /// The organization has as many as there may be.
    #[error("an organization has 500 routes at most")]
    Full,
    /// The request that a route is tried with would be refused.
    #[error("{0:?}")]
    Refused(Box<Refusal>),
    /// The database said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Gateway {
    /// Makes a route for the caller's project or its organization.
    ///
    /// # Errors
    /// [`ManageError::Invalid`], [`ManageError::Full`]; [`StorageError::Conflict`] when there is one of this name.
    pub async fn create_route(
        &self,
        caller: &Principal,
        origin: Origin,
        definition: Written,
    ) -> Result<Stored, ManageError> {
        let tenant = caller.tenant;
        let (definition, _) = self.check_route(tenant, definition).await?;
        let routes = self.stored_routes()?.routes();
        if routes.count(tenant.organization).await? >= MAX_ROUTES {
            return Err(ManageError::Full);
        }
        let now = self.parts.clock.now();
        let route = Stored {
            id: RouteId::generate(&*self.parts.clock, &*self.parts.random),
            organization: tenant.organization,
            project: (origin == Origin::Project).then_some(tenant.project),
            version: 1,
            changed_by: caller.key_id.to_string(),
            changed_at: now,
            created_at: now,
            name: definition.name.clone(),
            definition: written(&definition)?,
        };
        routes.create(tenant.organization, &route).await?;
        self.routes.poll_revision().await;
        Ok(route)
    }

    /// The route of this id or name: the project's own before the organization's.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the project sees none.
    pub async fn stored_route(&self, tenant: Tenant, id_or_name: &str) -> Result<Stored, StorageError> {
        self.stored_routes()?.routes().find(tenant.organization, tenant.project, id_or_name).await
    }

    /// The routes that the project sees, its own and the organization's, the oldest first.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list_routes(
        &self,
        tenant: Tenant,
        page: Page<RouteId>,
    ) -> Result<Vec<Stored>, StorageError> {
        self.stored_routes()?.routes().list(tenant.organization, tenant.project, page).await
    }

    /// The versions of a route before one, the newest first.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn route_versions(
        &self,
        tenant: Tenant,
        id: RouteId,
        before: i64,
        limit: u32,
    ) -> Result<Vec<Stored>, StorageError> {
        self.stored_routes()?.routes().versions(tenant.organization, id, before, limit).await
    }

    /// Puts members of a definition in the place of those that are there; null takes one away. The name stays.
    ///
    /// # Errors
    /// [`ManageError::Invalid`]; [`ManageError::Changed`] when `found` isn't what serves any more.
    pub async fn change_route(
        &self,
        caller: &Principal,
        found: Stored,
        change: Map<String, Value>,
    ) -> Result<Stored, ManageError> {
        let mut definition = found.definition.clone();
        for (key, value) in change {
            if key == "name" && value != found.name {
                return Err(Fault::new("name", "a route keeps its name: make another one").into());
            }
            match value {
                Value::Null => drop(definition.remove(&key)),
                value => drop(definition.insert(key, value)),
            }
        }
        self.next_version(caller, found, definition).await
    }

    /// Makes a new version that says what an old one says.
    ///
    /// # Errors
    /// As [`change_route`](Self::change_route); [`StorageError::NotFound`] when there is no such version.
    pub async fn roll_back_route(
        &self,
        caller: &Principal,
        found: Stored,
        version: i64,
    ) -> Result<Stored, ManageError> {
        let routes = self.stored_routes()?.routes();
        let old = routes.version(caller.tenant.organization, found.id, version).await?;
        self.next_version(caller, found, old.definition).await
    }

    /// Deletes a route with its versions. Calls that have begun end on it.
    ///
    /// # Errors
    /// [`ManageError::Changed`] when `found` isn't what serves any more.
    pub async fn delete_route(&self, tenant: Tenant, found: &Stored) -> Result<(), ManageError> {
        let deleted =
            self.stored_routes()?.routes().delete(tenant.organization, found.id, found.version).await;
        self.or_changed(tenant, found, deleted).await?;
        self.routes.poll_revision().await;
        Ok(())
    }

    /// Checks a definition, and says what it would decide for a request, if one is given. Nothing is stored or called.
    ///
    /// # Errors
    /// [`ManageError::Invalid`]; [`ManageError::Refused`] when the request would be.
    pub async fn try_route(
        &self,
        caller: &Principal,
        definition: Written,
        request: Option<(&HeaderMap, Bytes)>,
    ) -> Result<Option<Explanation>, ManageError> {
        let (_, route) = self.check_route(caller.tenant, definition).await?;
        let Some((headers, body)) = request else { return Ok(None) };
        let explained = self.explain_by(caller, headers, body, |_| Ok(Some(Arc::new(route)))).await;
        explained.map(Some).map_err(|refusal| ManageError::Refused(Box::new(refusal)))
    }

    async fn next_version(
        &self,
        caller: &Principal,
        found: Stored,
        definition: Written,
    ) -> Result<Stored, ManageError> {
        let (definition, _) = self.check_route(caller.tenant, definition).await?;
        let next = Stored {
            version: found.version + 1,
            definition: written(&definition)?,
            changed_by: caller.key_id.to_string(),
            changed_at: self.parts.clock.now(),
            ..found.clone()
        };
        let changed = self.stored_routes()?.routes().change(caller.tenant.organization, &next).await;
        self.or_changed(caller.tenant, &found, changed).await?;
        self.routes.poll_revision().await;
        Ok(next)
    }

    /// What wasn't there in its version may be there in another one.
    async fn or_changed(
        &self,
        tenant: Tenant,
        found: &Stored,
        done: Result<(), StorageError>,
    ) -> Result<(), ManageError> {
        match done {
            Err(StorageError::NotFound) => {
                let now = self.stored_route(tenant, &found.id.to_string()).await?;
                Err(ManageError::Changed { serves: now.version })
            }
            done => Ok(done?),
        }
    }

    async fn check_route(&self, tenant: Tenant, definition: Written) -> Result<(Definition, Route), Fault> {
        let definition = Definition::read(definition)?;
        let route = self.routes.route(&definition)?;
        let names = self.parts.guardrails.names();
        let missing = |name: &String| !names.iter().any(|known| **known == **name);
        if let Some(at) = definition.guardrails.iter().position(missing) {
            let what = format!("there is no such guardrail; there are {}", names.join(", "));
            return Err(Fault::new(format!("guardrails.{at}"), what));
        }
        let plugins = self.parts.plugins.load();
        let config = definition.config.clone().map(Value::Object);
        choose(plugins.of(tenant), &route.policy.name, config.as_ref()).await.map_err(
            |fault| match fault {
                PolicyFault::Config(problems) => {
                    let (pointer, what) = problems.into_iter().next().unwrap_or_default();
                    Fault::new(format!("config{}", pointer.replace('/', ".")), what)
                }
                other => Fault::new("policy", other.to_string()),
            },
        )?;
        Ok((definition, route))
    }

    fn stored_routes(&self) -> Result<&brokle_storage::sql::Database, StorageError> {
        let none = || StorageError::Configuration("this server keeps no routes".into());
        self.routes.stored.as_ref().ok_or_else(none)
    }
}

/// A definition as it is stored.
fn written(definition: &Definition) -> Result<Written, Fault> {
    match serde_json::to_value(definition) {
        Ok(Value::Object(written)) => match Value::Object(written.clone()).to_string().len() {
            size if size <= MAX_DEFINITION => Ok(written),
            _ => Err(Fault::new("", "a route has 64 KiB of JSON at most")),
        },
        _ => Err(Fault::new("", "it can't be written as JSON")),
    }
}
