//! What is applied against what the binary carries: the same for every database.

use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

use super::report::{Direction, MigrateError, MigrationState, MigrationStatus, Step};

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
    pub(crate) fn checksum(&self) -> String {
        Sha256::digest(self.up).iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The statements of this direction.
    pub(crate) const fn sql(&self, direction: Direction) -> &'static str {
        match direction {
            Direction::Up => self.up,
            Direction::Down => self.down,
        }
    }
}

/// A row of `schema_migrations`.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct Record {
    pub(crate) version: i64,
    pub(crate) name: String,
    pub(crate) checksum: String,
    pub(crate) applied_at: DateTime<Utc>,
}

impl Record {
    pub(crate) fn version(&self) -> u32 {
        u32::try_from(self.version).unwrap_or(u32::MAX)
    }
}

/// What lies ahead in this direction, the nearest first.
pub(crate) fn todo<'a>(
    migrations: &'a [Migration],
    direction: Direction,
    applied: &[Record],
) -> Vec<&'a Migration> {
    let is_applied =
        |migration: &&Migration| applied.iter().any(|record| record.version() == migration.version);
    match direction {
        Direction::Up => migrations.iter().filter(|migration| !is_applied(migration)).collect(),
        Direction::Down => migrations.iter().rev().filter(is_applied).collect(),
    }
}

/// Refuses a history that was changed or that a newer binary wrote.
pub(crate) fn verify(migrations: &[Migration], applied: &[Record]) -> Result<(), MigrateError> {
    for line in compare("", migrations, applied) {
        let MigrationStatus { version, name, state, .. } = line;
        match state {
            MigrationState::Applied | MigrationState::Pending | MigrationState::Dirty => {}
            MigrationState::Changed => return Err(MigrateError::Changed { version, name }),
            MigrationState::Unknown => return Err(MigrateError::Unknown { version, name }),
        }
    }
    Ok(())
}

/// Where every migration stands, in the order of their versions.
pub(crate) fn compare(
    database: &'static str,
    migrations: &[Migration],
    applied: &[Record],
) -> Vec<MigrationStatus> {
    let mut lines: Vec<MigrationStatus> = applied
        .iter()
        .map(|record| MigrationStatus {
            database,
            version: record.version(),
            name: record.name.clone(),
            state: match migrations.iter().find(|migration| migration.version == record.version()) {
                None => MigrationState::Unknown,
                Some(migration) if migration.checksum() == record.checksum => MigrationState::Applied,
                Some(_) => MigrationState::Changed,
            },
            applied_at: Some(record.applied_at),
        })
        .collect();
    lines.extend(todo(migrations, Direction::Up, applied).into_iter().map(|migration| MigrationStatus {
        database,
        version: migration.version,
        name: migration.name.to_owned(),
        state: MigrationState::Pending,
        applied_at: None,
    }));
    lines.sort_by_key(|line| line.version);
    lines
}

pub(crate) fn step(
    database: &'static str,
    migration: &Migration,
    direction: Direction,
    dry_run: bool,
) -> Step {
    let sql = migration.sql(direction);
    Step { database, version: migration.version, name: migration.name, direction, sql, dry_run }
}
