//! Hourly sums.

use brokle_core::ids::EnvironmentId;
use brokle_core::money::Usd;
use brokle_core::observation::{Kind, Observation, Status};
use chrono::{DateTime, Utc};
use serde::Serialize;

pub(super) const HOUR_US: i64 = 3_600_000_000;

/// What is summed apart, within a project.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct RollupKey {
    /// When the hour begins.
    pub hour: DateTime<Utc>,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// What the observations are about.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Who served them; empty when nobody did.
    pub provider: String,
    /// The model that served them, else the one that was asked for; empty when there is none.
    pub model: String,
}

/// An hour's sums. All of them saturate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sums {
    /// Observations.
    pub count: u64,
    /// Those that didn't end [`Status::Ok`].
    pub errors: u64,
    /// Tokens in.
    pub input: u64,
    /// Tokens out.
    pub output: u64,
    /// Of the tokens in, those read from the vendor's cache.
    pub cached_read: u64,
    /// Of the tokens in, those written to the vendor's cache.
    pub cache_write: u64,
    /// Of the tokens out, those spent on reasoning.
    pub reasoning: u64,
    /// Durations, in microseconds.
    pub duration_us: u64,
    /// Observations with a time to first token.
    pub first_token_count: u64,
    /// Their times to first token, in microseconds.
    pub first_token_us: u64,
    /// Cost of those with a known price, exact.
    pub cost: Usd,
}

/// The sums of one hour and key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rollup {
    /// Of what.
    #[serde(flatten)]
    pub key: RollupKey,
    /// How much.
    #[serde(flatten)]
    pub sums: Sums,
}

impl Sums {
    /// One observation's.
    pub(super) fn of(observation: &Observation) -> Self {
        let usage = observation.usage.unwrap_or_default();
        Self {
            count: 1,
            errors: u64::from(observation.status != Status::Ok),
            input: usage.input,
            output: usage.output,
            cached_read: usage.cached_read,
            cache_write: usage.cache_write,
            reasoning: usage.reasoning,
            duration_us: observation.duration_us,
            first_token_count: u64::from(observation.first_token_us.is_some()),
            first_token_us: observation.first_token_us.unwrap_or_default(),
            cost: observation.cost.unwrap_or_default(),
        }
    }

    /// Adds another's.
    pub fn add(&mut self, other: &Self) {
        for (mine, theirs) in [
            (&mut self.count, other.count),
            (&mut self.errors, other.errors),
            (&mut self.input, other.input),
            (&mut self.output, other.output),
            (&mut self.cached_read, other.cached_read),
            (&mut self.cache_write, other.cache_write),
            (&mut self.reasoning, other.reasoning),
            (&mut self.duration_us, other.duration_us),
            (&mut self.first_token_count, other.first_token_count),
            (&mut self.first_token_us, other.first_token_us),
        ] {
            *mine = mine.saturating_add(theirs);
        }
        self.cost += other.cost;
    }
}
