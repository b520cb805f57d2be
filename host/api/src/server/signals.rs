//! When to stop: asked by a signal, or by the program itself.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// A wish to stop, and a second one to stop at once. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    /// With a lame-duck phase.
    gently: CancellationToken,
    /// Without.
    soon: CancellationToken,
    at_once: CancellationToken,
}

impl Stop {
    /// Stops at `SIGTERM` and `SIGINT`, and at once at the second of them.
    ///
    /// # Errors
    /// When the signals can't be listened to.
    pub fn at_signals(tracker: &TaskTracker) -> std::io::Result<Self> {
        let stop = Self::default();
        let (terminate, interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tracker.spawn(stop.clone().listen(terminate, interrupt));
        Ok(stop)
    }

    /// Ends at the second signal, or when the server is done ([`Stop::finished`]).
    async fn listen(self, mut terminate: Signal, mut interrupt: Signal) {
        let mut signals = 0_u32;
        loop {
            let is_gentle = tokio::select! {
                _ = terminate.recv() => true,
                _ = interrupt.recv() => false,
                () = self.at_once.cancelled() => return,
            };
            signals += 1;
            match (signals, is_gentle) {
                (1, true) => self.gently(),
                (1, false) => self.soon(),
                _ => return self.abort(),
            }
        }
    }

    /// Begins a shutdown with a lame-duck phase, as `SIGTERM` does.
    pub fn gently(&self) {
        self.gently.cancel();
    }

    /// Begins a shutdown without a lame-duck phase, as `SIGINT` does.
    pub fn soon(&self) {
        self.soon.cancel();
    }

    /// Ends the server at once, as a second signal does.
    pub fn abort(&self) {
        self.soon.cancel();
        self.at_once.cancel();
    }

    /// The server is done: the signals' listener may end.
    pub fn finished(&self) {
        self.abort();
    }

    /// Has a shutdown been asked for?
    #[must_use]
    pub fn is_requested(&self) -> bool {
        self.gently.is_cancelled() || self.soon.is_cancelled()
    }

    /// Waits for the first wish; true if there should be a lame-duck phase.
    pub async fn requested(&self) -> bool {
        tokio::select! {
            biased;
            () = self.soon.cancelled() => false,
            () = self.gently.cancelled() => true,
        }
    }

    /// Waits for the wish to stop at once.
    pub async fn at_once(&self) {
        self.at_once.cancelled().await;
    }
}
