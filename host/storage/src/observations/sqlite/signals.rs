//! Log records and metrics' points: tables of their own in the month files, by their own time.

use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::observation::{SpanId, TraceId};
use brokle_core::signal::{LogRecord, MetricPoint};
use brokle_core::tenancy::Tenant;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Transaction, params, params_from_iter};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::super::query::{Limits, Place, Sort, page_of};
use super::super::signal::{LogRow, LogsQuery, PointRow, PointsQuery, SeriesRow};
use super::super::{AnalyticsError, Inserted, Page};
use super::columns::{broken, count, whole};
use super::query::{Budget, Needs, Sql, ask, in_time};
use super::reader::Readers;
use super::schema;

/// What month files have beside the observations.
pub(super) const TABLES: &str = "
CREATE TABLE logs (
    rid INTEGER PRIMARY KEY,
    project BLOB NOT NULL,
    id BLOB NOT NULL,
    organization BLOB NOT NULL,
    environment BLOB NOT NULL,
    time_us INTEGER NOT NULL,
    observed_us INTEGER NOT NULL,
    trace_id BLOB,
    span_id BLOB,
    severity_number INTEGER NOT NULL,
    severity_text TEXT NOT NULL,
    event_name TEXT NOT NULL,
    body TEXT NOT NULL,
    service TEXT NOT NULL,
    attributes TEXT,
    resource TEXT,
    scope TEXT NOT NULL,
    UNIQUE (project, id)
) STRICT;
CREATE INDEX logs_list ON logs (project, time_us, id, severity_number, trace_id, service);
CREATE INDEX logs_trace ON logs (project, trace_id, time_us) WHERE trace_id IS NOT NULL;
CREATE TABLE points (
    rid INTEGER PRIMARY KEY,
    project BLOB NOT NULL,
    name TEXT NOT NULL,
    series INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    organization BLOB NOT NULL,
    environment BLOB NOT NULL,
    description TEXT NOT NULL,
    unit TEXT NOT NULL,
    kind TEXT NOT NULL,
    temporality TEXT NOT NULL,
    is_monotonic INTEGER NOT NULL,
    start_us INTEGER NOT NULL,
    value REAL,
    count INTEGER NOT NULL,
    sum REAL NOT NULL,
    min REAL,
    max REAL,
    bucket_bounds TEXT,
    bucket_counts TEXT,
    attributes TEXT,
    resource TEXT,
    scope TEXT NOT NULL,
    UNIQUE (project, name, series, time_us)
) STRICT;
CREATE INDEX points_list ON points (project, time_us, name, series);
";

const LOG: &str =
    "o.id, o.organization, o.environment, o.time_us, o.observed_us, o.trace_id, o.span_id, o.severity_number,
    o.severity_text, o.event_name, o.body, o.service, o.attributes, o.resource, o.scope";
const POINT: &str = "o.name, o.series, o.time_us, o.organization, o.environment, o.description, o.unit, o.kind,
    o.temporality, o.is_monotonic, o.start_us, o.value, o.count, o.sum, o.min, o.max, o.bucket_bounds, o.bucket_counts,
    o.attributes, o.resource, o.scope";

/// None for what is empty.
fn json<T: Serialize>(value: &T, is_empty: bool) -> Result<Option<String>, AnalyticsError> {
    let text = (!is_empty).then(|| serde_json::to_string(value)).transpose();
    text.map_err(|error| AnalyticsError::Rejected(error.into()))
}

fn from_json<T: DeserializeOwned + Default>(row: &Row<'_>, at: usize) -> rusqlite::Result<T> {
    match row.get_ref(at)?.as_str_or_null()? {
        Some(text) => serde_json::from_str(text).map_err(|error| broken(at, error)),
        None => Ok(T::default()),
    }
}

