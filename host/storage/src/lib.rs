//! Where things are kept.

pub mod observations;
pub mod sql;
