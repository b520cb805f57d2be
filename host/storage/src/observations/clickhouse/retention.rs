//! Deleting what is too old: partitions of months, or a project's rows, which a mutation rewrites the others of.
//!
//! The tables' TTL is the net behind it, for a server whose workers are away: [`keep`] sets it to the longest time that any
//! project keeps anything.

use std::ops::Range;

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};

use super::super::retention::Removed;
use super::super::{AnalyticsError, Month};
use super::ClickHouse;
use super::sql::Sql;

/// A table whose rows go out of date.
struct Table {
    name: &'static str,
    time: &'static str,
    is_by_month: bool,
    /// Where its rows are counted.
    count: fn(&mut Removed) -> Option<&mut u64>,
}

const TABLES: [Table; 8] = [
    by_month("observations", "start_time", |removed| Some(&mut removed.observations)),
    by_month("observation_hours", "hour", |_| None),
    by_month("metrics", "time", |removed| Some(&mut removed.points)),
    by_month("logs", "time", |removed| Some(&mut removed.logs)),
    whole("traces", "last_start", |_| None),
    whole("quality_scores", "timestamp", |removed| Some(&mut removed.scores)),
    whole("trace_updates", "updated_at", |_| None),
    whole("blob_storage_file_log", "time", |_| None),
];

const fn by_month(
    name: &'static str,
    time: &'static str,
    count: fn(&mut Removed) -> Option<&mut u64>,
) -> Table {
    Table { name, time, is_by_month: true, count }
}

const fn whole(name: &'static str, time: &'static str, count: fn(&mut Removed) -> Option<&mut u64>) -> Table {
    Table { name, time, is_by_month: false, count }
}

/// Deletes what is from before the month.
pub(super) async fn months(
    database: &ClickHouse,
    before: Month,
    dry_run: bool,
) -> Result<Removed, AnalyticsError> {
    let mut removed = Removed::default();
    let time = DateTime::UNIX_EPOCH..before.begin();
    for table in &TABLES {
        if !table.is_by_month {
            table.delete(database, None, &time, dry_run, &mut removed).await?;
            continue;
        }
        let mut sql = Sql::new(
            "SELECT DISTINCT partition_id FROM system.parts
             WHERE active AND database = currentDatabase() AND table = ",
        );
        sql.text(table.name).push(" ORDER BY partition_id");
        let months = database.look_up::<String>(sql).await?;
        let months: Vec<_> =
            months.iter().filter_map(|digits| Month::parse(digits)).filter(|month| *month < before).collect();
        if months.is_empty() {
            continue;
        }
        if let Some(count) = (table.count)(&mut removed) {
            *count = table.rows(database, None, &time).await?;
        }
        for month in &months {
            if !dry_run {
                let sql = format!("ALTER TABLE {} DROP PARTITION ID '{month}'", table.name);
                database.run(Sql::new(&sql)).await?;
            }
        }
        removed += Removed { months, ..Removed::default() };
    }
    Ok(removed)
}

/// Deletes the project's rows of this time.
pub(super) async fn expire(
    database: &ClickHouse,
    project: ProjectId,
    time: Range<DateTime<Utc>>,
    dry_run: bool,
) -> Result<Removed, AnalyticsError> {
    let mut removed = Removed::default();
    for table in &TABLES {
        table.delete(database, Some(project), &time, dry_run, &mut removed).await?;
    }
    Ok(removed)
}

/// How much longer the log of blobs is kept than their rows: by it they are found when those are deleted.
const LOG_DAYS: u32 = 30;

/// Sets every table's TTL to so many days, where it isn't that.
pub(super) async fn keep(database: &ClickHouse, days: u32) -> Result<(), AnalyticsError> {
    for table in &TABLES {
        let days = if table.name == "blob_storage_file_log" { days + LOG_DAYS } else { days };
        let mut sql = Sql::new(
            "SELECT count() FROM system.tables WHERE database = currentDatabase() AND create_table_query LIKE ",
        );
        sql.text(&format!("%TTL %toIntervalDay({days})%")).push(" AND name = ").text(table.name);
        if database.look_up::<u64>(sql).await? == [0] {
            let statement = format!(
                "ALTER TABLE {} MODIFY TTL toDateTime({}) + INTERVAL {days} DAY SETTINGS materialize_ttl_after_modify = 0",
                table.name, table.time
            );
            database.run(Sql::new(&statement)).await?;
        }
    }
    Ok(())
}

impl Table {
    /// `WHERE …`: what is of this time, the project's or everybody's.
    fn of(&self, sql: &mut Sql, project: Option<ProjectId>, time: &Range<DateTime<Utc>>) {
        sql.push(&format!(" WHERE {} >= ", self.time)).time(time.start.timestamp_micros());
        sql.push(&format!(" AND {} < ", self.time)).time(time.end.timestamp_micros());
        if let Some(project) = project {
            sql.push(" AND project_id = ").text(&project.to_string());
        }
    }

    async fn rows(
        &self,
        database: &ClickHouse,
        project: Option<ProjectId>,
        time: &Range<DateTime<Utc>>,
    ) -> Result<u64, AnalyticsError> {
        let mut sql = Sql::new(&format!("SELECT count() FROM {} FINAL", self.name));
        self.of(&mut sql, project, time);
        Ok(database.look_up::<u64>(sql).await?.into_iter().sum())
    }

    /// Nothing is rewritten where there is nothing to delete.
    async fn delete(
        &self,
        database: &ClickHouse,
        project: Option<ProjectId>,
        time: &Range<DateTime<Utc>>,
        dry_run: bool,
        removed: &mut Removed,
    ) -> Result<(), AnalyticsError> {
        let rows = self.rows(database, project, time).await?;
        if let Some(count) = (self.count)(removed) {
            *count += rows;
        }
        if dry_run || rows == 0 {
            return Ok(());
        }
        let mut sql = Sql::new(&format!("ALTER TABLE {} DELETE", self.name));
        self.of(&mut sql, project, time);
        sql.push(" SETTINGS mutations_sync = 1");
        database.run(sql).await
    }
}
