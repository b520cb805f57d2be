//! The request's side.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use brokle_core::clock::Clock;
use brokle_core::observation::Observation;
use brokle_storage::observations::AnalyticsStore;

use tokio::sync::oneshot;

use crate::collector::{Collector, Durable, MAX_BATCH_BYTES, MAX_BATCH_ROWS, Message};
use crate::drainer::{Drainer, Sink};
use crate::live::Live;
use crate::queue::{DeadLetter, Queue, QueueError, Whose};
use crate::rows::Rows;
use crate::shared::{Remote, Shared};
use crate::streams::{Link, SharedQueue};

/// How often dropping is logged at most.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// How often a flush looks whether Redis is empty.
const LOOK: Duration = Duration::from_millis(20);

/// Where the queue is, and how much may be in memory.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where `queue.db` is, or is made: `DATA_DIR/telemetry`.
    pub directory: PathBuf,
    /// Observations in memory at most. Default 65,536.
    pub max_rows: usize,
    /// Their bytes at most ([`Observation::weight`]). Default 128 MiB.
    pub max_bytes: usize,
    /// Bytes of the queue's batches on disk from which on [`Recorder::record_durably`] refuses, so that an analytics
    /// database that is away doesn't fill the disk: its callers can keep what they have. Default 1 GiB.
    pub max_queued_bytes: usize,
    /// The queue that processes share. Batches go there and a [`Worker`](crate::Worker) brings them to the analytics
    /// database; `queue.db` only holds calls that Redis doesn't take, until it does. Default: none.
    pub shared: Option<SharedQueue>,
    /// Who is told of rows as they come. Default: nobody.
    pub live: Option<Arc<Live>>,
}

impl Options {
    /// The defaults, in this directory.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            max_rows: 65_536,
            max_bytes: 128 << 20,
            max_queued_bytes: 1 << 30,
            shared: None,
            live: None,
        }
    }
}

/// What is on its way, and what became of the rest since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Observations in memory: a crash would lose them.
    pub waiting_rows: usize,
    /// Their bytes.
    pub waiting_bytes: usize,
    /// Observations in the queue.
    pub queued_rows: usize,
    /// Their bytes on disk.
    pub queued_bytes: usize,
    /// How long the oldest batch has been in the queue.
    pub oldest_age: Option<Duration>,
    /// Observations that found no room, or came after the end.
    pub dropped: u64,
    /// Observations whose sender was told that they aren't durable, and that weren't kept.
    pub refused: u64,
    /// Observations that are in the analytics database since the start.
    pub inserted: u64,
    /// Observations that were there already: the same span twice, or again after a crash.
    pub duplicates: u64,
    /// Dead letters that there are now.
    pub dead_letters: u64,
    /// Observations that Redis didn't take and that went to the file in its place.
    pub spilled: u64,
    /// Whether the shared queue's Redis answers; true without one.
    pub is_available: bool,
    /// Failed uses of the queue's file, or of Redis.
    pub queue_errors: u64,
    /// Failed inserts into the analytics database.
    pub store_errors: u64,
}

/// Why observations aren't durable. All of it is worth another try.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDurable {
    /// Memory or the queue's file holds as much as it may.
    #[error("the telemetry queue is full")]
    Full,
    /// The queue's file took nothing: its disk is full or broken.
    #[error("the telemetry queue can't be written")]
    Failed,
    /// It took longer than the caller waits.
    #[error("the telemetry queue takes too long")]
    Late,
    /// Nothing is accepted any more.
    #[error("the telemetry queue is closed")]
    Closed,
}

/// Takes observations off a request's hands. Clones share everything; when the last one is dropped, or after
/// [`shutdown`](Self::shutdown), the threads finish what is there and end.
#[derive(Clone, Debug)]
pub struct Recorder {
    sender: Sender<Message>,
    shared: Arc<Shared>,
    limits: Arc<Limits>,
}

#[derive(Debug)]
struct Limits {
    max_rows: usize,
    max_bytes: usize,
    max_queued_bytes: usize,
    started: Instant,
    /// Milliseconds from `started` to when dropping may be logged again.
    log_after: AtomicU64,
}

