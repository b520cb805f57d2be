//! Batches of calls, and the answers to their lines until they end.
//!
//! **Leases.** A batch that hasn't ended is worked on by one server at a time: the one whose lease runs. Whatever that
//! server writes names itself, and writes nothing once somebody else has the lease.
//!
//! **Answers** are a row each, written in the transaction that counts them: what has a row is never asked again. They leave
//! when the batch ends, in the transaction that names the files which hold them from then on.
//!
//! **A provider's.** A batch that names a connection is worked on by its provider; whoever has the lease only asks how it goes,
//! when its `poll_at` has come.

use brokle_core::ids::{ApiKeyId, BatchId, EnvironmentId, FileId, OrganizationId, ProjectId};
use brokle_core::tenancy::Tenant;
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope};
use super::{Database, Page, StorageError, transaction};

/// Where a batch is between its beginning and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchStatus {
    /// Its file is being read.
    Validating,
    /// Its lines are being asked.
    InProgress,
    /// Its files are being written.
    Finalizing,
    /// Somebody ended it; what is under way is waited for.
    Cancelling,
    /// All lines were asked.
    Completed,
    /// Its file can't be used.
    Failed,
    /// Its time was over before all lines were asked.
    Expired,
    /// Somebody ended it.
    Cancelled,
}

impl BatchStatus {
    /// As OpenAI writes it, and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validating => "validating",
            Self::InProgress => "in_progress",
            Self::Finalizing => "finalizing",
            Self::Cancelling => "cancelling",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
        }
    }
}

impl TryFrom<String> for BatchStatus {
    type Error = StorageError;

    fn try_from(text: String) -> Result<Self, StorageError> {
        Ok(match text.as_str() {
            "validating" => Self::Validating,
            "in_progress" => Self::InProgress,
            "finalizing" => Self::Finalizing,
            "cancelling" => Self::Cancelling,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            "expired" => Self::Expired,
            "cancelled" => Self::Cancelled,
            _ => return Err(StorageError::corrupt(format!("a batch is '{text}'"))),
        })
    }
}

/// A batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// Whose it is.
    pub tenant: Tenant,
    /// The key that made it, for which its lines are asked.
    pub key: ApiKeyId,
    /// What its lines ask: `/v1/chat/completions`.
    pub endpoint: String,
    /// Its lines.
    pub input: FileId,
    /// A JSON object of the caller's.
    pub metadata: serde_json::Value,
    /// Where it is.
    pub status: BatchStatus,
    /// What is wrong with its file: a JSON array.
    pub errors: serde_json::Value,
    /// Lines, and how many of them have a good answer, and another one.
    pub counts: (i64, i64, i64),
    /// The file of good answers.
    pub output: Option<FileId>,
    /// The file of others.
    pub failures: Option<FileId>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// Until when it may take.
    pub expires_at: DateTime<Utc>,
    /// When its lines were read.
    pub in_progress_at: Option<DateTime<Utc>>,
    /// When its last line was answered.
    pub finalizing_at: Option<DateTime<Utc>>,
    /// When somebody ended it.
    pub cancelling_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The connection of the provider that works on it, by its id; none: a server does.
    pub connection: Option<String>,
    /// Its name there; empty: the provider was asked for it, and the answer isn't known.
    pub vendor_id: Option<String>,
}

/// The answer to a line.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct BatchLine {
    /// Which: counts from 0.
    pub line: i64,
    /// Whether it is a good one.
    pub succeeded: bool,
    /// The line of the batch's output, JSON.
    pub result: String,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: BatchId,
    #[sqlx(try_from = "String")]
    organization_id: OrganizationId,
    #[sqlx(try_from = "String")]
    project_id: ProjectId,
    #[sqlx(try_from = "String")]
    environment_id: EnvironmentId,
    #[sqlx(try_from = "String")]
    key_id: ApiKeyId,
    endpoint: String,
    #[sqlx(try_from = "String")]
    input_file_id: FileId,
    metadata: String,
    #[sqlx(try_from = "String")]
    status: BatchStatus,
    errors: String,
    total: i64,
    completed: i64,
    failed: i64,
    output_file_id: Option<String>,
    error_file_id: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
    in_progress_at: Option<DateTime<Utc>>,
    finalizing_at: Option<DateTime<Utc>>,
    cancelling_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    connection_id: Option<String>,
    vendor_id: Option<String>,
}

impl TryFrom<Row> for Batch {
    type Error = StorageError;

