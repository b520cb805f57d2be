//! Observations as they come, for those who watch: `/api/v1/streaming/traces` and `/ws`.
//!
//! ```text
//! collector ──(somebody listens?)──▶ Live ──▶ the project's channel: a ring ◀── a cursor per listener
//!                                     ▲ ╲
//!                   Redis pub/sub ────┘  ╲──▶ other instances that somebody listens at
//! ```
//!
//! - **Nobody listens: nothing is paid.** The collector looks at two atomics per batch, after its commit and off every
//!   request's path. Only rows of projects that are listened to are copied.
//! - **A channel is a project's**, so no listener ever holds another tenant's rows. It is opened by its first listener
//!   and kept for [`LINGER`] after its last one, so that who was cut off for a moment misses nothing.
//! - **A slow listener is dropped**, not waited for: a channel keeps [`RING_EVENTS`] events and [`RING_BYTES`] bytes; one
//!   whose place has left the ring gets [`Lagged`].
//! - **Resuming** ([`EventId`]): at the channel that gave the id, exactly where it left off. At another instance's (or after
//!   a restart) by time, with [`OVERLAP`] of repetition, since no two clocks agree: an event may come twice, never is one
//!   left out silently. What the ring doesn't hold any more is told as a gap.
//! - **When**: the gateway's calls once they ended, spans from elsewhere once they are acknowledged. With ClickHouse or a
//!   shared queue that is some moments before lists show them.
//! - **Across instances** ([`Relay`]): best effort. Within about a second of the first listener the other instances
//!   publish. While Redis is away, a listener hears of its own instance only.

mod relay;
mod tickets;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::ProjectId;
use brokle_core::observation::Observation;
use brokle_core::random::Random;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, watch};

pub use self::relay::Relay;
pub use self::tickets::{TICKET_TTL, TicketError, Tickets};

/// Events that a channel keeps.
pub const RING_EVENTS: usize = 4_096;
/// Their bytes ([`Observation::weight`]); the newest event is kept whatever its size.
pub const RING_BYTES: usize = 16 << 20;
/// How long a channel goes on after its last listener.
pub const LINGER: Duration = Duration::from_secs(60);
/// How far before an event of another instance a listener goes on.
pub const OVERLAP: Duration = Duration::from_secs(2);
/// Batches that wait for Redis at most; those on top stay on this instance.
const OUTBOX: usize = 64;

/// A row that was told.
#[derive(Debug)]
pub struct Event {
    /// Its place.
    pub id: EventId,
    /// The row.
    pub observation: Observation,
}

/// A place in a channel: `CHANNEL-NUMBER-TIME`, what a client sends as `Last-Event-ID`. It holds no secret: whose events are
/// told is decided by who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    channel: u64,
    number: u64,
    /// When it came here, in microseconds since the Unix epoch.
    time_us: i64,
}

impl fmt::Display for EventId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:016x}-{}-{}", self.channel, self.number, self.time_us)
    }
}

/// A text that is no [`EventId`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event's id is expected, as it was sent")]
pub struct ParseEventIdError;

impl FromStr for EventId {
    type Err = ParseEventIdError;

    fn from_str(text: &str) -> Result<Self, ParseEventIdError> {
        let parse = || {
            let mut parts = text.splitn(3, '-');
            let channel = u64::from_str_radix(parts.next()?, 16).ok()?;
            Some(Self { channel, number: parts.next()?.parse().ok()?, time_us: parts.next()?.parse().ok()? })
        };
        parse().ok_or(ParseEventIdError)
    }
}

/// A listener was too slow: its place has left the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{missed} events were missed")]
pub struct Lagged {
    /// Events that it won't get.
    pub missed: u64,
}

/// What is told live, and who listens.
#[derive(Debug)]
pub struct Live {
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    channels: Mutex<HashMap<ProjectId, Arc<Channel>>>,
    /// Channels that there are.
    open: AtomicUsize,
    /// Whether somebody listens at another instance.
    elsewhere: AtomicBool,
    /// A first channel was opened: the relay needn't wait for its next look.
    opened: Notify,
    outbox: mpsc::Sender<Vec<Observation>>,
    waiting: Mutex<Option<mpsc::Receiver<Vec<Observation>>>>,
}

#[derive(Debug)]
struct Channel {
    id: u64,
    ring: Mutex<Ring>,
    /// The number of the next event.
    next: watch::Sender<u64>,
    listeners: AtomicUsize,
    /// When the last listener left.
    idle_since_us: AtomicI64,
}

#[derive(Debug)]
struct Ring {
    events: VecDeque<Arc<Event>>,
    next: u64,
    bytes: usize,
    /// Everything since then is here.
    complete_since_us: i64,
}

impl Ring {
    fn first(&self) -> u64 {
        self.next - self.events.len() as u64
    }

    fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.observation.weight();
        self.events.push_back(event);
        self.next += 1;
        while self.events.len() > RING_EVENTS || (self.bytes > RING_BYTES && self.events.len() > 1) {
            let Some(gone) = self.events.pop_front() else { return };
            self.bytes -= gone.observation.weight();
            self.complete_since_us = gone.id.time_us.saturating_add(1);
        }
    }
}

