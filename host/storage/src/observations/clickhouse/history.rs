//! ClickHouse's schema: the numbered pairs of files in `migrations/clickhouse/`, carried in the binary.
//!
//! ClickHouse has no transactions, so a step can end half-way. Every statement of a file therefore says `IF NOT EXISTS` or
//! `IF EXISTS`, copies rows that a table takes once, or has a line `-- only if: SELECT count() …` before it and runs where that
//! is more than 0 (a test reads them all); a step is written down when it begins and again when it has ended, and one that
//! began only is **dirty**: the next `up` (or `down`) runs its file again. For the same reason servers that start at once do no harm to each other; one whose statement fails because
//! another was faster goes on, if that one ends within [`OTHERS`]. Checksums and unknown versions are held against the record
//! as in the SQL databases.

use std::time::{Duration, Instant};

use brokle_core::clock::{Clock, SystemClock};
use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::super::AnalyticsError;
use super::ClickHouse;
use super::connection::{STATEMENT_TIMEOUT, within};
use super::sql::Sql;
use crate::sql::migrate::{
    CLICKHOUSE, Direction, MigrateError, Migration, MigrationInfo, MigrationState, MigrationStatus, Record,
    Step, compare, step, todo, verify,
};

const KIND: &str = "clickhouse";
/// Begins the line before a statement that says what it is for.
const ONLY_IF: &str = "-- only if: ";
/// How long a server whose statement failed looks whether another one has come to the end of the same migration.
const OTHERS: Duration = Duration::from_secs(5);

/// The last line of a version counts; one with `is_deleted` takes it away.
const HISTORY: &str = "CREATE TABLE IF NOT EXISTS schema_migrations (
    version UInt32, name String, checksum String, applied_at DateTime64(6, 'UTC'), is_finished Bool,
    written Int64, is_deleted UInt8
) ENGINE = ReplacingMergeTree ORDER BY (version, written)";

/// A line of `schema_migrations`.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
struct Line {
    version: u32,
    name: String,
    checksum: String,
    applied_at: i64,
    is_finished: bool,
    written: i64,
    is_deleted: u8,
}

/// What the database says of itself.
#[derive(Default)]
struct Applied {
    finished: Vec<Record>,
    dirty: Vec<Record>,
}

/// Brings a ClickHouse database's schema up and down.
#[derive(Debug)]
pub struct Migrator<'a> {
    database: &'a ClickHouse,
    migrations: &'a [Migration],
}

impl<'a> Migrator<'a> {
    /// A migrator with the migrations that the binary carries.
    #[must_use]
    pub fn new(database: &'a ClickHouse) -> Self {
        Self::with_migrations(database, CLICKHOUSE)
    }

    /// A migrator with other migrations, in the order of their versions.
    #[must_use]
    pub fn with_migrations(database: &'a ClickHouse, migrations: &'a [Migration]) -> Self {
        Self { database, migrations }
    }

