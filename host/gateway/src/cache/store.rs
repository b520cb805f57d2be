//! Where answers are kept.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::money::Usd;
use brokle_core::tenancy::Tenant;
use brokle_core::usage::Usage;
use chrono::{DateTime, Utc};
use moka::policy::EvictionPolicy;
use serde::{Deserialize, Serialize};

use super::recording::Then;
use super::{Entry, Key};
use crate::shared::Gone;

/// An answer of a store that may have to ask somebody.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A store of answers. One that can't be asked has nothing: a cache may forget.
pub trait Store: Send + Sync + Debug {
    /// What it is called: `memory`, `redis`.
    fn name(&self) -> &'static str;
    /// Whether it can be asked, as far as that is known.
    fn is_there(&self) -> bool;
    /// The entry, if it is still there; it may be over.
    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Entry>>>;
    /// Keeps an entry, without waiting, and does what is to be done then.
    fn put(&self, key: Key, entry: Arc<Entry>, then: Then);
    /// The project's entries, of all its environments. Some may be over.
    ///
    /// # Errors
    /// It can't be asked.
    fn of(&self, tenant: Tenant) -> Answer<'_, Result<Vec<(Key, Listed)>, Gone>>;
    /// Removes entries of the project, and says how many there were that weren't over.
    ///
    /// # Errors
    /// It can't be asked; some may have been removed.
    fn remove<'a>(
        &'a self,
        tenant: Tenant,
        keys: &'a [Key],
        now: DateTime<Utc>,
    ) -> Answer<'a, Result<u64, Gone>>;
}

/// What is known of an answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct About {
    pub(crate) tenant: Tenant,
    /// As the caller wrote it.
    pub(crate) model: String,
    pub(crate) route: Option<String>,
    pub(crate) provider: Option<String>,
    pub(crate) served: Option<String>,
    pub(crate) usage: Option<Usage>,
    pub(crate) cost: Option<Usd>,
    pub(crate) stored_at: DateTime<Utc>,
    pub(crate) expires_at: DateTime<Utc>,
}

impl About {
    pub(super) fn age(&self, now: DateTime<Utc>) -> Duration {
        (now - self.stored_at).to_std().unwrap_or_default()
    }
}

/// An answer without what it says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    pub(crate) about: About,
    /// About how many bytes it takes where it is kept.
    pub(crate) bytes: u64,
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

fn is_of(tenant: Tenant, entry: &Entry) -> bool {
    let Tenant { organization, project, .. } = entry.about.tenant;
    (organization, project) == (tenant.organization, tenant.project)
}

impl Store for InMemory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn is_there(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, key: &'a Key) -> Answer<'a, Option<Arc<Entry>>> {
        Box::pin(async move { self.0.get(key) })
    }

    fn put(&self, key: Key, entry: Arc<Entry>, then: Then) {
        self.0.insert(key, entry);
        then.kept();
    }

    fn of(&self, tenant: Tenant) -> Answer<'_, Result<Vec<(Key, Listed)>, Gone>> {
        Box::pin(async move {
            // What was just put or removed counts.
            self.0.run_pending_tasks();
            let listed = |entry: &Entry| Listed { about: entry.about.clone(), bytes: entry.weight() as u64 };
            let entries = self.0.iter().filter(|(_, entry)| is_of(tenant, entry));
            Ok(entries.map(|(key, entry)| (*key, listed(&entry))).collect())
        })
    }

    fn remove<'a>(
        &'a self,
        tenant: Tenant,
        keys: &'a [Key],
        now: DateTime<Utc>,
    ) -> Answer<'a, Result<u64, Gone>> {
        Box::pin(async move {
            let ours = keys.iter().filter(|key| self.0.get(*key).is_some_and(|entry| is_of(tenant, &entry)));
            let removed = ours.filter_map(|key| self.0.remove(key));
            Ok(removed.filter(|entry| entry.about.expires_at > now).count() as u64)
        })
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
    pub(super) fn takes(&self, key: &Key, about: &About, now: DateTime<Utc>) -> bool {
        self.key.is_none_or(|wanted| wanted == *key)
            && self.model.as_ref().is_none_or(|model| {
                *model == about.model || about.served.as_ref().is_some_and(|served| served == model)
            })
            && self.route.as_ref().is_none_or(|route| {
                *route == about.model || about.route.as_ref().is_some_and(|named| named == route)
            })
            && self.older_than.is_none_or(|age| about.age(now) >= age)
    }
}
