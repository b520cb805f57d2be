//! The cache of answers.

use std::time::Duration;

use brokle_gateway::cache::Settings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Answers that are given again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cache {
    /// Whether requests that say the same get the same answer.
    pub(crate) enabled: bool,
    /// How long an answer is kept, in seconds.
    pub(crate) ttl_seconds: u64,
    /// How long a request may ask for at most, by `x-brokle-cache-ttl`, in seconds.
    pub(crate) max_ttl_seconds: u64,
    /// Bytes of an answer; a larger one isn't kept.
    pub(crate) max_entry_bytes: usize,
    /// Bytes of all answers; the least recently used goes.
    pub(crate) max_bytes: u64,
    /// How long a call waits for another one that asks the same, in milliseconds.
    pub(crate) wait_ms: u64,
}

impl Default for Cache {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            enabled: false,
            ttl_seconds: settings.ttl.as_secs(),
            max_ttl_seconds: settings.max_ttl.as_secs(),
            max_entry_bytes: settings.max_entry_bytes,
            max_bytes: settings.max_bytes,
            wait_ms: u64::try_from(settings.wait.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A year: nobody means more.
const LONGEST: u64 = 31_536_000;

impl Cache {
    /// As the gateway takes it; none if nothing is cached.
    pub(crate) fn settings(&self) -> Option<Settings> {
        self.enabled.then(|| Settings {
            ttl: Duration::from_secs(self.ttl_seconds),
            max_ttl: Duration::from_secs(self.max_ttl_seconds),
            max_entry_bytes: self.max_entry_bytes,
            max_bytes: self.max_bytes,
            wait: Duration::from_millis(self.wait_ms),
        })
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if !(1..=LONGEST).contains(&self.max_ttl_seconds) {
            return Err(format!("cache.max_ttl_seconds: 1 to {LONGEST} is expected"));
        }
        if !(1..=self.max_ttl_seconds).contains(&self.ttl_seconds) {
            return Err("cache.ttl_seconds: 1 to max_ttl_seconds is expected".to_owned());
        }
        if self.max_entry_bytes == 0 || self.max_entry_bytes as u64 > self.max_bytes {
            return Err("cache.max_entry_bytes: 1 to max_bytes is expected".to_owned());
        }
        Ok(())
    }
}