impl Recorder {
    /// Opens the queue, starts the two threads, and goes on with what an earlier process left in it.
    ///
    /// # Errors
    /// When the queue's file can't be opened or a thread not be started.
    pub fn start(
        options: &Options,
        store: Arc<dyn AnalyticsStore>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, QueueError> {
        let queue = Queue::open(&options.directory.join("queue.db"))?;
        let link = || options.shared.clone().map(Link::new);
        let remote = options.shared.clone().map(|queue| Remote::new(queue, options.max_queued_bytes));
        let shared = Arc::new(Shared::new(queue, remote, clock));
        let (sender, receiver) = channel();
        // With a shared queue rows belong to whoever takes them from there.
        let embedded = store.is_embedded().then(|| Arc::clone(&store)).filter(|_| options.shared.is_none());
        let collector = Collector {
            shared: Arc::clone(&shared),
            embedded,
            link: link(),
            live: options.live.clone(),
            receiver,
        };
        let drainer = Drainer {
            shared: Arc::clone(&shared),
            sink: link().map_or(Sink::Store(store), |link| Sink::Shared(Box::new(link))),
        };
        std::thread::Builder::new().name("telemetry-queue".into()).spawn(move || collector.run())?;
        std::thread::Builder::new().name("telemetry-store".into()).spawn(move || drainer.run())?;
        let limits = Limits {
            max_rows: options.max_rows,
            max_bytes: options.max_bytes,
            max_queued_bytes: options.max_queued_bytes,
            started: Instant::now(),
            log_after: AtomicU64::new(0),
        };
        Ok(Self { sender, shared, limits: Arc::new(limits) })
    }

    /// Hands an observation over. Never waits: without room it is dropped and counted.
    pub fn record(&self, observation: Observation) {
        let memory = &self.shared.memory;
        let weight = observation.weight();
        // Counted first, looked at afterwards: see the collector's end.
        let rows = memory.rows.fetch_add(1, Ordering::SeqCst);
        let bytes = memory.bytes.fetch_add(weight, Ordering::SeqCst);
        let room = rows < self.limits.max_rows && bytes.saturating_add(weight) <= self.limits.max_bytes;
        if !room || self.shared.is_closed() {
            return self.give_up(weight);
        }
        self.shared.counters.accepted.fetch_add(1, Ordering::SeqCst);
        if self.sender.send(Message::Observation(observation, weight)).is_err() {
            return self.give_up(weight);
        }
        let crosses = |before: usize, by: usize, line: usize| before < line && before + by >= line;
        if crosses(rows, 1, MAX_BATCH_ROWS) || crosses(bytes, weight, MAX_BATCH_BYTES) {
            self.shared.nudge();
        }
    }

    /// Whether [`record_durably`](Self::record_durably) would take anything now: to be asked before a body is read.
    ///
    /// # Errors
    /// [`NotDurable::Full`], [`NotDurable::Closed`], or [`NotDurable::Failed`] while Redis doesn't answer.
    pub fn has_room(&self) -> Result<(), NotDurable> {
        let memory = &self.shared.memory;
        if self.shared.is_closed() {
            return Err(NotDurable::Closed);
        }
        let is_full = memory.rows.load(Ordering::SeqCst) >= self.limits.max_rows / 2
            || memory.bytes.load(Ordering::SeqCst) >= self.limits.max_bytes / 2
            || self.queued_bytes() >= self.limits.max_queued_bytes;
        if self.shared.remote.as_ref().is_some_and(|remote| remote.outage.goes_on()) {
            return Err(NotDurable::Failed);
        }
        if is_full { Err(NotDurable::Full) } else { Ok(()) }
    }

    /// Where durable rows go: Redis, or the file.
    fn queued_bytes(&self) -> usize {
        match &self.shared.remote {
            Some(remote) => remote.depth.lock().bytes,
            None => self.shared.queue.depth().bytes,
        }
    }

    /// The most that one call of [`record_durably`](Self::record_durably) may hand over: half of memory, in rows and in
    /// bytes ([`Observation::weight`]).
    #[must_use]
    pub fn max_durable(&self) -> (usize, usize) {
        (self.limits.max_rows / 2, self.limits.max_bytes / 2)
    }

    /// Hands observations over, and waits until they are in the queue: all of them, in one commit. They survive a power
    /// cut from here on, and are in the analytics database some time later.
    ///
    /// They may take half of the memory, so that a flood of spans from elsewhere leaves room for the gateway's own. An
    /// error says that none of them is promised: those of a commit that failed are forgotten; those of one that takes
    /// longer than `patience` may arrive all the same. The same rows may be handed over again then, since the database
    /// takes each once.
    ///
    /// # Errors
    /// As [`NotDurable`] says.
    pub async fn record_durably(&self, rows: impl Into<Rows>, patience: Duration) -> Result<(), NotDurable> {
        let rows = rows.into();
        if rows.is_empty() {
            return Ok(());
        }
        let memory = &self.shared.memory;
        let (count, weight) = (rows.len(), rows.weight());
        let give_back = |error| {
            memory.bytes.fetch_sub(weight, Ordering::SeqCst);
            memory.rows.fetch_sub(count, Ordering::SeqCst);
            Err(error)
        };
        // Counted first, looked at afterwards: see the collector's end.
        let rows_before = memory.rows.fetch_add(count, Ordering::SeqCst);
        let bytes_before = memory.bytes.fetch_add(weight, Ordering::SeqCst);
        let (max_rows, max_bytes) = self.max_durable();
        if self.shared.is_closed() {
            return give_back(NotDurable::Closed);
        }
        if rows_before.saturating_add(count) > max_rows
            || bytes_before.saturating_add(weight) > max_bytes
            || self.queued_bytes() >= self.limits.max_queued_bytes
        {
            return give_back(NotDurable::Full);
        }
        self.shared.counters.accepted.fetch_add(count as u64, Ordering::SeqCst);
        let (done, told) = oneshot::channel();
        if self.sender.send(Message::Durable(Durable { rows, weight, done })).is_err() {
            return give_back(NotDurable::Closed);
        }
        if rows_before + count >= MAX_BATCH_ROWS || bytes_before + weight >= MAX_BATCH_BYTES {
            self.shared.nudge();
        }
        match tokio::time::timeout(patience, told).await {
            Ok(answer) => answer.unwrap_or(Err(NotDurable::Closed)),
            Err(_) => Err(NotDurable::Late),
        }
    }

    /// Waits until everything that was recorded before is in the analytics database, or a dead letter, or (while
    /// closing) left in the queue for the next start. A shared queue must have been empty once, whoever filled it. As long as the database fails, this waits: give it a timeout.
    pub async fn flush(&self) {
        let target = self.shared.counters.accepted.load(Ordering::SeqCst);
        let _hurry = Hurry::new(&self.shared);
        let mut progress = self.shared.progress.subscribe();
        // The sender is in `shared`: neither wait can fail.
        let Ok(last) = progress
            .wait_for(|now| now.collected >= target || now.finished)
            .await
            .map(|now| now.committed_id)
        else {
            return;
        };
        let _ = progress.wait_for(|now| now.drained_id >= last || now.finished).await;
        if let Some(remote) = &self.shared.remote {
            let mut link = Link::new(remote.queue.clone());
            loop {
                let look = self.blocking(move |_| {
                    let is_empty = link.depth().is_ok_and(|depth| depth.rows == 0);
                    Ok((link, is_empty))
                });
                match look.await {
                    Ok((back, false)) => link = back,
                    _ => return,
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }

    /// Accepts nothing more, finishes what is there, and waits until the threads have ended. What the analytics database
    /// doesn't take now is in the queue for the next start. With a queue that fails too it takes 5 s and drops.
    pub async fn shutdown(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        self.shared.wake();
        // Fails only when the collector has ended already.
        let _ = self.sender.send(Message::Wake);
        let _ = self.shared.progress.subscribe().wait_for(|now| now.finished).await;
    }

    /// What is on its way, for `/metrics` and `/health`.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let (memory, counters) = (&self.shared.memory, &self.shared.counters);
        let depth = self.shared.queue.depth();
        let remote = self.shared.remote.as_ref().map(|remote| *remote.depth.lock()).unwrap_or_default();
        let oldest_us = depth.oldest_us.into_iter().chain(remote.oldest_us).min();
        let age_us = oldest_us.map(|oldest| self.shared.now_us().saturating_sub(oldest));
        Stats {
            waiting_rows: memory.rows.load(Ordering::Relaxed),
            waiting_bytes: memory.bytes.load(Ordering::Relaxed),
            queued_rows: depth.rows + remote.rows,
            queued_bytes: depth.bytes + remote.bytes,
            oldest_age: age_us.map(|age| Duration::from_micros(u64::try_from(age).unwrap_or_default())),
            dropped: counters.dropped.load(Ordering::Relaxed),
            refused: counters.refused.load(Ordering::Relaxed),
            inserted: counters.inserted.load(Ordering::Relaxed),
            duplicates: counters.duplicates.load(Ordering::Relaxed),
            dead_letters: depth.dead_letters + remote.dead_letters,
            spilled: counters.spilled.load(Ordering::Relaxed),
            is_available: self.shared.remote.as_ref().is_none_or(|remote| !remote.outage.goes_on()),
            queue_errors: counters.queue_errors.load(Ordering::Relaxed),
            store_errors: counters.store_errors.load(Ordering::Relaxed),
        }
    }

    /// At most `limit` dead letters behind `after` (0 for the first), in the order they died.
    ///
    /// # Errors
    /// When the queue's file can't be read.
    pub async fn dead_letters(
        &self,
        whose: Whose,
        after: i64,
        limit: u32,
    ) -> Result<Vec<DeadLetter>, QueueError> {
        self.blocking(move |shared| match &shared.remote {
            Some(remote) => Ok(Link::new(remote.queue.clone()).dead_letters(whose, after, limit)?),
            None => Ok(shared.queue.dead_letters(whose, after, limit)?),
        })
        .await
    }

    /// Puts a dead letter back into the queue; false when there is no such one. If it fails again it gets a new number.
    ///
    /// # Errors
    /// When the queue's file can't be written.
    pub async fn redrive(&self, whose: Whose, id: i64) -> Result<bool, QueueError> {
        self.blocking(move |shared| {
            if let Some(remote) = &shared.remote {
                return Ok(Link::new(remote.queue.clone()).redrive(whose, id)?);
            }
            let Some(batch) = shared.queue.redrive(whose, id, shared.now_us())? else { return Ok(false) };
            shared.advance(|progress| progress.committed_id = progress.committed_id.max(batch));
            shared.wake();
            Ok(true)
        })
        .await
    }

    /// Forgets a dead letter for good; false when there is no such one.
    ///
    /// # Errors
    /// When the queue's file can't be written.
    pub async fn discard(&self, whose: Whose, id: i64) -> Result<bool, QueueError> {
        self.blocking(move |shared| match &shared.remote {
            Some(remote) => Ok(Link::new(remote.queue.clone()).discard(whose, id)?),
            None => Ok(shared.queue.discard(whose, id)?),
        })
        .await
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, QueueError> + Send + 'static,
    ) -> Result<T, QueueError> {
        let shared = Arc::clone(&self.shared);
        let working = tokio::task::spawn_blocking(move || work(&shared));
        working.await.map_err(|error| QueueError::Io(error.into()))?
    }

    fn give_up(&self, weight: usize) {
        self.shared.memory.bytes.fetch_sub(weight, Ordering::SeqCst);
        self.shared.memory.rows.fetch_sub(1, Ordering::SeqCst);
        let dropped = self.shared.counters.dropped.fetch_add(1, Ordering::Relaxed) + 1;
        let now = u64::try_from(self.limits.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let after = self.limits.log_after.load(Ordering::Relaxed);
        let next = now.saturating_add(u64::try_from(LOG_EVERY.as_millis()).unwrap_or_default());
        let log_after = &self.limits.log_after;
        if now >= after
            && log_after.compare_exchange(after, next, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            tracing::warn!(dropped, "telemetry has no room: observations are dropped");
        }
    }
}

/// As long as it lives, batches don't wait for others.
struct Hurry<'a>(&'a Shared);

impl<'a> Hurry<'a> {
    fn new(shared: &'a Shared) -> Self {
        shared.hurry.fetch_add(1, Ordering::SeqCst);
        shared.wake();
        Self(shared)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurry.fetch_sub(1, Ordering::SeqCst);
    }
}
