//! The slow lane: guests that have run for a whole tick take turns, so that they can't take all threads between them.
//!
//! Honest calls are over long before and never come here ([`crate::ticks`] tells who ran from who waited for a processor). Of
//! those that do, at most half as many run at once as there are processors (but one always may); the others wait in the order
//! they came, and while any waits, each turn is followed by a pause of [`PAUSE`]. A guest that is alone in the lane only gives its thread back for a moment.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::TICK;

/// After a turn, while others wait: twice the turn itself, so that a lane full of runaway guests takes a third of the
/// threads that it may have.
const PAUSE: std::time::Duration = TICK.saturating_mul(2);

/// The lane of one runtime.
#[derive(Debug)]
pub(crate) struct Lane {
    turns: Arc<Semaphore>,
    /// How many may run at once.
    wide: usize,
    /// How many run or wait.
    inside: AtomicUsize,
}

/// A guest's place in the lane, and its turn while it has one. Dropped with its call.
#[derive(Debug, Default)]
pub(crate) struct Place(Option<Arc<Held>>);

#[derive(Debug)]
struct Held {
    lane: Arc<Lane>,
    turn: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Lane {
    pub(crate) fn new() -> Arc<Self> {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::wide((processors / 2).max(1))
    }

    fn wide(wide: usize) -> Arc<Self> {
        Arc::new(Self { turns: Arc::new(Semaphore::new(wide)), wide, inside: AtomicUsize::new(0) })
    }
}

impl Place {
    /// The tick is over: waits for the next turn.
    pub(crate) fn next(&mut self, lane: &Arc<Lane>) -> impl Future<Output = ()> + Send + use<> {
        let held = self.0.get_or_insert_with(|| {
            lane.inside.fetch_add(1, Ordering::Relaxed);
            Arc::new(Held { lane: lane.clone(), turn: Mutex::new(None) })
        });
        held.turn.lock().take();
        let held = held.clone();
        async move {
            // Never closed.
            let turn = held.lane.turns.clone().acquire_owned().await.ok();
            if held.lane.inside.load(Ordering::Relaxed) > held.lane.wide {
                tokio::time::sleep(PAUSE).await;
            } else {
                tokio::task::yield_now().await;
            }
            *held.turn.lock() = turn;
        }
    }

    /// Whether it has come here.
    pub(crate) fn is_taken(&self) -> bool {
        self.0.is_some()
    }

    /// The call is over.
    pub(crate) fn leave(&mut self) {
        self.0 = None;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.lane.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Waker};
    use std::time::Instant;

    use super::*;

    #[tokio::test]
    async fn turns_are_taken_in_order_and_given_back() {
        let lane = Lane::wide(1);
        let (mut first, mut second) = (Place::default(), Place::default());
        first.next(&lane).await;
        assert_eq!(lane.turns.available_permits(), 0);
        let mut second_turn = pin!(second.next(&lane));
        let mut context = Context::from_waker(Waker::noop());
        assert!(second_turn.as_mut().poll(&mut context).is_pending());
        // The first one's tick is over: it queues behind the second, who pauses and goes.
        let begun = Instant::now();
        let first_turn = first.next(&lane);
        second_turn.await;
        assert!(begun.elapsed() >= PAUSE);
        assert_eq!(lane.turns.available_permits(), 0);
        second.leave();
        first_turn.await;
        first.leave();
        assert_eq!((lane.turns.available_permits(), lane.inside.load(Ordering::Relaxed)), (1, 0));
    }
}
