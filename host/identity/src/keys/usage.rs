//! When keys were last used: noted in memory on every request, written now and then.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use brokle_core::ids::{ApiKeyId, OrganizationId};
use brokle_storage::sql::{Database, StorageError};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;

/// One key's last use, in microseconds since the epoch; 0 is never.
#[derive(Debug)]
pub(super) struct Usage {
    organization: OrganizationId,
    used: AtomicI64,
    written: AtomicI64,
}

impl Usage {
    /// The key was used.
    pub(super) fn note(&self, now: DateTime<Utc>) {
        self.used.fetch_max(now.timestamp_micros(), Ordering::Relaxed);
    }

    /// The last use, if it isn't written yet.
    fn unwritten(&self) -> Option<i64> {
        let used = self.used.load(Ordering::Relaxed);
        (used > self.written.load(Ordering::Relaxed)).then_some(used)
    }
}

/// The last uses of all keys that were asked for. It outlives the caches' entries, so that dropping those loses nothing.
#[derive(Debug, Default)]
pub(super) struct UsageLog(Mutex<BTreeMap<ApiKeyId, Arc<Usage>>>);

impl UsageLog {
    /// Where this key's uses are noted.
    pub(super) fn of(&self, organization: OrganizationId, key: ApiKeyId) -> Arc<Usage> {
        let fresh = || Arc::new(Usage { organization, used: AtomicI64::new(0), written: AtomicI64::new(0) });
        Arc::clone(self.0.lock().entry(key).or_insert_with(fresh))
    }

    /// Writes what isn't written yet, a transaction per organization, and tells how many keys that were.
    pub(super) async fn flush(&self, database: &Database) -> Result<usize, StorageError> {
        let mut written = 0;
        for (organization, batch) in self.unwritten() {
            let times = batch
                .iter()
                .filter_map(|(key, (_, used))| Some((*key, DateTime::from_timestamp_micros(*used)?)));
            database.api_keys().touch(organization, &times.collect()).await?;
            for (usage, used) in batch.values() {
                usage.written.fetch_max(*used, Ordering::Relaxed);
            }
            written += batch.len();
        }
        // What nobody holds any more and is written can be forgotten; `of` runs under the same lock.
        self.0.lock().retain(|_, usage| Arc::strong_count(usage) > 1 || usage.unwritten().is_some());
        Ok(written)
    }

    fn unwritten(&self) -> BTreeMap<OrganizationId, BTreeMap<ApiKeyId, (Arc<Usage>, i64)>> {
        let mut batches: BTreeMap<_, BTreeMap<_, _>> = BTreeMap::new();
        for (key, usage) in self.0.lock().iter() {
            if let Some(used) = usage.unwritten() {
                batches.entry(usage.organization).or_default().insert(*key, (Arc::clone(usage), used));
            }
        }
        batches
    }
}
