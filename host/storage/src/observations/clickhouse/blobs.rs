//! The log of blobs: which belong to which rows.

use std::ops::Range;

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::Serialize;

use super::super::AnalyticsError;
use super::super::payloads::BlobRow;
use super::ClickHouse;
use super::rows::check_time;
use super::sql::Sql;

/// A row of `blob_storage_file_log`.
#[derive(Clone, Debug, Row, Serialize)]
pub(super) struct Stored {
    project_id: String,
    entity_type: &'static str,
    entity_id: String,
    trace_id: String,
    field: &'static str,
    bucket: String,
    path: String,
    bytes: u64,
    sha256: String,
    created_at: i64,
    version: u64,
    is_deleted: u8,
    time: i64,
}

/// As they are stored; `version` and those after it tell which of two came later.
pub(super) fn stored(rows: &[BlobRow], version: i64) -> Result<Vec<Stored>, AnalyticsError> {
    let stored = |(row, version): (&BlobRow, i64)| {
        check_time(row.time_us)?;
        Ok(Stored {
            project_id: row.project.to_string(),
            entity_type: "observation",
            entity_id: format!("{}-{}", row.trace_id, row.span_id),
            trace_id: row.trace_id.to_string(),
            field: row.field,
            bucket: String::new(),
            path: row.path.clone(),
            bytes: row.bytes,
            sha256: row.sha256.clone(),
            created_at: row.time_us,
            version: version.cast_unsigned(),
            is_deleted: 0,
            time: row.time_us,
        })
    };
    rows.iter().zip(version..).map(stored).collect()
}

pub(super) async fn names(
    database: &ClickHouse,
    project: Option<ProjectId>,
    time: Range<DateTime<Utc>>,
    after: &str,
    limit: u32,
) -> Result<Vec<String>, AnalyticsError> {
    let mut sql = Sql::new("SELECT path FROM blob_storage_file_log FINAL WHERE path > ");
    sql.text(after).push(" AND time >= ").time(time.start.timestamp_micros());
    sql.push(" AND time < ").time(time.end.timestamp_micros());
    if let Some(project) = project {
        sql.push(" AND project_id = ").text(&project.to_string());
    }
    sql.push(&format!(" ORDER BY path LIMIT {limit}"));
    database.look_up(sql).await
}
