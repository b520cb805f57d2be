//! Hourly sums on disk. SQLite has no exact decimals, so adding is done here: a batch touches few rows.

use std::collections::HashMap;

use brokle_core::ids::{EnvironmentId, ProjectId};
use brokle_core::observation::{Kind, Observation};
use chrono::DateTime;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::super::rollup::HOUR_US;
use super::super::{AnalyticsError, Rollup, RollupKey, Sums};
use super::columns::{broken, convert, count, whole};
use super::reader::Readers;

const SUMS: &str = "count, errors, input, output, cached_read, cache_write, reasoning, duration_us,
    first_token_count, first_token_us, cost";

/// What a batch adds.
#[derive(Default)]
pub(super) struct Batch<'a>(HashMap<Key<'a>, Sums>);

#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    project: ProjectId,
    hour_us: i64,
    environment: EnvironmentId,
    kind: Kind,
    provider: &'a str,
    model: &'a str,
}

impl<'a> Batch<'a> {
    pub(super) fn add(&mut self, observation: &'a Observation) {
        let served = observation.model_served.as_deref();
        let key = Key {
            project: observation.tenant.project,
            hour_us: observation.start_us - observation.start_us.rem_euclid(HOUR_US),
            environment: observation.tenant.environment,
            kind: observation.kind,
            provider: observation.provider.as_deref().unwrap_or_default(),
            model: served.or(observation.model_requested.as_deref()).unwrap_or_default(),
        };
        self.0.entry(key).or_default().add(&Sums::of(observation));
    }

    pub(super) fn write(self, transaction: &Transaction<'_>) -> Result<(), AnalyticsError> {
        let mut find = transaction.prepare_cached(&format!(
            "SELECT {SUMS} FROM rollups WHERE project = ?1 AND hour_us = ?2 AND environment = ?3 AND kind = ?4
             AND provider = ?5 AND model = ?6"
        ))?;
        let mut put = transaction.prepare_cached(&format!(
            "INSERT OR REPLACE INTO rollups (project, hour_us, environment, kind, provider, model, {SUMS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)"
        ))?;
        for (key, mut sums) in self.0 {
            let (project, environment) =
                (key.project.as_u128().to_be_bytes(), key.environment.as_u128().to_be_bytes());
            let kind = key.kind.as_str();
            let named = params![project, key.hour_us, environment, kind, key.provider, key.model];
            if let Some(before) = find.query_row(named, |row| read_sums(row, 0)).optional()? {
                sums.add(&before);
            }
            put.execute(params![
                project,
                key.hour_us,
                environment,
                kind,
                key.provider,
                key.model,
                whole(sums.count),
                whole(sums.errors),
                whole(sums.input),
                whole(sums.output),
                whole(sums.cached_read),
                whole(sums.cache_write),
                whole(sums.reasoning),
                whole(sums.duration_us),
                whole(sums.first_token_count),
                whole(sums.first_token_us),
                sums.cost.to_string(),
            ])?;
        }
        Ok(())
    }
}

/// The project's hours that begin in `from..to`, oldest first.
pub(super) fn read(
    readers: &Readers,
    project: ProjectId,
    from: i64,
    to: i64,
) -> Result<Vec<Rollup>, AnalyticsError> {
    let mut hours = Vec::new();
    for month in readers.months(Some(from), Some(to))? {
        hours.extend(readers.with(month, |connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT hour_us, environment, kind, provider, model, {SUMS} FROM rollups
                 WHERE project = ?1 AND hour_us >= ?2 AND hour_us < ?3 ORDER BY hour_us"
            ))?;
            let rows = statement.query_map(params![project.as_u128().to_be_bytes(), from, to], |row| {
                let key = RollupKey {
                    hour: DateTime::from_timestamp_micros(row.get(0)?).unwrap_or_default(),
                    environment_id: EnvironmentId::from_u128(u128::from_be_bytes(row.get(1)?)),
                    kind: convert(row, 2, |text: String| text.parse())?,
                    provider: row.get(3)?,
                    model: row.get(4)?,
                };
                Ok(Rollup { key, sums: read_sums(row, 5)? })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?);
    }
    Ok(hours.into_iter().flatten().collect())
}

fn read_sums(row: &Row<'_>, at: usize) -> rusqlite::Result<Sums> {
    Ok(Sums {
        count: count(row, at)?,
        errors: count(row, at + 1)?,
        input: count(row, at + 2)?,
        output: count(row, at + 3)?,
        cached_read: count(row, at + 4)?,
        cache_write: count(row, at + 5)?,
        reasoning: count(row, at + 6)?,
        duration_us: count(row, at + 7)?,
        first_token_count: count(row, at + 8)?,
        first_token_us: count(row, at + 9)?,
        cost: row.get::<_, String>(at + 10)?.parse().map_err(|error| broken(at + 10, error))?,
    })
}
