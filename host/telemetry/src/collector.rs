//! The thread that makes batches and commits them to the queue.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use brokle_core::observation::Observation;

use crate::frame::Encoder;
use crate::shared::{Backoff, Shared};

/// How long the first observation of a batch waits for others. At 1,000 calls per second a batch has 20 rows, and this
/// thread takes 13 to 17 µs of CPU per call; with 5 ms it takes 33 µs (`examples/cost.rs`, 2 cores). It is also what a
/// crash may lose. Nobody waits for it: a flush and a full batch end it early.
pub const WINDOW: Duration = Duration::from_millis(20);
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
    /// Look around: everything closes.
    Wake,
}

pub(crate) struct Collector {
    pub(crate) shared: Arc<Shared>,
    pub(crate) receiver: Receiver<Message>,
}

#[derive(Default)]
struct Batch {
    rows: Vec<Observation>,
    weight: usize,
}

impl Batch {
    fn add(&mut self, message: Message) {
        if let Message::Observation(observation, weight) = message {
            self.rows.push(observation);
            self.weight += weight;
        }
    }

    fn is_full(&self) -> bool {
        self.rows.len() >= MAX_BATCH_ROWS || self.weight >= MAX_BATCH_BYTES
    }
}

impl Collector {
    /// Until everything is closed and nothing is in memory any more.
    pub(crate) fn run(self) {
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
            if !batch.rows.is_empty() {
                self.let_others_join();
            }
            while !batch.is_full() {
                match self.receiver.try_recv() {
                    Ok(message) => batch.add(message),
                    Err(_) => break,
                }
            }
            if !batch.rows.is_empty() {
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

    fn let_others_join(&self) {
        let memory = &self.shared.memory;
        self.shared.wait(Some(Instant::now() + WINDOW), || {
            self.shared.is_urgent()
                || memory.rows.load(Ordering::SeqCst) >= MAX_BATCH_ROWS
                || memory.bytes.load(Ordering::SeqCst) >= MAX_BATCH_BYTES
        });
    }

    /// Tries until it is durable. Only a closing collector gives up, and counts what it drops.
    fn commit(&self, encoder: &mut Encoder, batch: Batch) {
        let shared = &*self.shared;
        let (rows, weight) = (batch.rows.len(), batch.weight);
        let committed = match encoder.encode(&batch.rows) {
            Ok(body) => self.append(&body, batch),
            Err(error) => {
                tracing::error!(
                    rows,
                    error = &error as &dyn std::error::Error,
                    "observations can't be written"
                );
                None
            }
        };
        if committed.is_none() {
            shared.counters.dropped.fetch_add(rows as u64, Ordering::Relaxed);
        }
        shared.memory.bytes.fetch_sub(weight, Ordering::SeqCst);
        shared.memory.rows.fetch_sub(rows, Ordering::SeqCst);
        shared.advance(|progress| {
            progress.collected += rows as u64;
            progress.committed_id = progress.committed_id.max(committed.unwrap_or_default());
        });
        shared.wake();
    }

    fn append(&self, body: &[u8], batch: Batch) -> Option<i64> {
        let shared = &*self.shared;
        let (mut rows, mut backoff, mut give_up) = (batch.rows, Backoff::new(), None);
        loop {
            let error = match shared.queue.append(shared.now_us(), body, rows, batch.weight) {
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
