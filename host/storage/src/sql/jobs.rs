//! Work that one of several processes does at a time, and not more often than it must.

use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope};
use super::{Database, StorageError, transaction};

/// The table of jobs.
#[derive(Clone, Copy, Debug)]
pub struct Jobs<'a>(&'a Database);

impl Database {
    /// The table of jobs.
    #[must_use]
    pub fn jobs(&self) -> Jobs<'_> {
        Jobs(self)
    }
}

impl Jobs<'_> {
    /// Takes the job's lease until then, if nobody else has it and nobody ended it after `due`. False: it isn't this process'
    /// turn.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn take(
        &self,
        name: &str,
        holder: &str,
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        due: DateTime<Utc>,
    ) -> Result<bool, StorageError> {
        let taken: Option<String> = transaction!(self.0, Access::Write, Scope::Untenanted, |tx| {
            sqlx::query_scalar(
                "INSERT INTO jobs (name, lease_holder, leased_until) VALUES ($1, $2, $4)
                 ON CONFLICT (name) DO UPDATE
                 SET lease_holder = excluded.lease_holder, leased_until = excluded.leased_until
                 WHERE jobs.leased_until <= $3 AND (jobs.ended_at IS NULL OR jobs.ended_at <= $5)
                 RETURNING name",
            )
            .bind(name)
            .bind(holder)
            .bind(now)
            .bind(until)
            .bind(due)
            .fetch_optional(&mut *tx)
            .await?
        });
        Ok(taken.is_some())
    }

    /// The holder gives the lease back: the job is done until it is due again.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn end(&self, name: &str, holder: &str, now: DateTime<Utc>) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::Untenanted, |tx| {
            sqlx::query(
                "UPDATE jobs SET leased_until = $3, ended_at = $3 WHERE name = $1 AND lease_holder = $2",
            )
            .bind(name)
            .bind(holder)
            .bind(now)
            .execute(&mut *tx)
            .await?;
        });
        Ok(())
    }
}
