//! Keys and values in this process: for tests, and for a gateway that needn't remember over a restart.

use std::collections::{BTreeMap, HashMap};

use brokle_core::kv::{KvEntry, KvError, KvFuture, KvPage, KvScope, KvStore, KvWrite};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;

/// A store that is gone with the process.
#[derive(Debug, Default)]
pub struct MemoryKv {
    scopes: Mutex<HashMap<KvScope, Scope>>,
}

#[derive(Debug, Default)]
struct Scope {
    entries: BTreeMap<String, KvEntry>,
    bytes: u64,
    revision: u64,
}

impl Scope {
    fn remove(&mut self, key: &str) -> Option<KvEntry> {
        let entry = self.entries.remove(key)?;
        self.bytes = self.bytes.saturating_sub(size(key, &entry.value));
        Some(entry)
    }

    /// Takes out what is gone. Only writers pay for it.
    fn expire(&mut self, now: DateTime<Utc>) {
        let gone: Vec<String> =
            self.entries.iter().filter(|(_, entry)| !lives(entry, now)).map(|(key, _)| key.clone()).collect();
        for key in gone {
            self.remove(&key);
        }
    }

    fn set(&mut self, write: &KvWrite<'_>, now: DateTime<Utc>) -> Result<u64, KvError> {
        self.expire(now);
        let old = self.entries.get(write.key);
        let current = old.map(|entry| entry.revision);
        if !write.expected.fits(current) {
            return Err(KvError::Conflict(current));
        }
        let freed = old.map_or(0, |entry| size(write.key, &entry.value));
        if old.is_none() && self.entries.len() as u64 >= write.quota.max_keys {
            return Err(KvError::TooManyKeys(write.quota.max_keys));
        }
        let bytes = self.bytes - freed + size(write.key, write.value);
        if bytes > write.quota.max_bytes {
            return Err(KvError::TooManyBytes(write.quota.max_bytes));
        }
        self.bytes = bytes;
        self.revision += 1;
        let entry =
            KvEntry { value: write.value.to_vec(), revision: self.revision, expires_at: write.expires_at };
        self.entries.insert(write.key.to_owned(), entry);
        Ok(self.revision)
    }
}

fn size(key: &str, value: &[u8]) -> u64 {
    (key.len() + value.len()) as u64
}

fn lives(entry: &KvEntry, now: DateTime<Utc>) -> bool {
    entry.expires_at.is_none_or(|at| now < at)
}

impl KvStore for MemoryKv {
    fn get<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
        now: DateTime<Utc>,
    ) -> KvFuture<'a, Option<KvEntry>> {
        Box::pin(async move {
            let scopes = self.scopes.lock();
            let entry = scopes.get(scope).and_then(|scope| scope.entries.get(key));
            Ok(entry.filter(|entry| lives(entry, now)).cloned())
        })
    }

    fn set<'a>(&'a self, scope: &'a KvScope, write: KvWrite<'a>, now: DateTime<Utc>) -> KvFuture<'a, u64> {
        Box::pin(async move { self.scopes.lock().entry(scope.clone()).or_default().set(&write, now) })
    }

    fn delete<'a>(&'a self, scope: &'a KvScope, key: &'a str, now: DateTime<Utc>) -> KvFuture<'a, bool> {
        Box::pin(async move {
            let mut scopes = self.scopes.lock();
            let entry = scopes.get_mut(scope).and_then(|scope| scope.remove(key));
            Ok(entry.is_some_and(|entry| lives(&entry, now)))
        })
    }

    fn list<'a>(
        &'a self,
        scope: &'a KvScope,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> KvFuture<'a, KvPage> {
        Box::pin(async move {
            let scopes = self.scopes.lock();
            let Some(scope) = scopes.get(scope) else { return Ok(KvPage::default()) };
            let mut keys = scope
                .entries
                .range(prefix.to_owned()..)
                .take_while(|(key, _)| key.starts_with(prefix))
                .filter(|(key, entry)| after.is_none_or(|after| key.as_str() > after) && lives(entry, now))
                .map(|(key, _)| key.clone());
            let page: Vec<String> = keys.by_ref().take(limit as usize).collect();
            Ok(KvPage { keys: page, more: keys.next().is_some() })
        })
    }
}
