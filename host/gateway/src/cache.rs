//! Answers that are given again: the exact cache, and on top of it the semantic one ([`semantic`]).
//!
//! Off unless the operator switches it on. A request that says the same as an earlier one of the same environment gets
//! the earlier one's answer, without a provider: no attempt, no cost.
//!
//! **The same** ([`key`]): operation, body, route and those headers that go on to the provider. The body is compared as
//! JSON: order of members and spelling of strings don't matter, nor do `user`, `metadata`, `prompt_cache_key`,
//! `safety_identifier`, `stream` and `stream_options`. Nothing is shared between environments, let alone tenants. The body is what
//! guardrails left of it.
//!
//! **What is stored**: whole, successful answers, as the provider gave them; guardrails rule on each answer anew, also
//! when it comes from here. A stream is stored as its chunks once it has ended as it should, and is given again as a
//! stream; a document is given again as a document. Which of the two was asked for is part of what is looked up: a
//! document that is made of a stream, or a stream of a document, would be ours and not the provider's.
//!
//! **Stampedes.** While a call is under way that may be stored, others that ask the same wait for it, at most
//! [`Settings::wait`]. If it comes to nothing they go their own way.
//!
//! **Control** ([`control`]): `Cache-Control: no-cache` (ask the provider, store the answer), `no-store` (neither look nor
//! store), `max-age=S` (nothing older); `x-brokle-cache-ttl: S`. **Told**: `x-brokle-cache: hit|semantic-hit|miss|bypass`,
//! `x-brokle-cache-key`, `x-brokle-cache-score`, `age`.
//!
//! **Bounds.** Each entry, all entries together (the least recently used goes), the time that they are kept, and the
//! size of a request that is looked at. Entries live behind [`Store`]: in the server's memory, or [in Redis](redis), which
//! servers share.

pub(crate) mod control;
mod embedding;
mod flight;
mod key;
mod look;
mod packed;
mod recording;
pub mod redis;
pub mod semantic;
mod store;
pub mod vectors;

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::money::Usd;
use brokle_core::tenancy::Tenant;
use brokle_runtime::exchange::Output;
use brokle_telemetry::metrics::{CacheLabels, CacheOutcome, Metrics};
use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use self::control::Control;
use self::flight::{Flight, Flights, Join};
pub use self::key::Key;
pub(crate) use self::look::{Look, LookAgain};
pub(crate) use self::recording::Recording;
pub use self::recording::Then;
use self::redis::InRedis;
use self::semantic::Semantic;
pub use self::store::{About, Answer, InMemory, Listed, Selection, Store};
use self::vectors::Vectors;
use crate::attempts::Served;
use crate::dialects::native::{self, Native};
use crate::request::Request;
use crate::shared::Gone;

/// What the cache may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long an answer is kept: 1 h.
    pub ttl: Duration,
    /// How long a request may ask for at most: 24 h.
    pub max_ttl: Duration,
    /// Bytes of an answer: 1 MiB.
    pub max_entry_bytes: usize,
    /// Bytes of all answers: 64 MiB.
    pub max_bytes: u64,
    /// How long a call waits for another one that asks the same: 30 s.
    pub wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(3_600),
            max_ttl: Duration::from_secs(86_400),
            max_entry_bytes: 1 << 20,
            max_bytes: 64 << 20,
            wait: Duration::from_secs(30),
        }
    }
}

/// What an answer consists of.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// A document, and its type.
    Whole(Option<HeaderValue>, Bytes),
    /// The data of a stream's events.
    Stream(Vec<Bytes>),
    /// A document in the caller's dialect, as the vendor wrote it.
    NativeWhole(Option<HeaderValue>, Bytes),
    /// A stream in the caller's dialect, as the vendor wrote it, in whole events.
    NativeStream(Option<HeaderValue>, Vec<Bytes>),
}

/// A stored answer.
#[derive(Debug)]
pub struct Entry {
    pub(crate) about: About,
    pub(crate) content: Content,
}

