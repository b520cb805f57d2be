//! What the migrator tells: where migrations stand, what it did, and why it didn't.

use chrono::{DateTime, Utc};

use crate::observations::AnalyticsError;
use crate::sql::StorageError;

/// Where a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MigrationState {
    /// It ran, and its file is what it was then.
    Applied,
    /// It hasn't run yet.
    Pending,
    /// It ran, but its file has been changed since.
    Changed,
    /// It began and didn't end, which only ClickHouse knows: the next `up` runs it again.
    Dirty,
    /// It ran, but this binary doesn't have it: a newer one wrote it.
    Unknown,
}

/// A line of [`Migrator::status`](super::Migrator::status).
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MigrationStatus {
    /// `sqlite`, `postgres` or `clickhouse`.
    pub database: &'static str,
    /// Its number.
    pub version: u32,
    /// What it is about.
    pub name: String,
    /// Where it stands.
    pub state: MigrationState,
    /// When it ran, if it did.
    pub applied_at: Option<DateTime<Utc>>,
}

/// The schema in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct MigrationInfo {
    /// `sqlite`, `postgres` or `clickhouse`.
    pub database: &'static str,
    /// The highest version that is applied; 0 for an empty database.
    pub current: u32,
    /// The highest version that this binary carries.
    pub latest: u32,
    /// Migrations that haven't run yet.
    pub pending: usize,
}

/// Which of the two files runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Towards the newest schema.
    Up,
    /// Back towards an empty database; data goes with the tables.
    Down,
}

/// One file that ran, or in a dry run would run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Step {
    /// `sqlite`, `postgres` or `clickhouse`.
    pub database: &'static str,
    /// The migration's number.
    pub version: u32,
    /// What it is about.
    pub name: &'static str,
    /// Which of its files.
    pub direction: Direction,
    /// The statements.
    #[serde(skip)]
    pub sql: &'static str,
    /// Nothing was done.
    pub dry_run: bool,
}

/// Why the schema was left as it is.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// The database can't be read or written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// ClickHouse can't be read or written.
    #[error(transparent)]
    Analytics(#[from] AnalyticsError),
    /// An applied file was changed.
    #[error(
        "migration {version:04}_{name} was changed after it had been applied: put its file back and write a new \
         migration, or accept the file as it is with `brokle migrate force`"
    )]
    Changed {
        /// Its number.
        version: u32,
        /// What it is about.
        name: String,
    },
    /// The database is ahead of the binary.
    #[error(
        "migration {version:04}_{name} is applied but unknown: the database was migrated by a newer brokle"
    )]
    Unknown {
        /// Its number.
        version: u32,
        /// What it is about.
        name: String,
    },
    /// No migration has this number.
    #[error("there is no migration {0:04}")]
    NoSuchVersion(u32),
    /// The file's statements failed; the step was rolled back.
    #[error("migration {version:04}_{name} failed and was rolled back")]
    Failed {
        /// Its number.
        version: u32,
        /// What it is about.
        name: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The file's statements failed in a database without transactions.
    #[error("migration {version:04}_{name} failed half-way: mend what stopped it, and run it again")]
    BrokenOff {
        /// Its number.
        version: u32,
        /// What it is about.
        name: &'static str,
        /// What the database said.
        #[source]
        source: AnalyticsError,
    },
}

impl From<sqlx::Error> for MigrateError {
    fn from(error: sqlx::Error) -> Self {
        Self::Storage(error.into())
    }
}
