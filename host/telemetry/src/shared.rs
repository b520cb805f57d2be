//! What the recorder and its two threads have in common.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use brokle_core::clock::Clock;
use parking_lot::{Condvar, Mutex};
use tokio::sync::watch;

use crate::progress::Progress;
use crate::queue::Queue;
use crate::streams::{SharedDepth, SharedQueue};

/// The first wait after a failure; each further one is twice as long.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest.
const MAX_BACKOFF: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) queue: Queue,
    /// Where batches go instead of the file, as long as it takes them.
    pub(crate) remote: Option<Remote>,
    pub(crate) memory: Memory,
    pub(crate) counters: Counters,
    pub(crate) progress: watch::Sender<Progress>,
    /// How many callers wait in `flush`.
    pub(crate) hurry: AtomicUsize,
    /// Nothing is accepted any more.
    pub(crate) closed: AtomicBool,
    /// The collector has ended: nothing will be added to the queue but by re-driving.
    pub(crate) collected: AtomicBool,
    /// Where both threads wait. What they wait for is in the atomics and the queue.
    lock: Mutex<()>,
    wake: Condvar,
}

/// What is in memory, between `record` and the queue.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    pub(crate) rows: AtomicUsize,
    pub(crate) bytes: AtomicUsize,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) accepted: AtomicU64,
    pub(crate) dropped: AtomicU64,
    pub(crate) spilled: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) inserted: AtomicU64,
    pub(crate) duplicates: AtomicU64,
    pub(crate) queue_errors: AtomicU64,
    pub(crate) store_errors: AtomicU64,
}

impl Shared {
    pub(crate) fn new(queue: Queue, remote: Option<Remote>, clock: Arc<dyn Clock>) -> Self {
        let backlog = queue.last_id();
        // Batches that an earlier process left behind count as committed, so that a flush waits for them too.
        let progress = Progress { committed_id: backlog, ..Progress::default() };
        Self {
            clock,
            queue,
            remote,
            memory: Memory::default(),
            counters: Counters::default(),
            progress: watch::Sender::new(progress),
            hurry: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            collected: AtomicBool::new(false),
            lock: Mutex::new(()),
            wake: Condvar::new(),
        }
    }

    pub(crate) fn now_us(&self) -> i64 {
        self.clock.now().timestamp_micros()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Whether somebody waits for everything to arrive.
    pub(crate) fn is_urgent(&self) -> bool {
        self.hurry.load(Ordering::SeqCst) > 0 || self.is_closed()
    }

    /// Waits until `ready`, at most until `deadline`. Whoever makes it ready calls [`wake`](Self::wake).
    pub(crate) fn wait(&self, deadline: Option<Instant>, mut ready: impl FnMut() -> bool) {
        let mut guard = self.lock.lock();
        while !ready() {
            match deadline {
                None => self.wake.wait(&mut guard),
                Some(deadline) => {
                    if self.wake.wait_until(&mut guard, deadline).timed_out() {
                        return;
                    }
                }
            }
        }
    }

    /// Lets both threads look again.
    pub(crate) fn wake(&self) {
        // A thread that has looked but not yet gone to sleep holds the lock, so it can't miss this.
        drop(self.lock.lock());
        self.wake.notify_all();
    }

    /// The same from a request's path: never waits for the lock. A thread may miss it, and then sleeps its time out.
    pub(crate) fn nudge(&self) {
        self.wake.notify_all();
    }

    pub(crate) fn advance(&self, step: impl FnOnce(&mut Progress)) {
        self.progress.send_modify(step);
    }
}

/// How long to wait before the next try.
#[derive(Debug)]
pub(crate) struct Backoff(Duration);

impl Backoff {
    pub(crate) const fn new() -> Self {
        Self(FIRST_BACKOFF)
    }

    /// Waits; cut short when everything closes.
    pub(crate) fn wait(&mut self, shared: &Shared) {
        shared.wait(Some(Instant::now() + self.step()), || shared.is_closed());
    }

    /// How long to wait now.
    pub(crate) fn step(&mut self) -> Duration {
        let longer = MAX_BACKOFF.min(self.0 * 2);
        std::mem::replace(&mut self.0, longer)
    }
}

/// Logs an outage's beginning and its end, and not each try that fails.
#[derive(Debug, Default)]
pub(crate) struct Outage(AtomicBool);

impl Outage {
    pub(crate) fn began(&self, error: &(dyn std::error::Error + 'static), what: &str) {
        if !self.0.swap(true, Ordering::SeqCst) {
            tracing::error!(error, "{what}");
        }
    }

    pub(crate) fn ended(&self, what: &str) {
        if self.0.swap(false, Ordering::SeqCst) {
            tracing::info!("{what}");
        }
    }

    pub(crate) fn goes_on(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// The queue in Redis, as this process knows it.
#[derive(Debug)]
pub(crate) struct Remote {
    pub(crate) queue: SharedQueue,
    pub(crate) depth: Mutex<SharedDepth>,
    pub(crate) outage: Outage,
    /// Bytes of the file from which on it takes nothing more in Redis' place.
    pub(crate) max_spilled_bytes: usize,
}

impl Remote {
    pub(crate) fn new(queue: SharedQueue, max_spilled_bytes: usize) -> Self {
        Self { queue, depth: Mutex::default(), outage: Outage::default(), max_spilled_bytes }
    }

    pub(crate) fn answered(&self) {
        self.outage.ended("the telemetry queue's Redis answers again");
    }

    pub(crate) fn failed(&self, error: &(dyn std::error::Error + 'static)) {
        self.outage.began(
            error,
            "the telemetry queue's Redis takes nothing: calls go to the file, senders are told",
        );
    }
}
