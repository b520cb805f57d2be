//! The relational database: SQLite for one server, PostgreSQL (15 or newer) for several.
//!
//! One SQL text runs on both (`$1`, `RETURNING`, `ON CONFLICT`); what differs is in `sql/dialect.rs` and in
//! `migrations/{sqlite,postgres}/`. The repositories ([`Database::api_keys`] and the like) are the only readers and
//! writers of the tables.
//!
//! **Tenancy.** Every method takes the organization or the whole tenant first and names it in its SQL; a foreign id and
//! a missing one are both [`StorageError::NotFound`]. Behind that, PostgreSQL has a second lock: each method runs in a
//! transaction that sets `brokle.organization_id`, and row-level security (forced, so it holds for the tables' owner
//! too) shows only that organization's rows. The errands that come before the organization is known are named in
//! `SystemErrand`; what each may read stands in the migration.
//!
//! **Roles.** The role that migrates owns the tables; the server may use the same one, or a lesser one (then
//! migrations have a URL of their own) that has been granted `SELECT, INSERT, UPDATE, DELETE` on them (`ALTER DEFAULT PRIVILEGES` covers later tables). A superuser or a
//! role with `BYPASSRLS` passes the second lock: [`Database::warnings`] says so.
//!
//! **SQLite** runs in WAL mode with `synchronous=NORMAL`: a crash of the machine may undo the last commits, never
//! corrupt the file. Writers start with `BEGIN IMMEDIATE`, since a reading transaction that turns into a writing one
//! fails without waiting; they wait up to [`BUSY_TIMEOUT`] for each other.

pub mod api_keys;
pub mod batches;
pub mod bootstrap;
pub mod budgets;
pub mod connections;
mod dialect;
pub mod environments;
mod error;
pub mod exporters;
pub mod files;
pub mod jobs;
pub mod migrate;
pub mod organizations;
pub mod plugin_kv;
pub mod plugins;
pub mod projects;
pub mod retention;
pub mod revisions;
pub mod routes;
pub mod score_configs;

use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{ConnectOptions as _, PgPool, SqlitePool};

pub use self::error::StorageError;

/// How long a SQLite writer waits for another one.
pub const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The largest page that a list answers.
pub const MAX_PAGE: u32 = 1_000;

/// How to connect.
#[derive(Clone, Copy, Debug)]
pub struct ConnectOptions {
    /// Connections kept at most. Default 10.
    pub max_connections: u32,
    /// How long a caller waits for a free connection, or for the server to accept a new one, before it gets
    /// [`StorageError::Unavailable`]. Default 5 s.
    pub acquire_timeout: Duration,
    /// How long PostgreSQL works on a statement before it gives it up and the caller gets [`StorageError::Unavailable`];
    /// none: as long as it takes, which is for migrations. Default 30 s. SQLite's are bounded by what they read.
    pub statement_timeout: Option<Duration>,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            max_connections: 10,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Some(Duration::from_secs(30)),
        }
    }
}

/// A part of a list, oldest first: ids sort by the time they were made.
#[derive(Clone, Copy, Debug)]
pub struct Page<Id> {
    /// Start behind this id: the last one of the page before.
    pub after: Option<Id>,
    /// Rows at most; more than [`MAX_PAGE`] counts as that.
    pub limit: u32,
}

impl<Id> Page<Id> {
    /// The first `limit` rows.
    #[must_use]
    pub fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }
}

impl<Id: ToString> Page<Id> {
    /// The two values that SQL needs: `id > $after` (every id is greater than the empty text) and `LIMIT $limit`.
    fn bounds(&self) -> (String, i64) {
        let after = self.after.as_ref().map(ToString::to_string).unwrap_or_default();
        (after, i64::from(self.limit.min(MAX_PAGE)))
    }
}

/// A pool of connections to one of the two databases. Clones share the pool.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file on this machine.
    Sqlite(SqlitePool),
    /// A server.
    Postgres(PgPool),
}

