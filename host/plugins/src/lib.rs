//! The catalogue of components: which versions there are, where they come from, which of them serve whom, and how that
//! came to be.
//!
//! - [`catalogue`] is the one writer: it installs, enables, configures, rolls back, takes out; each change is a row and
//!   an event in one transaction.
//! - [`snapshot`] is what everybody else reads: immutable, swapped atomically, one atomic load per call.
//! - [`state`] says what can become of a version, [`gate`] who may load, [`health`] when one has failed too often,
//!   [`configuration`] what a configuration must look like, [`lock`] which hashes an operator pinned.
//! - [`sources`] bring components in.
//!
//! Apart from `host/runtime`, so that testing a component in isolation needs no database.

pub mod catalogue;
pub mod configuration;
mod files;
pub mod gate;
pub mod grants;
pub mod health;
mod loaded;
pub mod lock;
pub mod snapshot;
pub mod sources;
pub mod state;
pub mod watch;

pub use brokle_storage::sql::plugins::ScopeKey;
pub use catalogue::{Actor, Catalogue, CatalogueError, Entry, Offer, Settings, Start, Terms};
pub use files::{MAX_COMPONENT, MAX_ENVELOPE};
pub use gate::{Admission, Candidate, Gate, PinnedOnly, Refusal, Source, Trusted};
pub use snapshot::{Active, Snapshot, Snapshots, View};
pub use state::State;
pub use watch::{Unwatched, Watch};
