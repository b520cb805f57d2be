//! One cell's sums, and what measures make of them.

use std::collections::HashSet;

use brokle_core::money::Usd;
use brokle_core::observation::Kind;

use super::super::super::super::Rollup;
use super::super::super::super::query::metrics::{
    Counter, Measure, Measured, Quantity, ScoreStatistic, Statistic,
};
use super::super::super::super::sketch::Sketch;
use super::super::super::rollups::Spread;
use super::{Given, Observed};

/// A row in one of its cells.
pub(super) struct Entry<'a> {
    pub(super) observed: &'a Observed,
    /// 0 for none.
    pub(super) session: u32,
    pub(super) user: u32,
    pub(super) scores: &'a [Given],
}

#[derive(Default)]
pub(super) struct Sums {
    count: u64,
    errors: u64,
    aborted: u64,
    timeouts: u64,
    rate_limited: u64,
    streamed: u64,
    cut_short: u64,
    filtered: u64,
    cache_hits: u64,
    cache_looks: u64,
    attempts: u64,
    retries: u64,
    kinds: [u64; 6],
    input: u64,
    output: u64,
    cached: u64,
    cache_write: u64,
    reasoning: u64,
    audio: u64,
    image: u64,
    cost: Usd,
    traces: HashSet<[u8; 16]>,
    sessions: HashSet<u32>,
    users: HashSet<u32>,
    quantities: Vec<(Quantity, Values)>,
    scores: Vec<(String, Scores)>,
}

/// The types that have counters of their own, in their order.
const KINDS: [Kind; 6] =
    [Kind::Generation, Kind::Embedding, Kind::Tool, Kind::Retriever, Kind::Agent, Kind::Guardrail];

#[derive(Default)]
struct Values {
    values: Vec<f64>,
    /// Of rows that were summed up before: their number and their sum, and how they are spread, in microseconds.
    summed: (u64, f64),
    spread: Sketch,
    is_sorted: bool,
}

#[derive(Default)]
struct Scores {
    seen: HashSet<i64>,
    values: Values,
    flags: u64,
    flags_set: u64,
}

