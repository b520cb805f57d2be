//! API keys: making, listing and revoking them, and the check that every request passes.
//!
//! **The hot path.** [`KeyService::cached`] answers from memory: one SHA-256, one look into a map, one look at the clock.
//! Only a key that isn't there, or whose entry is older than [`KNOWN_TTL`], costs a query; requests that miss the same
//! key at the same time share one.
//!
//! | entry | kept for | at most |
//! |---|---|---|
//! | a key that exists, revoked and expired ones too | [`KNOWN_TTL`], 60 s | 100,000 |
//! | a key that doesn't | [`UNKNOWN_TTL`], 10 s | 10,000 |
//!
//! **Changes.** The database counts changes of keys and projects in one row; the server calls
//! [`KeyService::poll_revision`] each second, and when the count has moved everything cached is dropped. So a revoked key
//! stops within about a second on every server, and at once on the one that revoked it. An answer that was on its way
//! while the count moved is never cached. Expiry is judged by the clock at each request.
//!
//! **Outages.** While the database can't be asked, a cached key goes on serving, however old its entry: a gateway outlives
//! its database. A key that isn't cached gets [`AuthError::Unavailable`], never [`AuthError::Unknown`], since nobody can
//! tell. After a failure nobody asks again for [`RETRY_AFTER`], so that requests don't queue up behind a dead database;
//! the poll, which asks each second, ends the outage. What the poll has dropped stays dropped, also when the database
//! fails right after: a key that may have been revoked isn't served.
//!
//! **Rotation** gives a key another secret. Its id stays, and with it limits, budgets and whatever names the key; the secret that
//! it had goes on until a date, the one before that ends at once.
//!
//! **Last use** is noted in memory and written by [`KeyService::flush_last_used`], which the server calls every 10 s and
//! when it stops. It is no change, so it drops no cache.

mod cache;
mod flights;
mod outage;
mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::{ApiKeyId, OrganizationId};
use brokle_core::random::Random;
use brokle_core::tenancy::Tenant;
use brokle_storage::sql::api_keys::{ApiKey, NewApiKey, Restrictions, Rotation};
use brokle_storage::sql::revisions::Revision;
use brokle_storage::sql::{Database, Page, StorageError};
use chrono::{DateTime, TimeDelta, Utc};

use self::cache::{Cache, Entry, Lookup};
use self::flights::Flights;
use self::outage::Outage;
use self::usage::UsageLog;
use crate::allowed::{Allowed, BadRestriction};
use crate::api_key::{self, KeyHash};
use crate::principal::Principal;
use crate::scopes::{Scopes, UnknownScope};
use crate::secret::Secret;

pub use self::cache::{KNOWN_TTL, UNKNOWN_TTL};
pub use self::outage::RETRY_AFTER;

/// How long the database may take to tell about a key, or whether keys have changed.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a rotated key's former secret goes on, unless it is said otherwise.
pub const DEFAULT_OVERLAP: TimeDelta = TimeDelta::days(1);

/// The longest that a rotated key's former secret goes on.
pub const MAX_OVERLAP: TimeDelta = TimeDelta::days(90);

/// The longest name of a key, in characters.
const MAX_NAME: usize = 100;

/// Why a request isn't let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is no key. 401.
    #[error("no API key was given")]
    Missing,
    /// What was given can't be a key. 401.
    #[error("the API key is malformed")]
    Malformed,
    /// There is no such key. 401.
    #[error("the API key is not known")]
    Unknown,
    /// The key was revoked. 401.
    #[error("the API key was revoked")]
    Revoked,
    /// The key's time is over. 401.
    #[error("the API key has expired")]
    Expired,
    /// The key isn't for this path. 403.
    #[error("the API key isn't for this endpoint")]
    Endpoint,
    /// The key isn't for calls from this address. 403.
    #[error("the API key isn't for calls from this address")]
    Address,
    /// Nobody can tell now: the database is away and the key isn't cached. 503; a retry may help.
    #[error("API keys can't be checked at the moment")]
    Unavailable,
}

/// A key that somebody asks for.
#[derive(Clone, Debug, Default)]
pub struct NewKey {
    /// What people call it: 1 to 100 characters.
    pub name: String,
    /// What it may do: at least one name of [`Scope::ALL`](crate::Scope::ALL). The caller sees to it that nobody hands
    /// out more than he has ([`Scopes::allows_all`]).
    pub scopes: Vec<String>,
    /// From when on it is refused; in the future.
    pub expires_at: Option<DateTime<Utc>>,
    /// The key's own limit, at least 1.
    pub requests_per_minute: Option<u32>,
    /// What it is restricted to ([`Allowed`]).
    pub restrictions: Restrictions,
}

/// Why there is no new key, or no change to one.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A scope isn't known.
    #[error(transparent)]
    UnknownScope(#[from] UnknownScope),
    /// A field has a value that makes no sense.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name in [`NewKey`].
        field: &'static str,
        /// What is expected.
        reason: &'static str,
    },
    /// The database said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// All that is done with API keys. One per server; it is the owner of the caches.
