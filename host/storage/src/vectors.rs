//! What answered questions mean, for the gateway's semantic cache: directions of length 1, each leading to an answer's key.
//!
//! A [`VectorFile`] gives them back after a restart; [`ClickHouseVectors`] are shared by servers, and searched there. Both are a
//! cache's: what can't be written is lost, and what is over is deleted in time.

mod clickhouse;
mod file;

use brokle_core::ids::ProjectId;
use chrono::{DateTime, Utc};

pub use self::clickhouse::ClickHouseVectors;
pub use self::file::{VectorFile, VectorFileError};

/// What a question means, and which answer it leads to.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredVector {
    /// Whose it is.
    pub project: ProjectId,
    /// Among which it is looked for.
    pub space: String,
    /// The answer's.
    pub key: String,
    /// The direction.
    pub vector: Vec<f32>,
    /// Until then.
    pub expires_at: DateTime<Utc>,
}

/// What is to be written.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// In the place of what led to the same answer.
    Put(StoredVector),
    /// What leads to these answers of the project's goes.
    Remove(ProjectId, Vec<String>),
}
