//! Dimensions and measures as SQL over rows called `o`.

use super::super::super::query::metrics::{Counter, Dimension, Quantity, Statistic};

pub(super) const fn dimension(dimension: Dimension) -> &'static str {
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
pub(in super::super) const COST: &str = "ifNull(sum(o.cost), toDecimal128(0, 18))";

/// A sum of counts that saturates.
pub(in super::super) fn sum(count: &str) -> String {
    format!("toUInt64(least(sum(toUInt128({count})), toUInt128(18446744073709551615)))")
}

/// How many tries a call's steps have.
const ATTEMPTS: &str =
    "arrayCount(s -> JSONExtractString(s, 'kind') = 'attempt', JSONExtractArrayRaw(o.steps))";
/// How long they took, in microseconds.
const ATTEMPTS_US: &str =
    "arraySum(s -> if(JSONExtractString(s, 'kind') = 'attempt', JSONExtractUInt(s, 'duration_us'), 0),
    JSONExtractArrayRaw(o.steps))";
const CACHE: &str = "JSONExtractString(o.attributes['brokle.cache.status'])";

/// A counter's SQL.
pub(super) enum Counted {
    Count(String),
    /// A part of a whole, or nothing.
    Share(String),
}

pub(super) fn counter(counter: Counter) -> Counted {
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
pub(super) fn quantity(quantity: Quantity) -> String {
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

pub(super) fn statistic(statistic: Statistic, value: &str) -> String {
    if let Some(rank) = statistic.rank() {
        return format!("quantileExactInclusive({rank})({value})");
    }
    match statistic {
        Statistic::Minimum => format!("min({value})"),
        Statistic::Maximum => format!("max({value})"),
        _ => format!("avg({value})"),
    }
}