pub(super) fn insert_logs(
    transaction: &Transaction<'_>,
    rows: &[&LogRecord],
    inserted: &mut Inserted,
) -> Result<(), AnalyticsError> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO logs (project, id, organization, environment, time_us, observed_us, trace_id, span_id, severity_number,
             severity_text, event_name, body, service, attributes, resource, scope)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)
         ON CONFLICT (project, id) DO NOTHING",
    )?;
    for row in rows {
        let changed = insert.execute(params![
            row.tenant.project.as_u128().to_be_bytes(),
            row.id.to_be_bytes(),
            row.tenant.organization.as_u128().to_be_bytes(),
            row.tenant.environment.as_u128().to_be_bytes(),
            row.time_us,
            row.observed_us,
            row.trace_id.as_ref().map(|id| id.as_bytes()),
            row.span_id.as_ref().map(|id| id.as_bytes()),
            row.severity_number,
            row.severity_text,
            row.event_name,
            row.body,
            row.service,
            json(&row.attributes, row.attributes.is_empty())?,
            json(&row.resource, row.resource.is_empty())?,
            row.scope,
        ])?;
        inserted.rows += changed as u64;
        inserted.duplicates += 1 - (changed as u64).min(1);
    }
    Ok(())
}

pub(super) fn insert_points(
    transaction: &Transaction<'_>,
    rows: &[&MetricPoint],
    inserted: &mut Inserted,
) -> Result<(), AnalyticsError> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO points (project, name, series, time_us, organization, environment, description, unit, kind, temporality,
             is_monotonic, start_us, value, count, sum, min, max, bucket_bounds, bucket_counts, attributes, resource, scope)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20, ?21, ?22)
         ON CONFLICT (project, name, series, time_us) DO NOTHING",
    )?;
    for row in rows {
        let changed = insert.execute(params![
            row.tenant.project.as_u128().to_be_bytes(),
            row.name,
            row.series,
            row.time_us,
            row.tenant.organization.as_u128().to_be_bytes(),
            row.tenant.environment.as_u128().to_be_bytes(),
            row.description,
            row.unit,
            row.kind,
            row.temporality,
            row.is_monotonic,
            row.start_us,
            row.value,
            whole(row.count),
            row.sum,
            row.min,
            row.max,
            json(&row.bucket_bounds, row.bucket_bounds.is_empty())?,
            json(&row.bucket_counts, row.bucket_counts.is_empty())?,
            json(&row.attributes, row.attributes.is_empty())?,
            json(&row.resource, row.resource.is_empty())?,
            row.scope,
        ])?;
        inserted.rows += changed as u64;
        inserted.duplicates += 1 - (changed as u64).min(1);
    }
    Ok(())
}

fn tenant(project: ProjectId, row: &Row<'_>, organization: usize) -> rusqlite::Result<Tenant> {
    Ok(Tenant {
        project,
        organization: OrganizationId::from_u128(u128::from_be_bytes(row.get(organization)?)),
        environment: EnvironmentId::from_u128(u128::from_be_bytes(row.get(organization + 1)?)),
    })
}

fn log(project: ProjectId, row: &Row<'_>) -> rusqlite::Result<LogRecord> {
    Ok(LogRecord {
        id: u128::from_be_bytes(row.get(0)?),
        tenant: tenant(project, row, 1)?,
        time_us: row.get(3)?,
        observed_us: row.get(4)?,
        trace_id: row.get::<_, Option<[u8; 16]>>(5)?.and_then(|bytes| TraceId::from_bytes(bytes).ok()),
        span_id: row.get::<_, Option<[u8; 8]>>(6)?.and_then(|bytes| SpanId::from_bytes(bytes).ok()),
        severity_number: row.get(7)?,
        severity_text: row.get(8)?,
        event_name: row.get(9)?,
        body: row.get(10)?,
        service: row.get(11)?,
        attributes: from_json(row, 12)?,
        resource: from_json(row, 13)?,
        scope: row.get(14)?,
    })
}

