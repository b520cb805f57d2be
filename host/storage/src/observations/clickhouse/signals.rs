//! Log records and metrics' points. The same one inserted twice is merged by the table's key; questions read merged rows.

use brokle_core::ids::ProjectId;
use brokle_core::signal::{LogRecord, MetricPoint};
use brokle_core::tenancy::Tenant;
use clickhouse::Row;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::super::query::{Place, Sort, page_of};
use super::super::signal::{LogRow, LogsQuery, PointRow, PointsQuery, SeriesRow};
use super::super::{AnalyticsError, Page};
use super::ClickHouseObservations;
use super::connection::ClickHouse;
use super::rows::{check_time, corrupt, parse};
use super::sql::Sql;
use super::writer::write;

/// A row of `logs`.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
pub(super) struct StoredLog {
    project_id: String,
    organization_id: String,
    environment_id: String,
    id: String,
    time: i64,
    observed_time: i64,
    trace_id: String,
    span_id: String,
    severity_number: u8,
    severity_text: String,
    event_name: String,
    body: String,
    attributes: Vec<(String, String)>,
    resource: Vec<(String, String)>,
    scope: String,
}

const LOG: &str =
    "o.project_id, o.organization_id, o.environment_id, o.id, o.time, o.observed_time, o.trace_id, o.span_id,
    o.severity_number, o.severity_text, o.event_name, o.body, o.attributes, o.resource, o.scope";

/// A row of `metrics`.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
pub(super) struct StoredPoint {
    project_id: String,
    organization_id: String,
    environment_id: String,
    name: String,
    description: String,
    unit: String,
    kind: String,
    temporality: String,
    is_monotonic: bool,
    series: u64,
    start_time: i64,
    time: i64,
    value: Option<f64>,
    count: u64,
    sum: f64,
    min: Option<f64>,
    max: Option<f64>,
    bucket_bounds: Vec<f64>,
    bucket_counts: Vec<u64>,
    attributes: Vec<(String, String)>,
    resource: Vec<(String, String)>,
    scope: String,
}

const POINT: &str =
    "o.project_id, o.organization_id, o.environment_id, o.name, o.description, o.unit, o.kind, o.temporality,
    o.is_monotonic, o.series, o.start_time, o.time, o.value, o.count, o.sum, o.min, o.max, o.bucket_bounds,
    o.bucket_counts, o.attributes, o.resource, o.scope";

/// A series' latest point, and how many there are.
#[derive(Clone, Debug, Row, Serialize, Deserialize)]
struct StoredSeries {
    name: String,
    series: u64,
    latest: i64,
    points: u64,
}

fn texts(members: &std::collections::BTreeMap<String, Value>) -> Vec<(String, String)> {
    members.iter().map(|(name, value)| (name.clone(), value.to_string())).collect()
}

fn values(texts: Vec<(String, String)>) -> Result<std::collections::BTreeMap<String, Value>, AnalyticsError> {
    texts.into_iter().map(|(name, json)| Ok((name, serde_json::from_str(&json).map_err(corrupt)?))).collect()
}

fn tenant(project: &str, organization: &str, environment: &str) -> Result<Tenant, AnalyticsError> {
    Ok(Tenant {
        project: parse(project)?,
        organization: parse(organization)?,
        environment: parse(environment)?,
    })
}

impl StoredLog {
    pub(super) fn new(row: &LogRecord) -> Result<Self, AnalyticsError> {
        check_time(row.time_us)?;
        check_time(row.observed_us)?;
        Ok(Self {
            project_id: row.tenant.project.to_string(),
            organization_id: row.tenant.organization.to_string(),
            environment_id: row.tenant.environment.to_string(),
            id: format!("{:032x}", row.id),
            time: row.time_us,
            observed_time: row.observed_us,
            trace_id: row.trace_id.map(|id| id.to_string()).unwrap_or_default(),
            span_id: row.span_id.map(|id| id.to_string()).unwrap_or_default(),
            severity_number: row.severity_number,
            severity_text: row.severity_text.clone(),
            event_name: row.event_name.clone(),
            body: row.body.clone(),
            attributes: texts(&row.attributes),
            resource: texts(&row.resource),
            scope: row.scope.clone(),
        })
    }

