//! The threads that bring batches from Redis to the analytics database: one, and a second one while more waits than two rounds'
//! worth, so that the database has the next rows while it writes the last ones. With less to do one alone makes fewer and
//! larger inserts.
//!
//! Each takes an entry of each lane in turn until a round is full or [`ROUND`] is over, inserts their rows, and acknowledges
//! and deletes them in one script. What it has in hand when it dies is taken over by another worker after
//! [`SharedQueue::claim_after`]; what it can't store before a graceful stop is given back at once. Either way rows may come
//! again, and the database takes each once.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use brokle_core::clock::Clock;
use brokle_core::random::Random;
use brokle_storage::observations::{AnalyticsStore, Inserted};
use parking_lot::Mutex;
use redis::streams::{StreamAutoClaimReply, StreamId, StreamReadReply};
use redis::{RedisError, RedisResult, Script};
use tokio::sync::watch;

use super::letters::Entry;
use super::{GROUP, LANES, Link, SharedQueue};
use crate::drainer::{MAX_ROUND_BYTES, ROUND, insert_rows, tell_dead};
use crate::frame;
use crate::queue::QueueError;
use crate::rows::Rows;
use crate::shared::{Backoff, Outage};

/// Batches of another worker that are taken over in one request, per lane.
const CLAIMED: usize = 8;
/// Where `XAUTOCLAIM` begins, and where it says that it has come to the end.
const START: &str = "0-0";
/// Rows per round. ClickHouse makes a part of each, which costs it as much as thousands of rows do.
const MAX_ROUND_ROWS: usize = 10_000;
/// Observations in Redis from which on both threads are at work.
const BACKLOG: u64 = 2 * MAX_ROUND_ROWS as u64;
/// How often to look how much there is.
const LOOK: Duration = Duration::from_secs(1);

/// What became of batches since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerStats {
    /// Observations that are in the analytics database since the start.
    pub inserted: u64,
    /// Observations that were there already: the same span twice, or again after a crash.
    pub duplicates: u64,
    /// Batches that another worker left behind.
    pub claimed: u64,
    /// Failed uses of Redis.
    pub queue_errors: u64,
    /// Failed inserts into the analytics database.
    pub store_errors: u64,
    /// Observations in Redis, as of a second ago.
    pub queued_rows: u64,
    /// Dead letters that there are.
    pub dead_letters: u64,
}

#[derive(Debug, Default)]
struct Counters {
    inserted: AtomicU64,
    duplicates: AtomicU64,
    claimed: AtomicU64,
    queue_errors: AtomicU64,
    store_errors: AtomicU64,
    queued_rows: AtomicU64,
    dead_letters: AtomicU64,
    /// The last that was asked of Redis and of the database worked.
    is_well: AtomicBool,
}

/// A worker of the shared queue. When it is dropped it ends by itself.
#[derive(Debug)]
pub struct Worker {
    counters: Arc<Counters>,
    stop: Mutex<Vec<Sender<()>>>,
    ended: Vec<watch::Receiver<bool>>,
}

impl Worker {
    /// Starts the threads. They connect by themselves, and go on with what others left.
    ///
    /// # Errors
    /// When a thread can't be started.
    pub fn start(
        queue: &SharedQueue,
        store: &Arc<dyn AnalyticsStore>,
        clock: &Arc<dyn Clock>,
        random: &dyn Random,
    ) -> Result<Self, QueueError> {
        let mut this = Self { counters: Arc::default(), stop: Mutex::default(), ended: Vec::new() };
        for helps in [false, true] {
            let mut id = [0; 8];
            random.fill(&mut id);
            let (stop, stopped) = channel();
            let (end, ended) = watch::channel(false);
            let consumer = Consumer {
                name: format!("{:016x}", u64::from_be_bytes(id)),
                helps,
                claim_at: Instant::now(),
                look_at: Instant::now(),
                link: Link::new(queue.clone()),
                store: Arc::clone(store),
                clock: Arc::clone(clock),
                counters: Arc::clone(&this.counters),
                stopped,
                end,
            };
            std::thread::Builder::new().name("telemetry-worker".into()).spawn(move || consumer.run())?;
            this.stop.get_mut().push(stop);
            this.ended.push(ended);
        }
        Ok(this)
    }

    /// Takes nothing more, finishes what is in hand or gives it back, and waits until the threads have ended.
    pub async fn shutdown(&self) {
        self.stop.lock().clear();
        for ended in &self.ended {
            // Fails only when the thread has ended already.
            let _ = ended.clone().wait_for(|ended| *ended).await;
        }
    }

