//! Plugins' keys and values, as [`brokle_core::kv`] promises them, in the relational database: for gateways that share
//! one, and for values that outlive a restart.
//!
//! A write takes the row of its scope first, which holds off the others of the same tenant and plugin until it ends,
//! and no one else's. Entries whose time has come are deleted by the next write of their scope.

use brokle_core::kv::{KvEntry, KvError, KvFuture, KvPage, KvScope, KvStore, KvWrite};
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope};
use super::{Database, StorageError, transaction};

/// The store in a database.
#[derive(Clone, Debug)]
pub struct SqlKv(Database);

impl Database {
    /// Plugins' keys and values.
    #[must_use]
    pub fn plugin_kv(&self) -> SqlKv {
        SqlKv(self.clone())
    }
}

/// The four parameters that every statement begins with.
macro_rules! scoped {
    () => {
        "organization_id = $1 AND project_id = $2 AND environment_id = $3 AND plugin_id = $4"
    };
}

macro_rules! bind_scope {
    ($query:expr, $scope:expr) => {
        $query
            .bind($scope.tenant.organization.to_string())
            .bind($scope.tenant.project.to_string())
            .bind($scope.tenant.environment.to_string())
            .bind($scope.plugin.as_ref())
    };
}

impl From<StorageError> for KvError {
    fn from(error: StorageError) -> Self {
        Self::Unavailable(Box::new(error))
    }
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl SqlKv {
    async fn read(
        &self,
        scope: &KvScope,
        key: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<KvEntry>, StorageError> {
        type Row = (Vec<u8>, i64, Option<DateTime<Utc>>);
        let organization = Scope::Organization(scope.tenant.organization);
        let row: Option<Row> = transaction!(&self.0, Access::Read, organization, |tx| {
            let query = sqlx::query_as(concat!(
                "SELECT value, revision, expires_at FROM plugin_kv WHERE ",
                scoped!(),
                " AND key = $5 AND (expires_at IS NULL OR expires_at > $6)"
            ));
            bind_scope!(query, scope).bind(key).bind(now).fetch_optional(&mut *tx).await?
        });
        Ok(row.map(|(value, revision, expires_at)| KvEntry {
            value,
            revision: unsigned(revision),
            expires_at,
        }))
    }

    /// Outer: the database failed. Inner: the write is refused, and nothing is changed.
    async fn write(
        &self,
        scope: &KvScope,
        write: &KvWrite<'_>,
        now: DateTime<Utc>,
    ) -> Result<Result<u64, KvError>, StorageError> {
        let organization = Scope::Organization(scope.tenant.organization);
        let size = signed((write.key.len() + write.value.len()) as u64);
        Ok(Ok(transaction!(&self.0, Access::Write, organization, |tx| {
            // From here to the end, no other write of this scope.
            let query = sqlx::query_as::<_, (i64, i64, i64)>(
                "INSERT INTO plugin_kv_scopes \
                 (organization_id, project_id, environment_id, plugin_id, key_count, byte_count, revision) \
                 VALUES ($1, $2, $3, $4, 0, 0, 1) \
                 ON CONFLICT (organization_id, project_id, environment_id, plugin_id) \
                 DO UPDATE SET revision = plugin_kv_scopes.revision + 1 \
                 RETURNING key_count, byte_count, revision",
            );
            let (mut keys, mut bytes, revision) = bind_scope!(query, scope).fetch_one(&mut *tx).await?;
            let query = sqlx::query_scalar::<_, i64>(concat!(
                "DELETE FROM plugin_kv WHERE ",
                scoped!(),
                " AND expires_at <= $5 RETURNING size"
            ));
            for gone in bind_scope!(query, scope).bind(now).fetch_all(&mut *tx).await? {
                keys -= 1;
                bytes -= gone;
            }
            let query = sqlx::query_as::<_, (i64, i64)>(concat!(
                "SELECT revision, size FROM plugin_kv WHERE ",
                scoped!(),
                " AND key = $5"
            ));
            let old = bind_scope!(query, scope).bind(write.key).fetch_optional(&mut *tx).await?;
            let current = old.map(|(revision, _)| unsigned(revision));
            if !write.expected.fits(current) {
                return Ok(Err(KvError::Conflict(current)));
            }
            bytes += size - old.map_or(0, |(_, size)| size);
            keys += i64::from(old.is_none());
            if unsigned(keys) > write.quota.max_keys && old.is_none() {
                return Ok(Err(KvError::TooManyKeys(write.quota.max_keys)));
            }
            if unsigned(bytes) > write.quota.max_bytes {
                return Ok(Err(KvError::TooManyBytes(write.quota.max_bytes)));
            }
            let query = sqlx::query(
                "INSERT INTO plugin_kv \
                 (organization_id, project_id, environment_id, plugin_id, key, value, size, revision, expires_at) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                 ON CONFLICT (organization_id, project_id, environment_id, plugin_id, key) \
                 DO UPDATE SET value = excluded.value, size = excluded.size, revision = excluded.revision, \
                 expires_at = excluded.expires_at",
            );
            bind_scope!(query, scope)
                .bind(write.key)
                .bind(write.value)
                .bind(size)
                .bind(revision)
                .bind(write.expires_at)
                .execute(&mut *tx)
                .await?;
            let query = sqlx::query(concat!(
                "UPDATE plugin_kv_scopes SET key_count = $5, byte_count = $6 WHERE ",
                scoped!()
            ));
            bind_scope!(query, scope).bind(keys).bind(bytes).execute(&mut *tx).await?;
            unsigned(revision)
        })))
    }

    async fn remove(&self, scope: &KvScope, key: &str, now: DateTime<Utc>) -> Result<bool, StorageError> {
        type Row = (i64, Option<DateTime<Utc>>);
        let organization = Scope::Organization(scope.tenant.organization);
        Ok(transaction!(&self.0, Access::Write, organization, |tx| {
            // The scope's row first, as writes do, so that the two can't wait for each other.
            let query =
                sqlx::query(concat!("UPDATE plugin_kv_scopes SET revision = revision + 1 WHERE ", scoped!()));
            bind_scope!(query, scope).execute(&mut *tx).await?;
            let query = sqlx::query_as::<_, Row>(concat!(
                "DELETE FROM plugin_kv WHERE ",
                scoped!(),
                " AND key = $5 RETURNING size, expires_at"
            ));
            let gone = bind_scope!(query, scope).bind(key).fetch_optional(&mut *tx).await?;
            if let Some((size, _)) = gone {
                let query = sqlx::query(concat!(
                    "UPDATE plugin_kv_scopes SET key_count = key_count - 1, byte_count = byte_count - $5 WHERE ",
                    scoped!()
                ));
                bind_scope!(query, scope).bind(size).execute(&mut *tx).await?;
            }
            gone.is_some_and(|(_, expires_at)| expires_at.is_none_or(|at| now < at))
        }))
    }

    async fn page(
        &self,
        scope: &KvScope,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> Result<KvPage, StorageError> {
        let organization = Scope::Organization(scope.tenant.organization);
        // No key has U+10FFFF in it, so that the range ends behind the last key that begins with the prefix.
        let end = format!("{prefix}{}", char::MAX);
        let mut keys: Vec<String> = transaction!(&self.0, Access::Read, organization, |tx| {
            let query = sqlx::query_scalar(concat!(
                "SELECT key FROM plugin_kv WHERE ",
                scoped!(),
                " AND key >= $5 AND key < $6 AND key > $7 AND (expires_at IS NULL OR expires_at > $8) \
                 ORDER BY key LIMIT $9"
            ));
            bind_scope!(query, scope)
                .bind(prefix)
                .bind(end)
                .bind(after.unwrap_or_default())
                .bind(now)
                .bind(i64::from(limit) + 1)
                .fetch_all(&mut *tx)
                .await?
        });
        let more = keys.len() > limit as usize;
        keys.truncate(limit as usize);
        Ok(KvPage { keys, more })
    }
}

impl KvStore for SqlKv {
    fn get<'a>(
        &'a self,
        scope: &'a KvScope,
        key: &'a str,
        now: DateTime<Utc>,
    ) -> KvFuture<'a, Option<KvEntry>> {
        Box::pin(async move { Ok(self.read(scope, key, now).await?) })
    }

    fn set<'a>(&'a self, scope: &'a KvScope, write: KvWrite<'a>, now: DateTime<Utc>) -> KvFuture<'a, u64> {
        Box::pin(async move { self.write(scope, &write, now).await? })
    }

    fn delete<'a>(&'a self, scope: &'a KvScope, key: &'a str, now: DateTime<Utc>) -> KvFuture<'a, bool> {
        Box::pin(async move { Ok(self.remove(scope, key, now).await?) })
    }

    fn list<'a>(
        &'a self,
        scope: &'a KvScope,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
        now: DateTime<Utc>,
    ) -> KvFuture<'a, KvPage> {
        Box::pin(async move { Ok(self.page(scope, prefix, after, limit, now).await?) })
    }
}