#[derive(Debug)]
pub struct KeyService {
    database: Database,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    cache: Cache,
    flights: Flights,
    outage: Outage,
    usage: UsageLog,
    /// The count that the caches are good for; `i64::MIN` before the first poll.
    revision: AtomicI64,
    lookups: AtomicU64,
}

impl KeyService {
    /// A service with empty caches.
    #[must_use]
    pub fn new(database: Database, clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            database,
            clock,
            random,
            cache: Cache::new(),
            flights: Flights::default(),
            outage: Outage::default(),
            usage: UsageLog::default(),
            revision: AtomicI64::new(i64::MIN),
            lookups: AtomicU64::new(0),
        }
    }

    /// Makes a key for the tenant. The secret is the key itself: show it, and forget it.
    ///
    /// # Errors
    /// [`KeyError::UnknownScope`] and [`KeyError::Invalid`] for what the caller has to mend;
    /// [`StorageError::NotFound`] when the tenant's three ids don't belong together.
    pub async fn create(&self, tenant: Tenant, new: NewKey) -> Result<(ApiKey, Secret), KeyError> {
        let now = self.clock.now();
        let scopes = check(&new, now)?;
        let secret = api_key::generate(self.random.as_ref());
        let id = ApiKeyId::generate(self.clock.as_ref(), self.random.as_ref());
        let stored = NewApiKey {
            id,
            name: new.name,
            key_hash: *api_key::hash(&secret).as_bytes(),
            preview: api_key::preview(&secret),
            scopes: scopes.names(),
            requests_per_minute: new.requests_per_minute,
            restrictions: new.restrictions,
            expires_at: new.expires_at,
            created_at: now,
        };
        let key = self.database.api_keys().create(tenant, &stored).await?;
        Ok((key, secret))
    }

    /// Lists the tenant's keys, revoked and expired ones included.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(&self, tenant: Tenant, page: Page<ApiKeyId>) -> Result<Vec<ApiKey>, StorageError> {
        self.database.api_keys().list(tenant, page).await
    }

    /// Revokes a key for good: here at once, on other servers within about a second. Revoking again changes nothing.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn revoke(&self, organization: OrganizationId, id: ApiKeyId) -> Result<ApiKey, StorageError> {
        let key = self.database.api_keys().revoke(organization, id, self.clock.now()).await?;
        self.cache.drop_all();
        Ok(key)
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn get(&self, organization: OrganizationId, id: ApiKeyId) -> Result<ApiKey, StorageError> {
        self.database.api_keys().get(organization, id).await
    }

    /// Gives a key another secret; the one that it has goes on until `old_until`, and stops at once when that is over.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] for a time further off than [`MAX_OVERLAP`]; [`StorageError::NotFound`] when the organization has
    /// no such key, or it was revoked.
    pub async fn rotate(
        &self,
        organization: OrganizationId,
        id: ApiKeyId,
        old_until: DateTime<Utc>,
    ) -> Result<(ApiKey, Secret), KeyError> {
        let now = self.clock.now();
        if old_until > now + MAX_OVERLAP {
            return Err(KeyError::Invalid {
                field: "old_until",
                reason: "at most 90 days from now are expected",
            });
        }
        let secret = api_key::generate(self.random.as_ref());
        let rotation = Rotation {
            key_hash: *api_key::hash(&secret).as_bytes(),
            preview: api_key::preview(&secret),
            previous_expires_at: old_until.max(now),
        };
        let key = self.database.api_keys().rotate(organization, id, &rotation).await?;
        self.cache.drop_all();
        Ok((key, secret))
    }

    /// Answers from memory, without waiting: `None` means that the database has to be asked
    /// ([`authenticate`](Self::authenticate)).
    pub fn cached(&self, presented: &str) -> Option<Result<Arc<Principal>, AuthError>> {
        match parse(presented) {
            Ok(hash) => self.cached_hash(&hash),
            Err(error) => Some(Err(error)),
        }
    }

    /// Finds out who presents this key.
    ///
    /// # Errors
    /// As [`AuthError`] says.
    pub async fn authenticate(&self, presented: &str) -> Result<Arc<Principal>, AuthError> {
        self.authenticate_hash(parse(presented)?).await
    }

    /// The same by the key's hash: for what goes on for long, and doesn't hold the key meanwhile.
    ///
    /// # Errors
    /// As [`AuthError`] says.
    pub async fn authenticate_hash(&self, hash: KeyHash) -> Result<Arc<Principal>, AuthError> {
        match self.cached_hash(&hash) {
            Some(answer) => answer,
            // In a box: a query's future is 15 KB, which every call would move about for the rare miss.
            None => Box::pin(self.look_up(hash)).await,
        }
    }

    /// Asks whether keys or projects have changed, drops what is cached if so, and tells. The server calls it each
    /// second. It also is what notices that the database is back.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like; the caches stay then.
    pub async fn poll_revision(&self) -> Result<bool, StorageError> {
        match in_time(self.database.revision(Revision::Identity)).await {
            Ok(revision) => {
                let changed = self.revision.swap(revision, Ordering::SeqCst) != revision;
                if changed {
                    self.cache.drop_all();
                }
                self.outage.end();
                Ok(changed)
            }
            Err(error) => {
                self.outage.begin(self.clock.now(), &error);
                Err(error)
            }
        }
    }

    /// Writes when keys were last used, and tells how many it wrote.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like; what isn't written is tried again at the next call.
    pub async fn flush_last_used(&self) -> Result<usize, StorageError> {
        self.usage.flush(&self.database).await
    }

    /// How often the database was asked about a key since the start, for metrics.
    #[must_use]
    pub fn lookups(&self) -> u64 {
        self.lookups.load(Ordering::Relaxed)
    }

    fn cached_hash(&self, hash: &KeyHash) -> Option<Result<Arc<Principal>, AuthError>> {
        let now = self.clock.now();
        match self.cache.get(hash, now) {
            Lookup::Fresh(entry) => Some(entry.judge(now)),
            Lookup::Stale(entry) if self.outage.is_on(now) => Some(entry.judge(now)),
            // While nobody can be asked, the key may have been made since.
            Lookup::Unknown if self.outage.is_on(now) => Some(Err(AuthError::Unavailable)),
            Lookup::Unknown => Some(Err(AuthError::Unknown)),
            Lookup::Absent if self.outage.is_on(now) => Some(Err(AuthError::Unavailable)),
            Lookup::Absent | Lookup::Stale(_) => None,
        }
    }

    async fn look_up(&self, hash: KeyHash) -> Result<Arc<Principal>, AuthError> {
        let generation = self.cache.generation();
        let loaded = self.flights.join((hash, generation), || self.load(hash, generation)).await;
        let now = self.clock.now();
        match loaded {
            Ok(Some(entry)) => entry.judge(now),
            Ok(None) => Err(AuthError::Unknown),
            Err(NoAnswer) => match self.cache.get(&hash, now) {
                Lookup::Fresh(entry) | Lookup::Stale(entry) => entry.judge(now),
                Lookup::Unknown | Lookup::Absent => Err(AuthError::Unavailable),
            },
        }
    }

    /// Asks the database and caches the answer, unless it was overtaken by a change.
    async fn load(&self, hash: KeyHash, generation: u64) -> Result<Option<Arc<Entry>>, NoAnswer> {
        self.lookups.fetch_add(1, Ordering::Relaxed);
        let asked_at = self.clock.now();
        match in_time(self.database.api_keys().find_owner(hash.as_bytes())).await {
            Ok(Some(owner)) => {
                self.outage.end();
                let usage = self.usage.of(owner.key.tenant.organization, owner.key.id);
                let entry = Arc::new(Entry::new(&owner, usage, asked_at, generation));
                self.cache.insert_known(hash, &entry);
                Ok(Some(entry))
            }
            Ok(None) => {
                self.outage.end();
                self.cache.insert_unknown(hash, asked_at, generation);
                Ok(None)
            }
            // This row alone is damaged; the others are as good as ever.
            Err(error @ StorageError::Corrupt(_)) => {
                tracing::error!(error = &error as &dyn std::error::Error, "an API key's row can't be read");
                Err(NoAnswer)
            }
            Err(error) => {
                self.outage.begin(self.clock.now(), &error);
                Err(NoAnswer)
            }
        }
    }
}