    fn record(self) -> Result<LogRecord, AnalyticsError> {
        let some = |text: &String| !text.is_empty();
        let resource = values(self.resource)?;
        Ok(LogRecord {
            id: u128::from_str_radix(&self.id, 16).map_err(corrupt)?,
            tenant: tenant(&self.project_id, &self.organization_id, &self.environment_id)?,
            time_us: self.time,
            observed_us: self.observed_time,
            trace_id: Some(&self.trace_id).filter(|text| some(text)).map(|text| parse(text)).transpose()?,
            span_id: Some(&self.span_id).filter(|text| some(text)).map(|text| parse(text)).transpose()?,
            severity_number: self.severity_number,
            severity_text: self.severity_text,
            event_name: self.event_name,
            body: self.body,
            service: resource.get("service.name").and_then(Value::as_str).unwrap_or_default().to_owned(),
            attributes: values(self.attributes)?,
            resource,
            scope: self.scope,
        })
    }
}

impl StoredPoint {
    pub(super) fn new(row: &MetricPoint) -> Result<Self, AnalyticsError> {
        check_time(row.time_us)?;
        check_time(row.start_us)?;
        Ok(Self {
            project_id: row.tenant.project.to_string(),
            organization_id: row.tenant.organization.to_string(),
            environment_id: row.tenant.environment.to_string(),
            name: row.name.clone(),
            description: row.description.clone(),
            unit: row.unit.clone(),
            kind: row.kind.clone(),
            temporality: row.temporality.clone(),
            is_monotonic: row.is_monotonic,
            series: row.series.cast_unsigned(),
            start_time: row.start_us,
            time: row.time_us,
            value: row.value,
            count: row.count.min(i64::MAX.cast_unsigned()),
            sum: row.sum,
            min: row.min,
            max: row.max,
            bucket_bounds: row.bucket_bounds.clone(),
            bucket_counts: row.bucket_counts.clone(),
            attributes: texts(&row.attributes),
            resource: texts(&row.resource),
            scope: row.scope.clone(),
        })
    }

    fn point(self) -> Result<MetricPoint, AnalyticsError> {
        Ok(MetricPoint {
            tenant: tenant(&self.project_id, &self.organization_id, &self.environment_id)?,
            name: self.name,
            description: self.description,
            unit: self.unit,
            kind: self.kind,
            temporality: self.temporality,
            is_monotonic: self.is_monotonic,
            series: self.series.cast_signed(),
            start_us: self.start_time,
            time_us: self.time,
            value: self.value,
            count: self.count,
            sum: self.sum,
            min: self.min,
            max: self.max,
            bucket_bounds: self.bucket_bounds,
            bucket_counts: self.bucket_counts,
            attributes: values(self.attributes)?,
            resource: values(self.resource)?,
            scope: self.scope,
        })
    }
}

