//! What the two databases say differently: how a transaction begins, who it is for, and what keeps two of them apart.

use brokle_core::ids::OrganizationId;
use sqlx::{PgPool, Postgres, Sqlite, SqlitePool, Transaction};

use super::StorageError;

/// Whose rows a transaction may see; PostgreSQL's row-level security holds it to that.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Scope {
    /// One organization's.
    Organization(OrganizationId),
    /// Those that one errand of the server itself needs.
    System(SystemErrand),
    /// None: tables without tenants only.
    Untenanted,
}

/// The errands that come before the organization is known, or are the instance's own. What each may do is in the
/// migrations; none writes an organization's rows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SystemErrand {
    /// Finds out who a presented API key belongs to.
    KeyLookup,
    /// Finds out whether the default organization and any key are there.
    Bootstrap,
    /// Reads what every organization has spent of its budgets.
    Budgets,
    /// Keeps the catalogue of components: reads what every scope says, writes what the instance says.
    Plugins,
    /// Finds batches that are to be worked on, and files that are to be forgotten.
    Batches,
    /// Finds the projects whose observations are to be exported.
    Exporters,
    /// Reads how long projects keep their telemetry; keeps the list of the deleted ones.
    Retention,
}

impl SystemErrand {
    /// The value of `brokle.system` that the policies know.
    fn setting(self) -> &'static str {
        match self {
            Self::KeyLookup => "key_lookup",
            Self::Bootstrap => "bootstrap",
            Self::Budgets => "budgets",
            Self::Plugins => "plugins",
            Self::Batches => "batches",
            Self::Exporters => "exporters",
            Self::Retention => "retention",
        }
    }
}

/// What a transaction does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// Reads; PostgreSQL refuses a write in it.
    Read,
    /// Writes; SQLite takes its one write lock at the beginning.
    Write,
}

/// What a transaction is asked for beyond SQL that both databases understand.
pub(crate) trait Dialect {
    /// Sets whose rows are seen from here to the transaction's end.
    async fn enter(&mut self, scope: Scope) -> Result<(), StorageError>;
    /// Holds off every other transaction that takes the lock of the same number, until this one ends.
    async fn lock(&mut self, number: i64) -> Result<(), StorageError>;
    /// Is there a table of this name?
    async fn has_table(&mut self, name: &'static str) -> Result<bool, StorageError>;
    /// Creates `schema_migrations` where it isn't there yet.
    async fn create_history(&mut self) -> Result<(), StorageError>;
}

pub(crate) async fn begin_sqlite(
    pool: &SqlitePool,
    access: Access,
) -> Result<Transaction<'static, Sqlite>, StorageError> {
    let statement = match access {
        Access::Read => "BEGIN",
        Access::Write => "BEGIN IMMEDIATE",
    };
    Ok(pool.begin_with(statement).await?)
}

pub(crate) async fn begin_postgres(
    pool: &PgPool,
    access: Access,
    scope: Scope,
) -> Result<Transaction<'static, Postgres>, StorageError> {
    let statement = match access {
        Access::Read => "BEGIN READ ONLY",
        Access::Write => "BEGIN",
    };
    let mut transaction = pool.begin_with(statement).await?;
    if !matches!(scope, Scope::Untenanted) {
        transaction.enter(scope).await?;
    }
    Ok(transaction)
}

impl Dialect for Transaction<'_, Sqlite> {
    /// SQLite knows no roles: the tenant argument of the query is the only lock.
    async fn enter(&mut self, _: Scope) -> Result<(), StorageError> {
        Ok(())
    }

    /// A writing transaction already is the only one.
    async fn lock(&mut self, _: i64) -> Result<(), StorageError> {
        Ok(())
    }

    async fn has_table(&mut self, name: &'static str) -> Result<bool, StorageError> {
        let text = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1)";
        Ok(sqlx::query_scalar(text).bind(name).fetch_one(&mut **self).await?)
    }

    async fn create_history(&mut self) -> Result<(), StorageError> {
        let text = "CREATE TABLE IF NOT EXISTS schema_migrations (
            version INTEGER NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at TEXT NOT NULL
        ) STRICT";
        sqlx::query(text).execute(&mut **self).await?;
        Ok(())
    }
}

impl Dialect for Transaction<'_, Postgres> {
    async fn enter(&mut self, scope: Scope) -> Result<(), StorageError> {
        let (organization, system) = match scope {
            Scope::Organization(organization) => (organization.to_string(), ""),
            Scope::System(errand) => (String::new(), errand.setting()),
            Scope::Untenanted => (String::new(), ""),
        };
        sqlx::query(
            "SELECT set_config('brokle.organization_id', $1, true), set_config('brokle.system', $2, true)",
        )
        .bind(organization)
        .bind(system)
        .execute(&mut **self)
        .await?;
        Ok(())
    }

    async fn lock(&mut self, number: i64) -> Result<(), StorageError> {
        sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(number).execute(&mut **self).await?;
        Ok(())
    }

    async fn has_table(&mut self, name: &'static str) -> Result<bool, StorageError> {
        let text = "SELECT to_regclass($1) IS NOT NULL";
        Ok(sqlx::query_scalar(text).bind(name).fetch_one(&mut **self).await?)
    }

    async fn create_history(&mut self) -> Result<(), StorageError> {
        let text = "CREATE TABLE IF NOT EXISTS schema_migrations (
            version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL,
            applied_at TIMESTAMPTZ NOT NULL
        )";
        sqlx::query(text).execute(&mut **self).await?;
        Ok(())
    }
}
