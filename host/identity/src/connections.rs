//! Connections: how an organization, or one of its projects, reaches a provider.
//!
//! A secret is sealed before it is stored and opened only for a call; lists show its preview. Everything else is stored as
//! it is, headers included, which therefore are no place for secrets. Several secrets of one connection are sealed together.
//!
//! Whoever caches what [`ConnectionService::resolve`] answers polls [`ConnectionService::revision`] and asks again when it
//! has moved.

mod check;
mod secrets;

use std::collections::BTreeMap;
use std::sync::Arc;

use brokle_core::clock::Clock;
use brokle_core::ids::{ConnectionId, OrganizationId, ProjectId};
use brokle_core::random::Random;
use brokle_core::tenancy::Tenant;
use brokle_storage::sql::revisions::Revision;
use brokle_storage::sql::{Database, Page, StorageError};
use chrono::TimeDelta;

use crate::seal::{Binding, MasterKey, SealError};
use crate::secret::Secret;

pub use brokle_storage::sql::connections::Connection;
pub use secrets::previews;

/// How often a change is tried again that others overtake.
const CHANGE_ATTEMPTS: u32 = 8;

/// A JSON object.
pub type Options = serde_json::Map<String, serde_json::Value>;

/// A connection that somebody asks for.
#[derive(Clone, Debug)]
pub struct NewConnection {
    /// The one project that it serves; `None` serves the whole organization.
    pub project: Option<ProjectId>,
    /// The id of the provider's plugin, such as `openai`.
    pub provider: String,
    /// What people call it: 1 to 100 characters, unique among the organization's or the project's.
    pub name: String,
    /// Where the provider is reached (`http` or `https`); `None` leaves it to the plugin.
    pub base_url: Option<String>,
    /// The provider's keys or whatever else the plugin authenticates with: calls take turns. 16 at most.
    pub secrets: Vec<Secret>,
    /// What the plugin is configured with.
    pub options: Options,
    /// Headers for every request to the provider.
    pub headers: BTreeMap<String, String>,
    /// Lower comes first. 0 is usual.
    pub priority: i32,
    /// The share of the traffic among connections of one priority, from 0. 1 is usual.
    pub weight: i32,
    /// How often it is asked whether it is there, in seconds: 10 to 86,400; none: never.
    pub health_check_seconds: Option<i32>,
    /// Is it used at all?
    pub enabled: bool,
}

impl NewConnection {
    /// A connection of this name to this provider, for the whole organization, with nothing else set.
    #[must_use]
    pub fn new(provider: impl Into<String>, name: impl Into<String>) -> Self {
        Self {
            project: None,
            provider: provider.into(),
            name: name.into(),
            base_url: None,
            secrets: Vec::new(),
            options: Options::new(),
            headers: BTreeMap::new(),
            priority: 0,
            weight: 1,
            health_check_seconds: None,
            enabled: true,
        }
    }
}

/// What is to become of stored secrets.
#[derive(Clone, Debug, Default)]
pub enum SecretChange {
    /// They stay.
    #[default]
    Keep,
    /// They go.
    Clear,
    /// These take their place.
    Set(Vec<Secret>),
}

/// What is to change; `None` leaves a field as it is. Project and provider stay for good.
#[derive(Clone, Debug, Default)]
pub struct ConnectionUpdate {
    /// A new name.
    pub name: Option<String>,
    /// A new address; `Some(None)` leaves it to the plugin.
    pub base_url: Option<Option<String>>,
    /// A new secret.
    pub secret: SecretChange,
    /// New options, all of them.
    pub options: Option<Options>,
    /// New headers, all of them.
    pub headers: Option<BTreeMap<String, String>>,
    /// A new priority.
    pub priority: Option<i32>,
    /// A new weight.
    pub weight: Option<i32>,
    /// How often it is to be asked; `Some(None)`: never.
    pub health_check_seconds: Option<Option<i32>>,
    /// On or off.
    pub enabled: Option<bool>,
}

/// A connection that is ready for a call, or why it isn't.
#[derive(Debug)]
pub struct ResolvedConnection {
    /// The connection.
    pub connection: Connection,
    /// Its secrets. Those that can't be opened spoil this connection only.
    pub secrets: Result<Vec<Secret>, SealError>,
}

/// Why there is no connection, or no change to one.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// A field has a value that makes no sense.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name in [`NewConnection`].
        field: &'static str,
        /// What is expected.
        reason: String,
    },
    /// Others changed the connection again and again. The same call may succeed later.
    #[error("the connection is being changed by somebody else")]
    Overtaken,
    /// The secret can't be sealed or opened.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The database said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// All that is done with connections.
