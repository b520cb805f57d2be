//! The license: which paid features this host offers, decided offline.
//!
//! # Policy
//! - A license is a compact JWS by a key that the [root of trust](crate::trust::Root) has for licenses ([`token`]); algorithm
//!   and type are pinned. The tier table lives here in the host ([`tiers`]); the token only says what differs.
//! - It comes from the file that the configuration names (`BROKLE_LICENSE_FILE`), else from `DATA_DIR/trust/license.jwt`,
//!   where `brokle license install` puts it. It is evaluated at the start, hourly and when it changes
//!   ([`Licenses::evaluate`]); between that, [`Licenses::current`] costs one atomic load.
//! - The time is the greatest of the system's clock, the license's `iat`, this binary's build and the high-water mark that
//!   is kept on disk, so that setting the clock back wins nothing. A clock more than a day behind the mark is told
//!   (`LICENSE_CLOCK`).
//! - States ([`State`]): NONE → VALID → WARN → GRACE → LIMITED → TERMINATED, and INVALID and REVOKED.
//! - **Nothing that holds the customer's data or keeps people safe ever stops** ([`Action::always`]): traffic, ingestion,
//!   sign-in, existing access rules, redaction, audit, export, erasure go on in every state. What ends is *configuring* paid
//!   features, looking at paid analytics, new seats, and loading components that were built after the license's end.
//!
//! The table of states and actions is in `docs/licensing.md`, and is held by the test `the_whole_matrix`.

mod state;
mod store;
pub mod tiers;
pub mod token;

pub use state::{Action, Entitlements, State};
pub use store::Licenses;
pub use tiers::Tier;
pub use token::{Bind, Claims};

#[cfg(test)]
mod tests;
