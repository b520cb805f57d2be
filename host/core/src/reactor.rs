//! Which reactor a thread is: one of those that serve connections, each with its own sockets and timers, and no other's work
//! ([ADR 12](../../../docs/adr/0012-a-reactor-for-each-processor.md)). What is kept one for each reactor is found by this number.

use std::cell::Cell;

thread_local! {
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Makes this thread a reactor, for good. Numbers begin at 0.
pub fn enter(number: usize) {
    NUMBER.set(Some(number));
}

/// This thread's number; none where work of any other kind is done.
#[must_use]
pub fn current() -> Option<usize> {
    NUMBER.get()
}
