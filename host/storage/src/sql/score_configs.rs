//! What scores of a name must be, in a project. What a definition says is its reader's business: here it is a JSON object.

use brokle_core::ids::{OrganizationId, ProjectId, ScoreConfigId};
use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::dialect::{Access, Scope};
use super::{Database, StorageError, transaction};

/// The most that a project has: all are read at once.
pub const MAX_CONFIGS: i64 = 500;

/// A score config.
#[derive(Clone, Debug, PartialEq)]
pub struct ScoreConfig {
    /// Its id.
    pub id: ScoreConfigId,
    /// The scores' name; unique in the project.
    pub name: String,
    /// What it says.
    pub definition: Map<String, Value>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: ScoreConfigId,
    name: String,
    definition: String,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<Row> for ScoreConfig {
    type Error = StorageError;

    fn try_from(row: Row) -> Result<Self, StorageError> {
        Ok(Self {
            id: row.id,
            name: row.name,
            definition: serde_json::from_str(&row.definition).map_err(StorageError::corrupt)?,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// The table of score configs.
#[derive(Clone, Copy, Debug)]
pub struct ScoreConfigs<'a>(&'a Database);

impl Database {
    /// The table of score configs.
    #[must_use]
    pub fn score_configs(&self) -> ScoreConfigs<'_> {
        ScoreConfigs(self)
    }
}

impl ScoreConfigs<'_> {
    /// Stores a config, unless the project has [`MAX_CONFIGS`] already: then it is false.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the project has one of this name, [`StorageError::NotFound`] when the organization
    /// has no such project.
    pub async fn create(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        config: &ScoreConfig,
    ) -> Result<bool, StorageError> {
        let definition = serde_json::to_string(&config.definition).map_err(StorageError::corrupt)?;
        let done = transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query(
                "INSERT INTO score_configs (id, organization_id, project_id, name, definition, created_at, updated_at)
                 SELECT $1, $2, $3, $4, $5, $6, $7
                 WHERE (SELECT count(*) FROM score_configs WHERE organization_id = $2 AND project_id = $3) < $8",
            )
            .bind(config.id.to_string())
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(&config.name)
            .bind(&definition)
            .bind(config.created_at)
            .bind(config.updated_at)
            .bind(MAX_CONFIGS)
            .execute(&mut *tx)
            .await?
            .rows_affected()
        });
        Ok(done > 0)
    }

    /// The project's configs, by name.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(
        &self,
        organization: OrganizationId,
        project: ProjectId,
    ) -> Result<Vec<ScoreConfig>, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(
                "SELECT id, name, definition, created_at, updated_at FROM score_configs
                 WHERE organization_id = $1 AND project_id = $2 ORDER BY name",
            )
            .bind(organization.to_string())
            .bind(project.to_string())
            .fetch_all(&mut *tx)
            .await?
        })
        .into_iter()
        .map(ScoreConfig::try_from)
        .collect()
    }

    /// Reads the project's config of this id.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is none.
    pub async fn get(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        id: ScoreConfigId,
    ) -> Result<ScoreConfig, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(
                "SELECT id, name, definition, created_at, updated_at FROM score_configs
                 WHERE organization_id = $1 AND project_id = $2 AND id = $3",
            )
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(id.to_string())
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
    }

    /// Changes what the config says, if it still is as it was at `seen`; false when somebody else was first, or deleted
    /// it.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn change(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        config: &ScoreConfig,
        seen: DateTime<Utc>,
    ) -> Result<bool, StorageError> {
        let definition = serde_json::to_string(&config.definition).map_err(StorageError::corrupt)?;
        let done = transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query(
                "UPDATE score_configs SET definition = $4, updated_at = $5
                 WHERE organization_id = $1 AND project_id = $2 AND id = $3 AND updated_at = $6",
            )
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(config.id.to_string())
            .bind(&definition)
            .bind(config.updated_at)
            .bind(seen)
            .execute(&mut *tx)
            .await?
            .rows_affected()
        });
        Ok(done > 0)
    }

    /// Deletes the project's config of this id; false when there is none.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn remove(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        id: ScoreConfigId,
    ) -> Result<bool, StorageError> {
        let done = transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query(
                "DELETE FROM score_configs WHERE organization_id = $1 AND project_id = $2 AND id = $3",
            )
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(id.to_string())
            .execute(&mut *tx)
            .await?
            .rows_affected()
        });
        Ok(done > 0)
    }
}
