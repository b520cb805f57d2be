//! Who counts what happens: the server's metrics, without this crate knowing them. Calls and their time are counted by
//! whoever makes them.

use std::fmt::Debug;

/// Counts what happens to components. Called on hot paths: it must not wait.
pub trait Watch: Send + Sync + Debug {
    /// An instance of this component has had more memory than any before, in bytes.
    fn grew(&self, id: &str, memory: usize);
    /// A component was refused, with this code.
    fn refused(&self, code: &str);
    /// Another set of versions serves from now on.
    fn swapped(&self);
}

/// Nobody does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unwatched;

impl Watch for Unwatched {
    fn grew(&self, _: &str, _: usize) {}
    fn refused(&self, _: &str) {}
    fn swapped(&self) {}
}