    /// Do Redis and the database answer? False until they did once.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.counters.is_well.load(Ordering::Relaxed)
    }

    /// What became of batches since the start.
    #[must_use]
    pub fn stats(&self) -> WorkerStats {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WorkerStats {
            inserted: count(&self.counters.inserted),
            duplicates: count(&self.counters.duplicates),
            claimed: count(&self.counters.claimed),
            queue_errors: count(&self.counters.queue_errors),
            store_errors: count(&self.counters.store_errors),
            queued_rows: count(&self.counters.queued_rows),
            dead_letters: count(&self.counters.dead_letters),
        }
    }
}

struct Consumer {
    name: String,
    /// Is at work only while there is a backlog.
    helps: bool,
    /// When to look for what others left behind.
    claim_at: Instant,
    /// When to look how much there is.
    look_at: Instant,
    link: Link,
    store: Arc<dyn AnalyticsStore>,
    clock: Arc<dyn Clock>,
    counters: Arc<Counters>,
    stopped: Receiver<()>,
    end: watch::Sender<bool>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Consumer").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Consumer {
    fn run(mut self) {
        let mut backoff = Backoff::new();
        let outage = Outage::default();
        loop {
            let is_needed = !self.helps || self.counters.queued_rows.load(Ordering::Relaxed) > BACKLOG;
            if self.waits(if is_needed { Duration::ZERO } else { LOOK }) {
                break;
            }
            if !is_needed {
                continue;
            }
            match self.round() {
                Ok(()) => {
                    outage.ended("Redis answers: the worker goes on");
                    backoff = Backoff::new();
                }
                Err(error) if error.code() == Some("NOGROUP") => {
                    // The first start, or a Redis that lost what it had.
                    if let Err(error) = self.link.make_groups() {
                        self.failed(&outage, &error);
                        self.waits(backoff.step());
                    }
                }
                Err(error) => {
                    self.failed(&outage, &error);
                    self.waits(backoff.step());
                }
            }
        }
        let _ = self.end.send(true);
    }

    /// Waits so long, or until the end: then it is true.
    fn waits(&self, time: Duration) -> bool {
        self.stopped.recv_timeout(time) != Err(RecvTimeoutError::Timeout)
    }

    fn failed(&self, outage: &Outage, error: &RedisError) {
        self.counters.queue_errors.fetch_add(1, Ordering::Relaxed);
        self.counters.is_well.store(false, Ordering::Relaxed);
        outage.began(error, "the telemetry queue's Redis doesn't answer: trying again");
    }

    fn round(&mut self) -> RedisResult<()> {
        let entries = self.take()?;
        if Instant::now() >= self.look_at {
            // Only for people: what is in hand counts more than its failure.
            if let Ok(depth) = self.link.depth() {
                self.counters.queued_rows.store(depth.rows as u64, Ordering::Relaxed);
                self.counters.dead_letters.store(depth.dead_letters, Ordering::Relaxed);
            }
            self.look_at = Instant::now() + LOOK;
        }
        if entries.is_empty() {
            self.counters.is_well.store(true, Ordering::Relaxed);
            return Ok(());
        }
        let (mut rows, mut dead) = (Rows::default(), Vec::new());
        for entry in &entries {
            let (readable, unreadable) = frame::decode(&entry.body);
            rows.append(readable);
            dead.extend(unreadable);
        }
        let unreadable = dead.len();
        let (mut backoff, outage) = (Backoff::new(), Outage::default());
        loop {
            let mut inserted = Inserted::default();
            dead.truncate(unreadable);
            let stored = insert_rows(&*self.store, &rows, &mut inserted, &mut dead);
            self.counters.inserted.fetch_add(inserted.rows, Ordering::Relaxed);
            self.counters.duplicates.fetch_add(inserted.duplicates, Ordering::Relaxed);
            let Err(error) = stored else { break };
            self.counters.store_errors.fetch_add(1, Ordering::Relaxed);
            self.counters.is_well.store(false, Ordering::Relaxed);
            outage.began(&error, "the analytics database takes nothing: the queue holds it");
            if self.waits(backoff.step()) {
                return self.give_back(&entries);
            }
        }
        outage.ended("the analytics database takes observations again");
        let died_us = self.clock.now().timestamp_micros();
        self.link.finish(&entries, died_us, &dead)?;
        self.counters.is_well.store(true, Ordering::Relaxed);
        tell_dead(&dead);
        Ok(())
    }

