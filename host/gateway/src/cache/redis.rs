//! Answers that servers share, in Redis 6.2 or later.
//!
//! A look is one round trip of at most [`PATIENCE`], a script that notes the use. What is kept goes there off the call's way:
//! [`InRedis::run`] sends it, at most [`WAITING`] answers wait for that, and what is beyond isn't kept. The least recently used
//! goes when all projects' answers together, as they are stored, would be more than their bound. The keys begin with
//! [`PREFIX`], whose braces keep them in one slot of a cluster. Answers are stored as [`packed`](super::packed) writes them.
//!
//! **Redis gone** ([`crate::shared`]): a look finds nothing and is counted, what was to be kept is dropped, and no call fails.
//! Whoever asks for numbers, or removes, is told.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::tenancy::Tenant;
use brokle_telemetry::metrics::{CacheLabels, CacheOutcome, Metrics};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use redis::{Client, RedisError, Script, ScriptInvocation};
use tokio::sync::mpsc;

use super::recording::Then;
use super::store::{Answer, Listed, Store};
use super::{Entry, Key, Settings, packed};
use crate::shared::{Gone, PATIENCE, PAUSE, Shared};

/// What keys begin with.
const PREFIX: &str = "{brokle:cache}:";
/// Answers that wait to be sent at most.
const WAITING: usize = 256;
/// How many are sent at once.
const AT_ONCE: usize = 8;
/// How many a script removes at most, so that others have their turn.
const REMOVED_AT_ONCE: usize = 500;

/// Answers in Redis.
#[derive(Debug)]
pub struct InRedis {
    redis: Shared,
    scripts: Scripts,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    patience: Duration,
    max_bytes: u64,
    max_entry_bytes: usize,
    outbox: mpsc::Sender<Put>,
    waiting: Mutex<Option<mpsc::Receiver<Put>>>,
}

#[derive(Debug)]
struct Scripts {
    get: Script,
    put: Script,
    remove: Script,
}

/// An answer that is to be kept.
#[derive(Debug)]
struct Put {
    key: Key,
    entry: Arc<Entry>,
    then: Then,
}

macro_rules! script {
    ($name:literal) => {
        Script::new(concat!(include_str!("redis/drop.lua"), include_str!($name)))
    };
}

impl InRedis {
    /// A store that is connected when it is first needed.
    ///
    /// # Errors
    /// When the client's address is none.
    pub fn connect(
        client: Client,
        settings: &Settings,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
    ) -> Result<Arc<Self>, RedisError> {
        let (outbox, waiting) = mpsc::channel(WAITING);
        Ok(Arc::new(Self {
            redis: Shared::connect(client, "cache")?,
            scripts: Scripts {
                get: script!("redis/get.lua"),
                put: script!("redis/put.lua"),
                remove: script!("redis/remove.lua"),
            },
            clock,
            metrics,
            patience: PATIENCE,
            max_bytes: settings.max_bytes,
            max_entry_bytes: settings.max_entry_bytes,
            outbox,
            waiting: Mutex::new(Some(waiting)),
        }))
    }

    /// Sends what is to be kept until the end, and then what waits; for the server to run once.
    pub(crate) async fn run(&self, end: impl Future<Output = ()>) {
        let Some(waiting) = self.waiting.lock().take() else { return };
        let end = Box::pin(end);
        let puts = stream::unfold((waiting, Some(end)), |(mut waiting, mut end)| async move {
            let put = match &mut end {
                None => waiting.recv().await,
                Some(ending) => tokio::select! {
                    put = waiting.recv() => put,
                    () = ending => {
                        // Nothing more is taken, and what is there comes yet.
                        waiting.close();
                        end = None;
                        waiting.recv().await
                    }
                },
            };
            put.map(|put| (put, (waiting, end)))
        });
        puts.for_each_concurrent(AT_ONCE, |put| self.keep(put)).await;
    }

    async fn keep(&self, Put { key, entry, then }: Put) {
        let left = (entry.about.expires_at - self.clock.now()).num_milliseconds();
        let Some((answer, listed)) = packed::write(&entry).filter(|_| left > 0) else { return };
        let mut call = self.of_all(&self.scripts.put);
        let project = entry.about.tenant.project.to_string();
        call.arg(key.to_string()).arg(answer).arg(listed).arg(project).arg(left).arg(self.max_bytes);
        match self.redis.ask(PAUSE, async |redis| call.invoke_async::<i64>(redis).await).await {
            Ok(_) => then.kept(),
            Err(Gone) => tracing::debug!("an answer wasn't kept"),
        }
    }

    /// A script's call, with the keys that each has.
    fn of_all<'a>(&self, script: &'a Script) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        for name in ["used", "ends", "owners", "bytes"] {
            call.key(format!("{PREFIX}{name}"));
        }
        call.arg(PREFIX);
        call
    }
}

impl Store for InRedis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn is_there(&self) -> bool {
        self.redis.is_there()
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Entry>>> {
        Box::pin(async move {
            let mut call = self.of_all(&self.scripts.get);
            call.arg(key.to_string());
            let asked = async |redis: &mut _| call.invoke_async::<Option<Vec<u8>>>(redis).await;
            let Ok(answer) = self.redis.ask(self.patience, asked).await else {
                let outcome = CacheOutcome::store_error;
                self.metrics.cache.get_or_create(&CacheLabels { outcome }).inc();
                return None;
            };
            let entry = packed::read(&answer?, self.max_entry_bytes);
            if entry.is_none() {
                tracing::debug!(%key, "an answer of another version, or a larger one, is in Redis");
            }
            entry.map(Arc::new)
        })
    }

    fn put(&self, key: Key, entry: Arc<Entry>, then: Then) {
        if self.outbox.try_send(Put { key, entry, then }).is_err() {
            tracing::debug!("an answer wasn't kept: too many wait for Redis");
        }
    }

    fn of(&self, tenant: Tenant) -> Answer<'_, Result<Vec<(Key, Listed)>, Gone>> {
        Box::pin(async move {
            let mut call = redis::cmd("HGETALL");
            call.arg(format!("{PREFIX}of:{}", tenant.project));
            let asked = async |redis: &mut _| call.query_async::<Vec<(String, Vec<u8>)>>(redis).await;
            let listed = self.redis.tell(PAUSE, asked).await.map_err(|_| Gone)?;
            let read = |(key, listed): (String, Vec<u8>)| {
                let listed: Listed = serde_json::from_slice(&listed).ok()?;
                let is_ours = listed.about.tenant.organization == tenant.organization;
                is_ours.then_some((key.parse().ok()?, listed))
            };
            Ok(listed.into_iter().filter_map(read).collect())
        })
    }

    fn remove<'a>(
        &'a self,
        tenant: Tenant,
        keys: &'a [Key],
        _now: DateTime<Utc>,
    ) -> Answer<'a, Result<u64, Gone>> {
        Box::pin(async move {
            let mut removed = 0;
            for keys in keys.chunks(REMOVED_AT_ONCE) {
                let mut call = self.of_all(&self.scripts.remove);
                call.arg(tenant.project.to_string());
                for key in keys {
                    call.arg(key.to_string());
                }
                let asked = async |redis: &mut _| call.invoke_async::<u64>(redis).await;
                removed += self.redis.tell(PAUSE, asked).await.map_err(|_| Gone)?;
            }
            Ok(removed)
        })
    }
}

#[cfg(test)]
mod tests;
