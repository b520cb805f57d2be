//! Asynchronous work for callers that block: a runtime on a thread of its own.

use std::fmt;
use std::sync::mpsc;

use tokio::runtime::{Builder, Runtime};

use super::AnalyticsError;

/// The thread. It ends when this is dropped, without being waited for, which an async caller must not.
pub(super) struct Apart(Option<Runtime>);

impl fmt::Debug for Apart {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Apart").finish_non_exhaustive()
    }
}

impl Apart {
    /// Starts a thread of this name.
    pub(super) fn start(name: &str) -> Result<Self, AnalyticsError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name(name).enable_all().build();
        runtime.map(|runtime| Self(Some(runtime))).map_err(|error| AnalyticsError::Unavailable(error.into()))
    }

    /// Runs it there, and waits.
    pub(super) fn wait<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, AnalyticsError>> + Send + 'static,
    ) -> Result<T, AnalyticsError> {
        let gone = || AnalyticsError::Unavailable("the thread that stores has ended".into());
        let (send, answer) = mpsc::sync_channel(1);
        self.0.as_ref().ok_or_else(gone)?.spawn(async move {
            // Nobody listens any more only when this thread's process ends.
            let _ = send.send(work.await);
        });
        answer.recv().map_err(|_| gone())?
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}
