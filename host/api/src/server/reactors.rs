//! The threads that serve connections.
//!
//! Each has a runtime of its own, and a connection stays where it was put: its sockets, its timers, and the calls to providers
//! that are made for it. None takes over what another one has; what that saves is in
//! [ADR 12](../../../../docs/adr/0012-a-reactor-for-each-processor.md). So nothing that takes long may be done on one of them
//! without giving it back now and then: it goes to a thread that may block, or, as components do, yields.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{io, thread};

use brokle_core::reactor;
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// Threads for connections. Clones share them; with the last one they end, and what still runs on them is dropped.
#[derive(Clone, Debug)]
pub struct Reactors(Arc<[Reactor]>);

#[derive(Debug)]
struct Reactor {
    runtime: Handle,
    /// Connections that it has.
    connections: Arc<AtomicUsize>,
    /// Dropped, it ends the thread.
    _end: oneshot::Sender<()>,
}

/// A connection's place on a reactor, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) runtime: Handle,
    connections: Arc<AtomicUsize>,
}

impl Reactors {
    /// Starts so many. Each thread's stack has `stack_bytes`.
    ///
    /// # Errors
    /// When the system gives no more threads, or no more descriptors.
    pub fn start(count: NonZeroUsize, stack_bytes: usize) -> io::Result<Self> {
        (0..count.get())
            .map(|number| Reactor::start(number, stack_bytes))
            .collect::<io::Result<_>>()
            .map(Self)
    }

    /// A place where the fewest connections are, and of several such on the first: who has few callers has few threads awake, and
    /// few connections to a provider that are kept for the next call.
    pub(super) fn place(&self) -> Option<Place> {
        let quietest = self.0.iter().min_by_key(|reactor| reactor.connections.load(Ordering::Relaxed))?;
        quietest.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { runtime: quietest.runtime.clone(), connections: Arc::clone(&quietest.connections) })
    }
}

impl Reactor {
    fn start(number: usize, stack_bytes: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().thread_stack_size(stack_bytes).build()?;
        let handle = runtime.handle().clone();
        let (end, ended) = oneshot::channel();
        thread::Builder::new().name(format!("reactor-{number}")).stack_size(stack_bytes).spawn(
            move || {
                reactor::enter(number);
                // An error says that the other end is gone, which is what is waited for.
                let _: Result<(), _> = runtime.block_on(ended);
                runtime.shutdown_background();
            },
        )?;
        Ok(Self { runtime: handle, connections: Arc::default(), _end: end })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn three() -> Reactors {
        Reactors::start(NonZeroUsize::new(3).unwrap(), 1 << 20).unwrap()
    }

    async fn number(place: &Place) -> usize {
        place.runtime.spawn(async { reactor::current() }).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn a_connection_goes_where_the_fewest_are() {
        let reactors = three();
        let place = || reactors.place().unwrap();
        let (a, b, c, d) = (place(), place(), place(), place());
        let numbers = [number(&a).await, number(&b).await, number(&c).await, number(&d).await];
        assert_eq!(numbers, [0, 1, 2, 0]);
        drop(b);
        assert_eq!(number(&place()).await, 1, "there is room again");
        assert_eq!(reactor::current(), None, "this thread is none");
    }

    #[tokio::test]
    async fn what_runs_on_them_ends_with_them() {
        let reactors = three();
        let task = reactors.place().unwrap().runtime.spawn(pending::<()>());
        drop(reactors);
        assert!(task.await.unwrap_err().is_cancelled());
    }
}
