//! Several keys of one connection.
//!
//! Calls take turns with them. One that the vendor refuses is passed over by itself while the others serve on: after 429
//! for as long as `Retry-After` says (10 min at most), else 1 s, doubled with each further refusal up to 1 min; after
//! 401 for 1 min, doubled up to 10 min, since a key that was taken back doesn't come again by waiting, and one that was
//! refused by mistake should. An answer that isn't one of the two ends the row. Are all of them passed over, the one
//! whose time is over first is taken: the vendor says what is wrong better than we could.
//!
//! A call that met a refused key goes on with another one at once, each at most once. For the candidate that is one
//! attempt, and what counts is its last answer: its circuit and its cooldown are for when no key helps.
//!
//! With one key, or none, nothing here is kept or looked up. What is kept is this server's own, by a hash of
//! connection and key: a changed key begins anew.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_identity::Secret;
use http::header::HeaderValue;
use http::{Response, StatusCode};
use moka::sync::Cache;
use parking_lot::Mutex;
use ring::digest::{Context, SHA256};

use crate::connections::Connection;
use crate::routing::stats::headers;

/// How many keys' states are kept.
const MOST: u64 = 10_000;
/// The longest that a vendor's `Retry-After` is believed, and that a refused key is passed over.
const LONGEST: Duration = Duration::from_secs(600);

/// One credential.
#[derive(Debug)]
pub struct Key {
    /// As it is.
    pub secret: Secret,
    /// `Bearer …`, ready to be sent; none where no header can hold it (a key file): it is fetched or signed with.
    pub bearer: Option<HeaderValue>,
    /// A hash of connection and secret.
    id: [u8; 32],
}

/// A connection's credentials, in their order.
#[derive(Debug, Default)]
pub struct Keys {
    keys: Vec<Key>,
    turn: AtomicUsize,
}

impl Keys {
    /// The secrets of the connection of this id.
    #[must_use]
    pub fn new(connection: &str, secrets: Vec<Secret>) -> Self {
        let key = |secret: Secret| {
            let bearer = HeaderValue::from_str(&format!("Bearer {}", secret.expose())).ok();
            let bearer = bearer.map(|mut value| {
                value.set_sensitive(true);
                value
            });
            let mut hash = Context::new(&SHA256);
            hash.update(connection.as_bytes());
            hash.update(b"\0");
            hash.update(secret.expose().as_bytes());
            let mut id = [0; 32];
            id.copy_from_slice(hash.finish().as_ref());
            Key { secret, bearer, id }
        };
        Self { keys: secrets.into_iter().map(key).collect(), turn: AtomicUsize::new(0) }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

/// Which keys are passed over, and until when.
#[derive(Debug)]
pub(crate) struct Cooling {
    clock: Arc<dyn Clock>,
    cells: Cache<[u8; 32], Arc<Mutex<Cell>>>,
}

#[derive(Debug, Default)]
struct Cell {
    /// Microseconds since the Unix epoch.
    until: i64,
    /// Refusals in a row.
    in_a_row: u32,
}

impl Cooling {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let idle = Duration::from_secs(3600);
        Self { clock, cells: Cache::builder().max_capacity(MOST).time_to_idle(idle).build() }
    }

    /// The key whose turn it is; none if the connection has none.
    pub(crate) fn pick<'c>(&self, connection: &'c Connection) -> Option<&'c Key> {
        let keys = &connection.keys;
        if keys.len() < 2 {
            return keys.keys.first();
        }
        let first = keys.turn.fetch_add(1, Ordering::Relaxed) % keys.len();
        let in_turn = keys.keys.iter().cycle().skip(first).take(keys.len());
        let now = self.now();
        // The first of those that are ready at once, which are all the same to it.
        in_turn.min_by_key(|key| self.until(key).max(now))
    }

    /// What the vendor answered to this key. True when it refused it and another one is ready.
    pub(crate) fn heard<B>(&self, connection: &Connection, key: Option<&Key>, answer: &Response<B>) -> bool {
        let Some(key) = key.filter(|_| connection.keys.len() > 1) else { return false };
        let (first, longest) = match answer.status() {
            StatusCode::TOO_MANY_REQUESTS => (Duration::from_secs(1), Duration::from_secs(60)),
            StatusCode::UNAUTHORIZED => (Duration::from_secs(60), LONGEST),
            _ => {
                if let Some(cell) = self.cells.get(&key.id) {
                    cell.lock().in_a_row = 0;
                }
                return false;
            }
        };
        let now = self.now();
        let cell = self.cells.get_with(key.id, Arc::default);
        let mut state = cell.lock();
        let asked = headers::retry_after(answer.headers()).map(|asked| asked.min(LONGEST));
        let wait = asked.unwrap_or_else(|| first.saturating_mul(1 << state.in_a_row.min(6)).min(longest));
        state.in_a_row = state.in_a_row.saturating_add(1);
        let micros = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
        state.until = state.until.max(now.saturating_add(micros));
        drop(state);
        tracing::info!(
            connection = connection.name,
            status = answer.status().as_u16(),
            seconds = wait.as_secs_f32(),
            "a key is passed over"
        );
        connection.keys.keys.iter().any(|other| self.until(other) <= now)
    }

    fn until(&self, key: &Key) -> i64 {
        self.cells.get(&key.id).map_or(0, |cell| cell.lock().until)
    }

    fn now(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}
