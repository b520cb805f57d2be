//! Which questions the hourly sums can answer, and how.

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};

use super::super::super::super::query::Filter;
use super::super::super::super::query::metrics::{
    Bucket, Counter, Dimension, Measure, MetricsQuery, Quantity, Statistic,
};
use super::super::super::super::{AnalyticsError, Rollup};
use super::super::super::reader::Readers;
use super::super::super::rollups::{self, Hour};
use super::{Cells, begin};

/// So many rows are read rather than estimated: their percentiles are exact.
const EXACT: u64 = 20_000;

pub(super) fn can_answer(query: &MetricsQuery) -> bool {
    query.filter == Filter::default()
        && query.bucket != Some(Bucket::Minute)
        && query.dimensions.iter().all(|dimension| {
            matches!(
                dimension,
                Dimension::Model | Dimension::Provider | Dimension::Environment | Dimension::Type
            )
        })
        && query.measures.iter().all(is_summed)
}

const fn is_summed(measure: &Measure) -> bool {
    match measure {
        Measure::Counter(counter) => matches!(
            counter,
            Counter::Count
                | Counter::Generations
                | Counter::Embeddings
                | Counter::ToolCalls
                | Counter::Retrievals
                | Counter::AgentRuns
                | Counter::Guardrails
                | Counter::Errors
                | Counter::ErrorRate
                | Counter::InputTokens
                | Counter::OutputTokens
                | Counter::TotalTokens
                | Counter::CachedTokens
                | Counter::CacheWriteTokens
                | Counter::ReasoningTokens
                | Counter::CachedShare
                | Counter::Cost
        ),
        Measure::Of(quantity, statistic) => {
            matches!(quantity, Quantity::Latency | Quantity::FirstToken)
                && (matches!(statistic, Statistic::Average) || statistic.rank().is_some())
        }
        Measure::Score(..) => false,
    }
}

/// The whole hours of this time; none when there isn't any.
pub(super) fn whole_hours(from: DateTime<Utc>, to: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let first = Bucket::Hour.begin(from);
    let first = if first < from { Bucket::Hour.next(first)? } else { first };
    let last = Bucket::Hour.begin(to);
    (first < last).then_some((first, last))
}

/// The hours that answer a question; none when one of them doesn't know what is asked, or the rows are few enough to be exact.
pub(super) fn hours(
    readers: &Readers,
    project: ProjectId,
    query: &MetricsQuery,
    (from, to): (DateTime<Utc>, DateTime<Utc>),
) -> Result<Option<Vec<Hour>>, AnalyticsError> {
    let hours = rollups::read(readers, project, from.timestamp_micros(), to.timestamp_micros())?;
    let is_percentile =
        |measure: &Measure| matches!(measure, Measure::Of(_, statistic) if statistic.rank().is_some());
    if query.measures.iter().any(is_percentile) {
        let rows: u64 = hours.iter().map(|hour| hour.rollup.sums.count).sum();
        if rows <= EXACT || hours.iter().any(|hour| hour.spread.is_none()) {
            return Ok(None);
        }
    }
    Ok(Some(hours))
}

impl Cells {
    pub(super) fn add_hours(&mut self, query: &MetricsQuery, hours: &[Hour]) -> Result<(), AnalyticsError> {
        for Hour { rollup: hour, spread } in hours {
            let place = query.dimensions.iter().map(|dimension| {
                let text = dimension_of(*dimension, hour);
                self.names.number(Some(text.as_str()).filter(|text| !text.is_empty()))
            });
            let place = place.collect();
            let bucket = begin(query.bucket, hour.key.hour.timestamp_micros());
            self.cell((bucket, place))?.add_rollup(hour, spread.as_ref());
        }
        Ok(())
    }
}

fn dimension_of(dimension: Dimension, hour: &Rollup) -> String {
    match dimension {
        Dimension::Provider => hour.key.provider.clone(),
        Dimension::Environment => hour.key.environment_id.to_string(),
        Dimension::Type => hour.key.kind.to_string(),
        _ => hour.key.model.clone(),
    }
}
