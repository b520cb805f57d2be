//! How many calls there may be at once: in the whole gateway ([`Room`]), and at one connection ([`Gate`]).
//!
//! **The gateway** has no queue: a call for which there is no room is refused before its body is read, 503
//! `gateway_overloaded` with `Retry-After`. What is refused costs next to nothing, so what was let in goes on as fast as
//! before.
//!
//! **A connection** may have a queue: a candidate that is full is passed over while another one is left, and waited for, in
//! the order of arrival, at the last; no longer than the gate says, and only by as many as it says. Then it is 503
//! `connection_busy` with `Retry-After`.
//!
//! A place is held until the answer's last byte, and given back by being dropped: a client that goes away, an upstream that
//! dies and a task that is cancelled give it back like any other.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use http_body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::connections::Connection;
use crate::refusal::{Fault, Refusal};

/// A place at a connection.
pub(crate) type Permit = OwnedSemaphorePermit;

/// The calls of a whole gateway.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    taken: Arc<AtomicUsize>,
    /// Refused, and not yet told.
    refused: Arc<AtomicU64>,
    /// 0: as many as come.
    most: usize,
}

impl Room {
    pub(crate) fn new(most: usize) -> Self {
        Self { taken: Arc::default(), refused: Arc::default(), most }
    }

    pub(crate) fn enter(&self) -> Option<Place> {
        // Taken first: two that come at the same time can't both have the last place.
        let place = Place { taken: Arc::clone(&self.taken) };
        let before = self.taken.fetch_add(1, Ordering::Relaxed);
        (self.most == 0 || before < self.most).then_some(place)
    }

    /// Notes one that found no room.
    pub(crate) fn refuse(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// How many were refused since this was asked before.
    pub(crate) fn newly_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::Relaxed)
    }

    /// How many calls there are.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// Lets what else is ready on this thread go first, when there are other calls: so what they write comes one right after
    /// the other. Who reads it sleeps when the first piece comes and is awake for the rest; waking it, on another processor,
    /// is the dearest part of a write (docs/benchmarks.md).
    pub(crate) async fn others_first(&self) {
        if self.taken() > 1 {
            tokio::task::yield_now().await;
        }
    }
}

/// One call's place in the gateway.
#[derive(Debug)]
pub struct Place {
    taken: Arc<AtomicUsize>,
}

impl Place {
    /// Keeps the place until the body's end.
    pub fn hold<B>(self, body: B) -> Held<B> {
        Held { body, _place: self }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body with the place that it takes.
#[derive(Debug)]
pub struct Held<B> {
    body: B,
    _place: Place,
}

impl<B: Body + Unpin> Body for Held<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The calls of one connection.
#[derive(Debug)]
pub struct Gate {
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    queue: usize,
    wait: Duration,
}

impl Gate {
    /// `most` calls at once; `queue` further ones wait, each at most for `wait`.
    #[must_use]
    pub fn new(most: usize, queue: usize, wait: Duration) -> Self {
        let places = Arc::new(Semaphore::new(most.min(Semaphore::MAX_PERMITS)));
        Self { places, waiting: AtomicUsize::new(0), queue, wait }
    }

    /// How many wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    async fn enter(&self, may_wait: bool) -> Option<Permit> {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return Some(permit);
        }
        if !may_wait {
            return None;
        }
        let queued = Queued::join(&self.waiting);
        if queued.before >= self.queue {
            return None;
        }
        let place = tokio::time::timeout(self.wait, Arc::clone(&self.places).acquire_owned());
        place.await.ok()?.ok()
    }
}

/// One that waits, until it is dropped.
struct Queued<'a> {
    waiting: &'a AtomicUsize,
    before: usize,
}

impl<'a> Queued<'a> {
    fn join(waiting: &'a AtomicUsize) -> Self {
        Self { waiting, before: waiting.fetch_add(1, Ordering::Relaxed) }
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A place at the connection, if it wants one to be taken. `may_wait`: nobody else is left.
///
/// # Errors
/// It is full.
pub(crate) async fn enter(connection: &Connection, may_wait: bool) -> Result<Option<Permit>, Refusal> {
    let Some(gate) = &connection.gate else { return Ok(None) };
    match gate.enter(may_wait).await {
        Some(permit) => Ok(Some(permit)),
        None => {
            let provider = connection.provider_name();
            let message =
                format!("As many calls are under way to provider '{provider}' as it takes at once.");
            Err(Refusal {
                fault: Fault::Internal,
                retryable: true,
                retry_after: Some(Duration::from_secs(1)),
                ..Refusal::client(503, "connection_busy", message)
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_room_is_exact_and_given_back() {
        let room = Room::new(2);
        let (one, two) = (room.enter(), room.enter());
        assert!(one.is_some() && two.is_some() && room.enter().is_none());
        assert_eq!(room.taken(), 2, "who is turned away takes nothing");
        drop(one);
        assert!(room.enter().is_some());
        drop(two);
        assert_eq!(room.taken(), 0);
        let endless = Room::new(0);
        let many: Vec<_> = (0..1_000).map(|_| endless.enter().unwrap()).collect();
        assert_eq!(endless.taken(), many.len());
    }

    #[tokio::test]
    async fn others_go_first_where_there_are_any() {
        let room = Room::new(0);
        let alone = room.enter();
        assert!(futures_util::poll!(std::pin::pin!(room.others_first())).is_ready(), "nobody to wait for");
        let beside = room.enter();
        let seen = parking_lot::Mutex::new(Vec::new());
        let call = async |work| {
            seen.lock().push(work);
            room.others_first().await;
            seen.lock().push("writes");
        };
        tokio::join!(call("one works"), call("two works"));
        assert_eq!(*seen.lock(), ["one works", "two works", "writes", "writes"]);
        drop((alone, beside));
    }

    #[test]
    fn many_at_once_never_have_more_than_there_is() {
        let room = Room::new(8);
        let highest = AtomicUsize::new(0);
        let inside = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..16 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        if let Some(place) = room.enter() {
                            highest.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            std::thread::yield_now();
                            inside.fetch_sub(1, Ordering::SeqCst);
                            drop(place);
                        }
                    }
                });
            }
        });
        assert!(highest.load(Ordering::SeqCst) <= 8);
        assert_eq!(room.taken(), 0);
    }

    #[tokio::test]
    async fn a_full_gate_is_waited_for_by_few_and_not_for_long() {
        let wait = Duration::from_millis(50);
        let gate = Arc::new(Gate::new(1, 1, wait));
        let held = gate.enter(false).await.unwrap();
        assert!(gate.enter(false).await.is_none());
        let begun = std::time::Instant::now();
        let mut waiting = Box::pin(gate.enter(true));
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
        let mut refused = Box::pin(gate.enter(true));
        assert!(futures_util::poll!(refused.as_mut()).is_ready(), "the queue is full, which is said at once");
        assert!(waiting.await.is_none());
        assert!(begun.elapsed() >= wait);
        assert_eq!(gate.waiting(), 0);
        // One that is let go of while it waits leaves the queue.
        let mut left = Box::pin(gate.enter(true));
        assert!(futures_util::poll!(left.as_mut()).is_pending());
        drop(left);
        assert_eq!(gate.waiting(), 0);
        drop(held);
        assert!(gate.enter(true).await.is_some());
    }
}
