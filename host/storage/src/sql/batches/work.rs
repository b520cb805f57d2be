//! What a server writes that works on a batch, under its lease.

use brokle_core::ids::{BatchId, OrganizationId};
use brokle_core::money::Usd;
use chrono::{DateTime, Utc};

use super::{Batch, BatchLine, BatchStatus, Batches, Row};
use crate::sql::budgets::{SpendKey, add_spend};
use crate::sql::dialect::{Access, Scope, SystemErrand};
use crate::sql::files::{File, insert_file};
use crate::sql::{StorageError, transaction};

/// Who works on a batch.
#[derive(Clone, Debug)]
pub struct Lease {
    /// Whose batch it is.
    pub organization: OrganizationId,
    /// Which.
    pub batch: BatchId,
    /// The server, by a name that no other process has.
    pub holder: String,
}

/// What a provider says of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Where it is; one that is being cancelled here stays so.
    pub status: BatchStatus,
    /// Lines, and how many of them have a good answer, and another one.
    pub counts: (i64, i64, i64),
    /// When it was seen at work, if it is.
    pub in_progress_at: Option<DateTime<Utc>>,
    /// When it was seen to have asked its last line, if it has.
    pub finalizing_at: Option<DateTime<Utc>>,
}

/// How a batch ends.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// As what.
    pub status: BatchStatus,
    /// What is wrong with it: a JSON array.
    pub errors: &'a serde_json::Value,
    /// The file of good answers.
    pub output: Option<&'a File>,
    /// The file of others.
    pub failures: Option<&'a File>,
    /// What budgets are charged with it: at the same time, so that whoever ends it after a crash charges nothing twice.
    pub spent: &'a [(SpendKey, Usd)],
}

