//! Counts, sums and percentiles, made by ClickHouse from rows: one question for the observations, one for their scores.

use std::collections::{BTreeMap, HashMap};

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::Deserialize;

use super::super::query::metrics::{
    Bucket, Cell, Counter, Dimension, MAX_CELLS, Measure, Measured, Metrics, MetricsQuery, Quantity,
    ScoreStatistic, Statistic,
};
use super::super::query::{Subject, TooMuch};
use super::super::{AnalyticsError, Rollup, RollupKey, Sums};
use super::ClickHouseObservations;
use super::rows::{money, parse};
use super::sql::Sql;

/// A cell of the answer: its place, then what the measures ask for, by their kind.
#[derive(Default, Row, Deserialize)]
struct Found {
    bucket: Option<i64>,
    dimensions: Vec<Option<String>>,
    counts: Vec<u64>,
    numbers: Vec<Option<f64>>,
    cost: i128,
}

type Place = (Option<i64>, Vec<Option<String>>);

pub(super) async fn metrics(
    store: &ClickHouseObservations,
    project: ProjectId,
    query: MetricsQuery,
) -> Result<Metrics, AnalyticsError> {
    let plan = Plan::new(&query.measures);
    let mut cells: BTreeMap<Place, Found> = BTreeMap::new();
    for found in ask(store, plan.observations(project, &query)).await? {
        cells.insert((found.bucket, found.dimensions.clone()), found);
    }
    let mut scores: HashMap<Place, Found> = HashMap::new();
    if !plan.scores.is_empty() {
        for found in ask(store, plan.scores(project, &query)).await? {
            scores.insert((found.bucket, found.dimensions.clone()), found);
        }
    }
    if query.bucket.is_none() && query.dimensions.is_empty() && cells.is_empty() {
        cells.insert((None, Vec::new()), Found::default());
    }
    let nothing = Found::default();
    let cells = cells.into_iter().map(|(place, found)| {
        let of_scores = scores.get(&place).unwrap_or(&nothing);
        let values = plan.places.iter().map(|at| at.of(&found, of_scores)).collect();
        Cell { bucket: place.0.and_then(DateTime::from_timestamp_micros), dimensions: place.1, values }
    });
    Ok(Metrics { cells: cells.collect(), from_rollups: false })
}

async fn ask(store: &ClickHouseObservations, sql: Sql) -> Result<Vec<Found>, AnalyticsError> {
    let found: Vec<Found> = store.ask(sql).await?;
    if found.len() > MAX_CELLS { Err(AnalyticsError::TooMuch(TooMuch::Groups(MAX_CELLS))) } else { Ok(found) }
}

/// Where a measure's value stands in a [`Found`].
enum At {
    Count(usize),
    Number(usize),
    Cost,
    ScoreCount(usize),
    ScoreNumber(usize),
}

impl At {
    fn of(&self, found: &Found, scores: &Found) -> Measured {
        let number = |numbers: &[Option<f64>], at: usize| {
            let number = numbers.get(at).copied().flatten().filter(|number| number.is_finite());
            number.map_or(Measured::Nothing, Measured::Number)
        };
        let count = |counts: &[u64], at: usize| Measured::Count(counts.get(at).copied().unwrap_or_default());
        match self {
            Self::Count(at) => count(&found.counts, *at),
            Self::Number(at) => number(&found.numbers, *at),
            Self::Cost => Measured::Money(money(found.cost)),
            Self::ScoreCount(at) => count(&scores.counts, *at),
            Self::ScoreNumber(at) => number(&scores.numbers, *at),
        }
    }
}

/// The measures as SQL, in the places where they will be found.
#[derive(Default)]
struct Plan {
    places: Vec<At>,
    counts: Vec<String>,
    numbers: Vec<String>,
    /// The names of scores; expressions over them say `name = N` for the Nth.
    scores: Vec<String>,
    score_counts: Vec<String>,
    score_numbers: Vec<String>,
}

impl Plan {
    fn new(measures: &[Measure]) -> Self {
        let mut plan = Self::default();
        for measure in measures {
            let at = match measure {
                Measure::Counter(Counter::Cost) => At::Cost,
                Measure::Counter(counter) => match counter_sql(*counter) {
                    Counted::Count(sql) => add(&mut plan.counts, sql, At::Count),
                    Counted::Share(sql) => add(&mut plan.numbers, sql, At::Number),
                },
                Measure::Of(quantity, statistic) => {
                    let sql = statistic_sql(*statistic, &quantity_sql(*quantity));
                    add(&mut plan.numbers, sql, At::Number)
                }
                Measure::Score(name, statistic) => plan.score(name, *statistic),
            };
            plan.places.push(at);
        }
        plan
    }

