//! What is written elsewhere by and by: vectors, and what is removed, in their order.

use std::time::Duration;

use brokle_core::ids::ProjectId;
use brokle_storage::vectors::{Change, StoredVector};
use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use tokio::sync::mpsc;

use super::super::Key;
use super::{Answer, Place, Vector};

/// Changes that wait at most; what is beyond is lost.
const WAITING: usize = 1_000;
/// For how long others are waited for, so that many are written at once.
const GATHER: Duration = Duration::from_millis(200);

/// What waits to be written.
#[derive(Debug)]
pub(super) struct Behind {
    outbox: mpsc::Sender<Change>,
    waiting: Mutex<Option<mpsc::Receiver<Change>>>,
}

impl Behind {
    pub(super) fn new() -> Self {
        let (outbox, waiting) = mpsc::channel(WAITING);
        Self { outbox, waiting: Mutex::new(Some(waiting)) }
    }

    pub(super) fn put(&self, place: Place, vector: &Vector, until: DateTime<Utc>) {
        self.send(Change::Put(StoredVector {
            project: place.project,
            space: place.space.to_string(),
            key: place.key.to_string(),
            vector: vector.0.to_vec(),
            expires_at: until,
        }));
    }

    pub(super) fn remove(&self, project: ProjectId, keys: &[Key]) {
        if !keys.is_empty() {
            self.send(Change::Remove(project, texts(keys)));
        }
    }

    fn send(&self, change: Change) {
        if self.outbox.try_send(change).is_err() {
            tracing::debug!("what a question means wasn't written: too many wait");
        }
    }

    /// Writes what comes until the end, and then what waits.
    pub(super) async fn run<'a>(
        &self,
        mut end: Answer<'a, ()>,
        write: impl Fn(Vec<Change>) -> Answer<'a, ()>,
    ) {
        let Some(mut waiting) = self.waiting.lock().take() else { return };
        loop {
            let mut changes = Vec::new();
            let ended = tokio::select! {
                biased;
                count = waiting.recv_many(&mut changes, WAITING) => count == 0,
                () = end.as_mut(), if !waiting.is_closed() => {
                    waiting.close();
                    continue;
                }
            };
            if ended {
                return;
            }
            if !waiting.is_closed() {
                tokio::time::sleep(GATHER).await;
                while let Ok(change) = waiting.try_recv() {
                    changes.push(change);
                }
            }
            write(changes).await;
        }
    }
}

pub(super) fn texts(keys: &[Key]) -> Vec<String> {
    keys.iter().map(ToString::to_string).collect()
}
