//! An answer on its way into the cache. It lives in the call's meter, and so ends with it.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::money::Usd;
use brokle_core::observation::Observation;
use brokle_core::tenancy::Tenant;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use http::header::HeaderValue;

use super::flight::Flight;
use super::semantic::Meaning;
use super::store::About;
use super::vectors::{Place, Vector, Vectors};
use super::{Cache, Content, Entry, Key};

/// An answer on its way into the cache.
#[derive(Debug)]
pub(crate) struct Recording {
    cache: Arc<Cache>,
    key: Key,
    of: Of,
    chunks: Vec<Bytes>,
    size: usize,
    /// The answer has the caller's dialect, and this type.
    native: Option<Option<HeaderValue>>,
    /// What its question means.
    meaning: Option<Meaning>,
    /// Others wait until this is dropped.
    flight: Option<Flight>,
}

/// Which call's answer it is.
#[derive(Debug)]
pub(super) struct Of {
    pub(super) tenant: Tenant,
    pub(super) model: String,
    pub(super) route: Option<String>,
    pub(super) ttl: Duration,
    /// Who has to have answered, connection and model; none: it makes no difference.
    pub(super) chosen: Option<(Arc<str>, String)>,
}

/// A question that leads to an answer.
#[derive(Debug)]
struct Lead {
    vectors: Arc<dyn Vectors>,
    place: Place,
    vector: Vector,
    until: DateTime<Utc>,
}

/// What is done once an answer is kept. Dropped undone, whoever waits isn't kept waiting.
#[derive(Debug, Default)]
pub struct Then {
    /// The question leads to the answer from then on.
    leads: Option<Lead>,
    /// Whoever waits may look.
    _flight: Option<Flight>,
}

impl Then {
    /// The answer is kept.
    pub(super) fn kept(self) {
        if let Some(Lead { vectors, place, vector, until }) = self.leads {
            vectors.put(place, vector, until);
        }
    }
}

impl Recording {
    pub(super) fn new(cache: Arc<Cache>, key: Key, of: Of, flight: Option<Flight>) -> Self {
        Self { cache, key, of, chunks: Vec::new(), size: 0, native: None, meaning: None, flight }
    }

    /// Questions that mean this find the answer, too.
    pub(super) fn meaning(self, meaning: Option<Meaning>) -> Self {
        Self { meaning, ..self }
    }

    /// Whether an answer of theirs is the one that is to be kept.
    pub(crate) fn is_of(&self, connection: Option<&str>, model: Option<&str>) -> bool {
        let chosen = self.of.chosen.as_ref();
        chosen.is_none_or(|(who, what)| connection == Some(&**who) && model == Some(what.as_str()))
    }

    /// What comes has the caller's dialect.
    pub(crate) fn is_native(&mut self, kind: Option<HeaderValue>) {
        self.native = Some(kind);
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
            let content = match self.native.take() {
                Some(kind) => Content::NativeStream(kind, chunks),
                None => Content::Stream(chunks),
            };
            self.store(content, observation, cost);
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
            let body = Bytes::copy_from_slice(body);
            let content = match self.native {
                // One that says neither how it ended nor that it has: the vendor is at it yet.
                Some(_) if observation.finish_reason.is_none() => return,
                Some(_) => Content::NativeWhole(kind, body),
                None => Content::Whole(kind, body),
            };
            self.store(content, observation, cost);
        }
    }

    fn store(self, content: Content, observation: &Observation, cost: Option<Usd>) {
        let now = self.cache.clock.now();
        let Of { tenant, model, route, ttl, chosen: _ } = self.of;
        let about = About {
            tenant,
            model,
            route,
            provider: observation.provider.as_deref().map(str::to_owned),
            served: observation.model_served.as_deref().map(str::to_owned),
            usage: observation.usage,
            cost,
            stored_at: now,
            expires_at: now + ttl,
        };
        let until = about.expires_at;
        let semantic = self.cache.semantic.as_ref();
        let leads = semantic.zip(self.meaning).map(|(semantic, meaning)| {
            let Meaning { space, vector } = meaning;
            let place = Place { project: tenant.project, space, key: self.key };
            Lead { vectors: Arc::clone(&semantic.vectors), place, vector, until }
        });
        let then = Then { leads, _flight: self.flight };
        self.cache.store.put(self.key, Arc::new(Entry { about, content }), then);
    }
}
