//! Shared by servers, in ClickHouse: written off a call's way, so that a question is found some moments after its answer.
//!
//! **ClickHouse gone**, or slower than [`PATIENCE`]: nothing is found, for [`PAUSE`](crate::shared::PAUSE) nobody asks, and no
//! call fails. What was to be written is lost.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::ProjectId;
use brokle_storage::vectors::{Change, ClickHouseVectors};
use chrono::{DateTime, Utc};

use super::behind::{Behind, texts};
use super::{Answer, Key, Place, Vector, Vectors};
use crate::shared::Pause;

/// How long a search may take: 500 ms.
const PATIENCE: Duration = Duration::from_millis(500);

/// Vectors of all servers.
#[derive(Debug)]
pub struct InClickHouse {
    table: ClickHouseVectors,
    behind: Behind,
    pub(super) pause: Pause,
    patience: Duration,
    clock: Arc<dyn Clock>,
}

impl InClickHouse {
    /// Those of this table.
    #[must_use]
    pub fn new(table: ClickHouseVectors, clock: Arc<dyn Clock>) -> Self {
        Self { table, behind: Behind::new(), pause: Pause::of("semantic cache"), patience: PATIENCE, clock }
    }

    /// With another bound on how long a search may take.
    #[cfg(test)]
    pub(super) fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    async fn write(&self, changes: Vec<Change>) {
        if let Err(error) = self.table.apply(changes, self.clock.now()).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "what questions mean wasn't written");
        }
    }
}

impl Vectors for InClickHouse {
    fn put(&self, place: Place, vector: Vector, until: DateTime<Utc>) {
        self.behind.put(place, &vector, until);
    }

    fn nearest<'a>(
        &'a self,
        project: ProjectId,
        space: Key,
        vector: &'a Vector,
        now: DateTime<Utc>,
    ) -> Answer<'a, Option<(Key, f32)>> {
        Box::pin(async move {
            if !self.pause.may_ask() {
                return None;
            }
            let space = space.to_string();
            let search = self.table.nearest(project, &space, &vector.0, now);
            match tokio::time::timeout(self.patience, search).await {
                Ok(Ok(near)) => {
                    self.pause.answered();
                    near.and_then(|(key, score)| Some((key.parse().ok()?, score)))
                }
                Ok(Err(error)) => {
                    self.pause.failed(&error.to_string());
                    None
                }
                Err(_) => {
                    self.pause.failed("no answer in time");
                    None
                }
            }
        })
    }

    fn remove(&self, project: ProjectId, keys: &[Key]) {
        self.behind.remove(project, keys);
    }

    fn count<'a>(&'a self, project: ProjectId, keys: &'a [Key], now: DateTime<Utc>) -> Answer<'a, u64> {
        Box::pin(async move {
            let counted = self.table.count(project, texts(keys), now).await;
            counted.unwrap_or_else(|error| {
                tracing::debug!(error = &error as &dyn std::error::Error, "vectors can't be counted");
                0
            })
        })
    }

    fn run<'a>(&'a self, end: Answer<'a, ()>) -> Answer<'a, ()> {
        Box::pin(self.behind.run(end, |changes| Box::pin(self.write(changes))))
    }
}