impl Entry {
    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        let content = match &self.content {
            Content::Whole(_, body) | Content::NativeWhole(_, body) => body.len(),
            Content::Stream(pieces) | Content::NativeStream(_, pieces) => {
                pieces.iter().map(|piece| piece.len() + size_of::<Bytes>()).sum()
            }
        };
        content + self.about.model.len() + size_of::<Self>() + 64
    }

    /// Whether it has its caller's dialect.
    pub(crate) fn is_native(&self) -> bool {
        matches!(self.content, Content::NativeWhole(..) | Content::NativeStream(..))
    }

    /// The answer to this request, once more.
    pub(crate) fn serve(&self, request: &Request) -> Served {
        let headers = |kind: &Option<HeaderValue>| {
            let mut headers = HeaderMap::with_capacity(16);
            if let Some(kind) = kind {
                headers.insert(CONTENT_TYPE, kind.clone());
            }
            headers
        };
        let native = |kind, body| {
            let mut headers = headers(kind);
            if let Some(dialect) = &request.dialect {
                dialect.identify(&mut headers);
            }
            Served::Native(Box::new(Native { headers, body }))
        };
        match &self.content {
            Content::Whole(kind, body) => Served::Whole(headers(kind), body.clone()),
            Content::NativeWhole(kind, body) => native(kind, native::Content::Whole(body.clone())),
            Content::NativeStream(kind, pieces) => native(kind, native::Content::Again(pieces.clone())),
            Content::Stream(chunks) => {
                let outputs = chunks.iter().map(|chunk| Output::Chunk(chunk.to_vec())).collect();
                Served::Local { outputs, include_usage: request.include_usage }
            }
        }
    }
}

/// What became of a call's look into the cache, for its headers.
#[derive(Debug, Default, Clone)]
pub(crate) enum CacheNote {
    /// Nobody looked.
    #[default]
    Bypass,
    Miss(Key),
    /// With the entry's age and, if it is another question's, how near that is.
    Hit(Key, Duration, Option<f32>),
}

/// The cache.
#[derive(Debug)]
pub struct Cache {
    settings: Settings,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    store: Arc<dyn Store>,
    /// The same, if servers share it.
    shared: Option<Arc<InRedis>>,
    flights: Arc<Flights>,
    semantic: Option<Semantic>,
}

/// How much of the cache a project has, as `GET /v1/cache/status` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheStatus {
    /// Whether answers are cached at all.
    pub enabled: bool,
    /// Where they are: `memory`, each server its own; `redis`, shared.
    pub store: &'static str,
    /// Whether that answers; while it doesn't, nothing is found or kept.
    pub available: bool,
    /// The project's answers.
    pub entries: u64,
    /// Those of them that questions lead to that mean the same; null if nothing is looked for by meaning.
    pub semantic_entries: Option<u64>,
    /// Bytes that they hold.
    pub bytes: u64,
    /// What each of them cost when it was asked for, together, in dollars.
    pub stored_cost: Usd,
    /// Seconds that an answer is kept.
    pub ttl_seconds: u64,
    /// Bytes of an answer at most.
    pub max_entry_bytes: u64,
    /// Bytes of all projects' answers at most.
    pub max_bytes: u64,
}

impl Cache {
    /// A cache in this server's memory.
    #[must_use]
    pub fn new(settings: Settings, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) -> Self {
        let store = Arc::new(InMemory::new(settings.max_bytes, settings.max_ttl));
        Self { settings, clock, metrics, store, shared: None, flights: Arc::default(), semantic: None }
    }

    /// The same, with answers in Redis.
    ///
    /// # Errors
    /// When the URL is none.
    pub fn in_redis(self, client: ::redis::Client) -> Result<Self, ::redis::RedisError> {
        let (clock, metrics) = (Arc::clone(&self.clock), Arc::clone(&self.metrics));
        let shared = InRedis::connect(client, &self.settings, clock, metrics)?;
        Ok(Self { store: shared.clone(), shared: Some(shared), ..self })
    }