/// The database didn't tell; the reason has been logged.
#[derive(Clone, Copy, Debug)]
struct NoAnswer;

/// Doesn't wait for a database that has gone silent: a dead connection may take minutes to be noticed.
async fn in_time<T>(query: impl Future<Output = Result<T, StorageError>>) -> Result<T, StorageError> {
    tokio::time::timeout(LOOKUP_TIMEOUT, query).await.unwrap_or_else(|_| Err(StorageError::timed_out()))
}

fn parse(presented: &str) -> Result<KeyHash, AuthError> {
    if presented.is_empty() {
        return Err(AuthError::Missing);
    }
    api_key::parse(presented).map_err(|_| AuthError::Malformed)
}

fn check(new: &NewKey, now: DateTime<Utc>) -> Result<Scopes, KeyError> {
    let invalid = |field, reason| Err(KeyError::Invalid { field, reason });
    let scopes = Scopes::parse(&new.scopes)?;
    if scopes.is_empty() {
        return invalid("scopes", "at least one is needed");
    }
    if new.name.trim().is_empty() || new.name.chars().count() > MAX_NAME {
        return invalid("name", "1 to 100 characters are expected");
    }
    if new.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return invalid("expires_at", "a time in the future is expected");
    }
    if new.requests_per_minute == Some(0) {
        return invalid("requests_per_minute", "at least 1 is expected");
    }
    if let Err(BadRestriction { field, reason }) = Allowed::parse(&new.restrictions) {
        return invalid(field, reason);
    }
    Ok(scopes)
}
