//! `brokle migrate`: the schemas' history, of the SQL database and of ClickHouse if there is one.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use brokle_storage::observations::clickhouse::{self, ClickHouse};
use brokle_storage::sql::Database;
use brokle_storage::sql::migrate::{Direction, MigrateError, MigrationInfo, MigrationStatus, Migrator, Step};
use clap::{Args, Subcommand, ValueEnum};

use super::{ConfigFile, Outcome, block_on, unconfirmed};
use crate::{config, output, serve};

/// Bring the databases' schemas up or down, or see where they stand.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  brokle migrate up --dry-run           print the statements that would run
  brokle migrate down --steps 1 --yes   take the newest migration back, with its data
  brokle migrate create add_budgets     write the empty files of a new migration")]
pub(crate) enum MigrateCommand {
    /// Apply what is pending.
    Up {
        #[command(flatten)]
        common: Common,
        /// Apply this many migrations at most.
        #[arg(long, value_name = "N")]
        steps: Option<u32>,
        /// Only print the statements.
        #[arg(long)]
        dry_run: bool,
    },
    /// Take migrations back, their data included.
    Down {
        #[command(flatten)]
        common: Common,
        /// Take this many migrations back.
        #[arg(long, value_name = "N", default_value_t = 1)]
        steps: u32,
        /// Only print the statements.
        #[arg(long)]
        dry_run: bool,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
    /// List every migration and where it stands.
    Status(Common),
    /// Show the schema's version in a line.
    Info(Common),
    /// Write the files of a new migration of the SQL databases, or with `--db analytics` of ClickHouse.
    Create {
        /// What it is about, such as `add_budgets`.
        name: String,
        /// The folder with a folder per kind of database.
        #[arg(long, default_value = "migrations", value_name = "DIR")]
        dir: PathBuf,
        /// For which databases.
        #[arg(long, value_enum, default_value_t = Which::Sql)]
        db: Which,
    },
    /// Write down that the schema is at a version, without running anything.
    Force {
        #[command(flatten)]
        common: Common,
        /// The version; 0 is an empty database.
        version: u32,
        /// Don't ask.
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    file: ConfigFile,
    /// Which databases. Observations that are files of the data directory migrate themselves when they are opened.
    #[arg(long, value_enum, default_value_t = Which::All)]
    db: Which,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Which {
    /// Organizations, keys, connections.
    Sql,
    /// Observations in ClickHouse.
    Analytics,
    /// Both.
    All,
}

pub(super) fn run(command: &MigrateCommand) -> Outcome {
    match command {
        MigrateCommand::Create { name, dir, db } => create(name, dir, *db),
        MigrateCommand::Up { common, steps, dry_run } => {
            with(common, async |schemas| walk(schemas, common, Direction::Up, *steps, *dry_run).await)
        }
        MigrateCommand::Down { common, steps, dry_run, yes } => {
            if !dry_run
                && !yes
                && !output::confirm(&format!("This takes {steps} migration(s) back and drops their tables."))?
            {
                return Ok(unconfirmed());
            }
            with(common, async |schemas| walk(schemas, common, Direction::Down, Some(*steps), *dry_run).await)
        }
        MigrateCommand::Status(common) => with(common, async |schemas| status(schemas, common).await),
        MigrateCommand::Info(common) => with(common, async |schemas| info(schemas, common).await),
        MigrateCommand::Force { common, version, yes } => {
            if !yes && !output::confirm(&format!("This declares the schema to be at version {version}."))? {
                return Ok(unconfirmed());
            }
            with(common, async |schemas| match schemas {
                [schema] => {
                    schema.force(*version).await?;
                    Ok(ExitCode::SUCCESS)
                }
                _ => Err("a version is one database's: name it with --db sql or --db analytics".into()),
            })
        }
    }
}

/// A database whose schema has a history.
enum Schema {
    Sql(Database),
    Analytics(Box<ClickHouse>),
}

impl Schema {
    async fn walk(
        &self,
        direction: Direction,
        steps: Option<u32>,
        dry_run: bool,
        progress: impl FnMut(&Step),
    ) -> Result<u32, MigrateError> {
        match (self, direction) {
            (Self::Sql(database), Direction::Up) => {
                Migrator::new(database).up(steps, dry_run, progress).await
            }
            (Self::Sql(database), Direction::Down) => {
                Migrator::new(database).down(steps, dry_run, progress).await
            }
            (Self::Analytics(database), Direction::Up) => {
                clickhouse::Migrator::new(database).up(steps, dry_run, progress).await
            }
            (Self::Analytics(database), Direction::Down) => {
                clickhouse::Migrator::new(database).down(steps, dry_run, progress).await
            }
        }
    }

    async fn status(&self) -> Result<Vec<MigrationStatus>, MigrateError> {
        match self {
            Self::Sql(database) => Migrator::new(database).status().await,
            Self::Analytics(database) => clickhouse::Migrator::new(database).status().await,
        }
    }

    async fn info(&self) -> Result<MigrationInfo, MigrateError> {
        match self {
            Self::Sql(database) => Migrator::new(database).info().await,
            Self::Analytics(database) => clickhouse::Migrator::new(database).info().await,
        }
    }

    async fn force(&self, version: u32) -> Result<(), MigrateError> {
        match self {
            Self::Sql(database) => Migrator::new(database).force(version).await,
            Self::Analytics(database) => clickhouse::Migrator::new(database).force(version).await,
        }
    }
}

fn with(common: &Common, run: impl AsyncFnOnce(&[Schema]) -> Outcome) -> Outcome {
    let config = config::load(common.file.config.as_deref())?;
    let analytics = config.clickhouse()?;
    if common.db == Which::Analytics && analytics.is_none() {
        return Err("observations are files of the data directory, which migrate themselves: CLICKHOUSE_URL names no server".into());
    }
    block_on(async {
        let mut schemas = Vec::new();
        let database =
            if common.db == Which::Analytics { None } else { Some(serve::connect_owner(&config).await?) };
        schemas.extend(database.clone().map(Schema::Sql));
        schemas.extend(analytics.filter(|_| common.db != Which::Sql).map(Box::new).map(Schema::Analytics));
        let outcome = run(&schemas).await;
        if let Some(database) = database {
            database.close().await;
        }
        outcome
    })
}

async fn walk(
    schemas: &[Schema],
    common: &Common,
    direction: Direction,
    steps: Option<u32>,
    dry_run: bool,
) -> Outcome {
    let mut done: Vec<Step> = Vec::new();
    for schema in schemas {
        let progress = |step: &Step| {
            if !common.json && !dry_run {
                let verb = if direction == Direction::Up { "applied" } else { "took back" };
                output::complain(&format!("{verb} {} {:04}_{}", step.database, step.version, step.name));
            }
            done.push(*step);
        };
        schema.walk(direction, steps, dry_run, progress).await?;
    }
    if common.json {
        output::json(&done)?;
    } else if dry_run {
        output::lines(
            done.iter()
                .map(|step| format!("-- {} {:04}_{}\n{}", step.database, step.version, step.name, step.sql)),
        )?;
    } else if done.is_empty() {
        output::lines(["Nothing to do."])?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(schemas: &[Schema], common: &Common) -> Outcome {
    let mut status = Vec::new();
    for schema in schemas {
        status.extend(schema.status().await?);
    }
    if common.json {
        output::json(&status)?;
    } else {
        output::lines(status.iter().map(|line| {
            let state = format!("{:?}", line.state).to_lowercase();
            let at = line.applied_at.map(|at| at.to_rfc3339()).unwrap_or_default();
            let line =
                format!("{:<10}  {:04}  {:<30} {state:<8} {at}", line.database, line.version, line.name);
            line.trim_end().to_owned()
        }))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One answer for each database: a line, or a JSON document.
async fn info(schemas: &[Schema], common: &Common) -> Outcome {
    for schema in schemas {
        let info = schema.info().await?;
        if common.json {
            output::json(&info)?;
        } else {
            let (current, latest, pending) = (info.current, info.latest, info.pending);
            output::lines([format!("{}: version {current} of {latest}, {pending} pending", info.database)])?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes `NNNN_name.{up,down}.sql` for each kind of database, numbered after the highest one that is there.
fn create(name: &str, dir: &Path, db: Which) -> Outcome {
    let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || !name.bytes().all(is_name) {
        return Err("a migration's name is made of a-z, 0-9 and _".into());
    }
    let kinds: &[&str] = match db {
        Which::Sql => &["sqlite", "postgres"],
        Which::Analytics => &["clickhouse"],
        Which::All => {
            return Err("the SQL databases and ClickHouse count their migrations apart: name one".into());
        }
    };
    let kinds: Vec<_> = kinds.iter().map(|kind| dir.join(kind)).collect();
    let mut latest = 0;
    for folder in &kinds {
        for entry in fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))? {
            let file = entry?.file_name();
            let number = file.to_str().and_then(|name| name.split_once('_')?.0.parse::<u32>().ok());
            latest = latest.max(number.unwrap_or_default());
        }
    }
    let mut written = Vec::new();
    for folder in &kinds {
        for direction in ["up", "down"] {
            let path = folder.join(format!("{:04}_{name}.{direction}.sql", latest + 1));
            let mut file = OpenOptions::new().write(true).create_new(true).open(&path)?;
            writeln!(file, "-- {}", name.replace('_', " "))?;
            written.push(path.display().to_string());
        }
    }
    output::lines(written)?;
    Ok(ExitCode::SUCCESS)
}
