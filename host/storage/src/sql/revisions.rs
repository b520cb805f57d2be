//! Numbers that say whether something that servers keep in memory has changed. Triggers count them up in the transaction
//! of the change; whoever caches polls one row.

use super::dialect::{Access, Scope};
use super::{Database, StorageError, transaction};

/// A set of rows that servers cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Revision {
    /// API keys and projects; a key's last use doesn't count.
    Identity,
    /// Connections.
    Connections,
    /// Components, what scopes make of them, and grants.
    Plugins,
    /// Routes, with whichever version serves.
    Routes,
}

impl Revision {
    fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Connections => "connections",
            Self::Plugins => "plugins",
            Self::Routes => "routes",
        }
    }
}

impl Database {
    /// The current number; a different one than before means that something changed.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn revision(&self, revision: Revision) -> Result<i64, StorageError> {
        Ok(transaction!(self, Access::Read, Scope::Untenanted, |tx| {
            sqlx::query_scalar("SELECT value FROM revisions WHERE name = $1")
                .bind(revision.name())
                .fetch_one(&mut *tx)
                .await?
        }))
    }
}