fn point(project: ProjectId, row: &Row<'_>) -> rusqlite::Result<MetricPoint> {
    Ok(MetricPoint {
        name: row.get(0)?,
        series: row.get(1)?,
        time_us: row.get(2)?,
        tenant: tenant(project, row, 3)?,
        description: row.get(5)?,
        unit: row.get(6)?,
        kind: row.get(7)?,
        temporality: row.get(8)?,
        is_monotonic: row.get(9)?,
        start_us: row.get(10)?,
        value: row.get(11)?,
        count: count(row, 12)?,
        sum: row.get(13)?,
        min: row.get(14)?,
        max: row.get(15)?,
        bucket_bounds: from_json(row, 16)?,
        bucket_counts: from_json(row, 17)?,
        attributes: from_json(row, 18)?,
        resource: from_json(row, 19)?,
        scope: row.get(20)?,
    })
}

/// From month to month, the newest first, until there are enough.
fn newest<T>(
    readers: &Readers,
    from: i64,
    to: i64,
    limits: Limits,
    enough: usize,
    run: &mut dyn FnMut(&Connection) -> Result<Vec<T>, AnalyticsError>,
) -> Result<Vec<T>, AnalyticsError> {
    let budget = Budget::new(limits);
    let mut found = Vec::new();
    for month in readers.months(Some(from), Some(to))?.rev() {
        let rows = ask(readers, month, Needs::default(), &budget, |connection, _| {
            // A month of before there were any.
            if schema::has_signals(connection)? { run(connection) } else { Ok(Vec::new()) }
        })?;
        found.extend(rows.unwrap_or_default());
        if found.len() > enough {
            break;
        }
    }
    Ok(found)
}

/// `SELECT … WHERE` the project's of this time.
fn select(columns: &str, table: &str, project: ProjectId) -> Sql {
    let mut sql = Sql::new(&format!("SELECT {columns} FROM {table} o WHERE o.project = "));
    sql.bind(Value::Blob(project.as_u128().to_be_bytes().to_vec()));
    sql
}

pub(super) fn logs(
    readers: &Readers,
    project: ProjectId,
    query: &LogsQuery,
    limits: Limits,
) -> Result<Page<LogRow, Place>, AnalyticsError> {
    let mut sql = select(LOG, "logs", project);
    in_time(&mut sql, "o.time_us", query.from, query.to);
    if let Some(severity) = query.min_severity {
        sql.push(" AND o.severity_number >= ").bind(Value::Integer(severity.into()));
    }
    if let Some(trace) = &query.trace_id {
        sql.push(" AND o.trace_id = ").bind(Value::Blob(trace.as_bytes().to_vec()));
    }
    if let Some(span) = &query.span_id {
        sql.push(" AND o.span_id = ").bind(Value::Blob(span.as_bytes().to_vec()));
    }
    for (column, wanted) in [("service", &query.service), ("event_name", &query.event_name)] {
        if let Some(wanted) = wanted {
            sql.push(&format!(" AND o.{column} = ")).bind(Value::Text(wanted.clone()));
        }
    }
    if let Some(text) = &query.text {
        sql.push(" AND brokle_has(o.body, ").bind(Value::Text(text.to_lowercase())).push(")");
    }
    if let Some(after) = &query.after {
        let id = u128::from_str_radix(&after.key, 16).unwrap_or_default();
        sql.push(" AND (o.time_us, o.id) < (").bind(Value::Integer(after.start_us)).push(", ");
        sql.bind(Value::Blob(id.to_be_bytes().to_vec())).push(")");
    }
    sql.push(" ORDER BY o.time_us DESC, o.id DESC LIMIT ").bind(Value::Integer(i64::from(query.limit) + 1));
    let (from, to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let found = newest(readers, from, to, limits, query.limit as usize, &mut |connection| {
        let mut statement = connection.prepare_cached(&sql.text)?;
        let rows = statement.query_map(params_from_iter(&sql.values), |row| log(project, row))?;
        let place = |row: LogRecord| {
            let row = LogRow::from(row);
            (Place::new(Sort::default(), 0.0, row.time.timestamp_micros(), 0, &row.id), row)
        };
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().map(place).collect())
    })?;
    Ok(page_of(found, query.limit))
}