#[derive(Debug)]
pub struct ConnectionService {
    database: Database,
    master_key: Arc<MasterKey>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl ConnectionService {
    /// A service that seals with this key.
    #[must_use]
    pub fn new(
        database: Database,
        master_key: Arc<MasterKey>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
    ) -> Self {
        Self { database, master_key, clock, random }
    }

    /// Makes a connection for the organization.
    ///
    /// # Errors
    /// [`ConnectionError::Invalid`]; [`StorageError::Conflict`] when its owner has one of this name;
    /// [`StorageError::NotFound`] when the organization has no such project.
    pub async fn create(
        &self,
        organization: OrganizationId,
        new: NewConnection,
    ) -> Result<Connection, ConnectionError> {
        let now = self.clock.now();
        let mut connection = Connection {
            id: ConnectionId::generate(self.clock.as_ref(), self.random.as_ref()),
            organization,
            project: new.project,
            provider: new.provider,
            name: new.name,
            base_url: new.base_url,
            sealed_secret: None,
            secret_preview: None,
            options: new.options,
            headers: new.headers,
            priority: new.priority,
            weight: new.weight,
            health_check_seconds: new.health_check_seconds,
            enabled: new.enabled,
            created_at: now,
            updated_at: now,
        };
        check::secrets(&new.secrets)?;
        self.set_secrets(&mut connection, &new.secrets)?;
        check::connection(&connection)?;
        Ok(self.database.connections().create(organization, &connection).await?)
    }

    /// Reads a connection.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn get(
        &self,
        organization: OrganizationId,
        id: ConnectionId,
    ) -> Result<Connection, StorageError> {
        self.database.connections().get(organization, id).await
    }

    /// Lists the organization's connections, those of its projects included.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(
        &self,
        organization: OrganizationId,
        page: Page<ConnectionId>,
    ) -> Result<Vec<Connection>, StorageError> {
        self.database.connections().list(organization, page).await
    }

    /// Changes a connection. Of two changes at the same time neither undoes the other's fields.
    ///
    /// # Errors
    /// As for [`create`](Self::create); [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn update(
        &self,
        organization: OrganizationId,
        id: ConnectionId,
        update: &ConnectionUpdate,
    ) -> Result<Connection, ConnectionError> {
        for _ in 0..CHANGE_ATTEMPTS {
            let mut connection = self.get(organization, id).await?;
            let seen = connection.updated_at;
            if let SecretChange::Set(secrets) = &update.secret {
                check::secrets(secrets)?;
            }
            self.apply(&mut connection, update)?;
            check::connection(&connection)?;
            // Later than what was there, also when the clock stands still: the next change must be able to tell.
            connection.updated_at = self.clock.now().max(seen + TimeDelta::microseconds(1));
            match self.database.connections().replace(organization, &connection, seen).await {
                // Changed in between, or deleted: reading again tells.
                Err(StorageError::NotFound) => {}
                answer => return Ok(answer?),
            }
        }
        Err(ConnectionError::Overtaken)
    }

    /// Deletes a connection and its secret.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn delete(&self, organization: OrganizationId, id: ConnectionId) -> Result<(), StorageError> {
        self.database.connections().delete(organization, id).await
    }

    /// Opens a connection's secrets.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id; [`ConnectionError::Seal`] when the secrets
    /// can't be opened.
    pub async fn open_secrets(
        &self,
        organization: OrganizationId,
        id: ConnectionId,
    ) -> Result<Vec<Secret>, ConnectionError> {
        let connection = self.get(organization, id).await?;
        Ok(self.open(&connection)?)
    }

    /// All enabled connections that serve the tenant's project, its own and the organization's, with their secrets: by
    /// priority, then by age.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn resolve(&self, tenant: Tenant) -> Result<Vec<ResolvedConnection>, StorageError> {
        let serving = self.database.connections().serving(tenant.organization, tenant.project).await?;
        let resolve = |connection| ResolvedConnection { secrets: self.open(&connection), connection };
        Ok(serving.into_iter().map(resolve).collect())
    }

    /// A number that moves when any connection changes, of whomever.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn revision(&self) -> Result<i64, StorageError> {
        self.database.revision(Revision::Connections).await
    }

    fn apply(&self, connection: &mut Connection, update: &ConnectionUpdate) -> Result<(), SealError> {
        let change = update.clone();
        connection.name = change.name.unwrap_or_else(|| std::mem::take(&mut connection.name));
        connection.base_url = change.base_url.unwrap_or_else(|| connection.base_url.take());
        connection.options = change.options.unwrap_or_else(|| std::mem::take(&mut connection.options));
        connection.headers = change.headers.unwrap_or_else(|| std::mem::take(&mut connection.headers));
        connection.priority = change.priority.unwrap_or(connection.priority);
        connection.weight = change.weight.unwrap_or(connection.weight);
        connection.health_check_seconds =
            change.health_check_seconds.unwrap_or(connection.health_check_seconds);
        connection.enabled = change.enabled.unwrap_or(connection.enabled);
        match change.secret {
            SecretChange::Keep => {}
            SecretChange::Clear => self.set_secrets(connection, &[])?,
            SecretChange::Set(secrets) => self.set_secrets(connection, &secrets)?,
        }
        Ok(())
    }

    fn set_secrets(&self, connection: &mut Connection, secrets: &[Secret]) -> Result<(), SealError> {
        let sealed = secrets::join(secrets)
            .map(|joined| self.master_key.seal(&joined, binding(connection), self.random.as_ref()));
        connection.sealed_secret = sealed.transpose()?;
        connection.secret_preview = secrets::preview(secrets);
        Ok(())
    }

    fn open(&self, connection: &Connection) -> Result<Vec<Secret>, SealError> {
        let Some(sealed) = connection.sealed_secret.as_deref() else { return Ok(Vec::new()) };
        Ok(secrets::split(&self.master_key.open(sealed, binding(connection))?))
    }
}

fn binding(connection: &Connection) -> Binding {
    Binding { organization: connection.organization, connection: connection.id }
}
