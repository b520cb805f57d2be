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
//! size of a request that is looked at. Entries live in the server's memory, behind [`Store`].

pub(crate) mod control;
mod embedding;
mod flight;
mod key;
mod recording;
pub mod semantic;
mod store;
pub mod vectors;

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::money::Usd;
use brokle_core::tenancy::Tenant;
use brokle_core::usage::Usage;
use brokle_identity::Principal;
use brokle_runtime::exchange::Output;
use brokle_telemetry::metrics::{CacheLabels, CacheOutcome, Metrics};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Serialize;

use self::control::Control;
use self::flight::{Flight, Flights, Join};
pub use self::key::Key;
pub(crate) use self::recording::Recording;
use self::semantic::{Meaning, Question, Semantic};
pub use self::store::{Answer, InMemory, Selection, Store};
use crate::attempts::Served;
use crate::gateway::Gateway;
use crate::pipeline::Stage;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::routing::conditions::Said;

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
}

/// A stored answer.
#[derive(Debug)]
pub struct Entry {
    pub(crate) tenant: Tenant,
    /// As the caller wrote it.
    pub(crate) model: String,
    pub(crate) route: Option<String>,
    pub(crate) content: Content,
    pub(crate) provider: Option<Arc<str>>,
    pub(crate) served: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) cost: Option<Usd>,
    pub(crate) stored_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
}

impl Entry {
    /// About how many bytes it holds.
    pub(crate) fn weight(&self) -> usize {
        let content = match &self.content {
            Content::Whole(_, body) => body.len(),
            Content::Stream(chunks) => chunks.iter().map(|chunk| chunk.len() + size_of::<Bytes>()).sum(),
        };
        content + self.model.len() + size_of::<Self>() + 64
    }

    fn age(&self, now: DateTime<Utc>) -> Duration {
        (now - self.stored_at).to_std().unwrap_or_default()
    }

