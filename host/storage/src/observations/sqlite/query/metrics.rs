//! Metrics: one pass over narrow rows, put into cells here.
//!
//! Where the hourly sums [can answer](summed), whole hours come from them, and rows are read for the two ends only. The
//! numbers are the same, but for percentiles, which are off by half a percent at most.

mod cell;
mod rollups;

use std::collections::{BTreeMap, HashMap};

use brokle_core::ids::{ProjectId, RequestId};
use brokle_core::observation::Kind;
use chrono::{DateTime, Utc};
use rusqlite::types::{Value, ValueRef};
use rusqlite::{CachedStatement, Connection, Row, params, params_from_iter};

use self::cell::{Entry, Sums};
use super::super::super::AnalyticsError;
use super::super::super::query::metrics::{
    Bucket, Cell, Counter, Dimension, MAX_CELLS, Measure, Metrics, MetricsQuery, Quantity, summed,
};
use super::super::super::query::{Limits, Subject, TooMuch};
use super::super::columns::{broken, count};
use super::super::reader::Readers;
use super::super::scores::SCHEMA;
use super::{Budget, Needs, Sql, ask, in_time};

pub(in super::super) fn metrics(
    readers: &Readers,
    project: ProjectId,
    query: &MetricsQuery,
    limits: Limits,
) -> Result<Metrics, AnalyticsError> {
    let plan = Plan::new(query);
    let mut cells = Cells { plan, names: Names::default(), cells: HashMap::new(), rows: 0, limits };
    let budget = Budget::new(limits);
    let whole = if summed::can_answer(query) { summed::whole_hours(query.from, query.to) } else { None };
    let hours = match whole {
        Some(whole) => rollups::hours(readers, project, query, whole)?.map(|hours| (whole, hours)),
        None => None,
    };
    match &hours {
        Some(((from, to), hours)) => {
            let (from, to) = (*from, *to);
            cells.read_rows(readers, project, query, (query.from, from), &budget)?;
            cells.add_hours(query, hours)?;
            cells.read_rows(readers, project, query, (to, query.to), &budget)?;
        }
        None => cells.read_rows(readers, project, query, (query.from, query.to), &budget)?,
    }
    Ok(Metrics { cells: cells.finish(query), from_rollups: hours.is_some() })
}

/// What has to be read.
struct Plan {
    quantities: Vec<Quantity>,
    scores: Vec<String>,
    needs_steps: bool,
    needs_cache: bool,
}

impl Plan {
    fn new(query: &MetricsQuery) -> Self {
        let mut plan =
            Self { quantities: Vec::new(), scores: Vec::new(), needs_steps: false, needs_cache: false };
        for measure in &query.measures {
            match measure {
                Measure::Of(quantity, _) if !plan.quantities.contains(quantity) => {
                    plan.quantities.push(*quantity);
                }
                Measure::Score(name, _) if !plan.scores.contains(name) => plan.scores.push(name.clone()),
                Measure::Counter(Counter::Attempts | Counter::Retries) => plan.needs_steps = true,
                Measure::Counter(Counter::CacheHits | Counter::CacheHitRate) => plan.needs_cache = true,
                _ => {}
            }
        }
        plan.needs_steps |= plan.quantities.contains(&Quantity::Overhead);
        plan
    }

    fn columns(&self, dimensions: &[Dimension]) -> String {
        let mut columns = String::from(BASE);
        let of_attempts = |what: &str| {
            format!("(SELECT {what} FROM json_each(o.steps) j WHERE j.value ->> '$.kind' = 'attempt')")
        };
        let (attempts, spent) = if self.needs_steps {
            (of_attempts("count(*)"), of_attempts("sum(j.value ->> '$.duration_us')"))
        } else {
            ("0".to_owned(), "NULL".to_owned())
        };
        let cache = if self.needs_cache { "o.attributes ->> '$.\"brokle.cache.status\"'" } else { "NULL" };
        for column in
            [&attempts, &spent, cache].into_iter().chain(dimensions.iter().map(|one| dimension(*one)))
        {
            columns.push_str(", ");
            columns.push_str(column);
        }
        columns
    }
}

/// The columns that [`Observed`] reads, in its order; then attempts, their time and the cache's status.
const BASE: &str = "o.start_us, o.kind, o.status, o.http_status, o.streaming, o.finish_reason, o.duration_us,
    o.first_token_us, o.usage_known, o.input_tokens, o.output_tokens, o.cached_read, o.cache_write, o.reasoning,
    o.audio_input + o.audio_output, o.image_input + o.image_output, o.cost, o.trace_id, o.span_id, o.session, o.user";
/// Where the dimensions begin.
const DIMENSIONS: usize = 24;

