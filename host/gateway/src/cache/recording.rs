//! An answer on its way into the cache. It lives in the call's meter, and so ends with it.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::money::Usd;
use brokle_core::observation::Observation;
use brokle_core::tenancy::Tenant;
use bytes::Bytes;
use http::header::HeaderValue;

use super::semantic::Meaning;
use super::{Cache, Content, Entry, Flight, Key};

/// An answer on its way into the cache.
#[derive(Debug)]
pub(crate) struct Recording {
    cache: Arc<Cache>,
    key: Key,
    tenant: Tenant,
    model: String,
    route: Option<String>,
    ttl: Duration,
    chunks: Vec<Bytes>,
    size: usize,
    /// What its question means.
    meaning: Option<Meaning>,
    /// Others wait until this is dropped.
    _flight: Option<Flight>,
}

impl Recording {
    pub(super) fn new(
        cache: Arc<Cache>,
        key: Key,
        tenant: Tenant,
        model: String,
        route: Option<String>,
        ttl: Duration,
        flight: Option<Flight>,
    ) -> Self {
        let chunks = Vec::new();
        Self { cache, key, tenant, model, route, ttl, chunks, size: 0, meaning: None, _flight: flight }
    }

    /// Questions that mean this find the answer, too.
    pub(super) fn of(self, meaning: Option<Meaning>) -> Self {
        Self { meaning, ..self }
    }

    /// A stream's next chunk. False when it has become too large to be kept.
    pub(crate) fn chunk(&mut self, data: &[u8]) -> bool {
        self.size += data.len();
        let fits = self.size <= self.cache.settings.max_entry_bytes;
        if fits {
            self.chunks.push(Bytes::copy_from_slice(data));
        }
        fits
    }

    /// The stream has ended as it should.
    pub(crate) fn store_stream(mut self, observation: &Observation, cost: Option<Usd>) {
        let chunks = std::mem::take(&mut self.chunks);
        // A stream whose end nobody saw, since it was only relayed, has none.
        if !chunks.is_empty() && observation.finish_reason.is_some() {
            self.store(Content::Stream(chunks), observation, cost);
        }
    }

    /// The document is there.
    pub(crate) fn store_whole(
        self,
        kind: Option<HeaderValue>,
        body: &Bytes,
        observation: &Observation,
        cost: Option<Usd>,
    ) {
        if body.len() <= self.cache.settings.max_entry_bytes {
            // A copy: the bytes may be a slice of something larger.
            self.store(Content::Whole(kind, Bytes::copy_from_slice(body)), observation, cost);
        }
    }

    fn store(self, content: Content, observation: &Observation, cost: Option<Usd>) {
        let now = self.cache.clock.now();
        let entry = Entry {
            tenant: self.tenant,
            model: self.model,
            route: self.route,
            content,
            provider: observation.provider.clone(),
            served: observation.model_served.as_deref().map(str::to_owned),
            usage: observation.usage,
            cost,
            stored_at: now,
            expires_at: now + self.ttl,
        };
        let until = entry.expires_at;
        // The flight lands after it: whoever waits finds it.
        self.cache.store.put(self.key, Arc::new(entry));
        if let Some((semantic, meaning)) = self.cache.semantic.as_ref().zip(self.meaning) {
            semantic.vectors.put(meaning.space, self.key, meaning.vector, until);
        }
    }
}
