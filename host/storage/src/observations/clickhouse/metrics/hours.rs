//! Hourly sums.

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::Deserialize;

use super::super::super::query::metrics::Bucket;
use super::super::super::{AnalyticsError, Rollup, RollupKey, Sums};
use super::super::ClickHouseObservations;
use super::super::rows::{money, parse};
use super::super::sql::Sql;
use super::array;
use super::measures::{COST, sum};

#[derive(Row, Deserialize)]
struct Hour {
    hour_us: i64,
    environment: String,
    kind: String,
    provider: String,
    model: String,
    counts: Vec<u64>,
    cost: i128,
}

/// The hourly sums, worked out when they are asked for.
pub(in super::super) async fn hours(
    store: &ClickHouseObservations,
    project: ProjectId,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> Result<Vec<Rollup>, AnalyticsError> {
    // Hours that begin in the time: whole ones.
    let begin = |time: DateTime<Utc>| {
        let hour = Bucket::Hour.begin(time);
        if hour < time { Bucket::Hour.next(hour).unwrap_or(time) } else { hour }
    };
    let summed = ["input_tokens", "output_tokens", "cached_read", "cache_write", "reasoning", "duration_us"];
    let mut counts = vec!["count()".to_owned(), "countIf(o.status != 'ok')".to_owned()];
    counts.extend(summed.iter().map(|column| sum(&format!("o.{column}"))));
    counts.extend(["count(o.first_token_us)".to_owned(), sum("ifNull(o.first_token_us, 0)")]);
    let select = format!(
        "SELECT toInt64(toUnixTimestamp(toStartOfHour(o.start_time))) * 1000000 AS hour_us,
            toString(o.environment_id) AS environment, toString(o.kind) AS kind,
            ifNull(toString(o.provider), '') AS provider,
            ifNull(toString(ifNull(o.model_served, o.model_requested)), '') AS model, {} AS counts,
            {COST} AS cost",
        array(&counts, "UInt64")
    );
    let mut sql =
        Sql::observations(&select, project, begin(from).timestamp_micros(), begin(to).timestamp_micros());
    sql.push(" GROUP BY hour_us, environment, kind, provider, model");
    sql.push(" ORDER BY hour_us, environment, kind, provider, model");
    store.ask::<Hour>(sql).await?.into_iter().map(Hour::rollup).collect()
}

impl Hour {
    fn rollup(self) -> Result<Rollup, AnalyticsError> {
        let count = |at: usize| self.counts.get(at).copied().unwrap_or_default();
        let sums = Sums {
            count: count(0),
            errors: count(1),
            input: count(2),
            output: count(3),
            cached_read: count(4),
            cache_write: count(5),
            reasoning: count(6),
            duration_us: count(7),
            first_token_count: count(8),
            first_token_us: count(9),
            cost: money(self.cost),
        };
        let key = RollupKey {
            hour: DateTime::from_timestamp_micros(self.hour_us).unwrap_or_default(),
            environment_id: parse(&self.environment)?,
            kind: parse(&self.kind)?,
            provider: self.provider,
            model: self.model,
        };
        Ok(Rollup { key, sums })
    }
}
