//! One file per group of endpoints. A handler parses, calls and shapes; nothing else.

pub mod docs;
pub mod health;
pub mod keys;
pub mod metrics;