impl Live {
    /// One without listeners.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        let (outbox, waiting) = mpsc::channel(OUTBOX);
        Self {
            clock,
            random,
            channels: Mutex::default(),
            open: AtomicUsize::new(0),
            elsewhere: AtomicBool::new(false),
            opened: Notify::new(),
            outbox,
            waiting: Mutex::new(Some(waiting)),
        }
    }

    /// Whether anybody wants to know of anything.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.is_wanted_here() || self.elsewhere.load(Ordering::Relaxed)
    }

    fn is_wanted_here(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    /// Listens to a project's rows from now on, or from behind the event that was seen last.
    #[must_use]
    pub fn subscribe(self: &Arc<Self>, project: ProjectId, after: Option<EventId>) -> Subscription {
        let now_us = self.now_us();
        let mut channels = self.channels.lock();
        self.sweep(&mut channels, now_us);
        let is_first = channels.is_empty();
        let channel = Arc::clone(channels.entry(project).or_insert_with(|| self.open(now_us)));
        channel.listeners.fetch_add(1, Ordering::SeqCst);
        self.open.store(channels.len(), Ordering::SeqCst);
        drop(channels);
        if is_first {
            self.opened.notify_one();
        }
        let (next, has_gap) = channel.place(after);
        let changes = channel.next.subscribe();
        Subscription { live: Arc::clone(self), channel, changes, next, has_gap }
    }

    /// Of these rows those that somebody wants to know of.
    #[must_use]
    pub(crate) fn wanted(&self, rows: &[Observation]) -> Vec<Observation> {
        if !self.is_wanted() {
            return Vec::new();
        }
        if self.elsewhere.load(Ordering::Relaxed) {
            return rows.to_vec();
        }
        let channels = self.channels.lock();
        rows.iter().filter(|row| channels.contains_key(&row.tenant.project)).cloned().collect()
    }

    /// Tells listeners, here and at other instances.
    pub(crate) fn publish(&self, rows: Vec<Observation>) {
        if rows.is_empty() {
            return;
        }
        if self.elsewhere.load(Ordering::Relaxed) && self.outbox.try_send(rows.clone()).is_err() {
            tracing::debug!(rows = rows.len(), "other instances aren't told: Redis is too slow");
        }
        self.deliver(rows);
    }

    /// Tells listeners here.
    fn deliver(&self, rows: Vec<Observation>) {
        let now_us = self.now_us();
        let mut channels = self.channels.lock();
        self.sweep(&mut channels, now_us);
        for observation in rows {
            if let Some(channel) = channels.get(&observation.tenant.project) {
                channel.push(observation, now_us);
            }
        }
    }

    fn open(&self, now_us: i64) -> Arc<Channel> {
        let mut id = [0; 8];
        self.random.fill(&mut id);
        let ring = Ring { events: VecDeque::new(), next: 1, bytes: 0, complete_since_us: now_us };
        Arc::new(Channel {
            id: u64::from_be_bytes(id),
            ring: Mutex::new(ring),
            next: watch::Sender::new(1),
            listeners: AtomicUsize::new(0),
            idle_since_us: AtomicI64::new(now_us),
        })
    }

    /// Closes channels that nobody came back to.
    fn sweep(&self, channels: &mut HashMap<ProjectId, Arc<Channel>>, now_us: i64) {
        let linger = i64::try_from(LINGER.as_micros()).unwrap_or(i64::MAX);
        channels.retain(|_, channel| {
            channel.listeners.load(Ordering::SeqCst) > 0
                || now_us.saturating_sub(channel.idle_since_us.load(Ordering::SeqCst)) < linger
        });
        self.open.store(channels.len(), Ordering::SeqCst);
    }

    fn now_us(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }
}

impl Channel {
    fn push(&self, observation: Observation, time_us: i64) {
        let mut ring = self.ring.lock();
        let id = EventId { channel: self.id, number: ring.next, time_us };
        ring.push(Arc::new(Event { id, observation }));
        let next = ring.next;
        drop(ring);
        self.next.send_replace(next);
    }

    /// The number to go on with, and whether something in between is lost.
    fn place(&self, after: Option<EventId>) -> (u64, bool) {
        let ring = self.ring.lock();
        let Some(after) = after else { return (ring.next, false) };
        if after.channel == self.id {
            let wanted = after.number.saturating_add(1);
            return (wanted.clamp(ring.first(), ring.next), wanted < ring.first());
        }
        let overlap = i64::try_from(OVERLAP.as_micros()).unwrap_or_default();
        let since = after.time_us.saturating_sub(overlap);
        let skipped = ring.events.partition_point(|event| event.id.time_us < since);
        (ring.first() + skipped as u64, ring.complete_since_us > after.time_us)
    }
}

/// A listener's place in its project's channel.
#[derive(Debug)]
pub struct Subscription {
    live: Arc<Live>,
    channel: Arc<Channel>,
    changes: watch::Receiver<u64>,
    next: u64,
    has_gap: bool,
}

impl Subscription {
    /// Whether events between the one that was seen last and the next one are lost.
    #[must_use]
    pub fn has_gap(&self) -> bool {
        self.has_gap
    }

    /// Where a listener goes on that has seen everything up to here.
    #[must_use]
    pub fn place(&self) -> EventId {
        EventId { channel: self.channel.id, number: self.next - 1, time_us: self.live.now_us() }
    }

    /// The next event; waits for it. May be dropped and asked again.
    ///
    /// # Errors
    /// [`Lagged`]; the subscription is of no use then.
    pub async fn next(&mut self) -> Result<Arc<Event>, Lagged> {
        loop {
            // What comes after this look wakes the wait below.
            self.changes.mark_unchanged();
            {
                let ring = self.channel.ring.lock();
                if let Some(missed) = ring.first().checked_sub(self.next).filter(|missed| *missed > 0) {
                    return Err(Lagged { missed });
                }
                let at = usize::try_from(self.next - ring.first()).unwrap_or(usize::MAX);
                if let Some(event) = ring.events.get(at) {
                    self.next += 1;
                    return Ok(Arc::clone(event));
                }
            }
            // The sender is in the channel, which this holds: it can't fail.
            let _ = self.changes.changed().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.channel.idle_since_us.store(self.live.now_us(), Ordering::SeqCst);
        self.channel.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests;
