//! Which questions hourly sums can answer: no filter; counts, tokens, cost, and averages and percentiles of latency and time to
//! the first token; by model, provider, environment and type; in hours or more.

use chrono::{DateTime, Utc};

use super::{Bucket, Counter, Dimension, Measure, MetricsQuery, Quantity, Statistic};
use crate::observations::query::Filter;

/// So many rows are read rather than estimated: their percentiles are exact.
pub(crate) const EXACT: u64 = 20_000;

/// Whether they can.
pub(crate) fn can_answer(query: &MetricsQuery) -> bool {
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
pub(crate) fn whole_hours(from: DateTime<Utc>, to: DateTime<Utc>) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
    let first = Bucket::Hour.begin(from);
    let first = if first < from { Bucket::Hour.next(first)? } else { first };
    let last = Bucket::Hour.begin(to);
    (first < last).then_some((first, last))
}

/// Whether a percentile is asked for: sums of few rows are made of those instead.
pub(crate) fn asks_for_percentiles(query: &MetricsQuery) -> bool {
    query
        .measures
        .iter()
        .any(|measure| matches!(measure, Measure::Of(_, statistic) if statistic.rank().is_some()))
}
