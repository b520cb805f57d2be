//! What is said of traces after the fact: a table of `scores.db`, a row for each trace and member.

use std::collections::HashMap;
use std::ops::Range;

use brokle_core::ids::ProjectId;
use brokle_core::observation::TraceId;
use rusqlite::{Connection, params, params_from_iter};

use super::super::AnalyticsError;
use super::super::update::TraceUpdate;
use super::columns::broken;
use super::query::Sql;

/// `value` is JSON.
pub(super) const TABLE: &str = "
CREATE TABLE trace_updates (
    project BLOB NOT NULL,
    trace_id BLOB NOT NULL,
    member TEXT NOT NULL,
    value TEXT NOT NULL,
    updated_us INTEGER NOT NULL,
    PRIMARY KEY (project, trace_id, member)
) STRICT, WITHOUT ROWID;
";

/// Writes the members that the update has; what is there gives way unless it is later.
pub(super) fn put(
    connection: &mut Connection,
    project: ProjectId,
    trace: TraceId,
    update: &TraceUpdate,
    now_us: i64,
) -> Result<(), AnalyticsError> {
    let rejected = |error: serde_json::Error| AnalyticsError::Rejected(error.into());
    let members = [
        ("tags", update.tags.as_ref().map(serde_json::to_string).transpose().map_err(rejected)?),
        ("user", update.user.as_ref().map(serde_json::to_string).transpose().map_err(rejected)?),
        ("bookmarked", update.bookmarked.map(|flag| flag.to_string())),
    ];
    let transaction = connection.transaction()?;
    for (member, value) in members {
        let Some(value) = value else { continue };
        transaction
            .prepare_cached(
                "INSERT INTO trace_updates (project, trace_id, member, value, updated_us) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (project, trace_id, member) DO UPDATE
                 SET value = excluded.value, updated_us = excluded.updated_us
                 WHERE excluded.updated_us >= updated_us",
            )?
            .execute(params![project.as_u128().to_be_bytes(), trace.as_bytes(), member, value, now_us])?;
    }
    Ok(transaction.commit()?)
}

pub(super) fn get(
    connection: &Connection,
    project: ProjectId,
    traces: &[TraceId],
) -> Result<HashMap<TraceId, TraceUpdate>, AnalyticsError> {
    let mut sql = Sql::new("SELECT trace_id, member, value FROM trace_updates WHERE project = ");
    sql.bind(rusqlite::types::Value::Blob(project.as_u128().to_be_bytes().to_vec()));
    sql.push(" AND trace_id IN ");
    sql.bind_all(traces.iter().map(|trace| rusqlite::types::Value::Blob(trace.as_bytes().to_vec())));
    let mut statement = connection.prepare(&sql.text)?;
    let mut rows = statement.query(params_from_iter(&sql.values))?;
    let mut found: HashMap<TraceId, TraceUpdate> = HashMap::new();
    while let Some(row) = rows.next()? {
        let Ok(trace) = TraceId::from_bytes(row.get(0)?) else { continue };
        let update = found.entry(trace).or_default();
        let value: String = row.get(2)?;
        let unreadable = |error| broken(2, error);
        match row.get_ref(1)?.as_str().unwrap_or_default() {
            "tags" => update.tags = serde_json::from_str(&value).map_err(unreadable)?,
            "user" => update.user = Some(serde_json::from_str(&value).map_err(unreadable)?),
            "bookmarked" => update.bookmarked = serde_json::from_str(&value).map_err(unreadable)?,
            _ => {}
        }
    }
    Ok(found)
}

/// Deletes what was said in this time, of this project's traces or of every one's.
pub(super) fn expire(
    connection: &Connection,
    project: Option<ProjectId>,
    time: &Range<i64>,
) -> Result<(), AnalyticsError> {
    connection.execute(
        "DELETE FROM trace_updates WHERE updated_us >= ?1 AND updated_us < ?2 AND (?3 IS NULL OR project = ?3)",
        params![time.start, time.end, project.map(|project| project.as_u128().to_be_bytes())],
    )?;
    Ok(())
}
