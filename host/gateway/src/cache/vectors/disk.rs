//! In this server's memory, and in a file that gives them back after a restart.

use std::sync::Arc;

use brokle_core::clock::Clock;
use brokle_core::ids::ProjectId;
use brokle_storage::vectors::{Change, VectorFile, VectorFileError};
use chrono::{DateTime, Utc};

use super::behind::Behind;
use super::{Answer, InMemory, Key, Place, Vector, Vectors};

/// Vectors of one machine.
#[derive(Debug)]
pub struct OnDisk {
    memory: InMemory,
    behind: Behind,
    file: Arc<VectorFile>,
    clock: Arc<dyn Clock>,
}

impl OnDisk {
    /// Those of the file, as far as memory has room for them.
    ///
    /// # Errors
    /// The file can't be read.
    pub fn load(memory: InMemory, file: VectorFile, clock: Arc<dyn Clock>) -> Result<Self, VectorFileError> {
        for one in file.load(clock.now())? {
            let known = (one.space.parse(), one.key.parse(), Vector::written(one.vector));
            if let (Ok(space), Ok(key), Some(vector)) = known {
                memory.put(Place { project: one.project, space, key }, vector, one.expires_at);
            }
        }
        Ok(Self { memory, behind: Behind::new(), file: Arc::new(file), clock })
    }

    async fn write(&self, changes: Vec<Change>) {
        let (file, now) = (Arc::clone(&self.file), self.clock.now());
        let written = tokio::task::spawn_blocking(move || file.apply(&changes, now)).await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "vectors aren't written");
            }
            Err(error) => tracing::error!(error = &error as &dyn std::error::Error, "vectors aren't written"),
        }
    }
}

impl Vectors for OnDisk {
    fn put(&self, place: Place, vector: Vector, until: DateTime<Utc>) {
        self.behind.put(place, &vector, until);
        self.memory.put(place, vector, until);
    }

    fn nearest<'a>(
        &'a self,
        project: ProjectId,
        space: Key,
        vector: &'a Vector,
        now: DateTime<Utc>,
    ) -> Answer<'a, Option<(Key, f32)>> {
        self.memory.nearest(project, space, vector, now)
    }

    fn remove(&self, project: ProjectId, keys: &[Key]) {
        self.behind.remove(project, keys);
        self.memory.remove(project, keys);
    }

    fn count<'a>(&'a self, project: ProjectId, keys: &'a [Key], now: DateTime<Utc>) -> Answer<'a, u64> {
        self.memory.count(project, keys, now)
    }

    fn run<'a>(&'a self, end: Answer<'a, ()>) -> Answer<'a, ()> {
        Box::pin(self.behind.run(end, |changes| Box::pin(self.write(changes))))
    }
}
