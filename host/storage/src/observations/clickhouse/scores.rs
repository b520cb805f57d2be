//! Scores: the last row of an id counts.

use std::collections::HashMap;

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::super::query::{Place, Query, SortBy, Subject, page_of};
use super::super::{AnalyticsError, DataType, Page, Score, ScoreValue, Source};
use super::connection::ClickHouse;
use super::rows::{check_time, corrupt, parse};
use super::sql::Sql;
use super::{ClickHouseObservations, writer};

/// Scores that are looked up at once: a parameter of that many ids stays below the server's 128 KiB.
const LOOKED_UP: usize = 250;

/// A row of `quality_scores`.
#[derive(Clone, Debug, Default, Row, Serialize, Deserialize)]
struct Stored {
    project_id: String,
    id: String,
    environment_id: String,
    name: String,
    data_type: String,
    value: Option<f64>,
    text: Option<String>,
    source: String,
    trace_id: String,
    span_id: String,
    session_id: String,
    comment: Option<String>,
    metadata: Vec<(String, String)>,
    timestamp: i64,
    created_at: i64,
    updated_at: i64,
    version: u64,
    is_deleted: u8,
}

const COLUMNS: &str = "o.project_id, o.id, o.environment_id, o.name, o.data_type, o.value, o.text, o.source, o.trace_id,
    o.span_id, o.session_id, o.comment, o.metadata, o.timestamp, o.created_at, o.updated_at, o.version, o.is_deleted";

/// `version` and those after it tell which of two rows came later.
pub(super) async fn put(
    database: &ClickHouse,
    project: ProjectId,
    scores: Vec<Score>,
    version: i64,
) -> Result<(), AnalyticsError> {
    let mut there: HashMap<String, i64> = HashMap::new();
    for scores in scores.chunks(LOOKED_UP) {
        let ids = scores.iter().map(|score| score.id.clone()).collect();
        let mut sql =
            Sql::new("SELECT o.id, o.created_at FROM quality_scores AS o FINAL WHERE o.project_id = ");
        sql.text(&project.to_string()).push(" AND o.id IN ").texts(ids);
        there.extend(database.look_up::<(String, i64)>(sql).await?);
    }
    let mut rows = Vec::with_capacity(scores.len());
    for (score, version) in scores.into_iter().zip(version..) {
        let timestamp = score.timestamp.timestamp_micros();
        check_time(timestamp)?;
        rows.push(Stored {
            project_id: project.to_string(),
            environment_id: score.environment_id.to_string(),
            name: score.name,
            data_type: score.value.data_type().as_str().to_owned(),
            value: score.value.number(),
            text: score.value.text().map(str::to_owned),
            source: score.source.as_str().to_owned(),
            trace_id: score.trace_id.map(|id| id.to_string()).unwrap_or_default(),
            span_id: score.span_id.map(|id| id.to_string()).unwrap_or_default(),
            session_id: score.session.unwrap_or_default(),
            comment: score.comment,
            metadata: score.metadata.into_iter().map(|(name, value)| (name, value.to_string())).collect(),
            timestamp,
            created_at: there.get(&score.id).copied().unwrap_or(score.created_at.timestamp_micros()),
            updated_at: score.updated_at.timestamp_micros(),
            version: version.cast_unsigned(),
            is_deleted: 0,
            id: score.id,
        });
    }
    if rows.is_empty() { Ok(()) } else { writer::write(database, "quality_scores", &rows, None).await }
}

pub(super) async fn delete(
    database: &ClickHouse,
    project: ProjectId,
    id: &str,
    version: i64,
) -> Result<bool, AnalyticsError> {
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM quality_scores AS o FINAL WHERE o.project_id = "));
    sql.text(&project.to_string()).push(" AND o.id = ").text(id);
    let Some(there) = database.look_up::<Stored>(sql).await?.into_iter().next() else { return Ok(false) };
    let gone = Stored { version: version.cast_unsigned(), is_deleted: 1, ..there };
    writer::write(database, "quality_scores", &[gone], None).await?;
    Ok(true)
}

pub(super) async fn list(
    store: &ClickHouseObservations,
    project: ProjectId,
    query: Query,
) -> Result<Page<Score, Place>, AnalyticsError> {
    // What has no value is less than everything.
    let first = (query.sort.by == SortBy::Value).then_some("ifNull(o.value, -1.7976931348623157e308)");
    let mut sql = Sql::new(&format!("SELECT {COLUMNS} FROM quality_scores AS o FINAL WHERE o.project_id = "));
    sql.text(&project.to_string()).push(" AND o.timestamp >= ").time(query.from.timestamp_micros());
    sql.push(" AND o.timestamp < ").time(query.to.timestamp_micros());
    sql.filter(&query.filter, Subject::Scores, project);
    let (comparison, direction) = if query.sort.descending { ("<", " DESC") } else { (">", "") };
    let columns = first.into_iter().chain(["o.timestamp", "o.id"]).collect::<Vec<_>>();
    if let Some(place) = &query.after {
        sql.push(&format!(" AND ({}) {comparison} (", columns.join(", ")));
        if first.is_some() {
            sql.number(place.value).push(", ");
        }
        sql.time(place.start_us).push(", ").text(&place.key).push(")");
    }
    let limit = query.limit.saturating_add(1);
    sql.push(&format!(" ORDER BY {}{direction} LIMIT {limit}", columns.join(&format!("{direction}, "))));
    let mut found = Vec::new();
    for row in store.ask::<Stored>(sql).await? {
        let value = if first.is_some() { row.value.unwrap_or(f64::MIN) } else { row.timestamp as f64 };
        found.push((Place::new(query.sort, value, row.timestamp, 0, &row.id), row.score()?));
    }
    Ok(page_of(found, query.limit))
}

impl Stored {
    fn score(self) -> Result<Score, AnalyticsError> {
        let value = match (DataType::of(&self.data_type), self.value, self.text) {
            (Some(DataType::Numeric), Some(number), _) => ScoreValue::Numeric(number),
            (Some(DataType::Boolean), Some(number), _) => ScoreValue::Boolean(number != 0.0),
            (Some(DataType::Categorical), _, Some(text)) => ScoreValue::Categorical(text),
            (Some(DataType::Text), _, Some(text)) => ScoreValue::Text(text),
            _ => return Err(corrupt(format!("a score of the type {} without a value", self.data_type))),
        };
        let time = |micros| DateTime::<Utc>::from_timestamp_micros(micros).unwrap_or_default();
        let some = |text: &str| !text.is_empty();
        let metadata = self.metadata.into_iter().map(|(name, json)| {
            let value = serde_json::from_str(&json).map_err(corrupt)?;
            Ok((name, value))
        });
        Ok(Score {
            environment_id: parse(&self.environment_id)?,
            name: self.name,
            data_type: value.data_type(),
            value,
            source: Source::of(&self.source)
                .ok_or_else(|| corrupt(format!("a score from {}", self.source)))?,
            trace_id: Some(self.trace_id.as_str()).filter(|text| some(text)).map(parse).transpose()?,
            span_id: Some(self.span_id.as_str()).filter(|text| some(text)).map(parse).transpose()?,
            session: Some(self.session_id).filter(|text| some(text)),
            comment: self.comment,
            metadata: metadata.collect::<Result<_, AnalyticsError>>()?,
            timestamp: time(self.timestamp),
            created_at: time(self.created_at),
            updated_at: time(self.updated_at),
            id: self.id,
        })
    }
}
