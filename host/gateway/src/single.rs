//! Work that many ask for at the same time and that is done once: reading a tenant's routes or connections when they aren't in
//! memory. Without it the first moment of a tenant, and every one after a change, is as many queries as there are calls.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::OnceCell;

/// What is under way, by its key. The key says how fresh the outcome is: who wants a newer one has another key.
#[derive(Debug)]
pub(crate) struct Single<K: Eq + Hash, V>(Mutex<HashMap<K, Arc<OnceCell<V>>>>);

impl<K: Eq + Hash, V> Default for Single<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Single<K, V> {
    /// The outcome of the work that is under way for this key, or else of this. Whoever does it may give up: another one of those
    /// who wait does it then.
    pub(crate) async fn run<F: Future<Output = V>>(&self, key: K, work: impl FnOnce() -> F) -> V {
        let cell = Arc::clone(self.0.lock().entry(key.clone()).or_default());
        let seat = Seat { all: self, key, cell };
        seat.cell.get_or_init(work).await.clone()
    }
}

/// One who waits for an outcome.
struct Seat<'a, K: Eq + Hash, V> {
    all: &'a Single<K, V>,
    key: K,
    cell: Arc<OnceCell<V>>,
}

impl<K: Eq + Hash, V> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        let is_here = all.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // It is done, or this was the last one who wanted it: the list's own and this seat's are left.
        if is_here && (self.cell.initialized() || Arc::strong_count(&self.cell) == 2) {
            all.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_many_ask_for_at_once_is_done_once() {
        let (single, done) = (Single::default(), AtomicU32::new(0));
        let work = || async {
            tokio::task::yield_now().await;
            done.fetch_add(1, Ordering::SeqCst)
        };
        let all = futures_util::future::join_all((0..100).map(|_| single.run("a", work))).await;
        assert!(all.iter().all(|one| *one == 0));
        assert_eq!((single.run("a", work).await, single.run("b", work).await), (1, 2), "it isn't kept");
        assert!(single.0.lock().is_empty());
    }

    #[tokio::test]
    async fn who_gives_up_leaves_it_to_the_others() {
        let single = Single::default();
        let mut first = Box::pin(single.run("a", std::future::pending));
        assert!(futures_util::poll!(first.as_mut()).is_pending());
        let mut second = Box::pin(single.run("a", || async { 7 }));
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(first);
        assert_eq!(second.await, 7);
        let mut last = Box::pin(single.run("a", std::future::pending));
        assert!(futures_util::poll!(last.as_mut()).is_pending());
        drop(last);
        assert!(single.0.lock().is_empty());
    }
}
