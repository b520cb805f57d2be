//! The thread that makes batches and commits them.
//!
//! To the queue; or at once to an analytics database that is embedded ([`AnalyticsStore::is_embedded`]), as long as the queue
//! is empty: two commits of the same rows to two files of one disk make nothing more durable
//! (`docs/adr/0007-embedded-store-without-the-queue.md`). What the database doesn't take goes to the queue as ever.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use brokle_core::observation::Observation;
use brokle_storage::observations::AnalyticsStore;
use tokio::sync::oneshot;

use crate::drainer::{insert, tell_dead};
use crate::frame::Encoder;
use crate::live::Live;
use crate::recorder::NotDurable;
use crate::rows::Rows;
use crate::shared::{Backoff, Shared};
use crate::streams::Link;

/// How long the first observation of a batch waits for others. At 1,000 calls per second a batch has 20 rows, and this
/// thread takes 13 to 17 µs of CPU per call; with 5 ms it takes 33 µs (`examples/cost.rs`, 2 cores). It is also what a
/// crash may lose. Nobody waits for it: a flush and a full batch end it early.
pub const WINDOW: Duration = Duration::from_millis(20);
/// How long a batch waits for others when somebody waits for it: each 5 ms more are 5 ms of every sender's time.
pub const DURABLE_WINDOW: Duration = Duration::from_millis(5);
/// Rows in a batch at most; so many waiting end the window.
pub const MAX_BATCH_ROWS: usize = 1_024;
/// A batch is closed once it holds this many bytes; so many waiting end the window.
pub const MAX_BATCH_BYTES: usize = 4 << 20;
/// How often to look for observations that were being handed over when everything closed.
const LAST_LOOK: Duration = Duration::from_millis(1);
/// How long a closing collector tries to commit to a queue that fails.
const LAST_TRIES: Duration = Duration::from_secs(5);

/// What `record` hands over.
#[expect(
    clippy::large_enum_variant,
    reason = "all but one are observations: a box is an allocation per call"
)]
pub(crate) enum Message {
    /// With its weight.
    Observation(Observation, usize),
    /// Observations whose sender waits until they are durable.
    Durable(Durable),
    /// Look around: everything closes.
    Wake,
}

/// Observations that are committed together or not at all.
pub(crate) struct Durable {
    pub(crate) rows: Rows,
    pub(crate) weight: usize,
    /// Told how it went.
    pub(crate) done: oneshot::Sender<Result<(), NotDurable>>,
}

pub(crate) struct Collector {
    pub(crate) shared: Arc<Shared>,
    /// To the queue in Redis, if that is where batches go.
    pub(crate) link: Option<Link>,
    /// An analytics database that needs no queue before it.
    pub(crate) embedded: Option<Arc<dyn AnalyticsStore>>,
    /// Who is told.
    pub(crate) live: Option<Arc<Live>>,
    pub(crate) receiver: Receiver<Message>,
}

#[derive(Default)]
struct Batch {
    rows: Vec<Observation>,
    weight: usize,
    /// What somebody waits for; with its own rows and weight.
    durable: Vec<Durable>,
    durable_rows: usize,
    durable_weight: usize,
}

impl Batch {
    fn add(&mut self, message: Message) {
        match message {
            Message::Observation(observation, weight) => {
                self.rows.push(observation);
                self.weight += weight;
            }
            Message::Durable(durable) => {
                self.durable_rows += durable.rows.len();
                self.durable_weight += durable.weight;
                self.durable.push(durable);
            }
            Message::Wake => {}
        }
    }

    fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.durable.is_empty()
    }

    fn is_full(&self) -> bool {
        self.rows.len() + self.durable_rows >= MAX_BATCH_ROWS
            || self.weight + self.durable_weight >= MAX_BATCH_BYTES
    }
}

