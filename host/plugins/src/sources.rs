//! Where components come from, besides the server's own set and uploads.

pub mod folder;
pub mod oci;
