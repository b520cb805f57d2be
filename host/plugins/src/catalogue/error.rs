//! Why something wasn't done.

use brokle_runtime::LoadError;
use brokle_storage::sql::StorageError;

use crate::configuration::Problem;
use crate::gate::Refusal;

/// A change that wasn't made.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    /// There is no such component or version.
    #[error("there is no such plugin")]
    NotFound,
    /// A component may not load; it is in the catalogue as `rejected`.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The state of things doesn't allow it.
    #[error("{message}")]
    Conflict {
        /// A stable code.
        code: &'static str,
        /// What stands in the way, and what helps.
        message: String,
    },
    /// A configuration or grants that can't be.
    #[error("{}", problems.iter().map(|p| format!("{}: {}", p.pointer, p.message)).collect::<Vec<_>>().join("; "))]
    Invalid {
        /// A stable code.
        code: &'static str,
        /// Each with its key.
        problems: Vec<Problem>,
    },
    /// A source couldn't be read.
    #[error("{0}")]
    Source(String),
    /// The database said no.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A file couldn't be read or written.
    #[error("a file of the catalogue can't be read or written")]
    Files(#[from] std::io::Error),
}

impl CatalogueError {
    pub(super) fn conflict(code: &'static str, message: impl Into<String>) -> Self {
        Self::Conflict { code, message: message.into() }
    }
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}
