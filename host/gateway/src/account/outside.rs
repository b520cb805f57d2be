//! What stands between a call's stream and its caller has its say here.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::micros;
use crate::refusal::Refusal;

/// The word of whoever stands between a call's stream, which owns the account, and the caller.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(super) label: Arc<str>,
    pub(super) refusal: OnceLock<Refusal>,
    /// Microseconds in the component.
    pub(super) spent: AtomicU64,
    pub(super) trapped: AtomicBool,
}

impl Outside {
    pub(super) fn new(label: &Arc<str>) -> Self {
        Self {
            label: Arc::clone(label),
            refusal: OnceLock::new(),
            spent: AtomicU64::new(0),
            trapped: AtomicBool::new(false),
        }
    }

    /// The stream is given up for this reason.
    pub(crate) fn refuse(&self, refusal: Refusal) {
        let _ = self.refusal.set(refusal);
    }

    /// The time that its component has taken so far.
    pub(crate) fn spend(&self, spent: Duration) {
        self.spent.store(micros(spent), Ordering::Relaxed);
    }

    /// Its component failed.
    pub(crate) fn trap(&self) {
        self.trapped.store(true, Ordering::Relaxed);
    }
}
