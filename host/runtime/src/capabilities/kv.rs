//! `brokle:host/kv`: keys and values, apart by tenant and plugin.
//!
//! The scope comes from the call's context, never from the guest. A call has [`DEADLINE`], after which the guest goes
//! on with `timeout`; the store's future is dropped with it, which for a database rolls its transaction back or not:
//! the write may have happened.

mod memory;

use std::time::Duration;

use brokle_core::kv::{Expected, KvError, KvQuota, KvScope, KvWrite, MAX_PAGE, check_key, check_prefix};
use chrono::TimeDelta;

pub use memory::MemoryKv;

use super::prepare::Instance;
use crate::bindings::capabilities::brokle::host::kv::{Entry, Error, Host, Page};
use crate::grants::KvGrant;
use crate::instance::State;

/// How long one call may take.
pub const DEADLINE: Duration = Duration::from_millis(250);

/// 365 days, in milliseconds.
const MAX_TTL_MS: u64 = 365 * 24 * 3_600 * 1_000;

impl From<KvError> for Error {
    fn from(error: KvError) -> Self {
        match error {
            KvError::TooManyKeys(_) | KvError::TooManyBytes(_) => Self::Quota(error.to_string()),
            KvError::Conflict(revision) => Self::Conflict(revision),
            KvError::Unavailable(_) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "plugins' store failed");
                Self::Unavailable
            }
        }
    }
}

/// Runs a call to the store under the deadline.
async fn bounded<T>(call: impl Future<Output = Result<T, KvError>>) -> Result<T, Error> {
    tokio::time::timeout(DEADLINE, call).await.map_err(|_| Error::Timeout)?.map_err(Error::from)
}

fn granted(state: &State) -> Result<(&Instance, KvGrant, KvScope), Error> {
    let capability = |instance: &Instance| instance.plugin.grants.kv;
    let instance = state.granted("kv", |instance| capability(instance).is_some()).ok_or(Error::Denied)?;
    let grant = capability(instance).ok_or(Error::Denied)?;
    Ok((instance, grant, KvScope { tenant: instance.tenant, plugin: instance.plugin.id.clone() }))
}

fn set<'a>(
    state: &'a State,
    key: &'a str,
    value: &'a [u8],
    ttl_ms: Option<u64>,
    expected: Expected,
) -> Result<impl Future<Output = Result<u64, Error>> + Send + 'a, Error> {
    let (instance, grant, scope) = granted(state)?;
    check_key(key).map_err(Error::Invalid)?;
    if value.len() as u64 > grant.max_value_bytes {
        let message = format!("a value of {} bytes; {} are the most", value.len(), grant.max_value_bytes);
        return Err(Error::Quota(message));
    }
    let now = instance.plugin.services.clock.now();
    let expires_at = match ttl_ms {
        None => None,
        Some(ttl) if (1..=MAX_TTL_MS).contains(&ttl) => {
            Some(now + TimeDelta::milliseconds(i64::try_from(ttl).unwrap_or(i64::MAX)))
        }
        Some(ttl) => return Err(Error::Invalid(format!("a time to live of {ttl} ms; 1 ms to 365 days"))),
    };
    let quota = KvQuota { max_keys: grant.max_keys, max_bytes: grant.max_bytes };
    let store = instance.plugin.services.kv.clone();
    Ok(async move {
        let write = KvWrite { key, value, expires_at, expected, quota };
        bounded(store.set(&scope, write, now)).await
    })
}

impl Host for State {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Entry>, Error>> {
        let (store, scope, now) = match granted(self) {
            Ok((instance, _, scope)) => {
                (instance.plugin.services.kv.clone(), scope, instance.plugin.services.clock.now())
            }
            Err(error) => return Ok(Err(error)),
        };
        if let Err(message) = check_key(&key) {
            return Ok(Err(Error::Invalid(message)));
        }
        Ok(bounded(store.get(&scope, &key, now)).await.map(|entry| {
            entry.map(|entry| Entry {
                value: entry.value,
                revision: entry.revision,
                expires_in_ms: entry
                    .expires_at
                    .map(|at| u64::try_from((at - now).num_milliseconds()).unwrap_or_default()),
            })
        }))
    }

    async fn set(
        &mut self,
        key: String,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<u64, Error>> {
        Ok(match set(self, &key, &value, ttl_ms, Expected::Anything) {
            Ok(write) => write.await,
            Err(error) => Err(error),
        })
    }

    async fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<u64>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<u64, Error>> {
        let expected = expected.map_or(Expected::Nothing, Expected::Revision);
        Ok(match set(self, &key, &value, ttl_ms, expected) {
            Ok(write) => write.await,
            Err(error) => Err(error),
        })
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<bool, Error>> {
        let (store, scope, now) = match granted(self) {
            Ok((instance, _, scope)) => {
                (instance.plugin.services.kv.clone(), scope, instance.plugin.services.clock.now())
            }
            Err(error) => return Ok(Err(error)),
        };
        if let Err(message) = check_key(&key) {
            return Ok(Err(Error::Invalid(message)));
        }
        Ok(bounded(store.delete(&scope, &key, now)).await)
    }

    async fn list(
        &mut self,
        prefix: String,
        cursor: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<Page, Error>> {
        let (store, scope, now) = match granted(self) {
            Ok((instance, _, scope)) => {
                (instance.plugin.services.kv.clone(), scope, instance.plugin.services.clock.now())
            }
            Err(error) => return Ok(Err(error)),
        };
        let checked = check_prefix(&prefix).and_then(|()| cursor.as_deref().map_or(Ok(()), check_key));
        if let Err(message) = checked {
            return Ok(Err(Error::Invalid(message)));
        }
        if !(1..=MAX_PAGE).contains(&limit) {
            return Ok(Err(Error::Invalid(format!("a limit of {limit}; 1 to {MAX_PAGE}"))));
        }
        let listed = bounded(store.list(&scope, &prefix, cursor.as_deref(), limit, now)).await;
        Ok(listed.map(|page| {
            let cursor = if page.more { page.keys.last().cloned() } else { None };
            Page { keys: page.keys, cursor }
        }))
    }
}
