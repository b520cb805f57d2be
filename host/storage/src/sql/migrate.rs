//! The schema's history: numbered pairs of files in `migrations/{sqlite,postgres}/`, carried in the binary.
//! (`migrations/clickhouse/` has a [migrator](crate::observations::clickhouse::Migrator) of its own.)
//!
//! - Each step runs in a transaction together with its record in `schema_migrations`, so a step happened or didn't; there
//!   is no half-applied state to repair.
//! - Several servers may start at once: a step begins by taking a lock (an advisory one on PostgreSQL, the write lock on
//!   SQLite) and then looks again at what is applied. A SQLite starter waits for [`BUSY_TIMEOUT`](super::BUSY_TIMEOUT).
//! - The record keeps the SHA-256 of the `up` file. A file that was changed after it was applied is an error that names
//!   it; so is a record that this binary doesn't know, since an older binary must not run on a newer schema.

mod history;
mod report;

use brokle_core::clock::{Clock, SystemClock};

use super::dialect::{Access, Dialect, Scope};
use super::{Database, transaction};
pub use history::Migration;
pub(crate) use history::{Record, compare, step, todo, verify};
pub use report::{Direction, MigrateError, MigrationInfo, MigrationState, MigrationStatus, Step};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// "brokle" in ASCII: the advisory lock's number on PostgreSQL.
const LOCK: i64 = 0x6272_6f6b_6c65;

/// Brings a database's schema up and down.
#[derive(Debug)]
pub struct Migrator<'a> {
    database: &'a Database,
    migrations: &'a [Migration],
}

/// Reads `schema_migrations` in the transaction at hand; a database without it has nothing applied.
macro_rules! applied {
    ($tx:ident) => {
        if $tx.has_table("schema_migrations").await? {
            let text = "SELECT version, name, checksum, applied_at FROM schema_migrations ORDER BY version";
            sqlx::query_as::<_, Record>(text).fetch_all(&mut *$tx).await?
        } else {
            Vec::new()
        }
    };
}

/// Writes down, in the transaction at hand, that a migration is applied with the file that it has now.
macro_rules! record {
    ($tx:ident, $migration:expr) => {
        sqlx::query(
            "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (version) DO UPDATE SET name = excluded.name, checksum = excluded.checksum",
        )
        .bind(i64::from($migration.version))
        .bind($migration.name)
        .bind($migration.checksum())
        .bind(SystemClock.now())
        .execute(&mut *$tx)
        .await?
    };
}

impl<'a> Migrator<'a> {
    /// A migrator with the migrations that the binary carries for this kind of database.
    #[must_use]
    pub fn new(database: &'a Database) -> Self {
        let migrations = match database {
            Database::Sqlite(_) => SQLITE,
            Database::Postgres(_) => POSTGRES,
        };
        Self::with_migrations(database, migrations)
    }

    /// A migrator with other migrations, in the order of their versions.
    #[must_use]
    pub fn with_migrations(database: &'a Database, migrations: &'a [Migration]) -> Self {
        Self { database, migrations }
    }

