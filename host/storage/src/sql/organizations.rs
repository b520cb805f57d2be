//! Organizations: the tenants.

use brokle_core::ids::OrganizationId;
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope};
use super::{Database, StorageError, transaction};

/// A tenant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, sqlx::FromRow)]
pub struct Organization {
    /// Its id.
    #[sqlx(try_from = "String")]
    pub id: OrganizationId,
    /// What people call it; not unique.
    pub name: String,
    /// Its name in URLs; unique.
    pub slug: String,
    /// When it was created.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// The table of organizations.
#[derive(Clone, Copy, Debug)]
pub struct Organizations<'a>(&'a Database);

impl Database {
    /// The table of organizations.
    #[must_use]
    pub fn organizations(&self) -> Organizations<'_> {
        Organizations(self)
    }
}

impl Organizations<'_> {
    /// Adds an organization under the id that it is to have.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when the slug is taken.
    pub async fn create(
        &self,
        organization: OrganizationId,
        name: &str,
        slug: &str,
        now: DateTime<Utc>,
    ) -> Result<Organization, StorageError> {
        Ok(transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query_as(
                "INSERT INTO organizations (id, name, slug, created_at, updated_at) VALUES ($1, $2, $3, $4, $4)
                 RETURNING id, name, slug, created_at, updated_at",
            )
            .bind(organization.to_string())
            .bind(name)
            .bind(slug)
            .bind(now)
            .fetch_one(&mut *tx)
            .await?
        }))
    }

    /// Reads the organization.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is none.
    pub async fn get(&self, organization: OrganizationId) -> Result<Organization, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as("SELECT id, name, slug, created_at, updated_at FROM organizations WHERE id = $1")
                .bind(organization.to_string())
                .fetch_one(&mut *tx)
                .await?
        }))
    }
}