impl Collector {
    /// Until everything is closed and nothing is in memory any more.
    pub(crate) fn run(mut self) {
        let _collected = Collected(Arc::clone(&self.shared));
        let mut encoder = Encoder::new();
        let mut open = true;
        while open {
            let mut batch = Batch::default();
            match self.next() {
                Ok(message) => batch.add(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => self.shared.closed.store(true, Ordering::SeqCst),
            }
            if !batch.is_empty() {
                self.let_others_join(if batch.durable.is_empty() { WINDOW } else { DURABLE_WINDOW });
            }
            while !batch.is_full() {
                match self.receiver.try_recv() {
                    Ok(message) => batch.add(message),
                    Err(_) => break,
                }
            }
            if !batch.is_empty() {
                self.commit(&mut encoder, batch);
            }
            // `record` counts its observation before it looks whether it may, so 0 means that no more will come.
            open = !self.shared.is_closed() || self.shared.memory.rows.load(Ordering::SeqCst) > 0;
        }
    }

    fn next(&self) -> Result<Message, RecvTimeoutError> {
        if self.shared.is_closed() {
            return self.receiver.recv_timeout(LAST_LOOK);
        }
        self.receiver.recv().map_err(|_| RecvTimeoutError::Disconnected)
    }

    fn let_others_join(&self, window: Duration) {
        let memory = &self.shared.memory;
        self.shared.wait(Some(Instant::now() + window), || {
            self.shared.is_urgent()
                || memory.rows.load(Ordering::SeqCst) >= MAX_BATCH_ROWS
                || memory.bytes.load(Ordering::SeqCst) >= MAX_BATCH_BYTES
        });
    }

    /// Once with everything; what somebody waits for is given back to its sender if that fails, and the rest is tried
    /// until it is durable.
    fn commit(&mut self, encoder: &mut Encoder, batch: Batch) {
        let (own, mut refused) = (batch.rows.len(), 0);
        let mut waiting = Vec::with_capacity(batch.durable.len());
        let mut rows = Rows::from(batch.rows);
        for durable in batch.durable {
            rows.append(durable.rows);
            waiting.push(durable.done);
        }
        let weight = batch.weight + batch.durable_weight;
        let (calls, spans) = self.news(&rows.observations, own);
        if self.insert_now(&rows) {
            self.tell(calls);
            self.tell(spans);
            self.leave(rows.len(), weight);
            self.collected(rows.len(), None);
            for done in waiting {
                // Its sender may have gone away; then nobody needs to know.
                let _ = done.send(Ok(()));
            }
            return;
        }
        if !waiting.is_empty() {
            let answer = match self.append_once(encoder, rows, weight) {
                Ok(id) => {
                    rows = Rows::default();
                    self.leave(own + batch.durable_rows, weight);
                    self.collected(own + batch.durable_rows, id);
                    self.tell(spans);
                    Ok(())
                }
                Err(back) => {
                    rows = back;
                    // Senders have the others, and of other kinds are none of the gateway's own.
                    rows.observations.truncate(own);
                    (rows.logs, rows.points) = Default::default();
                    self.shared.counters.refused.fetch_add(batch.durable_rows as u64, Ordering::Relaxed);
                    self.leave(batch.durable_rows, batch.durable_weight);
                    refused = batch.durable_rows;
                    Err(NotDurable::Failed)
                }
            };
            for done in waiting {
                // Its sender may have gone away; then nobody needs to know.
                let _ = done.send(answer);
            }
        }
        if !rows.is_empty() {
            self.commit_own(encoder, rows, batch.weight);
        }
        self.tell(calls);
        // Not before the others: a flush takes the count for all that came before.
        if refused > 0 {
            self.collected(refused, None);
        }
    }

    /// What listeners want to know of: the first `own` rows, which happened whatever becomes of them, and those that somebody
    /// waits for, of which nothing is told before they are durable.
    fn news(&self, rows: &[Observation], own: usize) -> (Vec<Observation>, Vec<Observation>) {
        let Some(live) = self.live.as_ref().filter(|live| live.is_wanted()) else {
            return Default::default();
        };
        let (calls, spans) = rows.split_at_checked(own).unwrap_or_default();
        (live.wanted(calls), live.wanted(spans))
    }

    fn tell(&self, rows: Vec<Observation>) {
        if let Some(live) = &self.live {
            live.publish(rows);
        }
    }

    /// Whether all rows are in an embedded database now. Of those that are, some may come to the queue as well: it takes each once.
    fn insert_now(&self, rows: &Rows) -> bool {
        let (shared, mut dead) = (&*self.shared, Vec::new());
        let Some(store) = self.embedded.as_ref().filter(|_| shared.queue.rows() == 0) else { return false };
        if let Err(error) = insert(shared, &**store, rows, &mut dead) {
            shared.counters.store_errors.fetch_add(1, Ordering::Relaxed);
            let error = &error as &dyn std::error::Error;
            tracing::error!(
                rows = rows.len(),
                error,
                "the analytics database takes nothing: they are queued"
            );
            return false;
        }
        // Batches begin with 1: none is finished.
        if !dead.is_empty() && shared.queue.finish(0, shared.now_us(), &dead).is_err() {
            return false;
        }
        tell_dead(&dead);
        true
    }

    /// Tries until it is durable. Only a closing collector gives up, and counts what it drops. What Redis doesn't take is
    /// spilled to the file, up to its bound; from there it goes to Redis later.
    fn commit_own(&mut self, encoder: &mut Encoder, rows: Rows, weight: usize) {
        let count = rows.len();
        if let Some(shared_it) = self.share(&rows) {
            let is_full = self
                .shared
                .remote
                .as_ref()
                .is_some_and(|remote| self.shared.queue.depth().bytes >= remote.max_spilled_bytes);
            if shared_it || is_full {
                if !shared_it {
                    self.shared.counters.dropped.fetch_add(count as u64, Ordering::Relaxed);
                }
                self.leave(count, weight);
                return self.collected(count, None);
            }
            self.shared.counters.spilled.fetch_add(count as u64, Ordering::Relaxed);
        }
        let committed = match encoder.encode(rows.iter()) {
            Ok(body) => self.append(&body, rows, weight),
            Err(error) => {
                self.unwritable(count, &error);
                None
            }
        };
        if committed.is_none() {
            self.shared.counters.dropped.fetch_add(count as u64, Ordering::Relaxed);
        }
        self.leave(count, weight);
        self.collected(count, committed);
    }

    /// So many rows aren't in memory any more.
    fn leave(&self, rows: usize, weight: usize) {
        self.shared.memory.bytes.fetch_sub(weight, Ordering::SeqCst);
        self.shared.memory.rows.fetch_sub(rows, Ordering::SeqCst);
    }

    /// So many rows are in this batch, or given up.
    fn collected(&self, rows: usize, committed: Option<i64>) {
        self.shared.advance(|progress| {
            progress.collected += rows as u64;
            progress.committed_id = progress.committed_id.max(committed.unwrap_or_default());
        });
        self.shared.wake();
    }

    fn unwritable(&self, rows: usize, error: &rmp_serde::encode::Error) {
        tracing::error!(rows, error = error as &dyn std::error::Error, "observations can't be written");
    }

    /// Whether Redis has the rows now; none when batches go to the file.
    fn share(&mut self, rows: &Rows) -> Option<bool> {
        let link = self.link.as_mut()?;
        let outcome = link.append(rows);
        if let (Some(remote), Err(error)) = (&self.shared.remote, &outcome) {
            self.shared.counters.queue_errors.fetch_add(1, Ordering::Relaxed);
            remote.failed(error);
        } else if let Some(remote) = &self.shared.remote {
            remote.answered();
        }
        Some(outcome.is_ok())
    }

    /// The batch's id in the file, none in Redis; or the rows again.
    fn append_once(&mut self, encoder: &mut Encoder, rows: Rows, weight: usize) -> Result<Option<i64>, Rows> {
        if let Some(shared_it) = self.share(&rows) {
            return if shared_it { Ok(None) } else { Err(rows) };
        }
        let body = match encoder.encode(rows.iter()) {
            Ok(body) => body,
            Err(error) => {
                self.unwritable(rows.len(), &error);
                return Err(rows);
            }
        };
        let shared = &*self.shared;
        shared.queue.append(shared.now_us(), &body, rows, weight).map(Some).map_err(|(rows, error)| {
            shared.counters.queue_errors.fetch_add(1, Ordering::Relaxed);
            let error = &error as &dyn std::error::Error;
            tracing::error!(rows = rows.len(), error, "the telemetry queue takes nothing: senders are told");
            rows
        })
    }

    fn append(&self, body: &[u8], mut rows: Rows, weight: usize) -> Option<i64> {
        let shared = &*self.shared;
        let (mut backoff, mut give_up) = (Backoff::new(), None);
        loop {
            let error = match shared.queue.append(shared.now_us(), body, rows, weight) {
                Ok(id) => return Some(id),
                Err((back, error)) => {
                    rows = back;
                    error
                }
            };
            shared.counters.queue_errors.fetch_add(1, Ordering::Relaxed);
            let error = &error as &dyn std::error::Error;
            tracing::error!(rows = rows.len(), error, "the telemetry queue takes nothing: trying again");
            if shared.is_closed() && Instant::now() >= *give_up.get_or_insert(Instant::now() + LAST_TRIES) {
                return None;
            }
            backoff.wait(shared);
        }
    }
}

/// Says that the thread has ended, also when it panics, so that nobody waits for ever.
struct Collected(Arc<Shared>);

impl Drop for Collected {
    fn drop(&mut self) {
        self.0.closed.store(true, Ordering::SeqCst);
        self.0.collected.store(true, Ordering::SeqCst);
        self.0.wake();
    }
}
