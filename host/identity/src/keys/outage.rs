//! Is the database there?

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use brokle_storage::sql::StorageError;
use chrono::{DateTime, TimeDelta, Utc};

/// How long after a failure no request asks again.
pub const RETRY_AFTER: TimeDelta = TimeDelta::seconds(5);

/// What the last answers of the database say about its health. Its beginning and its end are logged once each.
#[derive(Debug, Default)]
pub(super) struct Outage {
    is_on: AtomicBool,
    /// Microseconds since the epoch.
    retry_at: AtomicI64,
}

impl Outage {
    /// Should a request rather not ask the database? True from a failure until [`RETRY_AFTER`] has passed without
    /// another one, or until it has answered.
    pub(super) fn is_on(&self, now: DateTime<Utc>) -> bool {
        self.is_on.load(Ordering::SeqCst) && now.timestamp_micros() < self.retry_at.load(Ordering::SeqCst)
    }

    /// The database failed.
    pub(super) fn begin(&self, now: DateTime<Utc>, error: &StorageError) {
        self.retry_at.store((now + RETRY_AFTER).timestamp_micros(), Ordering::SeqCst);
        if !self.is_on.swap(true, Ordering::SeqCst) {
            let error: &dyn std::error::Error = error;
            tracing::warn!(error, "the database doesn't answer: only API keys in memory are let in");
        }
    }

    /// The database answered.
    pub(super) fn end(&self) {
        if self.is_on.load(Ordering::SeqCst) && self.is_on.swap(false, Ordering::SeqCst) {
            tracing::info!("the database answers again: all API keys are let in");
        }
    }
}
