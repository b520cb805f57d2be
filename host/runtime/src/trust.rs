//! Who made a component, and whether this host runs it.
//!
//! # Policy
//! - A signature is detached and covers the whole file: `NAME.wasm` travels with `NAME.wasm.dsse.json`, a DSSE envelope
//!   ([`dsse`]) over a [`Statement`] that names the file by SHA-256 and size. Nothing inside the component is trusted
//!   before that.
//! - Ed25519 only, verified strictly: no small-order points, no `S` beyond the group's order ([`keys`]). A key's id is the
//!   hex SHA-256 of its SubjectPublicKeyInfo in DER.
//! - Whom to believe stands in a [`Root`]: keys, one role each, with a threshold for each role. The first root is compiled
//!   in; root N+1 is taken when the thresholds of N *and* of N+1 signed it, and no other version is. A binary built without
//!   a root takes one from its operator; a binary built with one refuses that.
//! - A signed list of [`Revocations`] takes back keys, components and licenses. A list older than the one held is refused.
//! - An operator may add [`Publisher`]s, each with the id prefix that it may sign for; never the vendor's.
//! - Everything is decided in one place, [`TrustStore::verify`], in a fixed order. Its answer is a [`Verdict`] with a
//!   [`Level`], or a [`Refusal`] whose [`RefusalCode`] is stable.
//! - Nothing needs the network, and nothing here reads the machine's clock.
//!
//! # What a key's dates mean
//! A key may sign what is dated (`built_at`, `issued_at`, `iat`) between its `not_before` and `not_after`, and before the
//! root's `expires`. What was signed in time stays good afterwards: an installation without a network must come up again
//! in five years. A key that leaked is *revoked*, from a date or altogether, since its thief chooses the date.

pub mod dsse;
pub mod files;
pub mod keys;
mod publishers;
mod refusal;
mod revocations;
mod root;
mod statement;
mod store;
mod verify;

pub use keys::{KeyId, PublicKey, SecretKey};
pub use publishers::{Prefix, Publisher};
pub use refusal::{Refusal, RefusalCode, TrustError};
pub use revocations::{Revocations, RevokedComponent, RevokedKey, RevokedLicense};
pub use root::{Role, Root, RootKey};
pub use statement::Statement;
pub use store::{Anchor, TrustStore, built_at};
pub use verify::{Level, Rules, Verdict};

/// The type of a plugin's statement.
pub const STATEMENT_TYPE: &str = "application/vnd.brokle.plugin+json";
/// The type of a root.
pub const ROOT_TYPE: &str = "application/vnd.brokle.root+json";
/// The type of a list of revocations.
pub const REVOCATIONS_TYPE: &str = "application/vnd.brokle.revocations+json";
/// The license claims' type, as the header of their JWS names it.
pub const LICENSE_TYPE: &str = "brokle-license+jwt";

/// Whether an id is the vendor's own, which no other publisher may sign for.
#[must_use]
pub fn is_vendor_id(id: &str) -> bool {
    id == "brokle" || id.starts_with("brokle.")
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
pub(crate) mod tests;
