//! Answers from the hourly sums: those of whole hours that no row belongs to which arrived after they were made, and what rows
//! add up to in the others and at both ends.

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};

use super::super::super::AnalyticsError;
use super::super::super::query::metrics::summed::{EXACT, asks_for_percentiles, can_answer, whole_hours};
use super::super::super::query::metrics::{Counter, Dimension, MetricsQuery, Quantity, Statistic};
use super::super::ClickHouseObservations;
use super::super::rollups::built;
use super::super::sql::Sql;
use super::measures::{self, Counted, sum};
use super::{Plan, Source};

/// Hours' sums as rows called `o` add up to them, in the order of the table's columns but for `built`.
/// Grouped by [`PARTS`].
pub(in super::super) const HOURS: &str = "toString(o.project_id) AS project_id,
    toDateTime(toStartOfHour(o.start_time), 'UTC') AS hour, toString(o.environment_id) AS environment_id,
    toString(o.kind) AS kind, ifNull(toString(o.provider), '') AS provider,
    ifNull(toString(ifNull(o.model_served, o.model_requested)), '') AS model,
    count() AS count, countIf(o.status != 'ok') AS errors,
    toUInt64(least(sum(toUInt128(o.input_tokens)), 18446744073709551615)) AS input_tokens,
    toUInt64(least(sum(toUInt128(o.output_tokens)), 18446744073709551615)) AS output_tokens,
    toUInt64(least(sum(toUInt128(o.cached_read)), 18446744073709551615)) AS cached_read,
    toUInt64(least(sum(toUInt128(o.cache_write)), 18446744073709551615)) AS cache_write,
    toUInt64(least(sum(toUInt128(o.reasoning)), 18446744073709551615)) AS reasoning,
    sum(toFloat64(o.duration_us)) AS duration_us, count(o.first_token_us) AS first_token_count,
    ifNull(sum(toFloat64(o.first_token_us)), 0) AS first_token_us,
    ifNull(sum(o.cost), toDecimal128(0, 18)) AS cost,
    quantilesDDState(0.005, 0.5, 0.75, 0.9, 0.95, 0.99)(toFloat64(o.duration_us)) AS latency,
    quantilesDDStateIf(0.005, 0.5, 0.75, 0.9, 0.95, 0.99)(
        toFloat64(ifNull(o.first_token_us, 0)), isNotNull(o.first_token_us)) AS first_token";
/// What is summed up apart.
pub(in super::super) const PARTS: &str = "project_id, hour, environment_id, kind, provider, model";
/// The columns of [`HOURS`].
const COLUMNS: &str = "project_id, hour, environment_id, kind, provider, model, count, errors, input_tokens,
    output_tokens, cached_read, cache_write, reasoning, duration_us, first_token_count, first_token_us, cost, latency,
    first_token";
/// Seconds.
const HOUR: i64 = 3_600;
/// At most so many stretches of hours are asked for by themselves.
const STRETCHES: usize = 64;
/// The percentiles that [`HOURS`] can tell, in their order.
const MERGED: &str = "quantilesDDMerge(0.005, 0.5, 0.75, 0.9, 0.95, 0.99)";

const SUMS: Source = Source { time: "o.hour", dimension, counter, statistic };

const fn dimension(of: Dimension) -> &'static str {
    match of {
        Dimension::Model => "nullIf(toString(o.model), '')",
        Dimension::Provider => "nullIf(toString(o.provider), '')",
        Dimension::Environment => "toString(o.environment_id)",
        Dimension::Type => "toString(o.kind)",
        // Nothing else is asked for: see `can_answer`.
        _ => "NULL",
    }
}

/// Tokens and money are summed up as if hours were rows.
fn counter(counter: Counter) -> Counted {
    let of_kind = |kind: &str| Counted::Count(format!("sumIf(o.count, o.kind = '{kind}')"));
    match counter {
        Counter::Count => Counted::Count("sum(o.count)".to_owned()),
        Counter::Generations => of_kind("generation"),
        Counter::Embeddings => of_kind("embedding"),
        Counter::ToolCalls => of_kind("tool"),
        Counter::Retrievals => of_kind("retriever"),
        Counter::AgentRuns => of_kind("agent"),
        Counter::Guardrails => of_kind("guardrail"),
        Counter::Errors => Counted::Count("sum(o.errors)".to_owned()),
        Counter::ErrorRate => Counted::Share("sum(o.errors) / nullIf(sum(o.count), 0)".to_owned()),
        other => measures::counter(other),
    }
}

fn statistic(quantity: Quantity, statistic: Statistic) -> String {
    let (count, micros, spread) = match quantity {
        Quantity::FirstToken => ("sum(o.first_token_count)", "sum(o.first_token_us)", "o.first_token"),
        _ => ("sum(o.count)", "sum(o.duration_us)", "o.latency"),
    };
    let at = match statistic {
        Statistic::P50 => 1,
        Statistic::P75 => 2,
        Statistic::P90 => 3,
        Statistic::P95 => 4,
        Statistic::P99 => 5,
        _ => return format!("{micros} / 1000 / nullIf({count}, 0)"),
    };
    format!("if({count} = 0, NULL, {MERGED}({spread})[{at}] / 1000)")
}

