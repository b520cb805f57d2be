//! Files that projects upload and batches make, without their bytes: those are in a [`BlobStore`](crate::blobs::BlobStore),
//! or at the provider that a row names.
//!
//! A file is `uploading` until its bytes are stored, and nobody's to see. It counts for the project's quota from the
//! beginning, so that uploads at the same time can't exceed it together.

use brokle_core::ids::{FileId, OrganizationId, ProjectId};
use chrono::{DateTime, Utc};

use super::dialect::{Access, Dialect as _, Scope, SystemErrand};
use super::{Database, Page, StorageError, transaction};

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct File {
    /// Its id.
    #[sqlx(try_from = "String")]
    pub id: FileId,
    /// Whose it is.
    #[sqlx(rename = "organization_id", try_from = "String")]
    pub organization: OrganizationId,
    /// Whose it is.
    #[sqlx(rename = "project_id", try_from = "String")]
    pub project: ProjectId,
    /// What its owner calls it.
    pub filename: String,
    /// What it is for: `batch`, `batch_output`, ….
    pub purpose: String,
    /// Its size.
    pub bytes: i64,
    /// What its bytes are stored under; nothing is, where a provider keeps them.
    pub blob: String,
    /// The connection of the provider that keeps it, by its id.
    #[sqlx(rename = "connection_id")]
    pub connection: Option<String>,
    /// Its name there.
    pub vendor_id: Option<String>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it is forgotten.
    pub expires_at: DateTime<Utc>,
}

/// What a project may keep.
#[derive(Clone, Copy, Debug)]
pub struct Quota {
    /// Bytes of all files together.
    pub bytes: i64,
    /// Files.
    pub files: i64,
}

/// A file couldn't be begun.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The project has as much as it may have.
    #[error("the project's quota is used up")]
    Quota,
    /// The database says no.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

macro_rules! columns {
    () => {
        "id, organization_id, project_id, filename, purpose, bytes, blob, connection_id, vendor_id, created_at, expires_at"
    };
}

/// Inserts a file's row in the transaction at hand.
macro_rules! insert_file {
    ($tx:ident, $file:expr, $status:literal) => {
        sqlx::query(
            "INSERT INTO files (id, organization_id, project_id, filename, purpose, bytes, blob, status, created_at, \
             expires_at, connection_id, vendor_id) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind($file.id.to_string())
        .bind($file.organization.to_string())
        .bind($file.project.to_string())
        .bind(&$file.filename)
        .bind(&$file.purpose)
        .bind($file.bytes)
        .bind(&$file.blob)
        .bind($status)
        .bind($file.created_at)
        .bind($file.expires_at)
        .bind($file.connection.as_deref())
        .bind($file.vendor_id.as_deref())
        .execute(&mut *$tx)
        .await?
    };
}
pub(super) use insert_file;

/// The table of files.
#[derive(Clone, Copy, Debug)]
pub struct Files<'a>(&'a Database);

impl Database {
    /// The table of files.
    #[must_use]
    pub fn files(&self) -> Files<'_> {
        Files(self)
    }
}