    /// Sends what is to be kept elsewhere, until the end; for the server to run once.
    pub(crate) async fn run(&self, end: impl Future<Output = ()> + Clone + Send) {
        let answers = async {
            if let Some(shared) = &self.shared {
                shared.run(end.clone()).await;
            }
        };
        let vectors = async {
            if let Some(semantic) = &self.semantic {
                semantic.vectors.run(Box::pin(end.clone())).await;
            }
        };
        tokio::join!(answers, vectors);
    }

    /// The same, with questions found that mean the same, by vectors in this server's memory.
    #[must_use]
    pub fn with_semantic(self, settings: semantic::Settings) -> Self {
        let vectors = Arc::new(vectors::InMemory::new(settings.max_entries, settings.max_bytes));
        self.with_vectors(settings, vectors)
    }

    /// The same, by vectors in this store.
    #[must_use]
    pub fn with_vectors(self, settings: semantic::Settings, vectors: Arc<dyn Vectors>) -> Self {
        Self { semantic: Some(Semantic::new(settings, vectors)), ..self }
    }

    /// How much of it a project has; nothing, while its store can't say.
    pub async fn status(&self, tenant: Tenant) -> CacheStatus {
        let now = self.clock.now();
        let listed = self.store.of(tenant).await;
        let available = self.store.is_there() && listed.is_ok();
        let (mut keys, mut bytes, mut stored_cost) = (Vec::new(), 0, Usd::ZERO);
        for (key, listed) in listed.unwrap_or_default() {
            if listed.about.expires_at > now {
                keys.push(key);
                bytes += listed.bytes;
                stored_cost += listed.about.cost.unwrap_or(Usd::ZERO);
            }
        }
        let semantic_entries = match &self.semantic {
            Some(semantic) => Some(semantic.vectors.count(tenant.project, &keys, now).await),
            None => None,
        };
        CacheStatus {
            enabled: true,
            store: self.store.name(),
            available,
            entries: keys.len() as u64,
            semantic_entries,
            bytes,
            stored_cost,
            ttl_seconds: self.settings.ttl.as_secs(),
            max_entry_bytes: self.settings.max_entry_bytes as u64,
            max_bytes: self.settings.max_bytes,
        }
    }

    /// Removes a project's answers, and says how many.
    ///
    /// # Errors
    /// Their store can't be asked. Some may have been removed.
    pub async fn invalidate(&self, tenant: Tenant, selection: &Selection) -> Result<u64, Gone> {
        let now = self.clock.now();
        let listed = self.store.of(tenant).await?.into_iter();
        let taken = listed.filter(|(key, listed)| selection.takes(key, &listed.about, now));
        let keys: Vec<Key> = taken.map(|(key, _)| key).collect();
        if let Some(semantic) = &self.semantic {
            semantic.vectors.remove(tenant.project, &keys);
        }
        self.store.remove(tenant, &keys, now).await
    }

    fn count(&self, outcome: CacheOutcome) {
        self.metrics.cache.get_or_create(&CacheLabels { outcome }).inc();
    }

    async fn get(&self, key: &Key, control: &Control) -> Option<Arc<Entry>> {
        let entry = self.store.get(key).await?;
        let now = self.clock.now();
        let fresh =
            entry.about.expires_at > now && control.max_age.is_none_or(|age| entry.about.age(now) <= age);
        fresh.then_some(entry)
    }

    /// Looks, and waits for others that ask the same.
    async fn look(&self, key: &Key, control: &Control) -> Result<Arc<Entry>, Option<Flight>> {
        if control.no_cache {
            return Err(None);
        }
        if let Some(entry) = self.get(key, control).await {
            return Ok(entry);
        }
        match self.flights.join(*key) {
            Join::First(flight) => {
                // Another one may have landed since.
                match self.get(key, control).await {
                    Some(entry) => Ok(entry),
                    None => Err(Some(flight)),
                }
            }
            Join::Wait(landed) => {
                self.count(CacheOutcome::wait);
                // Late is as good as never: it goes its own way.
                let _ = tokio::time::timeout(self.settings.wait, landed.landed()).await;
                self.get(key, control).await.ok_or(None)
            }
        }
    }
}

#[cfg(test)]
mod tests;
