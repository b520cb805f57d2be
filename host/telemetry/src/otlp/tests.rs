//! Requests in both encodings, in and out of shape; the conventions have their own file.

mod captured;
mod conventions;
mod harness;
mod leniency;
mod limits;
mod signals;