    /// The answer, once more.
    pub(crate) fn serve(&self, include_usage: bool) -> Served {
        match &self.content {
            Content::Whole(kind, body) => {
                let mut headers = HeaderMap::with_capacity(16);
                if let Some(kind) = kind {
                    headers.insert(CONTENT_TYPE, kind.clone());
                }
                Served::Whole(headers, body.clone())
            }
            Content::Stream(chunks) => {
                let outputs = chunks.iter().map(|chunk| Output::Chunk(chunk.to_vec())).collect();
                Served::Local { outputs, include_usage }
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
    flights: Arc<Flights>,
    semantic: Option<Semantic>,
}

/// How much of the cache a project has, as `GET /v1/cache/status` tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CacheStatus {
    /// Whether answers are cached at all.
    pub enabled: bool,
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
        Self { settings, clock, metrics, store, flights: Arc::default(), semantic: None }
    }

    /// The same, with questions found that mean the same.
    #[must_use]
    pub fn with_semantic(self, settings: semantic::Settings) -> Self {
        Self { semantic: Some(Semantic::new(settings)), ..self }
    }

    /// How much of it a project has.
    pub async fn status(&self, tenant: Tenant) -> CacheStatus {
        let now = self.clock.now();
        let (mut keys, mut bytes, mut stored_cost) = (Vec::new(), 0, Usd::ZERO);
        for (key, entry) in self.store.of(tenant).await {
            if entry.expires_at > now {
                keys.push(key);
                bytes += entry.weight() as u64;
                stored_cost += entry.cost.unwrap_or(Usd::ZERO);
            }
        }
        CacheStatus {
            enabled: true,
            entries: keys.len() as u64,
            semantic_entries: self.semantic.as_ref().map(|semantic| semantic.vectors.count(&keys)),
            bytes,
            stored_cost,
            ttl_seconds: self.settings.ttl.as_secs(),
            max_entry_bytes: self.settings.max_entry_bytes as u64,
            max_bytes: self.settings.max_bytes,
        }
    }

    /// Removes a project's answers, and says how many.
    pub async fn invalidate(&self, tenant: Tenant, selection: &Selection) -> u64 {
        let now = self.clock.now();
        let mut removed = 0;
        for (key, entry) in self.store.of(tenant).await {
            if !selection.takes(&key, &entry, now) {
                continue;
            }
            if let Some(semantic) = &self.semantic {
                semantic.vectors.remove(&key);
            }
            // One that is over isn't there any more, for whoever counts.
            if self.store.remove(&key).await && entry.expires_at > now {
                removed += 1;
            }
        }
        removed
    }

    fn count(&self, outcome: CacheOutcome) {
        self.metrics.cache.get_or_create(&CacheLabels { outcome }).inc();
    }

    async fn get(&self, key: &Key, control: &Control) -> Option<Arc<Entry>> {
        let entry = self.store.get(key).await?;
        let now = self.clock.now();
        let fresh = entry.expires_at > now && control.max_age.is_none_or(|age| entry.age(now) <= age);
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

/// The stage between what guardrails say of a request and its routing.
pub(crate) struct Look;

type Call<'a> = Stage<'a, (Arc<Principal>, Request)>;

impl Look {
    pub(crate) async fn run<'a>(gateway: &Gateway, call: Call<'a>) -> Result<Call<'a>, Refusal> {
        let Some(cache) = &gateway.parts.cache else { return Ok(call) };
        Box::pin(Self::look(gateway, cache, call)).await
    }

    async fn look<'a>(
        gateway: &Gateway,
        cache: &Arc<Cache>,
        mut call: Call<'a>,
    ) -> Result<Call<'a>, Refusal> {
        let control = Control::read(call.incoming.headers, &cache.settings)?;
        let (principal, request) = &call.known;
        // The key is one of the canonical form, which a call in a dialect may never have.
        let rules = request.rules();
        if control.no_store
            || rules.is_some_and(|rules| rules.uncached)
            || request.dialect.is_some()
            || request.form.is_some()
        {
            cache.count(CacheOutcome::bypass);
            return Ok(call);
        }
        let said = Said { principal, headers: call.incoming.headers, request };
        let Some(key) = key::of(said) else {
            cache.count(CacheOutcome::bypass);
            return Ok(call);
        };
        let flight = match cache.look(&key, &control).await {
            Ok(entry) => {
                cache.count(CacheOutcome::hit);
                Self::found(cache, &mut call, key, entry, None);
                return Ok(call);
            }
            Err(flight) => flight,
        };
        let said = Said { principal: &call.known.0, headers: call.incoming.headers, request: &call.known.1 };
        let semantic = cache.semantic.as_ref();
        let meaning = match semantic.and_then(|one| Question::of(said, &one.settings, &control)) {
            None => None,
            // In a box of its own: it is large, and most calls get by without it.
            Some(question) => {
                match Box::pin(Self::ask(gateway, cache, &mut call, key, question, &control)).await {
                    Ok((key, entry, score)) => {
                        cache.count(CacheOutcome::semantic_hit);
                        Self::found(cache, &mut call, key, entry, Some(score));
                        return Ok(call);
                    }
                    Err(meaning) => meaning,
                }
            }
        };
        cache.count(CacheOutcome::miss);
        call.told.cache = CacheNote::Miss(key);
        let (principal, request) = &call.known;
        let route = request.route.as_ref().map(|route| route.name.clone());
        let model = request.model.clone();
        let by_route = request.rules().and_then(|rules| rules.cache_ttl);
        let by_route = by_route.map(|ttl| ttl.min(cache.settings.max_ttl));
        let ttl = control.ttl.or(by_route).unwrap_or(cache.settings.ttl);
        let recording = Recording::new(Arc::clone(cache), key, principal.tenant, model, route, ttl, flight);
        call.meter.record(recording.of(meaning));
        Ok(call)
    }

    /// The answer is known.
    fn found(cache: &Cache, call: &mut Call<'_>, key: Key, entry: Arc<Entry>, score: Option<f32>) {
        let age = entry.age(cache.clock.now());
        call.told.cache = CacheNote::Hit(key, age, score);
        call.told.provider = entry.provider.clone();
        call.told.model = entry.served.clone();
        call.meter.cached(&entry, score);
        call.known.1.cached = Some(entry);
    }

    /// Looks for a question that means the same. `key` is the request's own.
    ///
    /// # Errors
    /// There is none; what the question means, if that is known.
    async fn ask(
        gateway: &Gateway,
        cache: &Cache,
        call: &mut Call<'_>,
        key: Key,
        question: Question,
        control: &Control,
    ) -> Result<(Key, Arc<Entry>, f32), Option<Meaning>> {
        let Some(semantic) = &cache.semantic else { return Err(None) };
        let vector = match semantic.meanings.get(&key) {
            Some(vector) => vector,
            None => match embedding::of(gateway, call, semantic, &question.text).await {
                Ok(vector) => {
                    semantic.meanings.insert(key, vector.clone());
                    vector
                }
                Err(refusal) => {
                    cache.count(CacheOutcome::semantic_error);
                    let model = &semantic.settings.model;
                    tracing::info!(code = %refusal.code, model, "the cache can't tell what a question means");
                    return Err(None);
                }
            },
        };
        let near = match control.no_cache {
            true => None,
            false => semantic.vectors.nearest(question.space, &vector, cache.clock.now()).await,
        };
        if let Some((key, score)) = near.filter(|(_, score)| *score >= question.threshold) {
            match cache.get(&key, control).await {
                Some(entry) => return Ok((key, entry, score)),
                // Its answer has gone, or is older than the caller wants it.
                None if cache.store.get(&key).await.is_none() => semantic.vectors.remove(&key),
                None => {}
            }
        }
        Err(Some(Meaning { space: question.space, vector }))
    }
}

#[cfg(test)]
mod tests;
