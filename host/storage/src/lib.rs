//! Where things are kept.

pub mod sql;