const fn dimension(dimension: Dimension) -> &'static str {
    match dimension {
        Dimension::Model => "coalesce(o.model_served, o.model_requested)",
        Dimension::ModelRequested => "o.model_requested",
        Dimension::Provider => "o.provider",
        Dimension::Connection => "o.connection",
        Dimension::User => "o.user",
        Dimension::Session => "o.session",
        Dimension::Environment => "o.environment",
        Dimension::Status => "o.status",
        Dimension::Type => "o.kind",
        Dimension::Name => "o.name",
        Dimension::Operation => "nullif(o.operation, '')",
        Dimension::Tag => "o.tags",
        Dimension::ApiKey => "o.key_id",
        Dimension::FinishReason => "o.finish_reason",
        Dimension::Error => "o.error_class",
        Dimension::StatusCode => "CAST(o.http_status AS TEXT)",
        Dimension::Streaming => "CASE WHEN o.streaming THEN 'true' ELSE 'false' END",
    }
}

/// A row, as far as it is measured.
struct Observed {
    kind: Kind,
    status: String,
    http_status: Option<u16>,
    streaming: bool,
    finish_reason: Option<String>,
    duration_us: u64,
    first_token_us: Option<u64>,
    usage_known: bool,
    input: u64,
    output: u64,
    cached: u64,
    cache_write: u64,
    reasoning: u64,
    audio: u64,
    image: u64,
    cost: Option<brokle_core::money::Usd>,
    trace: [u8; 16],
    span: [u8; 8],
    session: Option<String>,
    user: Option<String>,
    attempts: u64,
    attempts_us: Option<u64>,
    cache: Option<String>,
}

impl Observed {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let optional = |at| Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(at)?.map(i64::cast_unsigned));
        Ok(Self {
            kind: row.get::<_, String>(1)?.parse().map_err(|error| broken(1, error))?,
            status: row.get(2)?,
            http_status: row.get(3)?,
            streaming: row.get(4)?,
            finish_reason: row.get(5)?,
            duration_us: count(row, 6)?,
            first_token_us: optional(7)?,
            usage_known: row.get(8)?,
            input: count(row, 9)?,
            output: count(row, 10)?,
            cached: count(row, 11)?,
            cache_write: count(row, 12)?,
            reasoning: count(row, 13)?,
            audio: count(row, 14)?,
            image: count(row, 15)?,
            cost: match row.get::<_, Option<String>>(16)? {
                Some(text) => Some(text.parse().map_err(|error| broken(16, error))?),
                None => None,
            },
            trace: row.get(17)?,
            span: row.get(18)?,
            session: row.get(19)?,
            user: row.get(20)?,
            attempts: count(row, 21)?,
            attempts_us: optional(22)?,
            cache: row.get(23)?,
        })
    }
}

/// Texts by number, so that groups are small; 0 is no text.
#[derive(Default)]
struct Names {
    numbers: HashMap<String, u32>,
    texts: Vec<String>,
}

impl Names {
    fn number(&mut self, text: Option<&str>) -> u32 {
        let Some(text) = text else { return 0 };
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        self.texts.push(text.to_owned());
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        self.numbers.insert(text.to_owned(), number);
        number
    }

    fn text(&self, number: u32) -> Option<&str> {
        self.texts.get((number as usize).checked_sub(1)?).map(String::as_str)
    }
}

type Place = (Option<i64>, Vec<u32>);

struct Cells {
    plan: Plan,
    names: Names,
    cells: HashMap<Place, Sums>,
    rows: u64,
    limits: Limits,
}

