//! What servers share in Redis, asked by calls that can do without it.
//!
//! **Gone.** Who isn't answered in time goes on without; for [`PAUSE`] nobody asks, then one call tries again, so that a Redis
//! that is back is used again without a restart, and one that is away costs a call nothing.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, RedisResult};

/// How long a call's question may take: 50 ms.
pub(crate) const PATIENCE: Duration = Duration::from_millis(50);
/// How long nobody asks a Redis that didn't answer, and what nobody waits for may take: 1 s.
pub(crate) const PAUSE: Duration = Duration::from_secs(1);

/// Redis doesn't answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("Redis doesn't answer")]
pub struct Gone;

/// Whether somebody who may be away is asked.
#[derive(Debug)]
pub(crate) struct Pause {
    /// What they are asked for, in the log.
    purpose: &'static str,
    epoch: Instant,
    /// Until when nobody asks, in milliseconds since the epoch; 0 while they answer.
    paused: AtomicU64,
}

impl Pause {
    pub(crate) fn of(purpose: &'static str) -> Self {
        Self { purpose, epoch: Instant::now(), paused: AtomicU64::new(0) }
    }

    /// Whether they answered when they were last asked.
    pub(crate) fn is_over(&self) -> bool {
        self.paused.load(Ordering::Relaxed) == 0
    }

    /// Whether they are asked: always while they answer, and by one call after each pause.
    pub(crate) fn may_ask(&self) -> bool {
        let paused = self.paused.load(Ordering::Relaxed);
        let now = self.now();
        let next = now + millis(PAUSE);
        paused == 0
            || (paused <= now
                && self.paused.compare_exchange(paused, next, Ordering::Relaxed, Ordering::Relaxed).is_ok())
    }

    /// They didn't answer.
    pub(crate) fn failed(&self, reason: &str) {
        let until = self.now() + millis(PAUSE);
        if self.paused.swap(until, Ordering::Relaxed) == 0 {
            tracing::warn!(
                reason,
                purpose = self.purpose,
                "what servers share doesn't answer: each goes on by itself"
            );
        }
    }

    /// They answered.
    pub(crate) fn answered(&self) {
        // Read before it is written: the line is shared by every call.
        if self.paused.load(Ordering::Relaxed) != 0 && self.paused.swap(0, Ordering::Relaxed) != 0 {
            tracing::info!(purpose = self.purpose, "what servers share answers again");
        }
    }

    fn now(&self) -> u64 {
        // Never 0, which says that nothing is paused.
        millis(self.epoch.elapsed()).max(1)
    }
}

/// A connection to Redis for one purpose.
pub(crate) struct Shared {
    connection: ConnectionManager,
    pause: Pause,
}

impl fmt::Debug for Shared {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The connection knows a password.
        out.debug_struct("Shared").field("pause", &self.pause).finish_non_exhaustive()
    }
}

impl Shared {
    /// A connection that is made when it is first needed.
    ///
    /// # Errors
    /// When the client's address is none.
    pub(crate) fn connect(client: Client, purpose: &'static str) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_number_of_retries(1)
            .set_max_delay(PAUSE)
            .set_connection_timeout(Some(PAUSE))
            .set_response_timeout(Some(PAUSE));
        let connection = ConnectionManager::new_lazy_with_config(client, config)?;
        Ok(Self { connection, pause: Pause::of(purpose) })
    }

    /// Asks, unless nobody does at present.
    pub(crate) async fn ask<T>(
        &self,
        patience: Duration,
        question: impl AsyncFnOnce(&mut ConnectionManager) -> RedisResult<T>,
    ) -> Result<T, Gone> {
        if !self.pause.may_ask() {
            return Err(Gone);
        }
        let answer = self.tell(patience, question).await;
        match &answer {
            Ok(_) => self.pause.answered(),
            Err(reason) => self.pause.failed(reason),
        }
        answer.map_err(|_| Gone)
    }

    /// Asks, whatever was before; the error says why there is no answer.
    pub(crate) async fn tell<T>(
        &self,
        patience: Duration,
        question: impl AsyncFnOnce(&mut ConnectionManager) -> RedisResult<T>,
    ) -> Result<T, String> {
        let mut connection = self.connection.clone();
        match tokio::time::timeout(patience, question(&mut connection)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} ms", patience.as_millis())),
        }
    }

    /// Whether it answered when it was last asked.
    pub(crate) fn is_there(&self) -> bool {
        self.pause.is_over()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
