//! What is said of traces after the fact: rows of `trace_updates`, the last of a trace and member counts.

use std::collections::HashMap;

use brokle_core::ids::ProjectId;
use brokle_core::observation::TraceId;
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::super::AnalyticsError;
use super::super::update::TraceUpdate;
use super::connection::ClickHouse;
use super::rows::parse;
use super::sql::Sql;
use super::writer;

/// A row of `trace_updates`.
#[derive(Clone, Debug, Default, Row, Serialize, Deserialize)]
struct Stored {
    project_id: String,
    trace_id: String,
    member: String,
    tags: Vec<String>,
    text: Option<String>,
    flag: bool,
    updated_at: i64,
    version: u64,
}

/// `version` and those after it tell which of two rows came later.
pub(super) async fn put(
    database: &ClickHouse,
    project: ProjectId,
    trace: TraceId,
    update: TraceUpdate,
    updated_at: i64,
    version: i64,
) -> Result<(), AnalyticsError> {
    let row = |member: &str| Stored {
        project_id: project.to_string(),
        trace_id: trace.to_string(),
        member: member.to_owned(),
        updated_at,
        version: version.cast_unsigned(),
        ..Stored::default()
    };
    let tags = update.tags.map(|tags| Stored { tags, ..row("tags") });
    let user = update.user.map(|text| Stored { text, ..row("user") });
    let bookmarked = update.bookmarked.map(|flag| Stored { flag, ..row("bookmarked") });
    let rows: Vec<_> = [tags, user, bookmarked].into_iter().flatten().collect();
    if rows.is_empty() { Ok(()) } else { writer::write(database, "trace_updates", &rows, None).await }
}

pub(super) async fn get(
    database: &ClickHouse,
    project: ProjectId,
    traces: &[TraceId],
) -> Result<HashMap<TraceId, TraceUpdate>, AnalyticsError> {
    let mut sql = Sql::new(
        "SELECT o.project_id, o.trace_id, o.member, o.tags, o.text, o.flag, o.updated_at, o.version
         FROM trace_updates AS o FINAL WHERE o.project_id = ",
    );
    sql.text(&project.to_string()).push(" AND o.trace_id IN ");
    sql.texts(traces.iter().map(ToString::to_string).collect());
    let mut found: HashMap<TraceId, TraceUpdate> = HashMap::new();
    for row in database.look_up::<Stored>(sql).await? {
        let update = found.entry(parse(&row.trace_id)?).or_default();
        match row.member.as_str() {
            "tags" => update.tags = Some(row.tags),
            "user" => update.user = Some(row.text),
            "bookmarked" => update.bookmarked = Some(row.flag),
            _ => {}
        }
    }
    Ok(found)
}
