//! Servers' vectors, in ClickHouse (`migrations/clickhouse/0010_semantic_vectors`). Each vector of a space is compared,
//! exactly (`cosineDistance`); the table is sorted so that a space is one run of it.

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};
use clickhouse::Row;
use serde::{Deserialize, Serialize};

use super::{Change, StoredVector};
use crate::observations::AnalyticsError;
use crate::observations::clickhouse::ClickHouse;

#[derive(Debug, Row, Serialize, Deserialize)]
struct Stored {
    project_id: String,
    space: String,
    key: String,
    vector: Vec<f32>,
    /// Milliseconds.
    expires_at: i64,
    /// Microseconds: the later of two counts.
    written_at: i64,
}

/// The table.
#[derive(Debug, Clone)]
pub struct ClickHouseVectors(ClickHouse);

impl ClickHouseVectors {
    /// Those of this database, which must have been migrated. Connects when it is used.
    #[must_use]
    pub fn new(database: ClickHouse) -> Self {
        Self(database)
    }

    /// The nearest of the project's space that isn't over: its key, and the cosine.
    ///
    /// # Errors
    /// ClickHouse doesn't answer.
    pub async fn nearest(
        &self,
        project: ProjectId,
        space: &str,
        vector: &[f32],
        now: DateTime<Utc>,
    ) -> Result<Option<(String, f32)>, AnalyticsError> {
        self.0.nearest_vector(project, space, vector, now).await
    }

    /// How many of these answers are led to.
    ///
    /// # Errors
    /// ClickHouse doesn't answer.
    pub async fn count(
        &self,
        project: ProjectId,
        keys: Vec<String>,
        now: DateTime<Utc>,
    ) -> Result<u64, AnalyticsError> {
        self.0.count_vectors(project, keys, now).await
    }

    /// Writes these, in their order.
    ///
    /// # Errors
    /// ClickHouse doesn't answer; some may be written.
    pub async fn apply(&self, changes: Vec<Change>, now: DateTime<Utc>) -> Result<(), AnalyticsError> {
        let mut rows = Vec::new();
        for change in changes {
            match change {
                Change::Put(one) => {
                    let StoredVector { project, space, key, vector, expires_at } = one;
                    rows.push(Stored {
                        project_id: project.to_string(),
                        space,
                        key,
                        vector,
                        expires_at: expires_at.timestamp_millis(),
                        written_at: now.timestamp_micros(),
                    });
                }
                Change::Remove(project, keys) => {
                    self.insert(&mut rows).await?;
                    self.0.remove_vectors(project, keys).await?;
                }
            }
        }
        self.insert(&mut rows).await
    }

    async fn insert(&self, rows: &mut Vec<Stored>) -> Result<(), AnalyticsError> {
        match rows.is_empty() {
            true => Ok(()),
            false => self.0.write("semantic_vectors", &std::mem::take(rows)).await,
        }
    }
}
