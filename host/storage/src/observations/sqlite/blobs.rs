//! The log of blobs: which belong to which rows of a month's file.

use std::ops::Range;

use brokle_core::ids::ProjectId;
use rusqlite::{Transaction, params};

use super::super::payloads::BlobRow;
use super::super::{AnalyticsError, Inserted};
use super::columns::whole;
use super::reader::Readers;
use super::schema;

pub(super) const TABLE: &str = "
CREATE TABLE blobs (
    project BLOB NOT NULL,
    path TEXT NOT NULL,
    trace_id BLOB NOT NULL,
    span_id BLOB NOT NULL,
    field TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    sha256 TEXT NOT NULL,
    time_us INTEGER NOT NULL,
    PRIMARY KEY (project, path)
) STRICT, WITHOUT ROWID;
";

pub(super) fn insert(
    transaction: &Transaction<'_>,
    rows: &[&BlobRow],
    inserted: &mut Inserted,
) -> Result<(), AnalyticsError> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO blobs (project, path, trace_id, span_id, field, bytes, sha256, time_us)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (project, path) DO NOTHING",
    )?;
    for row in rows {
        inserted.rows += insert.execute(params![
            row.project.as_u128().to_be_bytes(),
            row.path,
            row.trace_id.as_bytes(),
            row.span_id.as_bytes(),
            row.field,
            whole(row.bytes),
            row.sha256,
            row.time_us,
        ])? as u64;
    }
    Ok(())
}

pub(super) fn names(
    readers: &Readers,
    project: Option<ProjectId>,
    time: &Range<i64>,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, AnalyticsError> {
    let mut names = Vec::new();
    for month in readers.months(Some(time.start), Some(time.end))? {
        names.extend(readers.with(month, |connection| {
            if !schema::has_blobs(connection)? {
                return Ok(Vec::new());
            }
            let mut statement = connection.prepare_cached(
                "SELECT path FROM blobs WHERE (?1 IS NULL OR project = ?1) AND path > ?2 AND time_us >= ?3
                 AND time_us < ?4 ORDER BY path LIMIT ?5",
            )?;
            let project = project.map(|project| project.as_u128().to_be_bytes());
            let named = params![project, after, time.start, time.end, limit];
            Ok(statement.query_map(named, |row| row.get(0))?.collect::<Result<Vec<String>, _>>()?)
        })?);
    }
    let mut names: Vec<_> = names.into_iter().flatten().collect();
    names.sort_unstable();
    names.truncate(limit as usize);
    Ok(names)
}
