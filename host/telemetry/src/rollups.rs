//! Keeps the hourly sums of a store that doesn't make them while it inserts: once a minute, by one process of those that share
//! the store (a lease in the database). Nobody waits for it: answers are made of rows where sums aren't made yet.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::random::Random;
use brokle_storage::observations::{AnalyticsError, AnalyticsStore};
use brokle_storage::sql::{Database, StorageError};
use chrono::TimeDelta;

/// From one time to the next.
const PERIOD: TimeDelta = TimeDelta::seconds(60);
/// From one look at whose turn it is to the next.
const LOOK: Duration = Duration::from_secs(20);
/// How long a process that died keeps others from it. More than a step of the work may take.
const LEASE: TimeDelta = TimeDelta::minutes(15);
/// The job's name in the database.
const JOB: &str = "rollups";

/// Why sums weren't made.
#[derive(Debug, thiserror::Error)]
pub enum RollupsError {
    /// The database.
    #[error("whose turn it is can't be found out")]
    Storage(#[from] StorageError),
    /// The analytics store.
    #[error("hours can't be summed up")]
    Analytics(#[from] AnalyticsError),
}

/// Makes hourly sums.
#[derive(Debug)]
pub struct Rollups {
    database: Database,
    store: Arc<dyn AnalyticsStore>,
    clock: Arc<dyn Clock>,
    /// This process, as the lease knows it.
    holder: String,
}

impl Rollups {
    /// Of this store; the lease is in this database.
    #[must_use]
    pub fn new(
        database: Database,
        store: Arc<dyn AnalyticsStore>,
        clock: Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Self {
        let mut name = [0; 16];
        random.fill(&mut name);
        Self { database, store, clock, holder: format!("{:032x}", u128::from_le_bytes(name)) }
    }

    /// Looks again and again, and works when it is time; ends when it is dropped. An outage is told once.
    pub async fn work(&self) {
        let mut is_failing = false;
        loop {
            tokio::time::sleep(LOOK).await;
            let done = self.take_turn().await;
            if let (Err(error), false) = (&done, is_failing) {
                let error = error as &dyn std::error::Error;
                tracing::warn!(error, "hours aren't summed up yet: numbers are made of rows");
            }
            is_failing = done.is_err();
        }
    }

    /// Sums up what there is if it is time and this process' turn; whether it was.
    ///
    /// # Errors
    /// [`RollupsError`]: the next turn does it.
    pub async fn take_turn(&self) -> Result<bool, RollupsError> {
        let now = self.clock.now();
        if !self.database.jobs().take(JOB, &self.holder, now, now + LEASE, now - PERIOD).await? {
            return Ok(false);
        }
        let done = self.store.sum_up().await;
        self.database.jobs().end(JOB, &self.holder, self.clock.now()).await?;
        Ok(done.map(|()| true)?)
    }
}
