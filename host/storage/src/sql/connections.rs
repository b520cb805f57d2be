//! Connections: how an organization, or one of its projects, reaches a provider. Secrets are sealed before they come
//! here.

use std::collections::BTreeMap;

use brokle_core::ids::{ConnectionId, OrganizationId, ProjectId};
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope};
use super::{Database, Page, StorageError, transaction};

/// A configured access to a provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Connection {
    /// Its id.
    pub id: ConnectionId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// The one project that it serves; without, it serves the whole organization.
    pub project: Option<ProjectId>,
    /// The id of the provider's plugin, such as `openai`.
    pub provider: String,
    /// What people call it; unique among the organization's or the project's.
    pub name: String,
    /// Where the provider is reached; `None` leaves it to the plugin.
    pub base_url: Option<String>,
    /// The secret, sealed.
    pub sealed_secret: Option<Vec<u8>>,
    /// Enough of the secret to recognize it.
    pub secret_preview: Option<String>,
    /// What the plugin is configured with: a JSON object in the form of the plugin's schema.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// Headers for every request to the provider. Not for secrets: they are stored as they are.
    pub headers: BTreeMap<String, String>,
    /// Lower comes first.
    pub priority: i32,
    /// The share of the traffic among connections of one priority; 0 gets none while others live.
    pub weight: i32,
    /// How often it is asked whether it is there, in seconds; none: never.
    pub health_check_seconds: Option<i32>,
    /// Is it used at all?
    pub enabled: bool,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: ConnectionId,
    #[sqlx(try_from = "String")]
    organization_id: OrganizationId,
    project_id: Option<String>,
    provider: String,
    name: String,
    base_url: Option<String>,
    secret_ciphertext: Option<Vec<u8>>,
    secret_preview: Option<String>,
    options: String,
    headers: String,
    priority: i32,
    weight: i32,
    health_check_seconds: Option<i32>,
    enabled: bool,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for Connection {
    type Error = StorageError;

    fn try_from(row: Row) -> Result<Self, StorageError> {
        Ok(Self {
            id: row.id,
            organization: row.organization_id,
            project: row.project_id.map(|id| id.parse()).transpose().map_err(StorageError::corrupt)?,
            provider: row.provider,
            name: row.name,
            base_url: row.base_url,
            sealed_secret: row.secret_ciphertext,
            secret_preview: row.secret_preview,
            options: serde_json::from_str(&row.options).map_err(StorageError::corrupt)?,
            headers: serde_json::from_str(&row.headers).map_err(StorageError::corrupt)?,
            priority: row.priority,
            weight: row.weight,
            health_check_seconds: row.health_check_seconds,
            enabled: row.enabled,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

macro_rules! columns {
    () => {
        "id, organization_id, project_id, provider, name, base_url, secret_ciphertext, secret_preview, options, \
         headers, priority, weight, enabled, created_at, updated_at, health_check_seconds"
    };
}

/// The table of connections.
#[derive(Clone, Copy, Debug)]
pub struct Connections<'a>(&'a Database);

impl Database {
    /// The table of connections.
    #[must_use]
    pub fn connections(&self) -> Connections<'_> {
        Connections(self)
    }
}

fn json(value: &impl serde::Serialize) -> Result<String, StorageError> {
    serde_json::to_string(value).map_err(StorageError::corrupt)
}

impl Connections<'_> {
    /// Stores a connection for the organization; the organization inside of it is not looked at.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when its owner has one of this name, [`StorageError::NotFound`] when the organization
    /// has no such project.
    pub async fn create(
        &self,
        organization: OrganizationId,
        connection: &Connection,
    ) -> Result<Connection, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "INSERT INTO connections (",
                columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) RETURNING ",
                columns!()
            ))
            .bind(connection.id.to_string())
            .bind(organization.to_string())
            .bind(connection.project.map(|project| project.to_string()))
            .bind(&connection.provider)
            .bind(&connection.name)
            .bind(&connection.base_url)
            .bind(&connection.sealed_secret)
            .bind(&connection.secret_preview)
            .bind(json(&connection.options)?)
            .bind(json(&connection.headers)?)
            .bind(connection.priority)
            .bind(connection.weight)
            .bind(connection.enabled)
            .bind(connection.created_at)
            .bind(connection.updated_at)
            .bind(connection.health_check_seconds)
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
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
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "SELECT ",
                columns!(),
                " FROM connections WHERE organization_id = $1 AND id = $2"
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
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
        let (after, limit) = page.bounds();
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "SELECT ",
                columns!(),
                " FROM connections WHERE organization_id = $1 AND id > $2 ORDER BY id LIMIT $3"
            ))
            .bind(organization.to_string())
            .bind(&after)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?
        })
        .into_iter()
        .map(Connection::try_from)
        .collect()
    }

    /// All enabled connections that serve the project: its own and the organization's, by priority, then by age.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn serving(
        &self,
        organization: OrganizationId,
        project: ProjectId,
    ) -> Result<Vec<Connection>, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "SELECT ",
                columns!(),
                " FROM connections
                  WHERE organization_id = $1 AND (project_id IS NULL OR project_id = $2) AND enabled = $3
                  ORDER BY priority, id"
            ))
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(true)
            .fetch_all(&mut *tx)
            .await?
        })
        .into_iter()
        .map(Connection::try_from)
        .collect()
    }

    /// Puts the connection in the place of the stored one of its id, unless that has been changed since `seen`, its
    /// `updated_at` when it was read. Its project and its time of creation stay.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id and time of change,
    /// [`StorageError::Conflict`] when its owner has another one of this name.
    pub async fn replace(
        &self,
        organization: OrganizationId,
        connection: &Connection,
        seen: DateTime<Utc>,
    ) -> Result<Connection, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "UPDATE connections SET provider = $3, name = $4, base_url = $5, secret_ciphertext = $6,
                    secret_preview = $7, options = $8, headers = $9, priority = $10, weight = $11, enabled = $12,
                    updated_at = $13, health_check_seconds = $15
                 WHERE organization_id = $1 AND id = $2 AND updated_at = $14 RETURNING ",
                columns!()
            ))
            .bind(organization.to_string())
            .bind(connection.id.to_string())
            .bind(&connection.provider)
            .bind(&connection.name)
            .bind(&connection.base_url)
            .bind(&connection.sealed_secret)
            .bind(&connection.secret_preview)
            .bind(json(&connection.options)?)
            .bind(json(&connection.headers)?)
            .bind(connection.priority)
            .bind(connection.weight)
            .bind(connection.enabled)
            .bind(connection.updated_at)
            .bind(seen)
            .bind(connection.health_check_seconds)
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
    }

    /// Deletes a connection.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn delete(&self, organization: OrganizationId, id: ConnectionId) -> Result<(), StorageError> {
        let deleted: Option<String> =
            transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
                sqlx::query_scalar(
                    "DELETE FROM connections WHERE organization_id = $1 AND id = $2 RETURNING id",
                )
                .bind(organization.to_string())
                .bind(id.to_string())
                .fetch_optional(&mut *tx)
                .await?
            });
        deleted.map(drop).ok_or(StorageError::NotFound)
    }
}
