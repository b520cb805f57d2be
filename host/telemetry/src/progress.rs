//! How far the two threads have come; what `flush` and `shutdown` wait for.

/// Grows only.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Of the accepted observations, in the order they were handed over, those that left memory.
    pub(crate) collected: u64,
    /// The last batch that was committed to the queue.
    pub(crate) committed_id: i64,
    /// The last batch that left the queue.
    pub(crate) drained_id: i64,
    /// Both threads have ended.
    pub(crate) finished: bool,
}
