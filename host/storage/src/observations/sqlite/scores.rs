//! Scores, and what is said of traces after the fact ([`updates`]): `scores.db` beside the month files.
//!
//! Not by month: a score may come long after what it is about, and is looked up by that. The file is made when the first
//! score comes. A question that has scores in its filter attaches it, read-only, to the month's connection, as
//! [`SCHEMA`]. Written with `synchronous=FULL`, like the observations.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use brokle_core::ids::{EnvironmentId, ProjectId};
use brokle_core::observation::{SpanId, TraceId};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, Row, TransactionBehavior, params, params_from_iter};

use super::super::query::{Limits, Place, Query, SortBy, Subject};
use super::super::update::TraceUpdate;
use super::super::{AnalyticsError, DataType, Page, Score, ScoreValue, Source};
use super::columns::broken;
use super::query::{Beside, Budget, Sql, in_time, page_of, prepare};
use super::{unavailable, updates};

/// What the file is called where it is attached.
pub(super) const SCHEMA: &str = "scoredb";
/// What `user_version` says.
const VERSION: i64 = 2;
/// The first layout that has what is said of traces.
const WITH_UPDATES: i64 = 2;
/// Connections for reading that are kept open.
const MAX_IDLE: usize = 4;

const TABLES: &str = "
CREATE TABLE scores (
    rid INTEGER PRIMARY KEY,
    project BLOB NOT NULL,
    id TEXT NOT NULL,
    environment BLOB NOT NULL,
    name TEXT NOT NULL,
    data_type TEXT NOT NULL,
    value REAL,
    text TEXT,
    source TEXT NOT NULL,
    trace_id BLOB,
    span_id BLOB,
    session TEXT,
    comment TEXT,
    metadata TEXT,
    timestamp_us INTEGER NOT NULL,
    created_us INTEGER NOT NULL,
    updated_us INTEGER NOT NULL,
    UNIQUE (project, id)
) STRICT;
CREATE INDEX scores_list ON scores (project, timestamp_us, rid);
CREATE INDEX scores_trace ON scores (project, trace_id, name) WHERE trace_id IS NOT NULL;
CREATE INDEX scores_session ON scores (project, session, name) WHERE session IS NOT NULL;
";

const COLUMNS: &str =
    "id, environment, name, data_type, value, text, source, trace_id, span_id, session, comment,
    metadata, timestamp_us, created_us, updated_us";

/// The file, and the connections to it.
pub(super) struct Scores {
    path: PathBuf,
    writer: Mutex<Option<Connection>>,
    idle: Mutex<Vec<Connection>>,
}

impl fmt::Debug for Scores {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Scores").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Where the file is.
pub(super) fn path(directory: &Path) -> PathBuf {
    directory.join("scores.db")
}

impl Scores {
    pub(super) fn new(directory: &Path) -> Self {
        Self { path: path(directory), writer: Mutex::default(), idle: Mutex::default() }
    }

    /// One transaction. A failed one is rolled back as a whole and the file closed, so that the next begins afresh.
    pub(super) fn put(&self, project: ProjectId, scores: &[Score]) -> Result<(), AnalyticsError> {
        self.write(true, |connection| {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            {
                let mut upsert = transaction.prepare_cached(
                    "INSERT INTO scores (project, id, environment, name, data_type, value, text, source, trace_id, span_id,
                         session, comment, metadata, timestamp_us, created_us, updated_us)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
                     ON CONFLICT (project, id) DO UPDATE SET environment = excluded.environment, name = excluded.name,
                         data_type = excluded.data_type, value = excluded.value, text = excluded.text,
                         source = excluded.source, trace_id = excluded.trace_id, span_id = excluded.span_id,
                         session = excluded.session, comment = excluded.comment, metadata = excluded.metadata,
                         timestamp_us = excluded.timestamp_us, updated_us = excluded.updated_us",
                )?;
                for score in scores {
                    let metadata = if score.metadata.is_empty() {
                        None
                    } else {
                        Some(serde_json::to_string(&score.metadata).map_err(|error| AnalyticsError::Rejected(error.into()))?)
                    };
                    upsert.execute(params![
                        project.as_u128().to_be_bytes(),
                        score.id,
                        score.environment_id.as_u128().to_be_bytes(),
                        score.name,
                        score.value.data_type().as_str(),
                        score.value.number(),
                        score.value.text(),
                        score.source.as_str(),
                        score.trace_id.as_ref().map(|id| id.as_bytes()),
                        score.span_id.as_ref().map(|id| id.as_bytes()),
                        score.session,
                        score.comment,
                        metadata,
                        score.timestamp.timestamp_micros(),
                        score.created_at.timestamp_micros(),
                        score.updated_at.timestamp_micros(),
                    ])?;
                }
            }
            Ok(transaction.commit()?)
        })
        .map(drop)
    }

