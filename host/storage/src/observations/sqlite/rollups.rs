//! Hourly sums on disk, and how the times of an hour are spread. SQLite has no exact decimals, so adding is done here: a batch
//! touches few rows.

use std::collections::HashMap;

use brokle_core::ids::{EnvironmentId, ProjectId};
use brokle_core::observation::{Kind, Observation};
use chrono::DateTime;
use rusqlite::{OptionalExtension as _, Row, Transaction, params};

use super::super::rollup::HOUR_US;
use super::super::sketch::Sketch;
use super::super::{AnalyticsError, Rollup, RollupKey, Sums};
use super::columns::{broken, convert, count, whole};
use super::reader::Readers;
use super::schema;

const SUMS: &str = "count, errors, input, output, cached_read, cache_write, reasoning, duration_us,
    first_token_count, first_token_us, cost";
/// Where the spread stands behind them.
const SPREAD: usize = 11;

/// What a batch adds.
#[derive(Default)]
pub(super) struct Batch<'a>(HashMap<Key<'a>, (Sums, Spread)>);

/// An hour's times in microseconds: those of its calls, and those to their first tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Spread {
    pub(super) latency: Sketch,
    pub(super) first_token: Sketch,
}

/// An hour.
#[derive(Debug)]
pub(super) struct Hour {
    pub(super) rollup: Rollup,
    /// None: calls of this hour were recorded by a version that didn't keep it.
    pub(super) spread: Option<Spread>,
}

impl Spread {
    fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        self.first_token.merge(&other.first_token);
    }
}

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
        let (sums, spread) = self.0.entry(key).or_default();
        sums.add(&Sums::of(observation));
        spread.latency.add(observation.duration_us);
        if let Some(first) = observation.first_token_us {
            spread.first_token.add(first);
        }
    }

    pub(super) fn write(self, transaction: &Transaction<'_>) -> Result<(), AnalyticsError> {
        let mut find = transaction.prepare_cached(&format!(
            "SELECT {SUMS}, latency, first_token FROM rollups WHERE project = ?1 AND hour_us = ?2 AND environment = ?3 AND kind = ?4
             AND provider = ?5 AND model = ?6"
        ))?;
        let mut put = transaction.prepare_cached(&format!(
            "INSERT OR REPLACE INTO rollups (project, hour_us, environment, kind, provider, model, {SUMS}, latency, first_token)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)"
        ))?;
        for (key, (mut sums, spread)) in self.0 {
            let mut spread = Some(spread);
            let (project, environment) =
                (key.project.as_u128().to_be_bytes(), key.environment.as_u128().to_be_bytes());
            let kind = key.kind.as_str();
            let named = params![project, key.hour_us, environment, kind, key.provider, key.model];
            let before = find.query_row(named, |row| Ok((read_sums(row, 0)?, read_spread(row, SPREAD)?)));
            if let Some((sums_before, spread_before)) = before.optional()? {
                sums.add(&sums_before);
                // Half of an hour is no hour.
                spread = spread.zip(spread_before).map(|(mut spread, before)| {
                    spread.merge(&before);
                    spread
                });
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
                spread.as_ref().map(|spread| spread.latency.to_bytes()),
                spread.as_ref().map(|spread| spread.first_token.to_bytes()),
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
) -> Result<Vec<Hour>, AnalyticsError> {
    let mut hours = Vec::new();
    for month in readers.months(Some(from), Some(to))? {
        hours.extend(readers.with(month, |connection| {
            let spread = if schema::has_spreads(connection)? { "latency, first_token" } else { "NULL, NULL" };
            let mut statement = connection.prepare_cached(&format!(
                "SELECT hour_us, environment, kind, provider, model, {SUMS}, {spread} FROM rollups
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
                let rollup = Rollup { key, sums: read_sums(row, 5)? };
                Ok(Hour { rollup, spread: read_spread(row, 5 + SPREAD)? })
            })?;
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })?);
    }
    Ok(hours.into_iter().flatten().collect())
}

/// None where there is none, or one that can't be read: rows tell then.
fn read_spread(row: &Row<'_>, at: usize) -> rusqlite::Result<Option<Spread>> {
    let sketch = |at| {
        let bytes: Option<Vec<u8>> = row.get(at)?;
        Ok::<_, rusqlite::Error>(bytes.and_then(|bytes| Sketch::from_bytes(&bytes)))
    };
    Ok(sketch(at)?.zip(sketch(at + 1)?).map(|(latency, first_token)| Spread { latency, first_token }))
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
