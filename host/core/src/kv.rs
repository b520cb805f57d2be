//! What a store of plugins' keys and values promises, whoever keeps them.
//!
//! - **Apart**: a [`KvScope`] is a tenant and a plugin. Nothing in one is seen from another.
//! - **Revisions** grow within a scope with every write and are never used twice, also not for a key that was deleted
//!   and set again: whoever holds a revision can tell that the value is still the one that it saw.
//! - **Expiry**: an entry whose time has come is gone for readers at once, and stops counting when the scope is next
//!   written to. The caller says what time it is.
//! - **Quotas** count keys, and bytes of keys and values. A write that would exceed one changes nothing. A value that is
//!   replaced counts once.
//! - **Order**: keys are listed in byte order.
//!
//! Stores don't check the form of keys: [`check_key`] is for whoever takes them from outside.

use std::fmt::Debug;
use std::pin::Pin;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::tenancy::Tenant;

/// Bytes of a key at most.
pub const MAX_KEY: usize = 256;

/// Keys in a page at most.
pub const MAX_PAGE: u32 = 1_000;

/// What a store's calls answer with.
pub type KvFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, KvError>> + Send + 'a>>;

/// Whose keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KvScope {
    /// The tenant.
    pub tenant: Tenant,
    /// The plugin's id, without its version: a newer one finds what an older one kept.
    pub plugin: Arc<str>,
}

/// How much a scope may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvQuota {
    /// Keys.
    pub max_keys: u64,
    /// Bytes of keys and values.
    pub max_bytes: u64,
}

/// What is kept under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KvEntry {
    /// The value.
    pub value: Vec<u8>,
    /// Of its last write.
    pub revision: u64,
    /// When it is gone.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A write.
#[derive(Clone, Copy, Debug)]
pub struct KvWrite<'a> {
    /// The key.
    pub key: &'a str,
    /// The value.
    pub value: &'a [u8],
    /// When it is gone; none: it stays.
    pub expires_at: Option<DateTime<Utc>>,
    /// What must be there for the write to happen.
    pub expected: Expected,
    /// How much the scope may hold.
    pub quota: KvQuota,
}

/// What a write expects to find.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// Whatever there is.
    Anything,
    /// No such key.
    Nothing,
    /// The key, last written with this revision.
    Revision(u64),
}

impl Expected {
    /// Whether what is there is what is expected.
    #[must_use]
    pub fn fits(self, current: Option<u64>) -> bool {
        match self {
            Self::Anything => true,
            Self::Nothing => current.is_none(),
            Self::Revision(revision) => current == Some(revision),
        }
    }
}

/// A part of a list of keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KvPage {
    /// In byte order.
    pub keys: Vec<String>,
    /// Whether others follow.
    pub more: bool,
}

/// A call that a store refuses or can't serve.
#[derive(Debug, thiserror::Error)]
pub enum KvError {
    /// The scope would hold too many keys.
    #[error("more than {0} keys")]
    TooManyKeys(u64),
    /// The scope would hold too many bytes.
    #[error("more than {0} bytes")]
    TooManyBytes(u64),
    /// Something else is there than was expected: its revision.
    #[error("another revision is there")]
    Conflict(Option<u64>),
    /// The store can't be reached, or failed.
    #[error("the store failed")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A store of keys and values. Its calls wait without holding a thread.
pub trait KvStore: Send + Sync + Debug {
    /// What is kept under a key at `now`.
    fn get<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
        now: DateTime<Utc>,
    ) -> KvFuture<'a, Option<KvEntry>>;

    /// Writes, and gives the new revision.
    fn set<'a>(&'a self, scope: &'a KvScope, write: KvWrite<'a>, now: DateTime<Utc>) -> KvFuture<'a, u64>;

    /// Deletes, and says whether the key was there at `now`.
    fn delete<'a>(&'a self, scope: &'a KvScope, key: &'a str, now: DateTime<Utc>) -> KvFuture<'a, bool>;

    /// The first `limit` keys that begin with `prefix` and come after `after`.
    fn list<'a>(
        &'a self,
        scope: &'a KvScope,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> KvFuture<'a, KvPage>;
}

/// Checks a key: 1 to [`MAX_KEY`] bytes, no control character (PostgreSQL takes no NUL), and not U+10FFFF, which ends
/// every range of a prefix.
///
/// # Errors
/// What is wrong, in words for the plugin's author.
pub fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("an empty key".into());
    }
    check_prefix(key)
}

/// Checks a prefix: a key, or nothing.
///
/// # Errors
/// As [`check_key`].
pub fn check_prefix(prefix: &str) -> Result<(), String> {
    if prefix.len() > MAX_KEY {
        return Err(format!("a key of {} bytes; {MAX_KEY} are the most", prefix.len()));
    }
    if prefix.chars().any(|c| c.is_control() || c == char::MAX) {
        return Err("a control character in a key".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_short_and_plain() {
        for key in ["a", "limits/2026-01/ключ", &"x".repeat(MAX_KEY)] {
            assert_eq!(check_key(key), Ok(()), "{key}");
        }
        for key in ["", "a\0b", "a\nb", "a\u{10ffff}", &"x".repeat(MAX_KEY + 1)] {
            assert!(check_key(key).is_err(), "{key:?}");
        }
        assert_eq!(check_prefix(""), Ok(()));
    }
}