    pub(super) fn delete(&self, project: ProjectId, id: &str) -> Result<bool, AnalyticsError> {
        let deleted = self.write(false, |connection| {
            let named = params![project.as_u128().to_be_bytes(), id];
            Ok(connection.execute("DELETE FROM scores WHERE project = ?1 AND id = ?2", named)?)
        })?;
        Ok(deleted.is_some_and(|rows| rows > 0))
    }

    /// Deletes what is of this time, of this project or of every one, with what was said of traces in it. How many scores that
    /// is.
    pub(super) fn expire(
        &self,
        project: Option<ProjectId>,
        time: &Range<i64>,
        dry_run: bool,
    ) -> Result<u64, AnalyticsError> {
        const OLD: &str =
            "FROM scores WHERE timestamp_us >= ?1 AND timestamp_us < ?2 AND (?3 IS NULL OR project = ?3)";
        let named = params![time.start, time.end, project.map(|project| project.as_u128().to_be_bytes())];
        let expired = self.write(false, |connection| {
            let rows =
                connection.query_row(&format!("SELECT count(*) {OLD}"), named, |row| row.get::<_, i64>(0))?;
            if !dry_run {
                connection.execute(&format!("DELETE {OLD}"), named)?;
                updates::expire(connection, project, time)?;
            }
            Ok(rows.cast_unsigned())
        })?;
        Ok(expired.unwrap_or_default())
    }

    pub(super) fn update_trace(
        &self,
        project: ProjectId,
        trace: TraceId,
        update: &TraceUpdate,
        now_us: i64,
    ) -> Result<(), AnalyticsError> {
        self.write(true, |connection| updates::put(connection, project, trace, update, now_us)).map(drop)
    }

    pub(super) fn trace_updates(
        &self,
        project: ProjectId,
        traces: &[TraceId],
    ) -> Result<HashMap<TraceId, TraceUpdate>, AnalyticsError> {
        let Some(connection) = self.reader()? else { return Ok(HashMap::new()) };
        if version(&connection, "main")? < WITH_UPDATES {
            return Ok(HashMap::new());
        }
        let found = updates::get(&connection, project, traces)?;
        self.give_back(connection);
        Ok(found)
    }

    fn give_back(&self, connection: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }

    /// None when there is no file and none shall be made.
    fn write<T>(
        &self,
        create: bool,
        change: impl FnOnce(&mut Connection) -> Result<T, AnalyticsError>,
    ) -> Result<Option<T>, AnalyticsError> {
        let mut writer = self.writer.lock();
        let mut connection = match writer.take() {
            Some(connection) => connection,
            None if create || self.path.exists() => open(&self.path)?,
            None => return Ok(None),
        };
        let done = change(&mut connection)?;
        *writer = Some(connection);
        Ok(Some(done))
    }

    pub(super) fn list(
        &self,
        project: ProjectId,
        query: &Query,
        limits: Limits,
    ) -> Result<Page<Score, Place>, AnalyticsError> {
        let Some(connection) = self.reader()? else {
            return Ok(Page { data: Vec::new(), next_cursor: None });
        };
        let budget = Budget::new(limits);
        let found = prepare(&connection, &budget, |connection| run(connection, project, query))?;
        self.give_back(connection);
        Ok(page_of(found, query.limit))
    }

    fn reader(&self) -> Result<Option<Connection>, AnalyticsError> {
        if let Some(connection) = self.idle.lock().pop() {
            return Ok(Some(connection));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = match Connection::open_with_flags(&self.path, flags) {
            Err(_) if !self.path.exists() => return Ok(None),
            opened => opened?,
        };
        connection.busy_timeout(crate::sql::BUSY_TIMEOUT)?;
        Ok((1..=VERSION).contains(&version(&connection, "main")?).then_some(connection))
    }
}

/// Makes the file's tables readable beside the month's, and tells which there are.
pub(super) fn attach(connection: &Connection, directory: &Path) -> Result<Beside, AnalyticsError> {
    let beside = |version| Beside { scores: version >= 1, updates: version >= WITH_UPDATES };
    let attached = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM pragma_database_list WHERE name = ?1)",
        [SCHEMA],
        |row| row.get::<_, bool>(0),
    )?;
    if attached {
        return Ok(beside(version(connection, SCHEMA)?));
    }
    let path = path(directory);
    if !path.exists() {
        return Ok(Beside::default());
    }
    let path = path.to_str().ok_or_else(|| unavailable("the scores' path isn't UTF-8"))?;
    connection.execute(&format!("ATTACH DATABASE ?1 AS {SCHEMA}"), [path])?;
    let found = version(connection, SCHEMA)?;
    if (1..=VERSION).contains(&found) {
        return Ok(beside(found));
    }
    connection.execute(&format!("DETACH DATABASE {SCHEMA}"), [])?;
    Ok(Beside::default())
}

