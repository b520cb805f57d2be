//! Where answers are kept.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::tenancy::Tenant;
use chrono::{DateTime, Utc};
use moka::policy::EvictionPolicy;

use super::{Entry, Key};

/// An answer of a store that may have to ask somebody.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store of answers. One that can't be asked has nothing: a cache may forget.
pub trait Store: Send + Sync + Debug {
    /// The entry, if it is still there; it may be over.
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Entry>>>;
    /// Keeps an entry, without waiting.
    fn put(&self, key: Key, entry: Arc<Entry>);
    /// The project's entries, of all its environments.
    fn of(&self, tenant: Tenant) -> Answer<'_, Vec<(Key, Arc<Entry>)>>;
    /// Removes an entry, and says whether it was there.
    fn remove<'a>(&'a self, key: &'a Key) -> Answer<'a, bool>;
}

/// In this server's memory.
#[derive(Debug)]
pub struct InMemory(moka::sync::Cache<Key, Arc<Entry>>);

impl InMemory {
    /// A store that holds this many bytes; the least recently used goes first.
    #[must_use]
    pub fn new(max_bytes: u64, max_ttl: Duration) -> Self {
        let cache = moka::sync::Cache::builder()
            .max_capacity(max_bytes)
            .weigher(|_: &Key, entry: &Arc<Entry>| u32::try_from(entry.weight()).unwrap_or(u32::MAX))
            .eviction_policy(EvictionPolicy::lru())
            .time_to_live(max_ttl)
            .build();
        Self(cache)
    }
}

impl Store for InMemory {
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Entry>>> {
        Box::pin(async move { self.0.get(key) })
    }

    fn put(&self, key: Key, entry: Arc<Entry>) {
        self.0.insert(key, entry);
    }

    fn of(&self, tenant: Tenant) -> Answer<'_, Vec<(Key, Arc<Entry>)>> {
        Box::pin(async move {
            // What was just put or removed counts.
            self.0.run_pending_tasks();
            let ours = |entry: &Entry| {
                (entry.tenant.organization, entry.tenant.project) == (tenant.organization, tenant.project)
            };
            let entries = self.0.iter().filter(|(_, entry)| ours(entry));
            entries.map(|(key, entry)| (*key, entry)).collect()
        })
    }

    fn remove<'a>(&'a self, key: &'a Key) -> Answer<'a, bool> {
        Box::pin(async move { self.0.remove(key).is_some() })
    }
}

/// Which entries of a project: those that each condition takes. Without any condition, all.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The one with this key, as `x-brokle-cache-key` names it.
    pub key: Option<Key>,
    /// Those of this model, as callers wrote it or as the provider named it.
    pub model: Option<String>,
    /// Those of this route.
    pub route: Option<String>,
    /// Those that are at least so old.
    pub older_than: Option<Duration>,
}

impl Selection {
    pub(super) fn takes(&self, key: &Key, entry: &Entry, now: DateTime<Utc>) -> bool {
        self.key.is_none_or(|wanted| wanted == *key)
            && self.model.as_ref().is_none_or(|model| {
                *model == entry.model || entry.served.as_ref().is_some_and(|served| served == model)
            })
            && self.route.as_ref().is_none_or(|route| {
                *route == entry.model || entry.route.as_ref().is_some_and(|named| named == route)
            })
            && self.older_than.is_none_or(|age| entry.age(now) >= age)
    }
}
