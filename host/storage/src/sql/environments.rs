//! A project's environments.

use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::tenancy::Tenant;
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope};
use super::{Database, Page, StorageError, transaction};

/// An environment, such as `development`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Environment {
    /// Its id.
    #[sqlx(try_from = "String")]
    pub id: EnvironmentId,
    /// Whose it is.
    #[sqlx(try_from = "String")]
    pub organization_id: OrganizationId,
    /// The project that it is part of.
    #[sqlx(try_from = "String")]
    pub project_id: ProjectId,
    /// Its name; unique in the project.
    pub name: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// The table of environments.
#[derive(Clone, Copy, Debug)]
pub struct Environments<'a>(&'a Database);

impl Database {
    /// The table of environments.
    #[must_use]
    pub fn environments(&self) -> Environments<'_> {
        Environments(self)
    }
}

macro_rules! columns {
    () => {
        "id, organization_id, project_id, name, created_at"
    };
}

impl Environments<'_> {
    /// Adds the tenant's environment to the tenant's project.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the project has one of this name, [`StorageError::NotFound`] when the
    /// organization has no such project.
    pub async fn create(
        &self,
        tenant: Tenant,
        name: &str,
        now: DateTime<Utc>,
    ) -> Result<Environment, StorageError> {
        Ok(transaction!(self.0, Access::Write, Scope::Organization(tenant.organization), |tx| {
            sqlx::query_as(concat!(
                "INSERT INTO environments (id, organization_id, project_id, name, created_at)
                 VALUES ($1, $2, $3, $4, $5) RETURNING ",
                columns!()
            ))
            .bind(tenant.environment.to_string())
            .bind(tenant.organization.to_string())
            .bind(tenant.project.to_string())
            .bind(name)
            .bind(now)
            .fetch_one(&mut *tx)
            .await?
        }))
    }

    /// Reads the tenant's environment, which also proves that the three ids belong together.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when they don't.
    pub async fn get(&self, tenant: Tenant) -> Result<Environment, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::Organization(tenant.organization), |tx| {
            sqlx::query_as(concat!(
                "SELECT ",
                columns!(),
                " FROM environments WHERE organization_id = $1 AND project_id = $2 AND id = $3"
            ))
            .bind(tenant.organization.to_string())
            .bind(tenant.project.to_string())
            .bind(tenant.environment.to_string())
            .fetch_one(&mut *tx)
            .await?
        }))
    }

    /// Lists the project's environments; none for a project of another organization.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        page: Page<EnvironmentId>,
    ) -> Result<Vec<Environment>, StorageError> {
        let (after, limit) = page.bounds();
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as(concat!(
                "SELECT ",
                columns!(),
                " FROM environments WHERE organization_id = $1 AND project_id = $2 AND id > $3 ORDER BY id LIMIT $4"
            ))
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(&after)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?
        }))
    }
}
