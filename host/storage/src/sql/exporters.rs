//! How far each exporter has come with each project's observations.
//!
//! A [`Cursor`] is written by whoever has its lease, and by nobody else: every change names the holder. It is durable before
//! the receiver has seen the batch that it is about ([`begin`](Exporters::begin)), and moves on after the receiver has it
//! ([`advance`](Exporters::advance)): a server that dies in between leaves the batch to be sent again, the same one.

use brokle_core::ids::{OrganizationId, ProjectId};
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope, SystemErrand};
use super::{Database, Page, StorageError, transaction};
use crate::observations::Mark;

/// Whose observations, and where they go.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CursorKey {
    /// Whose they are.
    pub organization: OrganizationId,
    /// The organization's project.
    pub project: ProjectId,
    /// The configured exporter's name.
    pub exporter: String,
}

/// How far it has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    /// Everything up to here is with the receiver, or was passed over.
    pub position: Mark,
    /// Where the batch ends that is being sent; none: nothing is.
    pub pending: Option<Mark>,
    /// Since when that is.
    pub pending_since: Option<DateTime<Utc>>,
    /// How often it was tried in vain.
    pub attempts: i64,
    /// Not before this time.
    pub retry_at: Option<DateTime<Utc>>,
    /// Why the last try failed; none after one that didn't.
    pub last_error: Option<String>,
    /// Observations that the receiver has.
    pub exported: i64,
    /// Observations that the receiver took a batch without.
    pub rejected: i64,
    /// Observations that the receiver never would take, alone.
    pub passed_over: i64,
}

/// What a step adds to a cursor's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// The receiver has them.
    pub exported: i64,
    /// The receiver took a batch without them.
    pub rejected: i64,
    /// They were passed over.
    pub passed_over: i64,
}

#[derive(sqlx::FromRow)]
struct Row {
    position: String,
    pending: Option<String>,
    pending_since: Option<DateTime<Utc>>,
    attempts: i64,
    retry_at: Option<DateTime<Utc>>,
    last_error: Option<String>,
    exported: i64,
    rejected: i64,
    passed_over: i64,
}

macro_rules! columns {
    () => {
        "position, pending, pending_since, attempts, retry_at, last_error, exported, rejected, passed_over"
    };
}

impl TryFrom<Row> for Cursor {
    type Error = StorageError;

    fn try_from(row: Row) -> Result<Self, StorageError> {
        let mark = |text: &str| serde_json::from_str(text).map_err(StorageError::corrupt);
        Ok(Self {
            position: mark(&row.position)?,
            pending: row.pending.as_deref().map(mark).transpose()?,
            pending_since: row.pending_since,
            attempts: row.attempts,
            retry_at: row.retry_at,
            last_error: row.last_error,
            exported: row.exported,
            rejected: row.rejected,
            passed_over: row.passed_over,
        })
    }
}

fn text(mark: &Mark) -> Result<String, StorageError> {
    serde_json::to_string(mark).map_err(StorageError::corrupt)
}

/// The table of exporters' cursors.
#[derive(Clone, Copy, Debug)]
pub struct Exporters<'a>(&'a Database);

impl Database {
    /// The table of exporters' cursors.
    #[must_use]
    pub fn exporters(&self) -> Exporters<'_> {
        Exporters(self)
    }
}