impl Sums {
    pub(super) fn new(quantities: &[Quantity], scores: &[String]) -> Self {
        Self {
            quantities: quantities.iter().map(|quantity| (*quantity, Values::default())).collect(),
            scores: scores.iter().map(|name| (name.clone(), Scores::default())).collect(),
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, entry: &Entry<'_>) {
        let row = entry.observed;
        self.count += 1;
        for (counter, yes) in [
            (&mut self.errors, row.status != "ok"),
            (&mut self.aborted, row.status == "aborted"),
            (&mut self.timeouts, row.status == "timeout"),
            (&mut self.rate_limited, row.http_status == Some(429)),
            (&mut self.streamed, row.streaming),
            (&mut self.cut_short, row.finish_reason.as_deref() == Some("length")),
            (&mut self.filtered, row.finish_reason.as_deref() == Some("content_filter")),
            (&mut self.cache_hits, row.cache.as_deref() == Some("hit")),
            (&mut self.cache_looks, matches!(row.cache.as_deref(), Some("hit" | "miss"))),
        ] {
            *counter += u64::from(yes);
        }
        self.count_kind(row.kind, 1);
        for (sum, value) in [
            (&mut self.attempts, row.attempts),
            (&mut self.retries, row.attempts.saturating_sub(1)),
            (&mut self.input, row.input),
            (&mut self.output, row.output),
            (&mut self.cached, row.cached),
            (&mut self.cache_write, row.cache_write),
            (&mut self.reasoning, row.reasoning),
            (&mut self.audio, row.audio),
            (&mut self.image, row.image),
        ] {
            *sum = sum.saturating_add(value);
        }
        self.cost += row.cost.unwrap_or_default();
        self.traces.insert(row.trace);
        self.sessions.extend(Some(entry.session).filter(|session| *session > 0));
        self.users.extend(Some(entry.user).filter(|user| *user > 0));
        for (quantity, values) in &mut self.quantities {
            values.values.extend(quantity_of(*quantity, row));
        }
        for given in entry.scores {
            if let Some((_, scores)) = self.scores.get_mut(given.name)
                && scores.seen.insert(given.rid)
            {
                scores.values.values.extend(given.value);
                scores.flags += u64::from(given.is_flag);
                scores.flags_set += u64::from(given.is_flag && given.value == Some(1.0));
            }
        }
    }

    /// An hour's sums. Only what [`can_answer`](super::summed::can_answer) lets through is asked for afterwards.
    pub(super) fn add_rollup(&mut self, rollup: &Rollup, spread: Option<&Spread>) {
        let sums = &rollup.sums;
        for (mine, theirs) in [
            (&mut self.count, sums.count),
            (&mut self.errors, sums.errors),
            (&mut self.input, sums.input),
            (&mut self.output, sums.output),
            (&mut self.cached, sums.cached_read),
            (&mut self.cache_write, sums.cache_write),
            (&mut self.reasoning, sums.reasoning),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.count_kind(rollup.key.kind, sums.count);
        self.cost += sums.cost;
        for (quantity, values) in &mut self.quantities {
            let (count, sum_us, spread) = match quantity {
                Quantity::FirstToken => {
                    (sums.first_token_count, sums.first_token_us, spread.map(|spread| &spread.first_token))
                }
                _ => (sums.count, sums.duration_us, spread.map(|spread| &spread.latency)),
            };
            if let Some(spread) = spread {
                values.spread.merge(spread);
            }
            values.summed.0 += count;
            values.summed.1 += sum_us as f64 / 1_000.0;
        }
    }

    fn count_kind(&mut self, kind: Kind, rows: u64) {
        if let Some((_, count)) = KINDS.iter().zip(&mut self.kinds).find(|(one, _)| **one == kind) {
            *count += rows;
        }
    }

    pub(super) fn measure(&mut self, measure: &Measure) -> Measured {
        match measure {
            Measure::Counter(counter) => self.counter(*counter),
            Measure::Of(quantity, statistic) => {
                let found = self.quantities.iter_mut().find(|(one, _)| one == quantity);
                number(found.and_then(|(_, values)| values.statistic(*statistic)))
            }
            Measure::Score(name, statistic) => {
                let found = self.scores.iter_mut().find(|(one, _)| one == name);
                found.map_or(Measured::Nothing, |(_, scores)| scores.statistic(*statistic))
            }
        }
    }

    fn counter(&self, counter: Counter) -> Measured {
        let [generations, embeddings, tools, retrievals, agents, guardrails] = self.kinds;
        Measured::Count(match counter {
            Counter::Count => self.count,
            Counter::Traces => self.traces.len() as u64,
            Counter::Sessions => self.sessions.len() as u64,
            Counter::Users => self.users.len() as u64,
            Counter::Generations => generations,
            Counter::Embeddings => embeddings,
            Counter::ToolCalls => tools,
            Counter::Retrievals => retrievals,
            Counter::AgentRuns => agents,
            Counter::Guardrails => guardrails,
            Counter::Errors => self.errors,
            Counter::ErrorRate => return share(self.errors, self.count),
            Counter::Aborted => self.aborted,
            Counter::Timeouts => self.timeouts,
            Counter::RateLimited => self.rate_limited,
            Counter::Streamed => self.streamed,
            Counter::StreamedShare => return share(self.streamed, self.count),
            Counter::CutShort => self.cut_short,
            Counter::Filtered => self.filtered,
            Counter::CacheHits => self.cache_hits,
            Counter::CacheHitRate => return share(self.cache_hits, self.cache_looks),
            Counter::Attempts => self.attempts,
            Counter::Retries => self.retries,
            Counter::InputTokens => self.input,
            Counter::OutputTokens => self.output,
            Counter::TotalTokens => self.input.saturating_add(self.output),
            Counter::CachedTokens => self.cached,
            Counter::CacheWriteTokens => self.cache_write,
            Counter::ReasoningTokens => self.reasoning,
            Counter::AudioTokens => self.audio,
            Counter::ImageTokens => self.image,
            Counter::CachedShare => return share(self.cached, self.input),
            Counter::Cost => return Measured::Money(self.cost),
            Counter::CostPerTrace => return self.cost_per(self.traces.len()),
            Counter::CostPerUser => return self.cost_per(self.users.len()),
        })
    }

    fn cost_per(&self, things: usize) -> Measured {
        number((things > 0).then(|| self.cost.approximate() / things as f64))
    }
}

fn share(part: u64, whole: u64) -> Measured {
    number((whole > 0).then(|| part as f64 / whole as f64))
}

fn number(value: Option<f64>) -> Measured {
    value.filter(|value| value.is_finite()).map_or(Measured::Nothing, Measured::Number)
}

/// A row's value of the quantity, if it has one.
fn quantity_of(quantity: Quantity, row: &Observed) -> Option<f64> {
    let millis = |micros: u64| micros as f64 / 1_000.0;
    let streamed = || row.first_token_us.map(|first| millis(row.duration_us.saturating_sub(first)));
    let tokens = |count: u64| row.usage_known.then_some(count as f64);
    let by_second = |count: Option<f64>| {
        count
            .filter(|count| row.duration_us > 0 && *count > 0.0)
            .map(|count| count * 1e6 / row.duration_us as f64)
    };
    match quantity {
        Quantity::Latency => Some(millis(row.duration_us)),
        Quantity::FirstToken => row.first_token_us.map(millis),
        Quantity::Streaming => streamed(),
        Quantity::PerToken => {
            streamed().zip(tokens(row.output).filter(|count| *count > 0.0)).map(|(time, count)| time / count)
        }
        Quantity::Overhead => row.attempts_us.map(|spent| millis(row.duration_us.saturating_sub(spent))),
        Quantity::Input => tokens(row.input),
        Quantity::Output => tokens(row.output),
        Quantity::Tokens => tokens(row.input.saturating_add(row.output)),
        Quantity::OutputSpeed => by_second(tokens(row.output)),
        Quantity::Speed => by_second(tokens(row.input.saturating_add(row.output))),
        Quantity::Cost => row.cost.map(Usd::approximate),
    }
}

impl Values {
    fn statistic(&mut self, statistic: Statistic) -> Option<f64> {
        if let Some(rank) = statistic.rank() {
            return self.percentile(rank);
        }
        match statistic {
            Statistic::Minimum => self.percentile(0.0),
            Statistic::Maximum => self.percentile(1.0),
            _ => self.average(),
        }
    }

    fn average(&self) -> Option<f64> {
        let count = self.values.len() as u64 + self.summed.0;
        let sum = self.values.iter().sum::<f64>() + self.summed.1;
        (count > 0).then(|| sum / count as f64)
    }

    /// Between the two nearest values; exact where all of them are known.
    fn percentile(&mut self, rank: f64) -> Option<f64> {
        if !self.spread.is_empty() {
            for value in self.values.drain(..) {
                self.summed = (self.summed.0 + 1, self.summed.1 + value);
                self.spread.add((value * 1_000.0).round() as u64);
            }
            return self.spread.percentile(rank).map(|micros| micros / 1_000.0);
        }
        if !self.is_sorted {
            self.values.sort_unstable_by(f64::total_cmp);
            self.is_sorted = true;
        }
        let place = rank * self.values.len().checked_sub(1)? as f64;
        let below = self.values.get(place.floor() as usize)?;
        let above = self.values.get(place.ceil() as usize)?;
        Some(below + (above - below) * place.fract())
    }
}

impl Scores {
    fn statistic(&mut self, statistic: ScoreStatistic) -> Measured {
        let rank = match statistic {
            ScoreStatistic::Count => return Measured::Count(self.seen.len() as u64),
            ScoreStatistic::Average => return number(self.values.average()),
            ScoreStatistic::TrueRate => return share(self.flags_set, self.flags),
            ScoreStatistic::Minimum => 0.0,
            ScoreStatistic::P50 => 0.5,
            ScoreStatistic::P90 => 0.9,
            ScoreStatistic::P95 => 0.95,
            ScoreStatistic::Maximum => 1.0,
        };
        number(self.values.percentile(rank))
    }
}
