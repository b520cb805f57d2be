//! The cache of answers.

use std::time::Duration;

use brokle_gateway::cache::{Settings, semantic};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Storage;

/// Answers that are given again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Cache {
    /// Whether requests that say the same get the same answer.
    pub(crate) enabled: bool,
    /// Where answers are kept.
    pub(crate) store: Store,
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
    /// Answers to questions that mean the same.
    pub(crate) semantic: Semantic,
}

/// Where answers are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Store {
    /// In the server's memory: each server has its own.
    #[default]
    Memory,
    /// In the Redis of `storage.redis_url`, which servers share.
    Redis,
}

/// Where it is kept what questions mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum VectorStore {
    /// In the server's memory.
    #[default]
    Memory,
    /// In the server's memory and a file of the data directory, which gives them back after a restart.
    Disk,
    /// In the ClickHouse of `storage.clickhouse_url`, which servers share.
    ClickHouse,
}

/// Answers to questions that mean the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Semantic {
    /// The embedding model that says what a question means, as callers would name it; without it nothing is looked for by
    /// meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) model: Option<String>,
    /// Where it is kept what questions mean.
    pub(crate) store: VectorStore,
    /// How near a question has to be: more than 0, 1 at most. Routes may say otherwise.
    pub(crate) threshold: f64,
    /// Up to which temperature of a request; one that says nothing is at 1.
    pub(crate) max_temperature: f64,
    /// Whether a question is only found by the user who asked it.
    pub(crate) per_user: bool,
    /// Bytes of a question; a longer one isn't looked for.
    pub(crate) max_text_bytes: usize,
    /// Questions; the oldest go.
    pub(crate) max_entries: usize,
    /// Bytes of what they mean; the oldest go.
    pub(crate) max_bytes: usize,
    /// How long the embedding may take, in milliseconds.
    pub(crate) wait_ms: u64,
}

/// A threshold's denominator.
const WHOLE: f64 = 1e6;

impl Default for Semantic {
    fn default() -> Self {
        let settings = semantic::Settings::default();
        Self {
            model: None,
            store: VectorStore::default(),
            threshold: f64::from(settings.threshold) / WHOLE,
            max_temperature: settings.max_temperature,
            per_user: settings.per_user,
            max_text_bytes: settings.max_text_bytes,
            max_entries: settings.max_entries,
            max_bytes: settings.max_bytes,
            wait_ms: u64::try_from(settings.wait.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

impl Semantic {
    fn settings(&self) -> Option<semantic::Settings> {
        Some(semantic::Settings {
            model: self.model.clone()?,
            threshold: (self.threshold * WHOLE).round() as u32,
            max_temperature: self.max_temperature,
            per_user: self.per_user,
            max_text_bytes: self.max_text_bytes,
            max_entries: self.max_entries,
            max_bytes: self.max_bytes,
            wait: Duration::from_millis(self.wait_ms),
        })
    }

    fn check(&self) -> Result<(), String> {
        let refuse = |key: &str, what: &str| Err(format!("cache.semantic.{key}: {what}"));
        if !(self.threshold > 0.0 && self.threshold <= 1.0) {
            return refuse("threshold", "more than 0 and at most 1 is expected");
        }
        if !(0.0..=2.0).contains(&self.max_temperature) {
            return refuse("max_temperature", "0 to 2 is expected");
        }
        if self.model.as_ref().is_some_and(|model| model.trim().is_empty() || model.len() > 256) {
            return refuse("model", "an embedding model is expected");
        }
        for (key, value) in [
            ("max_text_bytes", self.max_text_bytes),
            ("max_entries", self.max_entries),
            ("max_bytes", self.max_bytes),
        ] {
            if value == 0 {
                return refuse(key, "at least 1 is expected");
            }
        }
        if self.wait_ms == 0 { refuse("wait_ms", "0 would find nothing") } else { Ok(()) }
    }
}

impl Default for Cache {
    fn default() -> Self {
        let settings = Settings::default();
        Self {
            enabled: false,
            store: Store::default(),
            ttl_seconds: settings.ttl.as_secs(),
            max_ttl_seconds: settings.max_ttl.as_secs(),
            max_entry_bytes: settings.max_entry_bytes,
            max_bytes: settings.max_bytes,
            wait_ms: u64::try_from(settings.wait.as_millis()).unwrap_or(u64::MAX),
            semantic: Semantic::default(),
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

    /// What is looked for by meaning; none if nothing is.
    pub(crate) fn semantic(&self) -> Option<semantic::Settings> {
        self.semantic.settings()
    }

    pub(super) fn check(&self, storage: &Storage) -> Result<(), String> {
        self.semantic.check()?;
        if self.semantic.store == VectorStore::ClickHouse && storage.clickhouse_url.is_none() {
            return Err("cache.semantic.store: clickhouse needs storage.clickhouse_url".to_owned());
        }
        if self.store == Store::Redis && storage.redis_url.is_none() {
            return Err("cache.store: redis needs storage.redis_url".to_owned());
        }
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
