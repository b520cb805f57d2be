//! The server's life as others see it: ready, draining, cutting.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Where the server is between its start and its end. One per server; the accept loop moves it, handlers and background
/// tasks watch it.
#[derive(Clone, Debug, Default)]
pub struct Lifecycle {
    unready: CancellationToken,
    draining: CancellationToken,
    cutting: CancellationToken,
    busy: TaskTracker,
}

impl Lifecycle {
    /// Should a load balancer send requests here? True until a shutdown begins.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.unready.is_cancelled()
    }

    /// Fires when no new connection is accepted any more. What is in flight goes on.
    #[must_use]
    pub fn draining(&self) -> &CancellationToken {
        &self.draining
    }

    /// Fires when the time for draining is over. A stream that is still open has
    /// [`CUT_NOTICE`](crate::server::CUT_NOTICE) to tell its client so; then its connection is closed.
    #[must_use]
    pub fn cutting(&self) -> &CancellationToken {
        &self.cutting
    }

    /// Work beside requests that a drain waits for, too.
    #[must_use]
    pub fn busy(&self) -> &TaskTracker {
        &self.busy
    }

    /// A shutdown begins: readiness is gone, everything else goes on.
    pub(crate) fn begin_shutdown(&self) {
        self.unready.cancel();
    }

    pub(crate) fn begin_draining(&self) {
        self.unready.cancel();
        self.draining.cancel();
    }

    pub(crate) fn begin_cutting(&self) {
        self.begin_draining();
        self.cutting.cancel();
    }
}