impl Files<'_> {
    /// Makes room for a file that is about to be stored.
    ///
    /// # Errors
    /// [`BeginError::Quota`]; [`StorageError::NotFound`] when the organization has no such project.
    pub async fn begin(
        &self,
        organization: OrganizationId,
        file: &File,
        quota: Quota,
    ) -> Result<(), BeginError> {
        // One number for each project: uploads to it are counted one after the other.
        let lock = i64::from_le_bytes(
            file.project.as_u128().to_le_bytes().first_chunk().copied().unwrap_or_default(),
        );
        let fits = self.insert(organization, file, quota, lock).await?;
        if fits { Ok(()) } else { Err(BeginError::Quota) }
    }

    async fn insert(
        &self,
        organization: OrganizationId,
        file: &File,
        quota: Quota,
        lock: i64,
    ) -> Result<bool, StorageError> {
        Ok(transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            tx.lock(lock).await?;
            let (files, bytes): (i64, i64) = sqlx::query_as(
                "SELECT count(*), CAST(coalesce(sum(bytes), 0) AS BIGINT) FROM files
                 WHERE organization_id = $1 AND project_id = $2",
            )
            .bind(organization.to_string())
            .bind(file.project.to_string())
            .fetch_one(&mut *tx)
            .await?;
            let fits = files < quota.files && bytes.saturating_add(file.bytes) <= quota.bytes;
            if fits {
                insert_file!(tx, file, "uploading");
            }
            fits
        }))
    }

    /// Its bytes are stored.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id that is being uploaded.
    pub async fn finish(&self, organization: OrganizationId, id: FileId) -> Result<(), StorageError> {
        let finished: Option<String> = transaction!(
            self.0,
            Access::Write,
            Scope::Organization(organization),
            |tx| {
                sqlx::query_scalar(
                    "UPDATE files SET status = 'processed' WHERE organization_id = $1 AND id = $2 AND status = 'uploading'
                     RETURNING id",
                )
                .bind(organization.to_string())
                .bind(id.to_string())
                .fetch_optional(&mut *tx)
                .await?
            }
        );
        finished.map(drop).ok_or(StorageError::NotFound)
    }

    /// A provider has it: what it is called there, and what it turned out to be.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id that is being uploaded.
    pub async fn finish_native(&self, file: &File) -> Result<(), StorageError> {
        let finished: Option<String> = transaction!(
            self.0,
            Access::Write,
            Scope::Organization(file.organization),
            |tx| {
                sqlx::query_scalar(
                    "UPDATE files SET status = 'processed', vendor_id = $3, filename = $4, bytes = $5, expires_at = $6
                     WHERE organization_id = $1 AND id = $2 AND status = 'uploading' RETURNING id",
                )
                .bind(file.organization.to_string())
                .bind(file.id.to_string())
                .bind(file.vendor_id.as_deref())
                .bind(&file.filename)
                .bind(file.bytes)
                .bind(file.expires_at)
                .fetch_optional(&mut *tx)
                .await?
            }
        );
        finished.map(drop).ok_or(StorageError::NotFound)
    }

    /// Reads a project's file.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the project has none of this id, or it is to be forgotten.
    pub async fn get(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        id: FileId,
        now: DateTime<Utc>,
    ) -> Result<File, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, File>(concat!(
                "SELECT ",
                columns!(),
                " FROM files WHERE organization_id = $1 AND project_id = $2 AND id = $3 AND status = 'processed'
                   AND expires_at > $4"
            ))
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(id.to_string())
            .bind(now)
            .fetch_one(&mut *tx)
            .await?
        }))
    }

    /// Lists a project's files, the newest first, or the oldest. An empty purpose is any.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        purpose: &str,
        newest_first: bool,
        page: Page<FileId>,
        now: DateTime<Utc>,
    ) -> Result<Vec<File>, StorageError> {
        let (after, limit) = page.bounds();
        let text = match newest_first {
            true => concat!(
                "SELECT ",
                columns!(),
                " FROM files WHERE organization_id = $1 AND project_id = $2 AND status = 'processed'
                   AND expires_at > $3 AND ($4 = '' OR purpose = $4) AND ($5 = '' OR id < $5)
                 ORDER BY id DESC LIMIT $6"
            ),
            false => concat!(
                "SELECT ",
                columns!(),
                " FROM files WHERE organization_id = $1 AND project_id = $2 AND status = 'processed'
                   AND expires_at > $3 AND ($4 = '' OR purpose = $4) AND id > $5
                 ORDER BY id LIMIT $6"
            ),
        };
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, File>(text)
                .bind(organization.to_string())
                .bind(project.to_string())
                .bind(now)
                .bind(purpose)
                .bind(&after)
                .bind(limit)
                .fetch_all(&mut *tx)
                .await?
        }))
    }

    /// Forgets a file; its bytes are the caller's to remove.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the project has none of this id.
    pub async fn delete(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        id: FileId,
    ) -> Result<(), StorageError> {
        let deleted: Option<String> = transaction!(
            self.0,
            Access::Write,
            Scope::Organization(organization),
            |tx| {
                sqlx::query_scalar(
                    "DELETE FROM files WHERE organization_id = $1 AND project_id = $2 AND id = $3 RETURNING id",
                )
                .bind(organization.to_string())
                .bind(project.to_string())
                .bind(id.to_string())
                .fetch_optional(&mut *tx)
                .await?
            }
        );
        deleted.map(drop).ok_or(StorageError::NotFound)
    }

    /// Files of every organization that are to be forgotten, and uploads that began before `stale` and never ended. Those that
    /// a batch needs yet aren't among them.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn forgettable(
        &self,
        now: DateTime<Utc>,
        stale: DateTime<Utc>,
    ) -> Result<Vec<File>, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::System(SystemErrand::Batches), |tx| {
            sqlx::query_as::<_, File>(concat!(
                "SELECT ",
                columns!(),
                " FROM files WHERE (expires_at <= $1 OR (status = 'uploading' AND created_at <= $2))
                   AND NOT EXISTS (SELECT 1 FROM batches b WHERE b.organization_id = files.organization_id
                     AND b.input_file_id = files.id AND b.ended_at IS NULL)
                 ORDER BY expires_at LIMIT 100"
            ))
            .bind(now)
            .bind(stale)
            .fetch_all(&mut *tx)
            .await?
        }))
    }
}
