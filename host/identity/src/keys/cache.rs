//! What is known of keys, in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use brokle_storage::sql::api_keys::KeyOwner;
use chrono::{DateTime, TimeDelta, Utc};

use super::AuthError;
use super::usage::Usage;
use crate::api_key::KeyHash;
use crate::principal::Principal;

/// How long a key that exists is believed without asking again.
pub const KNOWN_TTL: TimeDelta = TimeDelta::seconds(60);

/// How long a key that doesn't exist is believed not to.
pub const UNKNOWN_TTL: TimeDelta = TimeDelta::seconds(10);

const MAX_KNOWN: u64 = 100_000;
const MAX_UNKNOWN: u64 = 10_000;

/// A key that exists.
#[derive(Debug)]
pub(super) struct Entry {
    principal: Arc<Principal>,
    is_revoked: bool,
    usage: Arc<Usage>,
    asked_at: DateTime<Utc>,
    generation: u64,
}

impl Entry {
    pub(super) fn new(owner: &KeyOwner, usage: Arc<Usage>, asked_at: DateTime<Utc>, generation: u64) -> Self {
        let principal = Arc::new(Principal::from(owner));
        Self { principal, is_revoked: owner.key.revoked_at.is_some(), usage, asked_at, generation }
    }

    /// Lets the key's holder in, or not, at this very moment; notes the use if so.
    pub(super) fn judge(&self, now: DateTime<Utc>) -> Result<Arc<Principal>, AuthError> {
        if self.is_revoked {
            return Err(AuthError::Revoked);
        }
        if self.principal.expires_at.is_some_and(|expires_at| expires_at <= now) {
            return Err(AuthError::Expired);
        }
        self.usage.note(now);
        Ok(Arc::clone(&self.principal))
    }
}

/// A key that didn't exist when the database was asked.
#[derive(Clone, Copy, Debug)]
struct Nothing {
    asked_at: DateTime<Utc>,
    generation: u64,
}

/// What memory has on a key.
pub(super) enum Lookup {
    /// It exists, says an answer that is young enough.
    Fresh(Arc<Entry>),
    /// It existed more than [`KNOWN_TTL`] ago.
    Stale(Arc<Entry>),
    /// It doesn't exist.
    Unknown,
    /// Nothing.
    Absent,
}

/// Two maps with an upper size, and a generation: an entry counts only in the generation that its query began in. That
/// way an answer from before a change can't slip in after everything was dropped because of that change.
///
/// Ages are measured with the injected clock, not by the maps, which would throw a stale entry away that an outage needs.
#[derive(Debug)]
pub(super) struct Cache {
    known: moka::sync::Cache<KeyHash, Arc<Entry>>,
    unknown: moka::sync::Cache<KeyHash, Nothing>,
    generation: AtomicU64,
}

impl Cache {
    pub(super) fn new() -> Self {
        Self {
            known: moka::sync::Cache::new(MAX_KNOWN),
            unknown: moka::sync::Cache::new(MAX_UNKNOWN),
            generation: AtomicU64::new(0),
        }
    }

    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// Forgets everything, and whatever is on its way.
    pub(super) fn drop_all(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.known.invalidate_all();
        self.unknown.invalidate_all();
    }

    pub(super) fn get(&self, hash: &KeyHash, now: DateTime<Utc>) -> Lookup {
        let generation = self.generation();
        if let Some(entry) = self.known.get(hash).filter(|entry| entry.generation == generation) {
            return if now - entry.asked_at < KNOWN_TTL {
                Lookup::Fresh(entry)
            } else {
                Lookup::Stale(entry)
            };
        }
        match self.unknown.get(hash) {
            Some(nothing) if nothing.generation == generation && now - nothing.asked_at < UNKNOWN_TTL => {
                Lookup::Unknown
            }
            _ => Lookup::Absent,
        }
    }

    pub(super) fn insert_known(&self, hash: KeyHash, entry: &Arc<Entry>) {
        if entry.generation == self.generation() {
            self.known.insert(hash, Arc::clone(entry));
        }
    }

    pub(super) fn insert_unknown(&self, hash: KeyHash, asked_at: DateTime<Utc>, generation: u64) {
        if generation == self.generation() {
            // A key whose row is gone is not served on, not even in an outage.
            self.known.invalidate(&hash);
            self.unknown.insert(hash, Nothing { asked_at, generation });
        }
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::clock::SystemClock;
    use brokle_core::ids::{ApiKeyId, EnvironmentId, OrganizationId, ProjectId};
    use brokle_core::random::SystemRandom;
    use brokle_core::tenancy::{Capture, Tenant};
    use brokle_storage::sql::api_keys::ApiKey;

    use super::super::usage::UsageLog;
    use super::*;
    use crate::api_key;

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_772_359_200, 0).unwrap()
    }

    fn entry(generation: u64) -> Arc<Entry> {
        let tenant = Tenant {
            organization: OrganizationId::generate(&SystemClock, &SystemRandom),
            project: ProjectId::generate(&SystemClock, &SystemRandom),
            environment: EnvironmentId::generate(&SystemClock, &SystemRandom),
        };
        let key = ApiKey {
            id: ApiKeyId::generate(&SystemClock, &SystemRandom),
            tenant,
            name: String::new(),
            preview: String::new(),
            scopes: Vec::new(),
            requests_per_minute: None,
            restrictions: Default::default(),
            previous_expires_at: None,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
            created_at: now(),
        };
        let usage = UsageLog::default().of(tenant.organization, key.id);
        Arc::new(Entry::new(
            &KeyOwner { key, capture: Capture::Off, valid_until: None },
            usage,
            now(),
            generation,
        ))
    }

    fn hash() -> KeyHash {
        api_key::hash(&api_key::generate(&SystemRandom))
    }

    #[test]
    fn an_answer_from_before_a_change_is_not_kept() {
        let (cache, known, unknown) = (Cache::new(), hash(), hash());
        let generation = cache.generation();
        // The queries are under way when everything is dropped; their answers come after that.
        cache.drop_all();
        cache.insert_known(known, &entry(generation));
        cache.insert_unknown(unknown, now(), generation);
        assert!(matches!(cache.get(&known, now()), Lookup::Absent));
        assert!(matches!(cache.get(&unknown, now()), Lookup::Absent));
    }

    /// The worst moment for a change: after `insert_known` has compared, before it inserts.
    #[test]
    fn an_answer_that_slips_in_behind_a_change_does_not_count() {
        let (cache, known) = (Cache::new(), hash());
        let overtaken = entry(cache.generation());
        cache.drop_all();
        cache.known.insert(known, overtaken);
        assert!(matches!(cache.get(&known, now()), Lookup::Absent));
    }

    #[test]
    fn a_key_whose_row_is_gone_is_not_served_on() {
        let (cache, hash) = (Cache::new(), hash());
        cache.insert_known(hash, &entry(cache.generation()));
        assert!(matches!(cache.get(&hash, now() + KNOWN_TTL), Lookup::Stale(_)));
        cache.insert_unknown(hash, now() + KNOWN_TTL, cache.generation());
        assert!(matches!(cache.get(&hash, now() + KNOWN_TTL), Lookup::Unknown));
        assert!(matches!(cache.get(&hash, now() + KNOWN_TTL + UNKNOWN_TTL), Lookup::Absent));
    }
}
