//! A month file's tables.

use rusqlite::Connection;

use super::super::AnalyticsError;
use super::{arrivals, blobs, signals, unavailable};

/// What `user_version` says. A file of a later version is left alone.
const VERSION: i64 = 5;
/// The first layout that has log records and metrics' points.
const WITH_SIGNALS: i64 = 2;
/// The first layout that has the log of blobs.
const WITH_BLOBS: i64 = 3;
/// The first layout that knows how the times of an hour are spread.
const WITH_SPREADS: i64 = 4;
/// The first layout that gives a row's number once.
const WITH_ARRIVALS: i64 = 5;

/// Ids are their bytes, times and durations microseconds, money decimal text, lists and maps JSON (NULL when empty).
const TABLES: &str = "
CREATE TABLE observations (
    rid INTEGER PRIMARY KEY,
    project BLOB NOT NULL,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    parent_span_id BLOB,
    organization BLOB NOT NULL,
    environment BLOB NOT NULL,
    key_id BLOB,
    request_id BLOB,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    operation TEXT NOT NULL,
    start_us INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    first_token_us INTEGER,
    provider TEXT,
    connection TEXT,
    model_requested TEXT,
    model_served TEXT,
    usage_known INTEGER NOT NULL,
    estimated INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cached_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    audio_input INTEGER NOT NULL,
    audio_output INTEGER NOT NULL,
    image_input INTEGER NOT NULL,
    image_output INTEGER NOT NULL,
    cost TEXT,
    streaming INTEGER NOT NULL,
    status TEXT NOT NULL,
    http_status INTEGER,
    finish_reason TEXT,
    error_class TEXT,
    error_message TEXT,
    user TEXT,
    session TEXT,
    tags TEXT,
    attributes TEXT,
    steps TEXT,
    UNIQUE (project, trace_id, span_id)
) STRICT;
CREATE INDEX observations_list ON observations (
    project, start_us, rid, kind, status, provider, model_requested, model_served, user, session, name
);
CREATE TABLE bodies (
    rid INTEGER PRIMARY KEY,
    input BLOB,
    output BLOB
) STRICT;
CREATE TABLE rollups (
    project BLOB NOT NULL,
    hour_us INTEGER NOT NULL,
    environment BLOB NOT NULL,
    kind TEXT NOT NULL,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    count INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    input INTEGER NOT NULL,
    output INTEGER NOT NULL,
    cached_read INTEGER NOT NULL,
    cache_write INTEGER NOT NULL,
    reasoning INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    first_token_count INTEGER NOT NULL,
    first_token_us INTEGER NOT NULL,
    cost TEXT NOT NULL,
    PRIMARY KEY (project, hour_us, environment, kind, provider, model)
) STRICT, WITHOUT ROWID;
";

/// Sketches; NULL for hours of which an earlier version recorded a part.
const SPREADS: &str = "
ALTER TABLE rollups ADD COLUMN latency BLOB;
ALTER TABLE rollups ADD COLUMN first_token BLOB;
";

/// Makes the tables in a new file, and those that one of an earlier version lacks; refuses a file of a later version.
pub(super) fn prepare(connection: &mut Connection) -> Result<(), AnalyticsError> {
    match version(connection)? {
        before @ 0..VERSION => {
            let transaction = connection.transaction()?;
            if before == 0 {
                transaction.execute_batch(TABLES)?;
            }
            if before < WITH_SIGNALS {
                transaction.execute_batch(signals::TABLES)?;
            }
            if before < WITH_BLOBS {
                transaction.execute_batch(blobs::TABLE)?;
            }
            if before < WITH_SPREADS {
                transaction.execute_batch(SPREADS)?;
            }
            if before < WITH_ARRIVALS {
                arrivals::create(&transaction, before == 0)?;
            }
            transaction.pragma_update(None, "user_version", VERSION)?;
            Ok(transaction.commit()?)
        }
        VERSION => Ok(()),
        later => {
            Err(unavailable(format!("the file has layout {later}; this version of brokle knows {VERSION}")))
        }
    }
}

/// Whether the file knows how the times of an hour are spread.
pub(super) fn has_spreads(connection: &Connection) -> Result<bool, AnalyticsError> {
    Ok(version(connection)? >= WITH_SPREADS)
}

/// Whether the file gives a row's number once, and has a name of its own for that.
pub(super) fn has_arrivals(connection: &Connection) -> Result<bool, AnalyticsError> {
    Ok(version(connection)? >= WITH_ARRIVALS)
}

/// Whether there is something to read yet: a file may be seen before its tables are committed.
pub(super) fn is_ready(connection: &Connection) -> Result<bool, AnalyticsError> {
    Ok((1..=VERSION).contains(&version(connection)?))
}

/// Whether the file has log records and metrics' points: one that was written before there were any, and not since, hasn't.
pub(super) fn has_signals(connection: &Connection) -> Result<bool, AnalyticsError> {
    Ok(version(connection)? >= WITH_SIGNALS)
}

/// Whether the file has a log of blobs.
pub(super) fn has_blobs(connection: &Connection) -> Result<bool, AnalyticsError> {
    Ok(version(connection)? >= WITH_BLOBS)
}

fn version(connection: &Connection) -> Result<i64, AnalyticsError> {
    Ok(connection.prepare_cached("PRAGMA user_version")?.query_row([], |row| row.get(0))?)
}