    /// Where every migration stands, those that only the database knows included, in the order of their versions.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn status(&self) -> Result<Vec<MigrationStatus>, MigrateError> {
        let applied = self.applied().await?;
        let mut lines = compare(KIND, self.migrations, &applied.finished);
        for record in applied.dirty {
            if let Some(line) = lines.iter_mut().find(|line| line.version == record.version()) {
                (line.state, line.applied_at) = (MigrationState::Dirty, Some(record.applied_at));
            }
        }
        Ok(lines)
    }

    /// The schema in one line.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn info(&self) -> Result<MigrationInfo, MigrateError> {
        let applied = self.applied().await?.finished;
        Ok(MigrationInfo {
            database: KIND,
            current: applied.iter().map(Record::version).max().unwrap_or_default(),
            latest: self.migrations.iter().map(|migration| migration.version).max().unwrap_or_default(),
            pending: todo(self.migrations, Direction::Up, &applied).len(),
        })
    }

    /// Makes the database if it isn't there, and applies what is pending or dirty, `steps` migrations at most; answers how
    /// many (in a dry run: how many it would apply). `progress` hears of each one after it is written down.
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

    /// Takes back what is applied or dirty, the newest first, `steps` migrations at most (`None` empties the database),
    /// and answers how many.
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

    /// Declares the schema to be at `version` without running anything. For an operator who has repaired a schema by hand.
    ///
    /// # Errors
    /// When no migration has this number (0 declares the database empty), or the database can't be written.
    pub async fn force(&self, version: u32) -> Result<(), MigrateError> {
        if version != 0 && !self.migrations.iter().any(|migration| migration.version == version) {
            return Err(MigrateError::NoSuchVersion(version));
        }
        let applied = self.applied().await?;
        self.database.run(Sql::new(HISTORY)).await?;
        for record in
            applied.finished.iter().chain(&applied.dirty).filter(|record| record.version() > version)
        {
            let line = Line { is_deleted: 1, ..line(record.version(), &record.name, &record.checksum, true) };
            self.write(line).await?;
        }
        for migration in self.migrations.iter().filter(|migration| migration.version <= version) {
            self.write(line(migration.version, migration.name, &migration.checksum(), true)).await?;
        }
        Ok(())
    }

    async fn walk(
        &self,
        direction: Direction,
        steps: Option<u32>,
        dry_run: bool,
        mut progress: impl FnMut(&Step),
    ) -> Result<u32, MigrateError> {
        if !dry_run && direction == Direction::Up {
            self.database.create().await?;
        }
        let applied = self.applied().await?;
        verify(self.migrations, &applied.finished)?;
        let done = match direction {
            Direction::Up => applied.finished,
            Direction::Down => applied.finished.into_iter().chain(applied.dirty).collect(),
        };
        let mut count = 0;
        for migration in
            todo(self.migrations, direction, &done).into_iter().take(steps.unwrap_or(u32::MAX) as usize)
        {
            if !dry_run {
                self.run(migration, direction).await?;
            }
            progress(&step(KIND, migration, direction, dry_run));
            count += 1;
        }
        Ok(count)
    }

    async fn run(&self, migration: &Migration, direction: Direction) -> Result<(), MigrateError> {
        self.database.run(Sql::new(HISTORY)).await?;
        let begun = line(migration.version, migration.name, &migration.checksum(), false);
        let times = self.times_done(migration, direction).await?;
        self.write(begun.clone()).await?;
        for statement in statements(migration.sql(direction)) {
            if !self.is_to_run(statement).await? {
                continue;
            }
            let Err(source) = self.database.run_long(Sql::new(statement)).await else { continue };
            // Another server that is at the same may have been faster.
            let until = Instant::now() + OTHERS;
            while self.times_done(migration, direction).await? == times {
                if Instant::now() > until {
                    let (version, name) = (migration.version, migration.name);
                    return Err(MigrateError::BrokenOff { version, name, source });
                }
                tokio::time::sleep(OTHERS / 20).await;
            }
            break;
        }
        let ended = Line { is_finished: true, is_deleted: u8::from(direction == Direction::Down), ..begun };
        self.write(Line { written: ended.written + 1, ..ended }).await
    }

    /// Whether there is what the statement is for.
    async fn is_to_run(&self, statement: &str) -> Result<bool, MigrateError> {
        let Some(question) = statement.lines().find_map(|line| line.strip_prefix(ONLY_IF)) else {
            return Ok(true);
        };
        Ok(self.database.look_up::<u64>(Sql::new(question)).await?.into_iter().sum::<u64>() > 0)
    }

    /// How often somebody has come to its end.
    async fn times_done(&self, migration: &Migration, direction: Direction) -> Result<u64, MigrateError> {
        let mut sql = Sql::new("SELECT count() FROM schema_migrations WHERE is_finished AND version = ");
        sql.integer(migration.version.into()).push(" AND is_deleted = ");
        sql.integer(i64::from(direction == Direction::Down));
        Ok(self.database.look_up::<u64>(sql).await?.into_iter().sum())
    }

    async fn write(&self, line: Line) -> Result<(), MigrateError> {
        let write = async {
            let mut insert = self.database.client().insert::<Line>("schema_migrations").await?;
            insert.write(&line).await?;
            insert.end().await
        };
        Ok(within(STATEMENT_TIMEOUT, write).await.map_err(AnalyticsError::from)?)
    }

    /// Without its table or database nothing is applied.
    async fn applied(&self) -> Result<Applied, MigrateError> {
        let mut is_there =
            Sql::new("SELECT count() FROM system.tables WHERE name = 'schema_migrations' AND database = ");
        is_there.text(self.database.database());
        // In the server's own database, which is there before ours is.
        let server = self.database.client().clone().with_database("default");
        let found = within(STATEMENT_TIMEOUT, is_there.query(&server).fetch_one::<u64>()).await;
        if found.map_err(AnalyticsError::from)? == 0 {
            return Ok(Applied::default());
        }
        let lines: Vec<Line> = self
            .database
            .look_up(Sql::new(
                "SELECT version, name, checksum, applied_at, is_finished, written, is_deleted FROM schema_migrations
                 ORDER BY version, written DESC LIMIT 1 BY version",
            ))
            .await?;
        let mut applied = Applied::default();
        for line in lines.into_iter().filter(|line| line.is_deleted == 0) {
            let of_state = if line.is_finished { &mut applied.finished } else { &mut applied.dirty };
            of_state.push(Record {
                version: line.version.into(),
                name: line.name,
                checksum: line.checksum,
                applied_at: DateTime::<Utc>::from_timestamp_micros(line.applied_at).unwrap_or_default(),
            });
        }
        Ok(applied)
    }
}

fn line(version: u32, name: &str, checksum: &str, is_finished: bool) -> Line {
    let now = SystemClock.now().timestamp_micros();
    let (name, checksum) = (name.to_owned(), checksum.to_owned());
    Line { version, name, checksum, applied_at: now, is_finished, written: now, is_deleted: 0 }
}

/// A file's statements: each ends with a semicolon at a line's end.
fn statements(file: &str) -> impl Iterator<Item = &str> {
    file.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_may_run_twice() {
        for migration in CLICKHOUSE {
            for direction in [Direction::Up, Direction::Down] {
                let file = migration.sql(direction);
                assert!(file.ends_with(";\n"), "{}", migration.name);
                for statement in statements(file) {
                    let says = [" IF NOT EXISTS ", " IF EXISTS ", ONLY_IF];
                    let copies = statement.starts_with("INSERT INTO observations SELECT");
                    let is_again = copies || says.iter().any(|said| statement.contains(said));
                    assert!(is_again, "{}: {statement}", migration.name);
                }
            }
        }
    }
}
