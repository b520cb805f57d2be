//! Echo.