    fn score(&mut self, name: &str, statistic: ScoreStatistic) -> At {
        let named = self.scores.iter().position(|one| one == name).unwrap_or_else(|| {
            self.scores.push(name.to_owned());
            self.scores.len() - 1
        });
        let only = format!("named = {}", named + 1);
        let percentile = |rank: f64| format!("quantileExactInclusiveIf({rank})(value, {only})");
        let sql = match statistic {
            ScoreStatistic::Count => {
                return add(&mut self.score_counts, format!("countIf({only})"), At::ScoreCount);
            }
            ScoreStatistic::Average => format!("avgIf(value, {only})"),
            ScoreStatistic::TrueRate => format!("avgIf(value, {only} AND is_flag)"),
            ScoreStatistic::Minimum => format!("minIf(value, {only})"),
            ScoreStatistic::Maximum => format!("maxIf(value, {only})"),
            ScoreStatistic::P50 => percentile(0.5),
            ScoreStatistic::P90 => percentile(0.9),
            ScoreStatistic::P95 => percentile(0.95),
        };
        add(&mut self.score_numbers, sql, At::ScoreNumber)
    }

    fn observations(&self, project: ProjectId, query: &MetricsQuery) -> Sql {
        let select = format!(
            "SELECT {}, {} AS counts, {} AS numbers, {COST} AS cost",
            place(query),
            array(&self.counts, "UInt64"),
            array(&self.numbers, "Nullable(Float64)")
        );
        let mut sql = Sql::observations(&select, project, query.from, query.to);
        sql.filter(&query.filter, Subject::Observations, project);
        sql.push(&format!(" GROUP BY bucket, dimensions LIMIT {}", MAX_CELLS + 1));
        sql
    }