/// By which the server knows the same rows again.
fn token<'a>(parts: impl Iterator<Item = (&'a str, &'a str, u64, i64)>) -> String {
    let mut hash = Sha256::new();
    for (project, name, number, time) in parts {
        for part in [project.as_bytes(), name.as_bytes(), &number.to_le_bytes(), &time.to_le_bytes()] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn insert_logs(database: &ClickHouse, rows: Vec<StoredLog>) -> Result<(), AnalyticsError> {
    let token = token(rows.iter().map(|row| (row.project_id.as_str(), row.id.as_str(), 0, row.time)));
    write(database, "logs", &rows, Some(&token)).await
}

pub(super) async fn insert_points(
    database: &ClickHouse,
    rows: Vec<StoredPoint>,
) -> Result<(), AnalyticsError> {
    let key = |row: &'_ StoredPoint| (row.series, row.time);
    let token = token(rows.iter().map(|row| {
        let (series, time) = key(row);
        (row.project_id.as_str(), row.name.as_str(), series, time)
    }));
    write(database, "metrics", &rows, Some(&token)).await
}

/// `SELECT … WHERE` the project's of this time, merged.
fn select(columns: &str, table: &str, project: ProjectId, from: i64, to: i64) -> Sql {
    let mut sql = Sql::new(&format!("SELECT {columns} FROM {table} AS o FINAL WHERE o.project_id = "));
    sql.text(&project.to_string());
    sql.push(" AND o.time >= ").time(from).push(" AND o.time < ").time(to);
    sql
}

pub(super) async fn logs(
    store: &ClickHouseObservations,
    project: ProjectId,
    query: LogsQuery,
) -> Result<Page<LogRow, Place>, AnalyticsError> {
    let (from, to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let mut sql = select(LOG, "logs", project, from, to);
    if let Some(severity) = query.min_severity {
        sql.push(" AND o.severity_number >= ").integer(severity.into());
    }
    if let Some(trace) = &query.trace_id {
        sql.push(" AND o.trace_id = ").text(&trace.to_string());
    }
    if let Some(span) = &query.span_id {
        sql.push(" AND o.span_id = ").text(&span.to_string());
    }
    if let Some(service) = &query.service {
        // As it is stored: JSON.
        sql.push(" AND o.resource['service.name'] = ").text(&Value::from(service.as_str()).to_string());
    }
    if let Some(name) = &query.event_name {
        sql.push(" AND o.event_name = ").text(name);
    }
    if let Some(text) = &query.text {
        sql.push(" AND positionCaseInsensitiveUTF8(o.body, ").text(text).push(") > 0");
    }
    if let Some(after) = &query.after {
        sql.push(" AND (o.time, o.id) < (").time(after.start_us).push(", ").text(&after.key).push(")");
        sql.push(" AND o.time <= ").time(after.start_us);
    }
    sql.push(&format!(
        " ORDER BY toStartOfMinute(o.time) DESC, o.time DESC, o.id DESC LIMIT {}",
        query.limit.saturating_add(1)
    ));
    let mut found = Vec::new();
    for row in store.ask::<StoredLog>(sql).await? {
        let row = LogRow::from(row.record()?);
        found.push((Place::new(Sort::default(), 0.0, row.time.timestamp_micros(), 0, &row.id), row));
    }
    Ok(page_of(found, query.limit))
}

fn narrow(sql: &mut Sql, query: &PointsQuery) {
    if let Some(name) = &query.name {
        sql.push(" AND o.name = ").text(name);
    }
    if let Some(series) = query.series {
        sql.push(" AND o.series = ").integer(series);
    }
}

pub(super) async fn points(
    store: &ClickHouseObservations,
    project: ProjectId,
    query: PointsQuery,
) -> Result<Page<PointRow, Place>, AnalyticsError> {
    let (from, to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let mut sql = select(POINT, "metrics", project, from, to);
    narrow(&mut sql, &query);
    if let Some(after) = &query.after {
        sql.push(" AND (o.time, o.name, o.series) < (").time(after.start_us).push(", ").text(&after.key);
        sql.push(", toUInt64(").integer(after.rid).push("))");
    }
    let limit = query.limit.saturating_add(1);
    sql.push(&format!(" ORDER BY o.time DESC, o.name DESC, o.series DESC LIMIT {limit}"));
    let mut found = Vec::new();
    for row in store.ask::<StoredPoint>(sql).await? {
        let row = row.point()?;
        found.push((
            Place::new(Sort::default(), 0.0, row.time_us, row.series, &row.name),
            PointRow::from(row),
        ));
    }
    Ok(page_of(found, query.limit))
}

/// First which there are, by the key's columns; then the latest point of each.
pub(super) async fn series(
    store: &ClickHouseObservations,
    project: ProjectId,
    query: PointsQuery,
) -> Result<Page<SeriesRow, Place>, AnalyticsError> {
    let (from, to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let mut sql =
        select("o.name, o.series, max(o.time) AS latest, count() AS points", "metrics", project, from, to);
    narrow(&mut sql, &query);
    if let Some(after) = &query.after {
        sql.push(" AND (o.name, o.series) > (")
            .text(&after.key)
            .push(", toUInt64(")
            .integer(after.rid)
            .push("))");
    }
    let limit = query.limit.saturating_add(1);
    sql.push(&format!(" GROUP BY o.name, o.series ORDER BY o.name, o.series LIMIT {limit}"));
    let found: Vec<StoredSeries> = store.ask(sql).await?;
    let mut sql = select(POINT, "metrics", project, from, to);
    sql.push(" AND (o.name, o.series, o.time) IN (SELECT arrayJoin(arrayMap((n, s, t) -> (n, toUInt64(s), fromUnixTimestamp64Micro(t, 'UTC')), ");
    sql.texts(found.iter().map(|row| row.name.clone()).collect()).push(", ");
    sql.integers(found.iter().map(|row| row.series.cast_signed()).collect()).push(", ");
    sql.integers(found.iter().map(|row| row.latest).collect()).push(")))");
    let latest: Vec<StoredPoint> = if found.is_empty() { Vec::new() } else { store.ask(sql).await? };
    let mut rows = Vec::new();
    for row in found {
        // Gone in between: nothing is left to show.
        let Some(point) = latest.iter().find(|one| (&one.name, one.series) == (&row.name, row.series)) else {
            continue;
        };
        let place = Place::new(Sort::default(), 0.0, 0, row.series.cast_signed(), &row.name);
        rows.push((place, SeriesRow { latest: point.clone().point()?.into(), points: row.points }));
    }
    Ok(page_of(rows, query.limit))
}
