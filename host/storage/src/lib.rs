//! Where things are kept.

pub mod blobs;
pub mod observations;
pub mod sql;
pub mod vectors;