/// Runs a block in a transaction of either database and commits it: the one place where the two pools meet.
///
/// The block is compiled once per database. An error that leaves it by `?` leaves the enclosing function and rolls back.
macro_rules! transaction {
    ($database:expr, $access:expr, $scope:expr, |$tx:ident| $body:expr) => {
        match $database {
            $crate::sql::Database::Sqlite(pool) => {
                let mut $tx = $crate::sql::dialect::begin_sqlite(pool, $access).await?;
                let value = $body;
                $tx.commit().await?;
                value
            }
            $crate::sql::Database::Postgres(pool) => {
                let mut $tx = $crate::sql::dialect::begin_postgres(pool, $access, $scope).await?;
                let value = $body;
                $tx.commit().await?;
                value
            }
        }
    };
}
use transaction;

impl Database {
    /// Connects to `sqlite:PATH` (the file and, with mode 0700, its directory are created) or `postgres://…`.
    ///
    /// # Errors
    /// [`StorageError::Configuration`] for a URL that names no such database, [`StorageError::Unavailable`] when it
    /// can't be reached.
    pub async fn connect(url: &str, options: ConnectOptions) -> Result<Self, StorageError> {
        match url.split_once(':').map(|(scheme, _)| scheme) {
            Some("sqlite") => Self::connect_sqlite(url, options).await,
            Some("postgres" | "postgresql") => Self::connect_postgres(url, options).await,
            _ => Err(StorageError::Configuration(
                "the database URL starts with neither sqlite: nor postgres:".into(),
            )),
        }
    }

    async fn connect_sqlite(url: &str, options: ConnectOptions) -> Result<Self, StorageError> {
        if url.contains(":memory:") || url.contains("mode=memory") {
            // Each of the pool's connections would have a database of its own.
            return Err(StorageError::Configuration(
                "a SQLite database in memory can't be shared: name a file".into(),
            ));
        }
        let connect = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .foreign_keys(true)
            .disable_statement_logging();
        create_parent(connect.get_filename())?;
        let pool = SqlitePoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connect)
            .await?;
        Ok(Self::Sqlite(pool))
    }

    async fn connect_postgres(url: &str, options: ConnectOptions) -> Result<Self, StorageError> {
        let mut connect =
            PgConnectOptions::from_str(url)?.application_name("brokle").disable_statement_logging();
        if let Some(timeout) = options.statement_timeout {
            // In milliseconds. A transaction that nobody goes on with holds its rows for no longer, either.
            let timeout = timeout.as_millis().to_string();
            connect = connect.options([
                ("statement_timeout", &timeout),
                ("idle_in_transaction_session_timeout", &timeout),
            ]);
        }
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(connect)
            .await?;
        Ok(Self::Postgres(pool))
    }

    /// The name of the kind, as in `migrations/`: `sqlite` or `postgres`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sqlite(_) => "sqlite",
            Self::Postgres(_) => "postgres",
        }
    }

    /// Asks the database for an answer, for health checks.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when there is none.
    pub async fn ping(&self) -> Result<(), StorageError> {
        match self {
            Self::Sqlite(pool) => sqlx::query("SELECT 1").execute(pool).await.map(drop)?,
            Self::Postgres(pool) => sqlx::query("SELECT 1").execute(pool).await.map(drop)?,
        }
        Ok(())
    }

    /// What an operator should know about this database at the server's start, one sentence each.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when the database can't be asked.
    pub async fn warnings(&self) -> Result<Vec<String>, StorageError> {
        let Self::Postgres(pool) = self else { return Ok(Vec::new()) };
        let bypassing: Option<String> = sqlx::query_scalar(
            "SELECT rolname::text FROM pg_roles WHERE rolname = current_user AND (rolsuper OR rolbypassrls)",
        )
        .fetch_optional(pool)
        .await?;
        let warning = |role| {
            format!(
                "the PostgreSQL role \"{role}\" is a superuser or has BYPASSRLS, so row-level security does not hold \
                 for it: connect as an ordinary role"
            )
        };
        Ok(bypassing.map(warning).into_iter().collect())
    }

    /// Closes the pool once its connections have come back; later calls get [`StorageError::Unavailable`].
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Creates the file's directory for its owner only: the database holds sealed secrets and key hashes.
fn create_parent(file: &Path) -> Result<(), StorageError> {
    let Some(parent) = file.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(parent).map_err(|error| StorageError::Unavailable(sqlx::Error::Io(error)))
}
