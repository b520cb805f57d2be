//! Hearing what components do.

use std::fmt::Debug;
use std::time::Duration;

use crate::error::Fault;

/// Hears of every export that was called, on the thread that called it: it must not wait.
pub trait Observer: Send + Sync + Debug {
    /// An export came back or failed after `time`, in an instance that has had `memory` bytes at most so far.
    fn called(&self, export: &'static str, time: Duration, memory: usize, fault: Option<&Fault>);
}