    /// Where every migration stands, those that only the database knows included, in the order of their versions.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn status(&self) -> Result<Vec<MigrationStatus>, MigrateError> {
        let applied = transaction!(self.database, Access::Read, Scope::Untenanted, |tx| applied!(tx));
        Ok(compare(self.database.kind(), self.migrations, &applied))
    }

    /// The schema in one line.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn info(&self) -> Result<MigrationInfo, MigrateError> {
        let status = self.status().await?;
        let pending = status.iter().filter(|line| line.state == MigrationState::Pending).count();
        let current =
            status.iter().filter(|line| line.state != MigrationState::Pending).map(|line| line.version).max();
        let latest = self.migrations.iter().map(|migration| migration.version).max();
        Ok(MigrationInfo {
            database: self.database.kind(),
            current: current.unwrap_or_default(),
            latest: latest.unwrap_or_default(),
            pending,
        })
    }

    /// Applies what is pending, `steps` migrations at most, and answers how many it applied (in a dry run: would apply).
    /// `progress` hears of each one after it is committed.
    ///
    /// # Errors
    /// When an applied migration was changed or is unknown, or one fails; those before it stay applied.
    pub async fn up(
        &self,
        steps: Option<u32>,
        dry_run: bool,
        progress: impl FnMut(&Step),
    ) -> Result<u32, MigrateError> {
        self.walk(Direction::Up, steps, dry_run, progress).await
    }

    /// Takes back what is applied, the newest first, `steps` migrations at most (`None` empties the database), and
    /// answers how many. `progress` hears of each one after it is committed.
    ///
    /// # Errors
    /// As for [`up`](Self::up).
    pub async fn down(
        &self,
        steps: Option<u32>,
        dry_run: bool,
        progress: impl FnMut(&Step),
    ) -> Result<u32, MigrateError> {
        self.walk(Direction::Down, steps, dry_run, progress).await
    }

    /// Declares the schema to be at `version` without running anything: everything up to it counts as applied with the
    /// files as they are now, nothing beyond it does. For an operator who has repaired a schema by hand.
    ///
    /// # Errors
    /// When no migration has this number (0 declares the database empty), or the database can't be written.
    pub async fn force(&self, version: u32) -> Result<(), MigrateError> {
        if version != 0 && !self.migrations.iter().any(|migration| migration.version == version) {
            return Err(MigrateError::NoSuchVersion(version));
        }
        transaction!(self.database, Access::Write, Scope::Untenanted, |tx| {
            tx.lock(LOCK).await?;
            tx.create_history().await?;
            sqlx::query("DELETE FROM schema_migrations WHERE version > $1")
                .bind(i64::from(version))
                .execute(&mut *tx)
                .await?;
            for migration in self.migrations.iter().filter(|migration| migration.version <= version) {
                record!(tx, migration);
            }
        });
        Ok(())
    }

    async fn walk(
        &self,
        direction: Direction,
        steps: Option<u32>,
        dry_run: bool,
        mut progress: impl FnMut(&Step),
    ) -> Result<u32, MigrateError> {
        let most = steps.unwrap_or(u32::MAX);
        if dry_run {
            let applied = transaction!(self.database, Access::Read, Scope::Untenanted, |tx| applied!(tx));
            verify(self.migrations, &applied)?;
            let mut count = 0;
            for migration in todo(self.migrations, direction, &applied).into_iter().take(most as usize) {
                progress(&step(self.database.kind(), migration, direction, true));
                count += 1;
            }
            return Ok(count);
        }
        let mut count = 0;
        while count < most {
            let Some(migration) = self.step(direction).await? else { break };
            progress(&step(self.database.kind(), migration, direction, false));
            count += 1;
        }
        Ok(count)
    }

    /// Runs the next migration, if there is one.
    async fn step(&self, direction: Direction) -> Result<Option<&'a Migration>, MigrateError> {
        Ok(transaction!(self.database, Access::Write, Scope::Untenanted, |tx| {
            tx.lock(LOCK).await?;
            let applied = applied!(tx);
            verify(self.migrations, &applied)?;
            let next = todo(self.migrations, direction, &applied).first().copied();
            if let Some(migration) = next {
                sqlx::raw_sql(migration.sql(direction)).execute(&mut *tx).await.map_err(|source| {
                    MigrateError::Failed { version: migration.version, name: migration.name, source }
                })?;
                match direction {
                    Direction::Up => {
                        tx.create_history().await?;
                        record!(tx, migration);
                    }
                    Direction::Down => {
                        sqlx::query("DELETE FROM schema_migrations WHERE version = $1")
                            .bind(i64::from(migration.version))
                            .execute(&mut *tx)
                            .await?;
                    }
                }
            }
            next
        }))
    }
}
