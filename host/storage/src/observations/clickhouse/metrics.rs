//! Counts, sums and percentiles, made by ClickHouse from rows or from hours' sums: one question for the observations, one for their
//! scores.

mod hours;
mod measures;
mod summed;

use std::collections::{BTreeMap, HashMap};

use brokle_core::ids::ProjectId;
use chrono::DateTime;
use clickhouse::Row;
use serde::Deserialize;

pub(super) use self::hours::hours;
use self::measures::Counted;
pub(super) use self::measures::{COST, sum};
pub(super) use self::summed::{HOURS, PARTS};
use super::super::AnalyticsError;
use super::super::query::metrics::{
    Bucket, Cell, Counter, Dimension, MAX_CELLS, Measure, Measured, Metrics, MetricsQuery, Quantity,
    ScoreStatistic, Statistic,
};
use super::super::query::{Subject, TooMuch};
use super::ClickHouseObservations;
use super::rows::money;
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
    let from_hours = summed::question(store, project, &query).await?;
    let from_rollups = from_hours.is_some();
    let (plan, sql) = from_hours.unwrap_or_else(|| {
        let plan = Plan::new(&query.measures, &Source::ROWS);
        let sql = plan.observations(project, &query);
        (plan, sql)
    });
    let mut cells: BTreeMap<Place, Found> = BTreeMap::new();
    for found in ask(store, sql).await? {
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
    Ok(Metrics { cells: cells.collect(), from_rollups })
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

/// What measures are made of, called `o` in any case.
struct Source {
    time: &'static str,
    dimension: fn(Dimension) -> &'static str,
    counter: fn(Counter) -> Counted,
    statistic: fn(Quantity, Statistic) -> String,
}

impl Source {
    const ROWS: Self = Self {
        time: "o.start_time",
        dimension: measures::dimension,
        counter: measures::counter,
        statistic: |quantity, statistic| measures::statistic(statistic, &measures::quantity(quantity)),
    };
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
    fn new(measures: &[Measure], source: &Source) -> Self {
        let mut plan = Self::default();
        for measure in measures {
            let at = match measure {
                Measure::Counter(Counter::Cost) => At::Cost,
                Measure::Counter(counter) => match (source.counter)(*counter) {
                    Counted::Count(sql) => add(&mut plan.counts, sql, At::Count),
                    Counted::Share(sql) => add(&mut plan.numbers, sql, At::Number),
                },
                Measure::Of(quantity, statistic) => {
                    add(&mut plan.numbers, (source.statistic)(*quantity, *statistic), At::Number)
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
        let mut sql = Sql::observations(
            &self.select(query, &Source::ROWS),
            project,
            query.from.timestamp_micros(),
            query.to.timestamp_micros(),
        );
        sql.filter(&query.filter, Subject::Observations, project);
        sql.push(&format!(" GROUP BY bucket, dimensions LIMIT {}", MAX_CELLS + 1));
        sql
    }

    fn select(&self, query: &MetricsQuery, source: &Source) -> String {
        format!(
            "SELECT {}, {} AS counts, {} AS numbers, {COST} AS cost",
            place(query, source),
            array(&self.counts, "UInt64"),
            array(&self.numbers, "Nullable(Float64)")
        )
    }

    /// A score counts once in a cell, however many of its rows it belongs to.
    fn scores(&self, project: ProjectId, query: &MetricsQuery) -> Sql {
        let select = format!(
            "SELECT DISTINCT {}, o.trace_id AS trace_id, o.span_id AS span_id, ifNull(o.session_id, '') AS session_id",
            place(query, &Source::ROWS)
        );
        let mut rows =
            Sql::observations(&select, project, query.from.timestamp_micros(), query.to.timestamp_micros());
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
fn place(query: &MetricsQuery, source: &Source) -> String {
    let begin = query.bucket.map(|bucket| match bucket {
        Bucket::Minute => "toStartOfMinute",
        Bucket::Hour => "toStartOfHour",
        Bucket::Day => "toStartOfDay",
        Bucket::Week => "toMonday",
        Bucket::Month => "toStartOfMonth",
    });
    let bucket = begin.map_or("CAST(NULL, 'Nullable(Int64)')".to_owned(), |begin| {
        format!("toNullable(toInt64(toUnixTimestamp(toDateTime({begin}({}), 'UTC'))) * 1000000)", source.time)
    });
    let dimensions: Vec<_> = query.dimensions.iter().map(|one| (source.dimension)(*one).to_owned()).collect();
    format!("{bucket} AS bucket, {} AS dimensions", array(&dimensions, "Nullable(String)"))
}
