//! What live streams share: what is told, one-time tickets, who may open how many, and from which pages.
//!
//! - A key has at most so many streams and sockets at once ([`DEFAULT_PER_KEY`] unless configured); the next one is answered 429
//!   `too_many_streams`.
//! - A browser's page is let in if it comes from the address that it calls, or from one that is configured; anything that
//!   sends no `Origin` isn't a browser's page.
//! - A key is asked about again at each [`HEARTBEAT`]: one that was revoked hears nothing more.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::ids::ApiKeyId;
use brokle_telemetry::live::{Live, Tickets};
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use crate::error::ApiError;

/// Streams and sockets that a key may have at once.
pub const DEFAULT_PER_KEY: usize = 10;
/// How often a silent stream says that it is there, and its key is asked about.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// What live streams share.
#[derive(Debug)]
pub struct Watching {
    /// What is told.
    pub live: Arc<Live>,
    /// For browsers.
    pub tickets: Tickets,
    heartbeat: Duration,
    per_key: usize,
    origins: Vec<String>,
    open: Mutex<HashMap<ApiKeyId, usize>>,
}

impl Watching {
    /// This many streams for a key; pages of these origins (`https://app.example`), besides the server's own.
    #[must_use]
    pub fn new(live: Arc<Live>, tickets: Tickets, per_key: usize, origins: Vec<String>) -> Self {
        Self { live, tickets, heartbeat: HEARTBEAT, per_key, origins, open: Mutex::default() }
    }

    /// The same with another time between two signs of life.
    #[must_use]
    pub fn heartbeat(self, heartbeat: Duration) -> Self {
        Self { heartbeat, ..self }
    }

    /// Ticks when a stream says that it is there; the first time after a whole period.
    pub(crate) fn heartbeats(&self) -> Interval {
        let mut heartbeats = interval_at(Instant::now() + self.heartbeat, self.heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeats
    }

    /// A place for one more stream of the key.
    pub(crate) fn admit(self: &Arc<Self>, key: ApiKeyId) -> Result<Place, ApiError> {
        let mut open = self.open.lock();
        let count = open.entry(key).or_default();
        if *count >= self.per_key {
            let message = format!("This API key has {} live streams open already.", self.per_key);
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", message)
                .retry_after(HEARTBEAT));
        }
        *count += 1;
        Ok(Place { watching: Arc::clone(self), key })
    }

    /// Refuses pages of other people's.
    pub(crate) fn check_origin(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
        let origin = origin.to_str().unwrap_or_default();
        let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
        let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        let is_own = !authority.is_empty() && authority.eq_ignore_ascii_case(host);
        if is_own || self.origins.iter().any(|known| known.eq_ignore_ascii_case(origin)) {
            return Ok(());
        }
        let message = "Pages of this origin may not open live streams: see `server.allowed_origins`.";
        Err(ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", message))
    }
}

/// One of a key's streams; its end makes room for another.
#[derive(Debug)]
pub(crate) struct Place {
    watching: Arc<Watching>,
    key: ApiKeyId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.watching.open.lock();
        if let Some(count) = open.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.key);
            }
        }
    }
}