fn open(path: &Path) -> Result<Connection, AnalyticsError> {
    let mut connection = Connection::open(path)?;
    connection.busy_timeout(crate::sql::BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(None, "synchronous", "full")?;
    connection.pragma_update(None, "journal_size_limit", 64 << 20)?;
    match version(&connection, "main")? {
        0 => {
            let transaction = connection.transaction()?;
            transaction.execute_batch(TABLES)?;
            transaction.execute_batch(updates::TABLE)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        1 => {
            let transaction = connection.transaction()?;
            transaction.execute_batch(updates::TABLE)?;
            transaction.pragma_update(None, "user_version", VERSION)?;
            transaction.commit()?;
        }
        VERSION => {}
        later => {
            return Err(unavailable(format!(
                "the scores' file has layout {later}; this version of brokle knows {VERSION}"
            )));
        }
    }
    Ok(connection)
}

fn version(connection: &Connection, schema: &str) -> Result<i64, AnalyticsError> {
    Ok(connection.pragma_query_value(Some(schema), "user_version", |row| row.get(0))?)
}

fn run(
    connection: &Connection,
    project: ProjectId,
    query: &Query,
) -> Result<Vec<(Place, Score)>, AnalyticsError> {
    let sort = match query.sort.by {
        SortBy::Value => "coalesce(o.value, -1e308)",
        _ => "o.timestamp_us",
    };
    let mut sql =
        Sql::new(&format!("SELECT {COLUMNS}, o.rid, CAST({sort} AS REAL) FROM scores o WHERE o.project = "));
    sql.bind(Value::Blob(project.as_u128().to_be_bytes().to_vec()));
    in_time(&mut sql, "o.timestamp_us", query.from, query.to);
    sql.filter(&query.filter, Subject::Scores, Beside::default());
    sql.page(query, sort, "o.timestamp_us");
    let mut statement = connection.prepare_cached(&sql.text)?;
    let rows = statement.query_map(params_from_iter(&sql.values), |row| {
        let score = read(row)?;
        let (rid, value): (i64, f64) = (row.get(15)?, row.get(16)?);
        Ok((Place::new(query.sort, value, score.timestamp.timestamp_micros(), rid, ""), score))
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn read(row: &Row<'_>) -> rusqlite::Result<Score> {
    let unknown = |at, what: String| broken(at, std::io::Error::other(what));
    let kind: String = row.get(3)?;
    let (number, text): (Option<f64>, Option<String>) = (row.get(4)?, row.get(5)?);
    let value = match (DataType::of(&kind), number, text) {
        (Some(DataType::Numeric), Some(number), _) => ScoreValue::Numeric(number),
        (Some(DataType::Boolean), Some(number), _) => ScoreValue::Boolean(number != 0.0),
        (Some(DataType::Categorical), _, Some(text)) => ScoreValue::Categorical(text),
        (Some(DataType::Text), _, Some(text)) => ScoreValue::Text(text),
        _ => return Err(unknown(3, format!("a score of the type {kind} without a value"))),
    };
    let source: String = row.get(6)?;
    let time = |at| {
        Ok::<_, rusqlite::Error>(DateTime::<Utc>::from_timestamp_micros(row.get(at)?).unwrap_or_default())
    };
    let metadata: Option<String> = row.get(11)?;
    Ok(Score {
        id: row.get(0)?,
        environment_id: EnvironmentId::from_u128(u128::from_be_bytes(row.get(1)?)),
        name: row.get(2)?,
        data_type: value.data_type(),
        value,
        source: Source::of(&source).ok_or_else(|| unknown(6, format!("a score from {source}")))?,
        trace_id: row.get::<_, Option<[u8; 16]>>(7)?.and_then(|bytes| TraceId::from_bytes(bytes).ok()),
        span_id: row.get::<_, Option<[u8; 8]>>(8)?.and_then(|bytes| SpanId::from_bytes(bytes).ok()),
        session: row.get(9)?,
        comment: row.get(10)?,
        metadata: match metadata {
            Some(json) => serde_json::from_str(&json).map_err(|error| broken(11, error))?,
            None => serde_json::Map::new(),
        },
        timestamp: time(12)?,
        created_at: time(13)?,
        updated_at: time(14)?,
    })
}

impl From<super::super::query::TooMuch> for AnalyticsError {
    fn from(cost: super::super::query::TooMuch) -> Self {
        Self::TooMuch(cost)
    }
}
