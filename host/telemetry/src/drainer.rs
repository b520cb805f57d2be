//! The thread that brings batches from the queue's file to the analytics database, or to Redis.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use brokle_storage::observations::{AnalyticsError, AnalyticsStore, Inserted};

use crate::frame::{self, Dead};
use crate::rows::{Row, Rows};
use crate::shared::{Backoff, Shared};
use crate::streams::{AppendError, Link};

/// How long the oldest batch waits for others, so that the database has fewer and larger commits.
pub const ROUND: Duration = Duration::from_millis(250);
/// Rows per round; so many in the queue end the wait.
pub const MAX_ROUND_ROWS: usize = 1_000;
/// Bytes of batches per round.
pub(crate) const MAX_ROUND_BYTES: usize = 32 << 20;
/// How often to look how much is in Redis, and whether it is there.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) struct Drainer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) sink: Sink,
}

/// Where batches of the file go.
pub(crate) enum Sink {
    /// Into the analytics database.
    Store(Arc<dyn AnalyticsStore>),
    /// Into the queue in Redis, which didn't take them before.
    Shared(Box<Link>),
}

/// Why a round wasn't finished. The batches are still in the queue.
enum Failure {
    Queue(rusqlite::Error),
    Store(AnalyticsError),
    Shared(AppendError),
}

impl Drainer {
    /// Until everything is closed and the queue is empty, or the database fails while closing: the next start goes on.
    pub(crate) fn run(mut self) {
        let _finished = Finished(Arc::clone(&self.shared));
        let shared = Arc::clone(&self.shared);
        let shared = &*shared;
        let mut backoff = Backoff::new();
        loop {
            let closing = || shared.collected.load(Ordering::SeqCst);
            let look = matches!(self.sink, Sink::Shared(_)).then(|| Instant::now() + LOOK);
            shared.wait(look, || shared.queue.rows() > 0 || closing());
            self.look();
            if shared.queue.rows() == 0 {
                if closing() {
                    return;
                }
                continue;
            }
            shared.wait(Some(Instant::now() + ROUND), || {
                shared.queue.rows() >= MAX_ROUND_ROWS || shared.is_urgent() || closing()
            });
            match self.round() {
                Ok(()) => backoff = Backoff::new(),
                Err(failure) => {
                    self.report(&failure);
                    if closing() {
                        return;
                    }
                    backoff.wait(shared);
                }
            }
        }
    }

    fn look(&mut self) {
        if let (Sink::Shared(link), Some(remote)) = (&mut self.sink, &self.shared.remote) {
            match link.depth() {
                Ok(depth) => {
                    *remote.depth.lock() = depth;
                    remote.answered();
                }
                Err(error) => remote.failed(&error),
            }
        }
    }

    fn round(&mut self) -> Result<(), Failure> {
        let shared = &*self.shared;
        let (mut rows, mut dead, mut last_id) = (Rows::default(), Vec::new(), 0);
        for batch in shared.queue.peek(MAX_ROUND_ROWS, MAX_ROUND_BYTES) {
            last_id = batch.id;
            let (readable, unreadable) = shared.queue.load(batch).map_err(Failure::Queue)?;
            rows.append(readable);
            dead.extend(unreadable);
        }
        let store = match &mut self.sink {
            Sink::Store(store) => store,
            Sink::Shared(link) => {
                link.append(&rows).map_err(Failure::Shared)?;
                link.bury(shared.now_us(), &dead).map_err(|error| Failure::Shared(error.into()))?;
                shared.queue.finish(last_id, shared.now_us(), &[]).map_err(Failure::Queue)?;
                shared.advance(|progress| progress.drained_id = last_id);
                return Ok(());
            }
        };
        insert(shared, &**store, &rows, &mut dead).map_err(Failure::Store)?;
        shared.queue.finish(last_id, shared.now_us(), &dead).map_err(Failure::Queue)?;
        tell_dead(&dead);
        shared.advance(|progress| progress.drained_id = last_id);
        Ok(())
    }

    fn report(&self, failure: &Failure) {
        let counters = &self.shared.counters;
        match failure {
            Failure::Queue(error) => {
                counters.queue_errors.fetch_add(1, Ordering::Relaxed);
                let error = error as &dyn std::error::Error;
                tracing::error!(error, "the telemetry queue can't be read: trying again");
            }
            Failure::Shared(error) => {
                counters.queue_errors.fetch_add(1, Ordering::Relaxed);
                if let Some(remote) = &self.shared.remote {
                    remote.failed(error);
                }
            }
            Failure::Store(error) => {
                counters.store_errors.fetch_add(1, Ordering::Relaxed);
                let error = error as &dyn std::error::Error;
                tracing::error!(error, "the analytics database takes nothing: the queue holds it");
            }
        }
    }
}

/// Inserts what can be inserted, and counts it.
pub(crate) fn insert(
    shared: &Shared,
    store: &dyn AnalyticsStore,
    rows: &Rows,
    dead: &mut Vec<Dead>,
) -> Result<(), AnalyticsError> {
    let mut inserted = Inserted::default();
    let stored = insert_rows(store, rows, &mut inserted, dead);
    shared.counters.inserted.fetch_add(inserted.rows, Ordering::Relaxed);
    shared.counters.duplicates.fetch_add(inserted.duplicates, Ordering::Relaxed);
    stored
}

/// Says what is in the queue's file as dead letters now.
pub(crate) fn tell_dead(letters: &[Dead]) {
    for letter in letters {
        tracing::error!(reason = letter.reason, "an observation can't be stored: kept as a dead letter");
    }
}

/// Inserts rows of every kind; what is refused for good is put aside.
pub(crate) fn insert_rows(
    store: &dyn AnalyticsStore,
    rows: &Rows,
    inserted: &mut Inserted,
    dead: &mut Vec<Dead>,
) -> Result<(), AnalyticsError> {
    insert_parts(&rows.observations, Row::Observation, dead, &mut |rows| store.insert(rows, inserted))?;
    insert_parts(&rows.logs, Row::Log, dead, &mut |rows| store.insert_logs(rows, inserted))?;
    insert_parts(&rows.points, Row::Point, dead, &mut |rows| store.insert_points(rows, inserted))
}

/// A refused batch is halved until the row that is to blame is alone, at most 20 more inserts for one such row of 1,000.
fn insert_parts<'a, T>(
    rows: &'a [T],
    as_row: fn(&'a T) -> Row<'a>,
    dead: &mut Vec<Dead>,
    insert: &mut dyn FnMut(&[T]) -> Result<(), AnalyticsError>,
) -> Result<(), AnalyticsError> {
    if rows.is_empty() {
        return Ok(());
    }
    match insert(rows) {
        Err(AnalyticsError::Rejected(reason)) => match rows {
            [row] => {
                let row = as_row(row);
                let body = frame::encode(std::iter::once(row))
                    .map_err(|error| AnalyticsError::Unavailable(error.into()))?;
                dead.push(Dead { body, reason: reason.to_string(), project: Some(row.project()) });
                Ok(())
            }
            _ => {
                let (first, second) = rows.split_at(rows.len() / 2);
                insert_parts(first, as_row, dead, insert)?;
                insert_parts(second, as_row, dead, insert)
            }
        },
        answer => answer,
    }
}

/// Says that the threads have ended, also when one of them panics, so that nobody waits for ever.
struct Finished(Arc<Shared>);

impl Drop for Finished {
    fn drop(&mut self) {
        self.0.advance(|progress| progress.finished = true);
    }
}
