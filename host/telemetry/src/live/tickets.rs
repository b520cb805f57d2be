//! One-time tickets: a browser can't send a header with a WebSocket or an `EventSource`, and a key has no place in a URL.
//!
//! A ticket stands for whoever asked for it, for [`TICKET_TTL`], once. It is kept as its hash: in Redis if there is one,
//! since the stream may be opened at another instance; otherwise in memory, [`MAX_TICKETS`] at most.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use brokle_core::clock::Clock;
use brokle_core::random::Random;
use parking_lot::Mutex;
use redis::RedisResult;
use redis::aio::ConnectionManager;
use sha2::{Digest as _, Sha256};

use super::relay::patient;

/// How long a ticket is good for.
pub const TICKET_TTL: Duration = Duration::from_secs(30);
/// Tickets in memory.
const MAX_TICKETS: usize = 10_000;
/// A ticket's random bytes.
const BYTES: usize = 32;

/// Why there is no ticket.
#[derive(Debug, thiserror::Error)]
pub enum TicketError {
    /// Too many wait to be used.
    #[error("too many tickets")]
    Full,
    /// Redis doesn't answer.
    #[error("tickets can't be kept now")]
    Redis(#[from] redis::RedisError),
}

/// Tickets that weren't used yet, with whom they stand for: 32 bytes, of which nothing is known here.
pub struct Tickets {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    redis: Option<ConnectionManager>,
    /// By hash.
    kept: Mutex<HashMap<[u8; 32], Kept>>,
}

/// A ticket in memory.
struct Kept {
    holder: [u8; 32],
    /// When it ends, in microseconds since the Unix epoch.
    until_us: i64,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Tickets").field("shared", &self.redis.is_some()).finish_non_exhaustive()
    }
}

impl Tickets {
    /// None so far; in this Redis, or in memory. Connects when it is used.
    ///
    /// # Errors
    /// When the client's address is none.
    pub fn new(
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        client: Option<redis::Client>,
    ) -> RedisResult<Self> {
        let connect = |client| ConnectionManager::new_lazy_with_config(client, patient());
        Ok(Self { clock, random, redis: client.map(connect).transpose()?, kept: Mutex::default() })
    }

    /// A ticket for somebody: 43 characters.
    ///
    /// # Errors
    /// As [`TicketError`] says.
    pub async fn issue(&self, holder: [u8; 32]) -> Result<String, TicketError> {
        let mut bytes = [0; BYTES];
        self.random.fill(&mut bytes);
        let ticket = URL_SAFE_NO_PAD.encode(bytes);
        let hash = hash(&ticket);
        if let Some(redis) = &self.redis {
            let mut set = redis::cmd("SET");
            set.arg(key(&hash)).arg(&holder[..]).arg("EX").arg(TICKET_TTL.as_secs());
            set.exec_async(&mut redis.clone()).await?;
            return Ok(ticket);
        }
        let now_us = self.clock.now().timestamp_micros();
        let mut kept = self.kept.lock();
        if kept.len() >= MAX_TICKETS {
            kept.retain(|_, ticket| ticket.until_us > now_us);
        }
        if kept.len() >= MAX_TICKETS {
            return Err(TicketError::Full);
        }
        let ttl = i64::try_from(TICKET_TTL.as_micros()).unwrap_or_default();
        kept.insert(hash, Kept { holder, until_us: now_us.saturating_add(ttl) });
        Ok(ticket)
    }

    /// Whom a ticket stands for; nobody if it isn't one, was used, or is too old.
    ///
    /// # Errors
    /// When Redis doesn't answer.
    pub async fn redeem(&self, ticket: &str) -> Result<Option<[u8; 32]>, TicketError> {
        let hash = hash(ticket);
        if let Some(redis) = &self.redis {
            let mut take = redis::cmd("GETDEL");
            let found: Option<Vec<u8>> = take.arg(key(&hash)).query_async(&mut redis.clone()).await?;
            return Ok(found.and_then(|holder| holder.try_into().ok()));
        }
        let found = self.kept.lock().remove(&hash);
        let now_us = self.clock.now().timestamp_micros();
        Ok(found.filter(|ticket| ticket.until_us > now_us).map(|ticket| ticket.holder))
    }
}

fn hash(ticket: &str) -> [u8; 32] {
    Sha256::digest(ticket.as_bytes()).into()
}

fn key(hash: &[u8; 32]) -> String {
    format!("brokle:ticket:{}", URL_SAFE_NO_PAD.encode(hash))
}
