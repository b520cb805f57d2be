//! How long projects keep their telemetry, and which projects were deleted: what they left elsewhere is to go after them.

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope, SystemErrand};
use super::{Database, StorageError, transaction};

/// A project's own word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Kept {
    /// The project.
    #[sqlx(rename = "id", try_from = "String")]
    pub project: ProjectId,
    /// Days; none: as long as the server says.
    pub retention_days: Option<i64>,
}

/// A project that isn't there any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Deleted {
    /// The project.
    #[sqlx(rename = "project_id", try_from = "String")]
    pub project: ProjectId,
    /// When what it left was first removed.
    pub swept_at: Option<DateTime<Utc>>,
}

/// Every organization's projects, for the server's own errand.
#[derive(Clone, Copy, Debug)]
pub struct Retention<'a>(&'a Database);

impl Database {
    /// How long projects keep their telemetry.
    #[must_use]
    pub fn retention(&self) -> Retention<'_> {
        Retention(self)
    }
}

impl Retention<'_> {
    /// Every project's word.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn projects(&self) -> Result<Vec<Kept>, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::System(SystemErrand::Retention), |tx| {
            sqlx::query_as("SELECT id, retention_days FROM projects ORDER BY id").fetch_all(&mut *tx).await?
        }))
    }

    /// The projects that were deleted and may have left something.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn deleted(&self) -> Result<Vec<Deleted>, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::System(SystemErrand::Retention), |tx| {
            sqlx::query_as("SELECT project_id, swept_at FROM deleted_projects ORDER BY project_id")
                .fetch_all(&mut *tx)
                .await?
        }))
    }

    /// What this project left was removed a first time.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn swept(&self, project: ProjectId, now: DateTime<Utc>) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::System(SystemErrand::Retention), |tx| {
            sqlx::query(
                "UPDATE deleted_projects SET swept_at = $2 WHERE project_id = $1 AND swept_at IS NULL",
            )
            .bind(project.to_string())
            .bind(now)
            .execute(&mut *tx)
            .await?;
        });
        Ok(())
    }

    /// Nothing more of this project is to come.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn forget(&self, project: ProjectId) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::System(SystemErrand::Retention), |tx| {
            sqlx::query("DELETE FROM deleted_projects WHERE project_id = $1")
                .bind(project.to_string())
                .execute(&mut *tx)
                .await?;
        });
        Ok(())
    }
}
