//! Deleting what is too old: files of months, or a project's rows.
//!
//! Rows go a few thousand at a time, and the writer is free in between. What they took of a file is used again by later rows
//! of that month; the file itself goes when nothing is left in it.

use std::ops::Range;

use brokle_core::ids::ProjectId;
use parking_lot::Mutex;
use rusqlite::{Connection, Transaction, params};

use super::super::retention::Removed;
use super::super::{AnalyticsError, Month};
use super::reader::Readers;
use super::writer::Writer;
use super::{arrivals, files, schema};

/// Rows of a transaction.
const CHUNK: i64 = 5_000;

/// The tables that are counted, with their time; the first one is in every layout.
const COUNTED: [(&str, &str); 3] = [("observations", "start_us"), ("logs", "time_us"), ("points", "time_us")];

/// Deletes the files of the months before.
pub(super) fn months(
    readers: &Readers,
    writer: &Mutex<Writer>,
    before: Month,
    dry_run: bool,
) -> Result<Removed, AnalyticsError> {
    let mut removed = Removed::default();
    for month in files::months(readers.directory())?.into_iter().filter(|month| *month < before) {
        let counts = readers.with(month, |connection| count(connection, None))?;
        removed += counts.unwrap_or_default();
        removed.months.push(month);
        if !dry_run {
            delete_file(readers, &mut writer.lock(), month)?;
        }
    }
    Ok(removed)
}

/// Deletes the project's rows of this time.
pub(super) fn expire(
    readers: &Readers,
    writer: &Mutex<Writer>,
    project: ProjectId,
    time: &Range<i64>,
    dry_run: bool,
) -> Result<Removed, AnalyticsError> {
    let mut removed = Removed::default();
    for month in readers.months(Some(time.start), Some(time.end))? {
        let counts = readers.with(month, |connection| count(connection, Some((project, time))))?;
        let counts = counts.unwrap_or_default();
        let is_clean = counts == Removed::default();
        removed += counts;
        if dry_run || is_clean {
            continue;
        }
        while writer.lock().with(month, |transaction| delete_some(transaction, project, time))? {}
        let mut writer = writer.lock();
        if writer.with(month, is_empty)? {
            delete_file(readers, &mut writer, month)?;
            removed.months.push(month);
        }
    }
    Ok(removed)
}

fn delete_file(readers: &Readers, writer: &mut Writer, month: Month) -> Result<(), AnalyticsError> {
    writer.close(month);
    files::delete(readers.directory(), month)?;
    readers.forget_files();
    Ok(())
}

fn count(connection: &Connection, of: Option<(ProjectId, &Range<i64>)>) -> Result<Removed, AnalyticsError> {
    let tables = if schema::has_signals(connection)? { COUNTED.len() } else { 1 };
    let mut counts = [0; COUNTED.len()];
    for ((table, column), count) in COUNTED.iter().zip(&mut counts).take(tables) {
        let rows: i64 = match of {
            None => connection.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))?,
            Some((project, time)) => connection.query_row(
                &format!(
                    "SELECT count(*) FROM {table} WHERE project = ?1 AND {column} >= ?2 AND {column} < ?3"
                ),
                params![project.as_u128().to_be_bytes(), time.start, time.end],
                |row| row.get(0),
            )?,
        };
        *count = rows.cast_unsigned();
    }
    let [observations, logs, points] = counts;
    Ok(Removed { observations, logs, points, ..Removed::default() })
}

/// Deletes a chunk of each table. False: there was nothing left to delete.
fn delete_some(
    transaction: &Transaction<'_>,
    project: ProjectId,
    time: &Range<i64>,
) -> Result<bool, AnalyticsError> {
    arrivals::keep_given(transaction)?;
    let project = project.as_u128().to_be_bytes();
    let named = params![project, time.start, time.end, CHUNK];
    let mut deleted = 0;
    for (table, of, column) in [
        ("bodies", "observations", "start_us"),
        ("observations", "observations", "start_us"),
        ("logs", "logs", "time_us"),
        ("points", "points", "time_us"),
    ] {
        deleted += transaction
            .prepare_cached(&format!(
                "DELETE FROM {table} WHERE rid IN
                 (SELECT rid FROM {of} WHERE project = ?1 AND {column} >= ?2 AND {column} < ?3
                  ORDER BY {column}, rid LIMIT ?4)"
            ))?
            .execute(named)?;
    }
    let hours = params![project, time.start, time.end];
    transaction.execute("DELETE FROM blobs WHERE project = ?1 AND time_us >= ?2 AND time_us < ?3", hours)?;
    transaction
        .execute("DELETE FROM rollups WHERE project = ?1 AND hour_us >= ?2 AND hour_us < ?3", hours)?;
    Ok(deleted > 0)
}

fn is_empty(transaction: &Transaction<'_>) -> Result<bool, AnalyticsError> {
    for (table, _) in COUNTED {
        let sql = format!("SELECT EXISTS (SELECT 1 FROM {table})");
        if transaction.query_row(&sql, [], |row| row.get(0))? {
            return Ok(false);
        }
    }
    Ok(true)
}