/// The question to the sums; none when rows have to be asked.
pub(super) async fn question(
    store: &ClickHouseObservations,
    project: ProjectId,
    query: &MetricsQuery,
) -> Result<Option<(Plan, Sql)>, AnalyticsError> {
    let Some((from, to)) = whole_hours(query.from, query.to).filter(|_| can_answer(query)) else {
        return Ok(None);
    };
    let Some(built) = built(&store.database).await? else { return Ok(None) };
    let mut late = Sql::stored(
        "SELECT DISTINCT toInt64(toUnixTimestamp(toStartOfHour(o.start_time)))",
        project,
        from.timestamp_micros(),
        to.timestamp_micros(),
    );
    late.push(" AND o.arrival > ").integer(built);
    let late = stretches(store.ask(late).await?);
    if asks_for_percentiles(query) {
        let mut count = Sql::new(&format!("SELECT {}", sum("o.count")));
        sums(&mut count, project, (from, to), &late);
        let rows: Vec<u64> = store.ask(count).await?;
        if rows.iter().sum::<u64>() <= EXACT {
            return Ok(None);
        }
    }
    let plan = Plan::new(&query.measures, &SUMS);
    let mut sql = Sql::new(&plan.select(query, &SUMS));
    sql.push(&format!(" FROM (SELECT {COLUMNS}"));
    sums(&mut sql, project, (from, to), &late);
    sql.push(" UNION ALL ");
    let mut rows = Sql::observations(
        &format!("SELECT {HOURS}"),
        project,
        query.from.timestamp_micros(),
        query.to.timestamp_micros(),
    );
    rows.push(" AND (o.start_time < ").time(from.timestamp_micros());
    rows.push(" OR o.start_time >= ").time(to.timestamp_micros());
    for (begin, end) in &late {
        rows.push(" OR o.start_time >= ").time(begin * 1_000_000);
        rows.push(" AND o.start_time < ").time(end * 1_000_000);
    }
    rows.push(&format!(") GROUP BY {PARTS}"));
    sql.append(&rows).push(") AS o GROUP BY bucket, dimensions");
    Ok(Some((plan, sql)))
}

/// `FROM …`: the sums of these hours, but for those of which rows arrived since.
fn sums(sql: &mut Sql, project: ProjectId, (from, to): (DateTime<Utc>, DateTime<Utc>), late: &[Stretch]) {
    sql.push(" FROM observation_hours AS o FINAL WHERE o.project_id = ").text(&project.to_string());
    sql.push(" AND o.hour >= ")
        .time(from.timestamp_micros())
        .push(" AND o.hour < ")
        .time(to.timestamp_micros());
    for (begin, end) in late {
        sql.push(" AND NOT (o.hour >= ").time(begin * 1_000_000);
        sql.push(" AND o.hour < ").time(end * 1_000_000).push(")");
    }
}

/// Hours, from the first one's begin to the last one's end, in seconds since the epoch.
type Stretch = (i64, i64);

/// Where all of these hours are: so that their rows are found by the table's order, the nearest are taken together with what is
/// between them until there are [`STRETCHES`].
fn stretches(mut hours: Vec<i64>) -> Vec<Stretch> {
    hours.sort_unstable();
    let gap = |two: &[i64]| two.last().zip(two.first()).map_or(0, |(later, hour)| later - hour);
    let mut gaps: Vec<i64> = hours.windows(2).map(gap).filter(|gap| *gap > HOUR).collect();
    gaps.sort_unstable_by_key(|gap| std::cmp::Reverse(*gap));
    let widest = gaps.get(STRETCHES - 1).copied().unwrap_or(HOUR);
    hours
        .chunk_by(|hour, later| later - hour <= widest)
        .filter_map(|together| together.first().zip(together.last()))
        .map(|(first, last)| (*first, last + HOUR))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_side_by_side_are_one_stretch() {
        assert_eq!(stretches(vec![]), []);
        assert_eq!(stretches(vec![2 * HOUR, HOUR, 5 * HOUR]), [(HOUR, 3 * HOUR), (5 * HOUR, 6 * HOUR)]);
    }

    #[test]
    fn every_hour_is_in_one_of_few_stretches() {
        // Further and further apart.
        let hours: Vec<i64> = (0..500).map(|at| at * (at + 1) * HOUR).collect();
        let found = stretches(hours.clone());
        assert_eq!(found.len(), STRETCHES);
        for hour in hours {
            let within = found.iter().filter(|(begin, end)| (*begin..*end).contains(&hour)).count();
            assert_eq!(within, 1, "{hour}");
        }
    }
}