    fn try_from(row: Row) -> Result<Self, StorageError> {
        let file =
            |id: Option<String>| id.map(|id| id.parse::<FileId>()).transpose().map_err(StorageError::corrupt);
        Ok(Self {
            id: row.id,
            tenant: Tenant {
                organization: row.organization_id,
                project: row.project_id,
                environment: row.environment_id,
            },
            key: row.key_id,
            endpoint: row.endpoint,
            input: row.input_file_id,
            metadata: serde_json::from_str(&row.metadata).map_err(StorageError::corrupt)?,
            status: row.status,
            errors: serde_json::from_str(&row.errors).map_err(StorageError::corrupt)?,
            counts: (row.total, row.completed, row.failed),
            output: file(row.output_file_id)?,
            failures: file(row.error_file_id)?,
            created_at: row.created_at,
            expires_at: row.expires_at,
            in_progress_at: row.in_progress_at,
            finalizing_at: row.finalizing_at,
            cancelling_at: row.cancelling_at,
            ended_at: row.ended_at,
            connection: row.connection_id,
            vendor_id: row.vendor_id,
        })
    }
}

macro_rules! columns {
    () => {
        "id, organization_id, project_id, environment_id, key_id, endpoint, input_file_id, metadata, status, errors, total, \
         completed, failed, output_file_id, error_file_id, created_at, expires_at, in_progress_at, finalizing_at, \
         cancelling_at, ended_at, connection_id, vendor_id"
    };
}

/// A project's batch, in a transaction.
macro_rules! read_one {
    ($tx:ident, $organization:ident, $project:ident, $id:ident) => {
        sqlx::query_as::<_, Row>(concat!(
            "SELECT ",
            columns!(),
            " FROM batches WHERE organization_id = $1 AND project_id = $2 AND id = $3"
        ))
        .bind($organization.to_string())
        .bind($project.to_string())
        .bind($id.to_string())
        .fetch_one(&mut *$tx)
        .await?
    };
}

mod work;

pub use self::work::{End, Lease, Progress};

/// The tables of batches and their lines.
#[derive(Clone, Copy, Debug)]
pub struct Batches<'a>(&'a Database);

impl Database {
    /// The tables of batches and their lines.
    #[must_use]
    pub fn batches(&self) -> Batches<'_> {
        Batches(self)
    }
}

impl Batches<'_> {
    /// Stores a new batch of the tenant's. False: its project has `most` that haven't ended.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the tenant's ids don't belong together.
    pub async fn create(&self, tenant: Tenant, batch: &Batch, most: i64) -> Result<bool, StorageError> {
        Ok(transaction!(self.0, Access::Write, Scope::Organization(tenant.organization), |tx| {
            let open: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM batches WHERE organization_id = $1 AND project_id = $2 AND ended_at IS NULL",
            )
            .bind(tenant.organization.to_string())
            .bind(tenant.project.to_string())
            .fetch_one(&mut *tx)
            .await?;
            if open < most {
                sqlx::query(
                    "INSERT INTO batches (id, organization_id, project_id, environment_id, key_id, endpoint,
                        input_file_id, metadata, status, created_at, expires_at, connection_id)
                     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 'validating', $9, $10, $11)",
                )
                .bind(batch.id.to_string())
                .bind(tenant.organization.to_string())
                .bind(tenant.project.to_string())
                .bind(tenant.environment.to_string())
                .bind(batch.key.to_string())
                .bind(&batch.endpoint)
                .bind(batch.input.to_string())
                .bind(batch.metadata.to_string())
                .bind(batch.created_at)
                .bind(batch.expires_at)
                .bind(batch.connection.as_deref())
                .execute(&mut *tx)
                .await?;
            }
            open < most
        }))
    }

    /// Reads a project's batch.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the project has none of this id.
    pub async fn get(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        id: BatchId,
    ) -> Result<Batch, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            read_one!(tx, organization, project, id)
        })
        .try_into()
    }

    /// Lists a project's batches, the newest first.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        page: Page<BatchId>,
    ) -> Result<Vec<Batch>, StorageError> {
        let (after, limit) = page.bounds();
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "SELECT ",
                columns!(),
                " FROM batches WHERE organization_id = $1 AND project_id = $2 AND ($3 = '' OR id < $3)
                 ORDER BY id DESC LIMIT $4"
            ))
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(&after)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?
        })
        .into_iter()
        .map(Batch::try_from)
        .collect()
    }

    /// Whether a batch that hasn't ended has this file for its lines.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn uses(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        file: FileId,
    ) -> Result<bool, StorageError> {
        let open: i64 = transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_scalar(
                "SELECT count(*) FROM batches
                 WHERE organization_id = $1 AND project_id = $2 AND input_file_id = $3 AND ended_at IS NULL",
            )
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(file.to_string())
            .fetch_one(&mut *tx)
            .await?
        });
        Ok(open > 0)
    }

    /// Ends a project's batch, as soon as what is under way is done. One that is ending or has ended stays as it is.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the project has none of this id.
    pub async fn cancel(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        id: BatchId,
        now: DateTime<Utc>,
    ) -> Result<Batch, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query(
                "UPDATE batches SET status = 'cancelling', cancelling_at = $4, poll_at = NULL
                 WHERE organization_id = $1 AND project_id = $2 AND id = $3 AND status IN ('validating', 'in_progress')",
            )
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(id.to_string())
            .bind(now)
            .execute(&mut *tx)
            .await?;
            read_one!(tx, organization, project, id)
        })
        .try_into()
    }
}
