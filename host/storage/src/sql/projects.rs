//! An organization's projects.

use brokle_core::ids::{OrganizationId, ProjectId};
use brokle_core::tenancy::Capture;
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope};
use super::{Database, Page, StorageError, transaction};

/// A project.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Project {
    /// Its id.
    #[sqlx(try_from = "String")]
    pub id: ProjectId,
    /// Whose it is.
    #[sqlx(try_from = "String")]
    pub organization_id: OrganizationId,
    /// Its name; unique in the organization.
    pub name: String,
    /// What is kept of its calls' content.
    #[sqlx(try_from = "String")]
    pub capture: Capture,
    /// How many days its telemetry is kept; none: as long as the server says.
    pub retention_days: Option<i64>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// The table of projects.
#[derive(Clone, Copy, Debug)]
pub struct Projects<'a>(&'a Database);

impl Database {
    /// The table of projects.
    #[must_use]
    pub fn projects(&self) -> Projects<'_> {
        Projects(self)
    }
}

macro_rules! columns {
    () => {
        "id, organization_id, name, capture, retention_days, created_at, updated_at"
    };
}

impl Projects<'_> {
    /// Adds a project, which captures metadata.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the organization has one of this name, [`StorageError::NotFound`] when there is
    /// no such organization.
    pub async fn create(
        &self,
        organization: OrganizationId,
        id: ProjectId,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Project, StorageError> {
        Ok(transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query_as(concat!(
                "INSERT INTO projects (id, organization_id, name, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $4) RETURNING ",
                columns!()
            ))
            .bind(id.to_string())
            .bind(organization.to_string())
            .bind(name)
            .bind(now)
            .fetch_one(&mut *tx)
            .await?
        }))
    }

    /// Reads a project.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn get(&self, organization: OrganizationId, id: ProjectId) -> Result<Project, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as(concat!(
                "SELECT ",
                columns!(),
                " FROM projects WHERE organization_id = $1 AND id = $2"
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .fetch_one(&mut *tx)
            .await?
        }))
    }

    /// Lists the organization's projects.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(
        &self,
        organization: OrganizationId,
        page: Page<ProjectId>,
    ) -> Result<Vec<Project>, StorageError> {
        let (after, limit) = page.bounds();
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as(concat!(
                "SELECT ",
                columns!(),
                " FROM projects WHERE organization_id = $1 AND id > $2 ORDER BY id LIMIT $3"
            ))
            .bind(organization.to_string())
            .bind(&after)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?
        }))
    }

    /// Changes what is kept of the project's calls.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn set_capture(
        &self,
        organization: OrganizationId,
        id: ProjectId,
        capture: Capture,
        now: DateTime<Utc>,
    ) -> Result<Project, StorageError> {
        Ok(transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query_as(concat!(
                "UPDATE projects SET capture = $3, updated_at = $4 WHERE organization_id = $1 AND id = $2 RETURNING ",
                columns!()
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .bind(capture.as_str())
            .bind(now)
            .fetch_one(&mut *tx)
            .await?
        }))
    }

    /// Changes how long the project's telemetry is kept: 1 to 3,650 days, or as long as the server says.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn set_retention(
        &self,
        organization: OrganizationId,
        id: ProjectId,
        days: Option<u32>,
        now: DateTime<Utc>,
    ) -> Result<Project, StorageError> {
        Ok(transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query_as(concat!(
                "UPDATE projects SET retention_days = $3, updated_at = $4 WHERE organization_id = $1 AND id = $2
                 RETURNING ",
                columns!()
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .bind(days.map(i64::from))
            .bind(now)
            .fetch_one(&mut *tx)
            .await?
        }))
    }

    /// Deletes a project with everything that the database has of it; what else it left, [`Database::retention`] tells.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn delete(&self, organization: OrganizationId, id: ProjectId) -> Result<(), StorageError> {
        let deleted: Option<String> =
            transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
                sqlx::query_scalar("DELETE FROM projects WHERE organization_id = $1 AND id = $2 RETURNING id")
                    .bind(organization.to_string())
                    .bind(id.to_string())
                    .fetch_optional(&mut *tx)
                    .await?
            });
        deleted.map(drop).ok_or(StorageError::NotFound)
    }
}