impl Batches<'_> {
    /// The next batch, of whichever organization, that nobody works on: of the project that has the fewest at work, and fewer
    /// than `most`, the oldest.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn next(
        &self,
        now: DateTime<Utc>,
        most: i64,
    ) -> Result<Option<(OrganizationId, BatchId)>, StorageError> {
        let row: Option<(String, String)> =
            transaction!(self.0, Access::Read, Scope::System(SystemErrand::Batches), |tx| {
                sqlx::query_as(
                    "SELECT organization_id, id FROM (
                        SELECT b.organization_id, b.id, (
                            SELECT count(*) FROM batches r
                            WHERE r.organization_id = b.organization_id AND r.project_id = b.project_id
                              AND r.ended_at IS NULL AND r.leased_until >= $1
                        ) AS at_work
                        FROM batches b
                        WHERE b.ended_at IS NULL AND (b.leased_until IS NULL OR b.leased_until < $1)
                          AND (b.poll_at IS NULL OR b.poll_at <= $1)
                     ) AS waiting WHERE at_work < $2 ORDER BY at_work, id LIMIT 1",
                )
                .bind(now)
                .bind(most)
                .fetch_optional(&mut *tx)
                .await?
            });
        row.map(|(organization, id)| {
            Ok((
                organization.parse().map_err(StorageError::corrupt)?,
                id.parse().map_err(StorageError::corrupt)?,
            ))
        })
        .transpose()
    }

    /// Takes the lease until then, or keeps it; none: somebody else has it, or the batch has ended.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn lease(
        &self,
        lease: &Lease,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Option<Batch>, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(lease.organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "UPDATE batches SET lease_holder = $3, leased_until = $5
                 WHERE organization_id = $1 AND id = $2 AND ended_at IS NULL
                   AND (lease_holder = $3 OR leased_until IS NULL OR leased_until < $4) RETURNING ",
                columns!()
            ))
            .bind(lease.organization.to_string())
            .bind(lease.batch.to_string())
            .bind(&lease.holder)
            .bind(now)
            .bind(until)
            .fetch_optional(&mut *tx)
            .await?
        })
        .map(Batch::try_from)
        .transpose()
    }

    /// Gives the lease back, for somebody else to go on.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn release(&self, lease: &Lease) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(lease.organization), |tx| {
            sqlx::query(
                "UPDATE batches SET leased_until = NULL, lease_holder = NULL
                 WHERE organization_id = $1 AND id = $2 AND lease_holder = $3",
            )
            .bind(lease.organization.to_string())
            .bind(lease.batch.to_string())
            .bind(&lease.holder)
            .execute(&mut *tx)
            .await?;
        });
        Ok(())
    }

    /// Gives the lease back; nobody is to ask about it before `until`, unless somebody has cancelled it since it was read to
    /// be in this state.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn ask_again(
        &self,
        lease: &Lease,
        seen: BatchStatus,
        until: DateTime<Utc>,
    ) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(lease.organization), |tx| {
            sqlx::query(
                "UPDATE batches SET leased_until = NULL, lease_holder = NULL,
                    poll_at = CASE WHEN status = $5 THEN $4 END
                 WHERE organization_id = $1 AND id = $2 AND lease_holder = $3",
            )
            .bind(lease.organization.to_string())
            .bind(lease.batch.to_string())
            .bind(&lease.holder)
            .bind(until)
            .bind(seen.as_str())
            .execute(&mut *tx)
            .await?;
        });
        Ok(())
    }

    /// What a provider calls a batch. Empty: it is about to be asked for it; none: it wasn't made.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's.
    pub async fn name(&self, lease: &Lease, vendor_id: Option<&str>) -> Result<(), StorageError> {
        let named: Option<String> = transaction!(
            self.0,
            Access::Write,
            Scope::Organization(lease.organization),
            |tx| {
                sqlx::query_scalar(
                    "UPDATE batches SET vendor_id = $4
                     WHERE organization_id = $1 AND id = $2 AND lease_holder = $3 AND ended_at IS NULL RETURNING id",
                )
                .bind(lease.organization.to_string())
                .bind(lease.batch.to_string())
                .bind(&lease.holder)
                .bind(vendor_id)
                .fetch_optional(&mut *tx)
                .await?
            }
        );
        named.map(drop).ok_or(StorageError::NotFound)
    }

    /// Notes what the provider says of a batch that it works on.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's.
    pub async fn progress(&self, lease: &Lease, progress: &Progress) -> Result<Batch, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(lease.organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "UPDATE batches SET status = CASE WHEN status = 'cancelling' THEN status ELSE $4 END,
                    total = $5, completed = $6, failed = $7,
                    in_progress_at = coalesce(in_progress_at, $8), finalizing_at = coalesce(finalizing_at, $9)
                 WHERE organization_id = $1 AND id = $2 AND lease_holder = $3 AND ended_at IS NULL RETURNING ",
                columns!()
            ))
            .bind(lease.organization.to_string())
            .bind(lease.batch.to_string())
            .bind(&lease.holder)
            .bind(progress.status.as_str())
            .bind(progress.counts.0)
            .bind(progress.counts.1)
            .bind(progress.counts.2)
            .bind(progress.in_progress_at)
            .bind(progress.finalizing_at)
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
    }

    /// Its file was read, and has so many lines. One that is being ended goes on ending.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's.
    pub async fn begin(&self, lease: &Lease, total: i64, now: DateTime<Utc>) -> Result<(), StorageError> {
        let begun: Option<String> = transaction!(
            self.0,
            Access::Write,
            Scope::Organization(lease.organization),
            |tx| {
                sqlx::query_scalar(
                    "UPDATE batches SET total = $4, in_progress_at = coalesce(in_progress_at, $5),
                        status = CASE WHEN status = 'validating' THEN 'in_progress' ELSE status END
                     WHERE organization_id = $1 AND id = $2 AND lease_holder = $3 AND ended_at IS NULL RETURNING id",
                )
                .bind(lease.organization.to_string())
                .bind(lease.batch.to_string())
                .bind(&lease.holder)
                .bind(total)
                .bind(now)
                .fetch_optional(&mut *tx)
                .await?
            }
        );
        begun.map(drop).ok_or(StorageError::NotFound)
    }

    /// Stores a line's answer and counts it.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's, [`StorageError::Conflict`] when the line has an answer.
    pub async fn answer(&self, lease: &Lease, line: &BatchLine) -> Result<(), StorageError> {
        let (good, other) = (i64::from(line.succeeded), i64::from(!line.succeeded));
        transaction!(self.0, Access::Write, Scope::Organization(lease.organization), |tx| {
            let counted: Option<String> = sqlx::query_scalar(
                "UPDATE batches SET completed = completed + $4, failed = failed + $5
                 WHERE organization_id = $1 AND id = $2 AND lease_holder = $3 AND ended_at IS NULL RETURNING id",
            )
            .bind(lease.organization.to_string())
            .bind(lease.batch.to_string())
            .bind(&lease.holder)
            .bind(good)
            .bind(other)
            .fetch_optional(&mut *tx)
            .await?;
            counted.ok_or(StorageError::NotFound)?;
            sqlx::query(
                "INSERT INTO batch_lines (organization_id, batch_id, line, succeeded, result)
                 VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(lease.organization.to_string())
            .bind(lease.batch.to_string())
            .bind(line.line)
            .bind(line.succeeded)
            .bind(&line.result)
            .execute(&mut *tx)
            .await?;
        });
        Ok(())
    }

    /// The lines that have an answer.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn answered(
        &self,
        organization: OrganizationId,
        id: BatchId,
    ) -> Result<Vec<i64>, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_scalar("SELECT line FROM batch_lines WHERE organization_id = $1 AND batch_id = $2")
                .bind(organization.to_string())
                .bind(id.to_string())
                .fetch_all(&mut *tx)
                .await?
        }))
    }

    /// Answers behind a line, in order: the good ones, or the others.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn answers(
        &self,
        organization: OrganizationId,
        id: BatchId,
        succeeded: bool,
        after: i64,
        limit: u32,
    ) -> Result<Vec<BatchLine>, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as(
                "SELECT line, succeeded, result FROM batch_lines
                 WHERE organization_id = $1 AND batch_id = $2 AND succeeded = $3 AND line > $4
                 ORDER BY line LIMIT $5",
            )
            .bind(organization.to_string())
            .bind(id.to_string())
            .bind(succeeded)
            .bind(after)
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?
        }))
    }

    /// No further line is asked.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's.
    pub async fn finalize(&self, lease: &Lease, now: DateTime<Utc>) -> Result<(), StorageError> {
        let done: Option<String> = transaction!(
            self.0,
            Access::Write,
            Scope::Organization(lease.organization),
            |tx| {
                sqlx::query_scalar(
                    "UPDATE batches SET finalizing_at = coalesce(finalizing_at, $4),
                        status = CASE WHEN status = 'cancelling' THEN status ELSE 'finalizing' END
                     WHERE organization_id = $1 AND id = $2 AND lease_holder = $3 AND ended_at IS NULL RETURNING id",
                )
                .bind(lease.organization.to_string())
                .bind(lease.batch.to_string())
                .bind(&lease.holder)
                .bind(now)
                .fetch_optional(&mut *tx)
                .await?
            }
        );
        done.map(drop).ok_or(StorageError::NotFound)
    }

    /// The batch ends so; the lines' rows are forgotten. What the budgets' sums are then, in the order of [`End::spent`].
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the lease is somebody else's, or a budget is another organization's.
    pub async fn end(
        &self,
        lease: &Lease,
        end: End<'_>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Usd>, StorageError> {
        let End { status, errors, output, failures, spent } = end;
        Ok(transaction!(self.0, Access::Write, Scope::Organization(lease.organization), |tx| {
            let ended: Option<String> = sqlx::query_scalar(
                "UPDATE batches SET status = $4, errors = $5, output_file_id = $6, error_file_id = $7, ended_at = $8,
                    lease_holder = NULL, leased_until = NULL
                 WHERE organization_id = $1 AND id = $2 AND lease_holder = $3 AND ended_at IS NULL RETURNING id",
            )
            .bind(lease.organization.to_string())
            .bind(lease.batch.to_string())
            .bind(&lease.holder)
            .bind(status.as_str())
            .bind(errors.to_string())
            .bind(output.map(|file| file.id.to_string()))
            .bind(failures.map(|file| file.id.to_string()))
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?;
            ended.ok_or(StorageError::NotFound)?;
            for file in [output, failures].into_iter().flatten() {
                insert_file!(tx, file, "processed");
            }
            sqlx::query("DELETE FROM batch_lines WHERE organization_id = $1 AND batch_id = $2")
                .bind(lease.organization.to_string())
                .bind(lease.batch.to_string())
                .execute(&mut *tx)
                .await?;
            add_spend!(tx, lease.organization, spent, now)
        }))
    }
}