    /// What others left behind, then an entry of each lane in turn: until it is enough for a round, or nothing more comes
    /// for [`ROUND`].
    fn take(&mut self) -> RedisResult<Vec<Entry>> {
        let mut entries = Vec::new();
        if Instant::now() >= self.claim_at {
            // What is left of it is the next round's.
            let pause = match self.claim(&mut entries) {
                Err(error) if entries.is_empty() => return Err(error),
                Ok(false) => self.link.queue.claim_after / 2,
                Ok(true) | Err(_) => Duration::ZERO,
            };
            self.claim_at = Instant::now() + pause;
        }
        let (mut rows, mut bytes) = size(&entries);
        let mut until = Instant::now() + ROUND;
        while rows < MAX_ROUND_ROWS && bytes < MAX_ROUND_BYTES {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() || self.waits(Duration::ZERO) {
                break;
            }
            let before = entries.len();
            // What is in hand already is finished, also when Redis fails now.
            match self.read(left, &mut entries) {
                Err(error) if entries.is_empty() => return Err(error),
                Err(_) => break,
                Ok(()) => {}
            }
            if before == 0 && !entries.is_empty() {
                until = Instant::now() + ROUND;
            }
            (rows, bytes) = size(&entries);
        }
        Ok(entries)
    }

    /// One entry of each lane that has one; waits for the first.
    fn read(&mut self, patience: Duration, entries: &mut Vec<Entry>) -> RedisResult<()> {
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(GROUP).arg(&self.name).arg("COUNT").arg(1);
        // 0 would wait for ever.
        read.arg("BLOCK").arg(patience.as_millis().max(1) as u64).arg("STREAMS");
        let lanes: Vec<String> = self.link.queue.lanes().collect();
        read.arg(&lanes).arg(vec![">"; LANES]);
        let answer: Option<StreamReadReply> = self.link.with(|connection| read.query(connection))?;
        for stream in answer.map(|answer| answer.keys).unwrap_or_default() {
            let lane = lanes.iter().position(|lane| *lane == stream.key).unwrap_or_default();
            entries.extend(stream.ids.iter().map(|id| entry(lane, id)));
        }
        Ok(())
    }

    /// Takes over what others left behind, some of each lane in turn, up to a round's worth. Whether there may be more.
    ///
    /// Each lane is gone through to its end, with the cursor that Redis gives: it looks at a few entries a request, and those in
    /// front may be in somebody's hands.
    fn claim(&mut self, entries: &mut Vec<Entry>) -> RedisResult<bool> {
        let idle = u64::try_from(self.link.queue.claim_after.as_millis()).unwrap_or(u64::MAX);
        let mut lanes: Vec<(usize, String)> = (0..LANES).map(|lane| (lane, START.to_owned())).collect();
        while !lanes.is_empty() {
            for (lane, from) in &mut lanes {
                let (rows, bytes) = size(entries);
                if rows >= MAX_ROUND_ROWS || bytes >= MAX_ROUND_BYTES {
                    return Ok(true);
                }
                let mut claim = redis::cmd("XAUTOCLAIM");
                claim.arg(self.link.queue.lane(*lane)).arg(GROUP).arg(&self.name).arg(idle).arg(&*from);
                claim.arg("COUNT").arg(CLAIMED);
                let answer: StreamAutoClaimReply = self.link.with(|connection| claim.query(connection))?;
                self.counters.claimed.fetch_add(answer.claimed.len() as u64, Ordering::Relaxed);
                entries.extend(answer.claimed.iter().map(|id| entry(*lane, id)));
                *from = answer.next_stream_id;
            }
            lanes.retain(|(_, from)| from != START);
        }
        // What was claimed matters more than names that are in nobody's way.
        if let Err(error) = self.forget_the_gone() {
            tracing::debug!(error = &error as &dyn std::error::Error, "old consumers weren't forgotten");
        }
        Ok(false)
    }

    /// Lets another worker take them over at once.
    fn give_back(&mut self, entries: &[Entry]) -> RedisResult<()> {
        let mut pipeline = redis::pipe();
        let idle = u64::try_from(self.link.queue.claim_after.as_millis()).unwrap_or(u64::MAX);
        for entry in entries {
            let claim =
                pipeline.cmd("XCLAIM").arg(self.link.queue.lane(entry.lane)).arg(GROUP).arg(&self.name);
            claim.arg(0).arg(&entry.id).arg("IDLE").arg(idle).arg("JUSTID").ignore();
        }
        self.link.with(|connection| pipeline.query(connection))
    }

    fn forget_the_gone(&mut self) -> RedisResult<()> {
        let script = Script::new(include_str!("forget.lua"));
        let mut call = script.prepare_invoke();
        for lane in self.link.queue.lanes() {
            call.key(lane);
        }
        call.arg(GROUP);
        self.link.with(|connection| call.invoke(connection))
    }
}

fn size(entries: &[Entry]) -> (usize, usize) {
    entries.iter().fold((0, 0), |(rows, bytes), entry| (rows + entry.rows, bytes + entry.body.len()))
}

fn entry(lane: usize, id: &StreamId) -> Entry {
    let (rows, body) = (id.get("rows").unwrap_or_default(), id.get("body").unwrap_or_default());
    Entry { lane, id: id.id.clone(), rows, body }
}
