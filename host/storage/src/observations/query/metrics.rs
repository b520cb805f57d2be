//! What can be measured, by what, and in which form it is answered.
//!
//! **Percentiles are exact**: they are made of every row's value, with linear interpolation between the two nearest
//! (what NumPy calls `linear`, PostgreSQL `percentile_cont` and ClickHouse `quantileExactInclusive`). Sums of money are
//! exact decimals. Averages and rates of nothing are null, never 0.
//!
//! Measures come in three families: counts and rates by name ([`Counter`]); `{quantity}_{statistic}` such as
//! `latency_p95` ([`Quantity`], [`Statistic`]); and scores, `scores.NAME.STATISTIC` such as `scores.helpfulness.avg`.
//! A score counts once in each group that has its observation, one of its trace or one of its session.

pub(crate) mod summed;

use std::fmt;
use std::str::FromStr;

use brokle_core::money::Usd;
use chrono::{DateTime, Datelike, Days, DurationRound, Months, TimeDelta, Utc};
use serde::Serialize;

use super::Filter;

/// Dimensions of one question at most.
pub const MAX_DIMENSIONS: usize = 3;
/// Measures of one question at most.
pub const MAX_MEASURES: usize = 20;
/// Rows of an answer at most: buckets times groups.
pub const MAX_CELLS: usize = 10_000;

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal, $what:literal;)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name {
            $(#[doc = $what] $variant,)+
        }

        impl $name {
            /// Every value.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Its name.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it is, in a sentence.
            #[must_use]
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $what,)+ }
            }
        }

        impl FromStr for $name {
            type Err = UnknownName;

            fn from_str(text: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|one| one.as_str() == text).ok_or(UnknownName)
            }
        }
    };
}

/// A text that names no measure, dimension or bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not one of the known names")]
pub struct UnknownName;

names! {
    /// What is counted, summed up, or divided.
    Counter {
        Count = "count", "Observations.";
        Traces = "traces", "Different traces.";
        Sessions = "sessions", "Different sessions.";
        Users = "users", "Different users.";
        Generations = "generations", "Observations of the type `generation`.";
        Embeddings = "embeddings", "Of the type `embedding`.";
        ToolCalls = "tool_calls", "Of the type `tool`.";
        Retrievals = "retrievals", "Of the type `retriever`.";
        AgentRuns = "agent_runs", "Of the type `agent`.";
        Guardrails = "guardrails", "Of the type `guardrail`.";
        Errors = "errors", "Those that didn't end `ok`.";
        ErrorRate = "error_rate", "The share of those: 0 to 1.";
        Aborted = "aborted", "Those that the client left.";
        Timeouts = "timeouts", "Those that a deadline ended.";
        RateLimited = "rate_limited", "Those that were answered 429.";
        Streamed = "streamed", "Those whose answer was streamed.";
        StreamedShare = "streamed_share", "The share of those: 0 to 1.";
        CutShort = "cut_short", "Those with the finish reason `length`.";
        Filtered = "filtered", "Those with the finish reason `content_filter`.";
        CacheHits = "cache_hits", "Those that the gateway's cache answered.";
        CacheHitRate = "cache_hit_rate", "Of those that were looked up in the gateway's cache, the share that it answered.";
        Attempts = "attempts", "Tries at upstreams, inside calls to the gateway.";
        Retries = "retries", "Tries beyond a call's first.";
        InputTokens = "input_tokens", "Tokens in.";
        OutputTokens = "output_tokens", "Tokens out.";
        TotalTokens = "total_tokens", "Tokens in and out.";
        CachedTokens = "cached_tokens", "Of the tokens in, those read from the vendor's cache.";
        CacheWriteTokens = "cache_write_tokens", "Of the tokens in, those written to the vendor's cache.";
        ReasoningTokens = "reasoning_tokens", "Of the tokens out, those spent on reasoning.";
        AudioTokens = "audio_tokens", "Of the tokens in and out, audio.";
        ImageTokens = "image_tokens", "Of the tokens in and out, images.";
        CachedShare = "cached_share", "The share of the tokens in that the vendor's cache gave: 0 to 1.";
        Cost = "cost", "Dollars, exact, as a decimal text.";
        CostPerTrace = "cost_per_trace", "Dollars by trace.";
        CostPerUser = "cost_per_user", "Dollars by user.";
    }
}

names! {
    /// What every row has one value of, or none.
    Quantity {
        Latency = "latency", "How long it took, in milliseconds.";
        FirstToken = "ttft", "From the beginning to the first token, in milliseconds.";
        Streaming = "stream_time", "From the first token to the end, in milliseconds.";
        PerToken = "time_per_output_token", "The same by token out, in milliseconds.";
        Overhead = "gateway_overhead", "What a call to the gateway took beyond its tries, in milliseconds.";
        Input = "input", "Tokens in.";
        Output = "output", "Tokens out.";
        Tokens = "tokens", "Tokens in and out.";
        OutputSpeed = "output_tokens_per_second", "Tokens out by second.";
        Speed = "tokens_per_second", "Tokens in and out by second.";
        Cost = "cost", "Dollars.";
    }
}

names! {
    /// What becomes of a quantity's values.
    Statistic {
        Average = "avg", "Their average.";
        Minimum = "min", "The smallest.";
        Maximum = "max", "The largest.";
        P50 = "p50", "The median.";
        P75 = "p75", "The 75th percentile.";
        P90 = "p90", "The 90th percentile.";
        P95 = "p95", "The 95th percentile.";
        P99 = "p99", "The 99th percentile.";
    }
}