impl Exporters<'_> {
    /// Every project there is, with its organization and when it was made: an errand of the server itself.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn projects(
        &self,
        page: Page<ProjectId>,
    ) -> Result<Vec<(OrganizationId, ProjectId, DateTime<Utc>)>, StorageError> {
        let (after, limit) = page.bounds();
        let rows: Vec<(String, String, DateTime<Utc>)> =
            transaction!(self.0, Access::Read, Scope::System(SystemErrand::Exporters), |tx| {
                sqlx::query_as(
                    "SELECT organization_id, id, created_at FROM projects WHERE id > $1 ORDER BY id LIMIT $2",
                )
                .bind(&after)
                .bind(limit)
                .fetch_all(&mut *tx)
                .await?
            });
        let ids = |(organization, project, created_at): (String, String, DateTime<Utc>)| {
            let organization = organization.parse().map_err(StorageError::corrupt)?;
            Ok((organization, project.parse().map_err(StorageError::corrupt)?, created_at))
        };
        rows.into_iter().map(ids).collect()
    }

    /// When an exporter of this name got its first cursor, in whichever project; none: it never had one.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn since(&self, exporter: &str) -> Result<Option<DateTime<Utc>>, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::System(SystemErrand::Exporters), |tx| {
            sqlx::query_scalar(
                "SELECT created_at FROM exporter_cursors WHERE exporter = $1 ORDER BY created_at LIMIT 1",
            )
            .bind(exporter)
            .fetch_optional(&mut *tx)
            .await?
        }))
    }

    /// The cursor; none: it was never made.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn get(&self, key: &CursorKey) -> Result<Option<Cursor>, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(key.organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "SELECT ",
                columns!(),
                " FROM exporter_cursors WHERE organization_id = $1 AND project_id = $2 AND exporter = $3"
            ))
            .bind(key.organization.to_string())
            .bind(key.project.to_string())
            .bind(&key.exporter)
            .fetch_optional(&mut *tx)
            .await?
        })
        .map(Cursor::try_from)
        .transpose()
    }

    /// Makes a cursor that begins there; one that is there already stays as it is.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has no such project.
    pub async fn create(
        &self,
        key: &CursorKey,
        position: &Mark,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let position = text(position)?;
        transaction!(self.0, Access::Write, Scope::Organization(key.organization), |tx| {
            sqlx::query(
                "INSERT INTO exporter_cursors (organization_id, project_id, exporter, position, created_at, updated_at)
                 VALUES ($1, $2, $3, $4, $5, $5) ON CONFLICT (organization_id, project_id, exporter) DO NOTHING",
            )
            .bind(key.organization.to_string())
            .bind(key.project.to_string())
            .bind(&key.exporter)
            .bind(&position)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        });
        Ok(())
    }

    /// Takes the lease until then, or keeps it; none: somebody else has it, or there is no such cursor.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn lease(
        &self,
        key: &CursorKey,
        holder: &str,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Cursor>, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(key.organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "UPDATE exporter_cursors SET lease_holder = $4, leased_until = $6
                 WHERE organization_id = $1 AND project_id = $2 AND exporter = $3
                   AND (lease_holder = $4 OR leased_until IS NULL OR leased_until < $5) RETURNING ",
                columns!()
            ))
            .bind(key.organization.to_string())
            .bind(key.project.to_string())
            .bind(&key.exporter)
            .bind(holder)
            .bind(now)
            .bind(until)
            .fetch_optional(&mut *tx)
            .await?
        })
        .map(Cursor::try_from)
        .transpose()
    }

    /// Gives the lease back.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn release(&self, key: &CursorKey, holder: &str) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(key.organization), |tx| {
            sqlx::query(
                "UPDATE exporter_cursors SET lease_holder = NULL, leased_until = NULL
                 WHERE organization_id = $1 AND project_id = $2 AND exporter = $3 AND lease_holder = $4",
            )
            .bind(key.organization.to_string())
            .bind(key.project.to_string())
            .bind(&key.exporter)
            .bind(holder)
            .execute(&mut *tx)
            .await?;
        });
        Ok(())
    }

    /// The batch that ends there is about to be sent.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's.
    pub async fn begin(
        &self,
        key: &CursorKey,
        holder: &str,
        pending: &Mark,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let pending = text(pending)?;
        let done: Option<String> =
            transaction!(self.0, Access::Write, Scope::Organization(key.organization), |tx| {
                sqlx::query_scalar(
                    "UPDATE exporter_cursors SET pending = $5, pending_since = $6, updated_at = $6
                     WHERE organization_id = $1 AND project_id = $2 AND exporter = $3 AND lease_holder = $4
                     RETURNING exporter",
                )
                .bind(key.organization.to_string())
                .bind(key.project.to_string())
                .bind(&key.exporter)
                .bind(holder)
                .bind(&pending)
                .bind(now)
                .fetch_optional(&mut *tx)
                .await?
            });
        done.map(drop).ok_or(StorageError::NotFound)
    }

    /// Everything up to there is done; `finished`: with it the batch that was being sent.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's.
    pub async fn advance(
        &self,
        key: &CursorKey,
        holder: &str,
        position: &Mark,
        finished: bool,
        counts: Counts,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let position = text(position)?;
        let done: Option<String> =
            transaction!(self.0, Access::Write, Scope::Organization(key.organization), |tx| {
                sqlx::query_scalar(
                    "UPDATE exporter_cursors SET position = $5,
                        pending = CASE WHEN $6 THEN NULL ELSE pending END,
                        pending_since = CASE WHEN $6 THEN NULL ELSE pending_since END,
                        attempts = 0, retry_at = NULL, last_error = NULL,
                        exported = exported + $7, rejected = rejected + $8, passed_over = passed_over + $9,
                        updated_at = $10
                     WHERE organization_id = $1 AND project_id = $2 AND exporter = $3 AND lease_holder = $4
                     RETURNING exporter",
                )
                .bind(key.organization.to_string())
                .bind(key.project.to_string())
                .bind(&key.exporter)
                .bind(holder)
                .bind(&position)
                .bind(finished)
                .bind(counts.exported)
                .bind(counts.rejected)
                .bind(counts.passed_over)
                .bind(now)
                .fetch_optional(&mut *tx)
                .await?
            });
        done.map(drop).ok_or(StorageError::NotFound)
    }

    /// A try failed: not again before then.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's.
    pub async fn fail(
        &self,
        key: &CursorKey,
        holder: &str,
        retry_at: DateTime<Utc>,
        error: &str,
        now: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        let done: Option<String> = transaction!(
            self.0,
            Access::Write,
            Scope::Organization(key.organization),
            |tx| {
                sqlx::query_scalar(
                    "UPDATE exporter_cursors SET attempts = attempts + 1, retry_at = $5, last_error = $6, updated_at = $7
                     WHERE organization_id = $1 AND project_id = $2 AND exporter = $3 AND lease_holder = $4
                     RETURNING exporter",
                )
                .bind(key.organization.to_string())
                .bind(key.project.to_string())
                .bind(&key.exporter)
                .bind(holder)
                .bind(retry_at)
                .bind(error)
                .bind(now)
                .fetch_optional(&mut *tx)
                .await?
            }
        );
        done.map(drop).ok_or(StorageError::NotFound)
    }
}