/// What of points is asked for besides the time.
fn narrow(sql: &mut Sql, query: &PointsQuery) {
    in_time(sql, "o.time_us", query.from, query.to);
    if let Some(name) = &query.name {
        sql.push(" AND o.name = ").bind(Value::Text(name.clone()));
    }
    if let Some(series) = query.series {
        sql.push(" AND o.series = ").bind(Value::Integer(series));
    }
}

pub(super) fn points(
    readers: &Readers,
    project: ProjectId,
    query: &PointsQuery,
    limits: Limits,
) -> Result<Page<PointRow, Place>, AnalyticsError> {
    let mut sql = select(POINT, "points", project);
    narrow(&mut sql, query);
    if let Some(after) = &query.after {
        sql.push(" AND (o.time_us, o.name, o.series) < (").bind(Value::Integer(after.start_us)).push(", ");
        sql.bind(Value::Text(after.key.clone())).push(", ").bind(Value::Integer(after.rid)).push(")");
    }
    sql.push(" ORDER BY o.time_us DESC, o.name DESC, o.series DESC LIMIT ");
    sql.bind(Value::Integer(i64::from(query.limit) + 1));
    let (from, to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let found = newest(readers, from, to, limits, query.limit as usize, &mut |connection| {
        let mut statement = connection.prepare_cached(&sql.text)?;
        let rows = statement.query_map(params_from_iter(&sql.values), |row| point(project, row))?;
        let place = |row: MetricPoint| {
            (Place::new(Sort::default(), 0.0, row.time_us, row.series, &row.name), PointRow::from(row))
        };
        Ok(rows.collect::<Result<Vec<_>, _>>()?.into_iter().map(place).collect())
    })?;
    Ok(page_of(found, query.limit))
}

/// Each month's series, put together: of two latest points the later one stands.
pub(super) fn series(
    readers: &Readers,
    project: ProjectId,
    query: &PointsQuery,
    limits: Limits,
) -> Result<Page<SeriesRow, Place>, AnalyticsError> {
    // With max() SQLite takes the other columns from the row that has it.
    let mut sql = select(&format!("{POINT}, count(*), max(o.time_us)"), "points", project);
    narrow(&mut sql, query);
    if let Some(after) = &query.after {
        sql.push(" AND (o.name, o.series) > (").bind(Value::Text(after.key.clone())).push(", ");
        sql.bind(Value::Integer(after.rid)).push(")");
    }
    sql.push(" GROUP BY o.name, o.series ORDER BY o.name, o.series LIMIT ");
    sql.bind(Value::Integer(i64::from(query.limit) + 1));
    let (from, to) = (query.from.timestamp_micros(), query.to.timestamp_micros());
    let mut all = std::collections::BTreeMap::new();
    let found = newest(readers, from, to, limits, usize::MAX, &mut |connection| {
        let mut statement = connection.prepare_cached(&sql.text)?;
        let rows = statement
            .query_map(params_from_iter(&sql.values), |row| Ok((point(project, row)?, count(row, 21)?)))?;
        Ok(rows.collect::<Result<Vec<_>, _>>()?)
    })?;
    // Months come the newest first.
    for (latest, points) in found {
        let key = (latest.name.clone(), latest.series);
        all.entry(key).or_insert_with(|| SeriesRow { latest: latest.into(), points: 0 }).points += points;
    }
    let place = |((name, series), row): ((String, i64), SeriesRow)| {
        (Place::new(Sort::default(), 0.0, 0, series, &name), row)
    };
    Ok(page_of(all.into_iter().map(place).collect(), query.limit))
}