names! {
    /// What groups are told apart by.
    Dimension {
        Model = "model", "The model that answered, else the one that was asked for.";
        ModelRequested = "model_requested", "The model that was asked for.";
        Provider = "provider", "Who served it.";
        Connection = "connection", "Through which connection: its id.";
        User = "user", "The client's end user.";
        Session = "session", "The client's session.";
        Environment = "environment", "The environment's id.";
        Status = "status", "How it ended.";
        Type = "type", "What it is about.";
        Name = "name", "What it is called.";
        Operation = "operation", "`gen_ai.operation.name`.";
        Tag = "tag", "Each of the client's labels: a row with two counts in two groups.";
        ApiKey = "key", "The API key's id.";
        FinishReason = "finish_reason", "Why the model stopped.";
        Error = "error", "The error's class.";
        StatusCode = "status_code", "The HTTP status.";
        Streaming = "streaming", "Whether the answer was streamed.";
    }
}

names! {
    /// Pieces of time, in UTC.
    Bucket {
        Minute = "minute", "Minutes.";
        Hour = "hour", "Hours.";
        Day = "day", "Days.";
        Week = "week", "Weeks, from Monday.";
        Month = "month", "Months.";
    }
}

names! {
    /// What becomes of a score's values.
    ScoreStatistic {
        Count = "count", "Scores.";
        Average = "avg", "The average of numbers; of flags, the share of `true`.";
        Minimum = "min", "The smallest.";
        Maximum = "max", "The largest.";
        P50 = "p50", "The median.";
        P90 = "p90", "The 90th percentile.";
        P95 = "p95", "The 95th percentile.";
        TrueRate = "true_rate", "The share of `true` among the flags.";
    }
}

/// One measure.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Measure {
    /// A count, a sum or a rate.
    Counter(Counter),
    /// A statistic of a quantity.
    Of(Quantity, Statistic),
    /// A statistic of the scores of this name.
    Score(String, ScoreStatistic),
}

impl fmt::Display for Measure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter(counter) => out.write_str(counter.as_str()),
            Self::Of(quantity, statistic) => write!(out, "{}_{}", quantity.as_str(), statistic.as_str()),
            Self::Score(name, statistic) => write!(out, "scores.{name}.{}", statistic.as_str()),
        }
    }
}

impl FromStr for Measure {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Self, UnknownName> {
        if let Some(score) = text.strip_prefix("scores.") {
            let (name, statistic) =
                score.rsplit_once('.').filter(|(name, _)| !name.is_empty()).ok_or(UnknownName)?;
            return Ok(Self::Score(name.to_owned(), statistic.parse()?));
        }
        if let Ok(counter) = text.parse() {
            return Ok(Self::Counter(counter));
        }
        let (quantity, statistic) = text.rsplit_once('_').ok_or(UnknownName)?;
        Ok(Self::Of(quantity.parse()?, statistic.parse()?))
    }
}

impl Statistic {
    /// Which part of the values is below it, if it is a percentile.
    #[must_use]
    pub const fn rank(self) -> Option<f64> {
        match self {
            Self::P50 => Some(0.5),
            Self::P75 => Some(0.75),
            Self::P90 => Some(0.9),
            Self::P95 => Some(0.95),
            Self::P99 => Some(0.99),
            Self::Average | Self::Minimum | Self::Maximum => None,
        }
    }
}

impl Bucket {
    /// The beginning of the piece that this moment is in.
    #[must_use]
    pub fn begin(self, time: DateTime<Utc>) -> DateTime<Utc> {
        let day = || time.date_naive();
        let date = match self {
            Self::Minute => return time.duration_trunc(TimeDelta::minutes(1)).unwrap_or(time),
            Self::Hour => return time.duration_trunc(TimeDelta::hours(1)).unwrap_or(time),
            Self::Day => Some(day()),
            Self::Week => day().checked_sub_days(Days::new(day().weekday().num_days_from_monday().into())),
            Self::Month => day().with_day(1),
        };
        date.and_then(|date| date.and_hms_opt(0, 0, 0)).map_or(time, |start| start.and_utc())
    }

    /// The beginning of the piece after the one that begins here.
    #[must_use]
    pub fn next(self, begin: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match self {
            Self::Minute => begin.checked_add_signed(TimeDelta::minutes(1)),
            Self::Hour => begin.checked_add_signed(TimeDelta::hours(1)),
            Self::Day => begin.checked_add_days(Days::new(1)),
            Self::Week => begin.checked_add_days(Days::new(7)),
            Self::Month => begin.checked_add_months(Months::new(1)),
        }
    }
}

/// What is measured.
#[derive(Clone, Debug)]
pub struct MetricsQuery {
    /// The observations.
    pub filter: Filter,
    /// They began at this time or later.
    pub from: DateTime<Utc>,
    /// They began before this time.
    pub to: DateTime<Utc>,
    /// What is told of each group; at least one.
    pub measures: Vec<Measure>,
    /// What groups are told apart by, at most [`MAX_DIMENSIONS`].
    pub dimensions: Vec<Dimension>,
    /// Pieces of time that are told apart too.
    pub bucket: Option<Bucket>,
}

/// A measure's value.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Measured {
    /// A count.
    Count(u64),
    /// A statistic or a rate.
    Number(f64),
    /// Dollars.
    Money(Usd),
    /// There is nothing to make it of.
    Nothing,
}

/// One group in one piece of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// When the piece of time begins, if there are pieces.
    pub bucket: Option<DateTime<Utc>>,
    /// The dimensions' values, in the question's order.
    pub dimensions: Vec<Option<String>>,
    /// The measures' values, in the question's order.
    pub values: Vec<Measured>,
}

/// An answer.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// By time, then by dimensions. Groups without an observation aren't there; without a bucket and dimensions there is
    /// always exactly one.
    pub cells: Vec<Cell>,
    /// Whether it was made of the hourly sums rather than of rows; the numbers are the same.
    pub from_rollups: bool,
}
