//! What can go wrong with the database, by what the caller can do about it.

use sqlx::error::{DatabaseError, ErrorKind};

/// A failed call to the database.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The database can't be reached, is overloaded or is shutting down. The same call may succeed later.
    #[error("the database is unavailable")]
    Unavailable(#[source] sqlx::Error),
    /// A row with this name or content is already there.
    #[error("it already exists")]
    Conflict(#[source] sqlx::Error),
    /// No such row, or one of another tenant, or a reference to such a row.
    #[error("not found")]
    NotFound,
    /// The schema refuses a value.
    #[error("the database refuses a value")]
    Invalid(#[source] sqlx::Error),
    /// A stored value can't be read: the file is damaged or was written by something else.
    #[error("a stored value can't be read")]
    Corrupt(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operator has to mend something: the URL, a privilege, a missing migration. The text says what.
    #[error("{0}")]
    Configuration(String),
    /// Anything else, a bug of ours most likely.
    #[error("the database failed")]
    Internal(#[source] sqlx::Error),
}

impl StorageError {
    /// May the same call succeed later without anybody mending anything?
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable(_))
    }

    /// The caller gave up waiting.
    #[must_use]
    pub fn timed_out() -> Self {
        Self::Unavailable(sqlx::Error::PoolTimedOut)
    }

    /// A stored text that its reader refuses.
    pub(crate) fn corrupt(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Corrupt(error.into())
    }
}

impl From<sqlx::Error> for StorageError {
    fn from(error: sqlx::Error) -> Self {
        use sqlx::Error as E;
        match error {
            E::RowNotFound => Self::NotFound,
            E::Configuration(reason) => {
                Self::Configuration(format!("the database URL can't be used: {reason}"))
            }
            E::ColumnDecode { source, .. } | E::Decode(source) => Self::Corrupt(source),
            E::Database(reason) => database(reason),
            // A server that goes away in the middle of a greeting reads as a breach of the protocol.
            E::Io(_)
            | E::Tls(_)
            | E::Protocol(_)
            | E::PoolTimedOut
            | E::PoolClosed
            | E::WorkerCrashed
            | E::BeginFailed => Self::Unavailable(error),
            other => Self::Internal(other),
        }
    }
}

fn database(reason: Box<dyn DatabaseError>) -> StorageError {
    let kind = reason.kind();
    let code = reason.code().unwrap_or_default().into_owned();
    let error = sqlx::Error::Database(reason);
    match kind {
        ErrorKind::UniqueViolation | ErrorKind::ExclusionViolation => StorageError::Conflict(error),
        // The row that is referred to isn't there, or belongs to somebody else: the composite keys can't tell.
        ErrorKind::ForeignKeyViolation => StorageError::NotFound,
        ErrorKind::NotNullViolation | ErrorKind::CheckViolation => StorageError::Invalid(error),
        _ if is_transient(&code) => StorageError::Unavailable(error),
        _ if is_damage(&code) => StorageError::corrupt(error),
        _ if is_privilege(&code) => StorageError::Configuration(format!(
            "the database role lacks a privilege or a table is missing: {error}"
        )),
        _ => StorageError::Internal(error),
    }
}

/// PostgreSQL: connection exceptions (08), insufficient resources (53), operator intervention (57), system errors (58),
/// serialization failures and deadlocks (40), a lock that can't be had (55P03), a database that only reads just now
/// (25006). SQLite, whose extended codes hold the primary one in the low byte: BUSY 5, LOCKED 6, NOMEM 7, READONLY 8,
/// IOERR 10, FULL 13, CANTOPEN 14, PROTOCOL 15.
fn is_transient(code: &str) -> bool {
    if let Some(primary) = sqlite_code(code) {
        return matches!(primary, 5 | 6 | 7 | 8 | 10 | 13 | 14 | 15);
    }
    ["08", "53", "57", "58", "40"].iter().any(|class| code.starts_with(class))
        || matches!(code, "55P03" | "25006")
}

/// SQLite's CORRUPT 11 and NOTADB 26, PostgreSQL's XX001 and XX002.
fn is_damage(code: &str) -> bool {
    matches!(sqlite_code(code), Some(11 | 26)) || matches!(code, "XX001" | "XX002")
}

/// PostgreSQL's insufficient privilege, undefined table and undefined column.
fn is_privilege(code: &str) -> bool {
    matches!(code, "42501" | "42P01" | "42703")
}

/// SQLite's codes are decimal numbers of up to four digits, PostgreSQL's always have five characters.
fn sqlite_code(code: &str) -> Option<u32> {
    if code.len() < 5 { code.parse::<u32>().ok().map(|code| code & 0xff) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_whether_waiting_helps() {
        // SQLITE_BUSY, SQLITE_BUSY_SNAPSHOT, SQLITE_IOERR_FSYNC, SQLITE_FULL; admin shutdown, too many connections,
        // deadlock, connection failure, hot standby.
        for code in ["5", "517", "1034", "13", "57P01", "53300", "40P01", "08006", "25006"] {
            assert!(is_transient(code), "{code}");
        }
        // SQLITE_ERROR, SQLITE_CONSTRAINT_UNIQUE, SQLITE_NOTADB; syntax error, unique violation.
        for code in ["1", "2067", "26", "42601", "23505", ""] {
            assert!(!is_transient(code), "{code}");
        }
    }

    #[test]
    fn only_unavailability_is_worth_a_retry() {
        for away in
            [sqlx::Error::PoolTimedOut, sqlx::Error::PoolClosed, sqlx::Error::Protocol("cut off".to_owned())]
        {
            assert!(StorageError::from(away).is_retryable());
        }
        assert!(!StorageError::from(sqlx::Error::RowNotFound).is_retryable());
        let decode = StorageError::from(sqlx::Error::Decode("no".into()));
        assert!(matches!(decode, StorageError::Corrupt(_)) && !decode.is_retryable());
    }
}
