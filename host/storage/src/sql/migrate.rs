//! The schema's history: numbered pairs of files in `migrations/{sqlite,postgres}/`, carried in the binary.
//!
//! - Each step runs in a transaction together with its record in `schema_migrations`, so a step happened or didn't; there
//!   is no half-applied state to repair.
//! - Several servers may start at once: a step begins by taking a lock (an advisory one on PostgreSQL, the write lock on
//!   SQLite) and then looks again at what is applied. A SQLite starter waits for [`BUSY_TIMEOUT`](super::BUSY_TIMEOUT).
//! - The record keeps the SHA-256 of the `up` file. A file that was changed after it was applied is an error that names
//!   it; so is a record that this binary doesn't know, since an older binary must not run on a newer schema.

mod report;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use brokle_core::clock::{Clock, SystemClock};

use super::dialect::{Access, Dialect, Scope};
use super::{Database, transaction};
pub use report::{Direction, MigrateError, MigrationInfo, MigrationState, MigrationStatus, Step};

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// "brokle" in ASCII: the advisory lock's number on PostgreSQL.
const LOCK: i64 = 0x6272_6f6b_6c65;

/// One pair of files.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number; they run in this order.
    pub version: u32,
    /// What it is about: `0001_identity.up.sql` is `identity`.
    pub name: &'static str,
    /// The statements that apply it.
    pub up: &'static str,
    /// The statements that take it back, data included.
    pub down: &'static str,
}

impl Migration {
    fn checksum(&self) -> String {
        Sha256::digest(self.up).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// A row of `schema_migrations`.
#[derive(Debug, sqlx::FromRow)]
struct Record {
    version: i64,
    name: String,
    checksum: String,
    applied_at: DateTime<Utc>,
}

impl Record {
    fn version(&self) -> u32 {
        u32::try_from(self.version).unwrap_or(u32::MAX)
    }
}

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
        Ok(self.compare(&applied))
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
            self.verify(&applied)?;
            let mut count = 0;
            for migration in self.todo(direction, &applied).into_iter().take(most as usize) {
                progress(&step(migration, direction, true));
                count += 1;
            }
            return Ok(count);
        }
        let mut count = 0;
        while count < most {
            let Some(migration) = self.step(direction).await? else { break };
            progress(&step(migration, direction, false));
            count += 1;
        }
        Ok(count)
    }

    /// Runs the next migration, if there is one.
    async fn step(&self, direction: Direction) -> Result<Option<&'a Migration>, MigrateError> {
        Ok(transaction!(self.database, Access::Write, Scope::Untenanted, |tx| {
            tx.lock(LOCK).await?;
            let applied = applied!(tx);
            self.verify(&applied)?;
            let next = self.todo(direction, &applied).first().copied();
            if let Some(migration) = next {
                sqlx::raw_sql(step(migration, direction, false).sql).execute(&mut *tx).await.map_err(
                    |source| MigrateError::Failed {
                        version: migration.version,
                        name: migration.name,
                        source,
                    },
                )?;
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

    /// What lies ahead in this direction, the nearest first.
    fn todo(&self, direction: Direction, applied: &[Record]) -> Vec<&'a Migration> {
        let is_applied =
            |migration: &&Migration| applied.iter().any(|record| record.version() == migration.version);
        match direction {
            Direction::Up => self.migrations.iter().filter(|migration| !is_applied(migration)).collect(),
            Direction::Down => self.migrations.iter().rev().filter(is_applied).collect(),
        }
    }

    fn verify(&self, applied: &[Record]) -> Result<(), MigrateError> {
        for line in self.compare(applied) {
            let MigrationStatus { version, name, state, .. } = line;
            match state {
                MigrationState::Applied | MigrationState::Pending => {}
                MigrationState::Changed => return Err(MigrateError::Changed { version, name }),
                MigrationState::Unknown => return Err(MigrateError::Unknown { version, name }),
            }
        }
        Ok(())
    }

    fn compare(&self, applied: &[Record]) -> Vec<MigrationStatus> {
        let mut lines: Vec<MigrationStatus> = applied
            .iter()
            .map(|record| MigrationStatus {
                version: record.version(),
                name: record.name.clone(),
                state: match self.migrations.iter().find(|migration| migration.version == record.version()) {
                    None => MigrationState::Unknown,
                    Some(migration) if migration.checksum() == record.checksum => MigrationState::Applied,
                    Some(_) => MigrationState::Changed,
                },
                applied_at: Some(record.applied_at),
            })
            .collect();
        lines.extend(self.todo(Direction::Up, applied).into_iter().map(|migration| MigrationStatus {
            version: migration.version,
            name: migration.name.to_owned(),
            state: MigrationState::Pending,
            applied_at: None,
        }));
        lines.sort_by_key(|line| line.version);
        lines
    }
}

fn step(migration: &Migration, direction: Direction, dry_run: bool) -> Step {
    let sql = match direction {
        Direction::Up => migration.up,
        Direction::Down => migration.down,
    };
    Step { version: migration.version, name: migration.name, direction, sql, dry_run }
}
