//! Handles to secrets, to be used with [`crypto`](super::crypto). Nothing gives their values away.

pub use crate::bindings::capabilities::brokle::host::secrets::{Error, Secret, open};
