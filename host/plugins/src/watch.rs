//! Who counts what happens: the server's metrics, without this crate knowing them.

use std::fmt::Debug;
use std::time::Duration;

use brokle_runtime::Fault;

/// Counts what happens to components. Called on hot paths: it must not wait.
pub trait Watch: Send + Sync + Debug {
    /// An export of the component with this id came back or failed; its instance has had `memory` bytes at most.
    fn called(&self, id: &str, export: &'static str, time: Duration, memory: usize, fault: Option<&Fault>);
    /// A component was refused, with this code.
    fn refused(&self, code: &str);
    /// Another set of versions serves from now on.
    fn swapped(&self);
}

/// Nobody does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn called(&self, _: &str, _: &'static str, _: Duration, _: usize, _: Option<&Fault>) {}
    fn refused(&self, _: &str) {}
    fn swapped(&self) {}
}