    /// A score counts once in a cell, however many of its rows it belongs to.
    fn scores(&self, project: ProjectId, query: &MetricsQuery) -> Sql {
        let select = format!(
            "SELECT DISTINCT {}, o.trace_id AS trace_id, o.span_id AS span_id, ifNull(o.session_id, '') AS session_id",
            place(query)
        );
        let mut rows = Sql::observations(&select, project, query.from, query.to);
        rows.filter(&query.filter, Subject::Observations, project);
        let mut scores = Sql::new(
            "SELECT o.id AS id, o.value AS value, o.data_type = 'boolean' AS is_flag, o.trace_id AS trace_id,
                o.span_id AS span_id, o.session_id AS session_id, indexOf(",
        );
        scores
            .texts(self.scores.clone())
            .push(", o.name) AS named FROM quality_scores AS o FINAL WHERE o.project_id = ");
        scores.text(&project.to_string()).push(" AND o.name IN ").texts(self.scores.clone());

        let mut sql = Sql::new(&format!(
            "SELECT bucket, dimensions, {} AS counts, {} AS numbers, toDecimal128(0, 18) AS cost FROM (",
            array(&self.score_counts, "UInt64"),
            array(&self.score_numbers, "Nullable(Float64)")
        ));
        for (at, (on, only)) in [
            ("r.trace_id = s.trace_id", "s.span_id = '' OR s.span_id = r.span_id"),
            ("r.session_id = s.session_id", "s.session_id != ''"),
        ]
        .into_iter()
        .enumerate()
        {
            sql.push(if at > 0 { " UNION DISTINCT " } else { "" });
            sql.push(
                "SELECT r.bucket AS bucket, r.dimensions AS dimensions, s.id AS id, s.named AS named, s.value AS value,
                    s.is_flag AS is_flag FROM (",
            );
            sql.append(&rows).push(") AS r INNER JOIN (").append(&scores);
            sql.push(&format!(") AS s ON {on} WHERE {only}"));
        }
        sql.push(&format!(") GROUP BY bucket, dimensions LIMIT {}", MAX_CELLS + 1));
        sql
    }
}

fn add(expressions: &mut Vec<String>, sql: String, at: fn(usize) -> At) -> At {
    expressions.push(sql);
    at(expressions.len() - 1)
}

fn array(expressions: &[String], kind: &str) -> String {
    format!("CAST([{}], 'Array({kind})')", expressions.join(", "))
}

/// Where a row belongs: `bucket` and `dimensions`.
fn place(query: &MetricsQuery) -> String {
    let begin = query.bucket.map(|bucket| match bucket {
        Bucket::Minute => "toStartOfMinute(o.start_time)",
        Bucket::Hour => "toStartOfHour(o.start_time)",
        Bucket::Day => "toStartOfDay(o.start_time)",
        Bucket::Week => "toMonday(o.start_time)",
        Bucket::Month => "toStartOfMonth(o.start_time)",
    });
    let bucket = begin.map_or("CAST(NULL, 'Nullable(Int64)')".to_owned(), |begin| {
        format!("toNullable(toInt64(toUnixTimestamp(toDateTime({begin}, 'UTC'))) * 1000000)")
    });
    let dimensions: Vec<_> = query.dimensions.iter().map(|one| dimension(*one).to_owned()).collect();
    format!("{bucket} AS bucket, {} AS dimensions", array(&dimensions, "Nullable(String)"))
}

const fn dimension(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Model => "toString(ifNull(o.model_served, o.model_requested))",
        Dimension::ModelRequested => "toString(o.model_requested)",
        Dimension::Provider => "toString(o.provider)",
        Dimension::Connection => "toString(o.connection_id)",
        Dimension::User => "o.user_id",
        Dimension::Session => "o.session_id",
        Dimension::Environment => "toString(o.environment_id)",
        Dimension::Status => "toString(o.status)",
        Dimension::Type => "toString(o.kind)",
        Dimension::Name => "o.name",
        Dimension::Operation => "nullIf(toString(o.operation), '')",
        // A row without any is a row of none.
        Dimension::Tag => {
            "arrayJoin(if(empty(o.tags), [NULL], CAST(arrayDistinct(o.tags), 'Array(Nullable(String))')))"
        }
        Dimension::ApiKey => "toString(o.key_id)",
        Dimension::FinishReason => "toString(o.finish_reason)",
        Dimension::Error => "toString(o.error_class)",
        Dimension::StatusCode => "toString(o.http_status)",
        Dimension::Streaming => "if(o.streaming, 'true', 'false')",
    }
}

/// Dollars, of the rows with a known price.
pub(super) const COST: &str = "ifNull(sum(o.cost), toDecimal128(0, 18))";

/// A sum of counts that saturates.
pub(super) fn sum(count: &str) -> String {
    format!("toUInt64(least(sum(toUInt128({count})), toUInt128(18446744073709551615)))")
}

/// How many tries a call's steps have.
const ATTEMPTS: &str =
    "arrayCount(s -> JSONExtractString(s, 'kind') = 'attempt', JSONExtractArrayRaw(o.steps))";
/// How long they took, in microseconds.
const ATTEMPTS_US: &str = "arraySum(s -> if(JSONExtractString(s, 'kind') = 'attempt', JSONExtractUInt(s, 'duration_us'), 0), JSONExtractArrayRaw(o.steps))";
const CACHE: &str = "JSONExtractString(o.attributes['brokle.cache.status'])";

enum Counted {
    Count(String),
    /// A part of a whole, or nothing.
    Share(String),
}

fn counter_sql(counter: Counter) -> Counted {
    let count = |only: &str| Counted::Count(format!("countIf({only})"));
    let of_kind = |kind: &str| Counted::Count(format!("countIf(o.kind = '{kind}')"));
    let tokens = |column: &str| Counted::Count(sum(&format!("o.{column}")));
    let share = |part: &str, whole: &str| Counted::Share(format!("({part}) / nullIf({whole}, 0)"));
    let cost_per =
        |things: &str| Counted::Share(format!("toFloat64({COST}) / nullIf(uniqExact({things}), 0)"));
    match counter {
        Counter::Count => Counted::Count("count()".to_owned()),
        Counter::Traces => Counted::Count("uniqExact(o.trace_id)".to_owned()),
        Counter::Sessions => Counted::Count("uniqExact(o.session_id)".to_owned()),
        Counter::Users => Counted::Count("uniqExact(o.user_id)".to_owned()),
        Counter::Generations => of_kind("generation"),
        Counter::Embeddings => of_kind("embedding"),
        Counter::ToolCalls => of_kind("tool"),
        Counter::Retrievals => of_kind("retriever"),
        Counter::AgentRuns => of_kind("agent"),
        Counter::Guardrails => of_kind("guardrail"),
        Counter::Errors => count("o.status != 'ok'"),
        Counter::ErrorRate => share("countIf(o.status != 'ok')", "count()"),
        Counter::Aborted => count("o.status = 'aborted'"),
        Counter::Timeouts => count("o.status = 'timeout'"),
        Counter::RateLimited => count("ifNull(o.http_status = 429, 0)"),
        Counter::Streamed => count("o.streaming"),
        Counter::StreamedShare => share("countIf(o.streaming)", "count()"),
        Counter::CutShort => count("ifNull(o.finish_reason = 'length', 0)"),
        Counter::Filtered => count("ifNull(o.finish_reason = 'content_filter', 0)"),
        Counter::CacheHits => count(&format!("{CACHE} = 'hit'")),
        Counter::CacheHitRate => {
            share(&format!("countIf({CACHE} = 'hit')"), &format!("countIf({CACHE} IN ('hit', 'miss'))"))
        }
        Counter::Attempts => Counted::Count(format!("sum({ATTEMPTS})")),
        Counter::Retries => Counted::Count(format!("sum(greatest({ATTEMPTS}, 1) - 1)")),
        Counter::InputTokens => tokens("input_tokens"),
        Counter::OutputTokens => tokens("output_tokens"),
        Counter::TotalTokens => Counted::Count(sum("o.input_tokens + o.output_tokens")),
        Counter::CachedTokens => tokens("cached_read"),
        Counter::CacheWriteTokens => tokens("cache_write"),
        Counter::ReasoningTokens => tokens("reasoning"),
        Counter::AudioTokens => Counted::Count(sum("o.audio_input + o.audio_output")),
        Counter::ImageTokens => Counted::Count(sum("o.image_input + o.image_output")),
        Counter::CachedShare => share(&sum("o.cached_read"), &sum("o.input_tokens")),
        // As money, apart; see `Plan::new`.
        Counter::Cost => Counted::Share(format!("toFloat64({COST})")),
        Counter::CostPerTrace => cost_per("o.trace_id"),
        Counter::CostPerUser => cost_per("o.user_id"),
    }
}

/// A row's value of the quantity, or NULL.
fn quantity_sql(quantity: Quantity) -> String {
    const STREAMED: &str = "(if(o.first_token_us > o.duration_us, 0, toInt64(o.duration_us) - toInt64(o.first_token_us)) / 1000)";
    let tokens = |count: &str| format!("if(o.usage_known, {count}, NULL)");
    let by_second = |count: &str| format!("{count} * 1e6 / nullIf(o.duration_us, 0)");
    let total = tokens("o.input_tokens + o.output_tokens");
    match quantity {
        Quantity::Latency => "toNullable(o.duration_us / 1000)".to_owned(),
        Quantity::FirstToken => "o.first_token_us / 1000".to_owned(),
        Quantity::Streaming => streamed_or_null(STREAMED),
        Quantity::PerToken => {
            format!("{} / nullIf({}, 0)", streamed_or_null(STREAMED), tokens("o.output_tokens"))
        }
        Quantity::Overhead => format!(
            "if({ATTEMPTS} = 0, NULL, toInt64(o.duration_us) - toInt64(least({ATTEMPTS_US}, o.duration_us))) / 1000"
        ),
        Quantity::Input => tokens("o.input_tokens"),
        Quantity::Output => tokens("o.output_tokens"),
        Quantity::Tokens => total,
        Quantity::OutputSpeed => by_second(&format!("nullIf({}, 0)", tokens("o.output_tokens"))),
        Quantity::Speed => by_second(&format!("nullIf({total}, 0)")),
        Quantity::Cost => "toFloat64(o.cost)".to_owned(),
    }
}

fn streamed_or_null(streamed: &str) -> String {
    format!("if(o.first_token_us IS NULL, NULL, {streamed})")
}

fn statistic_sql(statistic: Statistic, value: &str) -> String {
    if let Some(rank) = statistic.rank() {
        return format!("quantileExactInclusive({rank})({value})");
    }
    match statistic {
        Statistic::Minimum => format!("min({value})"),
        Statistic::Maximum => format!("max({value})"),
        _ => format!("avg({value})"),
    }
}

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
pub(super) async fn hours(
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
    let mut sql = Sql::observations(&select, project, begin(from), begin(to));
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