impl Cells {
    fn read_rows(
        &mut self,
        readers: &Readers,
        project: ProjectId,
        query: &MetricsQuery,
        (from, to): (DateTime<Utc>, DateTime<Utc>),
        budget: &Budget,
    ) -> Result<(), AnalyticsError> {
        if from >= to {
            return Ok(());
        }
        let mut needs = Needs::of(&query.filter);
        needs.scores |= !self.plan.scores.is_empty();
        for month in readers.months(Some(from.timestamp_micros()), Some(to.timestamp_micros()))? {
            ask(readers, month, needs, budget, |connection, beside| {
                let columns = self.plan.columns(&query.dimensions);
                let mut sql = Sql::new(&format!("SELECT {columns} FROM observations o WHERE o.project = "));
                sql.bind(Value::Blob(project.as_u128().to_be_bytes().to_vec()));
                in_time(&mut sql, "o.start_us", from, to);
                sql.filter(&query.filter, Subject::Observations, beside);
                let mut scores = if beside.scores && !self.plan.scores.is_empty() {
                    Some(ScoresOf::new(connection, project)?)
                } else {
                    None
                };
                let mut statement = connection.prepare_cached(&sql.text)?;
                let mut rows = statement.query(params_from_iter(&sql.values))?;
                while let Some(row) = rows.next()? {
                    self.take(row, query, scores.as_mut())?;
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        row: &Row<'_>,
        query: &MetricsQuery,
        scores: Option<&mut ScoresOf<'_>>,
    ) -> Result<(), AnalyticsError> {
        self.rows += 1;
        if self.rows > self.limits.rows {
            return Err(TooMuch::Rows(self.limits.rows).into());
        }
        let observed = Observed::read(row)?;
        let given = match scores {
            Some(scores) => scores.of(&observed, &self.plan.scores)?,
            None => Vec::new(),
        };
        let bucket = begin(query.bucket, row.get(0)?);
        let mut places = vec![Vec::new()];
        for (at, dimension) in query.dimensions.iter().enumerate() {
            let values = self.values(*dimension, row.get_ref(DIMENSIONS + at)?)?;
            places = places
                .into_iter()
                .flat_map(|place: Vec<u32>| {
                    values.iter().map(move |value| place.iter().copied().chain([*value]).collect())
                })
                .collect();
        }
        let session = self.names.number(observed.session.as_deref());
        let user = self.names.number(observed.user.as_deref());
        for place in places {
            let entry = Entry { observed: &observed, session, user, scores: &given };
            self.cell((bucket, place))?.add(&entry);
        }
        Ok(())
    }

    /// The dimension's values of a row: one, or each of its tags.
    fn values(&mut self, dimension: Dimension, column: ValueRef<'_>) -> Result<Vec<u32>, AnalyticsError> {
        Ok(match (dimension, column) {
            (_, ValueRef::Null) => vec![0],
            (Dimension::Tag, column) => {
                let json = column.as_str().map_err(super::super::corrupt)?;
                let mut tags: Vec<String> = serde_json::from_str(json).map_err(super::super::corrupt)?;
                tags.sort_unstable();
                tags.dedup();
                tags.iter().map(|tag| self.names.number(Some(tag))).collect()
            }
            (_, ValueRef::Blob(bytes)) => {
                let bytes = bytes.try_into().map_err(|_| super::super::corrupt("an id hasn't 16 bytes"))?;
                let id = RequestId::from_u128(u128::from_be_bytes(bytes)).to_string();
                vec![self.names.number(Some(&id))]
            }
            (_, column) => vec![self.names.number(Some(column.as_str().map_err(super::super::corrupt)?))],
        })
    }

    fn cell(&mut self, place: Place) -> Result<&mut Sums, AnalyticsError> {
        if self.cells.len() >= MAX_CELLS && !self.cells.contains_key(&place) {
            return Err(TooMuch::Groups(MAX_CELLS).into());
        }
        let plan = &self.plan;
        Ok(self.cells.entry(place).or_insert_with(|| Sums::new(&plan.quantities, &plan.scores)))
    }

    fn finish(mut self, query: &MetricsQuery) -> Vec<Cell> {
        if query.bucket.is_none() && query.dimensions.is_empty() && self.cells.is_empty() {
            self.cells.insert((None, Vec::new()), Sums::new(&self.plan.quantities, &self.plan.scores));
        }
        let names = self.names;
        let sorted: BTreeMap<_, _> = self
            .cells
            .into_iter()
            .map(|((bucket, numbers), sums)| {
                let texts: Vec<_> =
                    numbers.iter().map(|number| names.text(*number).map(str::to_owned)).collect();
                ((bucket, texts), sums)
            })
            .collect();
        sorted
            .into_iter()
            .map(|((bucket, dimensions), mut sums)| Cell {
                bucket: bucket.and_then(DateTime::from_timestamp_micros),
                dimensions,
                values: query.measures.iter().map(|measure| sums.measure(measure)).collect(),
            })
            .collect()
    }
}

fn begin(bucket: Option<Bucket>, start_us: i64) -> Option<i64> {
    Some(bucket?.begin(DateTime::from_timestamp_micros(start_us)?).timestamp_micros())
}

/// A score that counts for a row.
struct Given {
    /// Which of the names that were asked for.
    name: usize,
    /// Its number: a score counts once in a cell, however many rows it belongs to.
    rid: i64,
    value: Option<f64>,
    is_flag: bool,
}

/// The scores of rows, one by one, by their index.
struct ScoresOf<'a> {
    project: [u8; 16],
    of_trace: CachedStatement<'a>,
    of_session: CachedStatement<'a>,
}

impl<'a> ScoresOf<'a> {
    fn new(connection: &'a Connection, project: ProjectId) -> Result<Self, AnalyticsError> {
        let columns = "SELECT s.rid, s.value, s.data_type = 'boolean'";
        Ok(Self {
            project: project.as_u128().to_be_bytes(),
            of_trace: connection.prepare_cached(&format!(
                "{columns} FROM {SCHEMA}.scores s WHERE s.project = ?1 AND s.trace_id = ?2 AND s.name = ?3
                 AND (s.span_id IS NULL OR s.span_id = ?4)"
            ))?,
            of_session: connection.prepare_cached(&format!(
                "{columns} FROM {SCHEMA}.scores s WHERE s.project = ?1 AND s.session = ?2 AND s.name = ?3"
            ))?,
        })
    }

    fn of(&mut self, observed: &Observed, names: &[String]) -> Result<Vec<Given>, AnalyticsError> {
        let mut found = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let read = |row: &Row<'_>| {
                Ok(Given { name: at, rid: row.get(0)?, value: row.get(1)?, is_flag: row.get(2)? })
            };
            let of_trace = params![self.project, observed.trace, name, observed.span];
            for score in self.of_trace.query_map(of_trace, read)? {
                found.push(score?);
            }
            if let Some(session) = &observed.session {
                for score in self.of_session.query_map(params![self.project, session, name], read)? {
                    found.push(score?);
                }
            }
        }
        Ok(found)
    }
}
