//! What no longer holds although it was signed.
//!
//! A list is a DSSE envelope of type `application/vnd.brokle.revocations+json`, signed by the root's revocation keys. It is
//! whole: a newer list takes the place of the older one, and a version that isn't higher is refused, so that nobody can
//! bring a key back by dropping an old file. Past `next_update` the list still holds; its age is told.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use semver::{Prerelease, Version, VersionReq};
use serde::{Deserialize, Serialize};

use super::dsse::Envelope;
use super::keys::{KeyId, SecretKey};
use super::root::{Role, Root};
use super::{REVOCATIONS_TYPE, TrustError};

const WHAT: &str = "the list of revocations";

/// A list's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// Higher than that of the list before.
    pub version: u64,
    /// When it was made.
    pub issued_at: DateTime<Utc>,
    /// When a newer one should be there.
    pub next_update: DateTime<Utc>,
    /// Keys of publishers and of licenses. (Root and revocation keys go with the next root.)
    #[serde(default)]
    pub keys: Vec<RevokedKey>,
    /// Components.
    #[serde(default)]
    pub components: Vec<RevokedComponent>,
    /// Licenses.
    #[serde(default)]
    pub licenses: Vec<RevokedLicense>,
    /// The lowest `release_seq` of an id that still runs.
    #[serde(default)]
    pub min_release_seq: BTreeMap<String, u64>,
    /// The lowest `security_epoch` of the vendor's own components that still runs.
    #[serde(default)]
    pub min_security_epoch: u64,
}

/// A key that lost its trust.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedKey {
    /// Which.
    pub keyid: KeyId,
    /// What is dated from here on no longer holds. Without a date nothing does: whoever stole a key can write any date.
    #[serde(default)]
    pub from: Option<DateTime<Utc>>,
    /// Hex SHA-256 of components that hold nevertheless, since they are known to be the publisher's own.
    #[serde(default)]
    pub except: Vec<String>,
    /// For people.
    #[serde(default)]
    pub reason: String,
}

/// A component that must not run: by its hash, or by id and versions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedComponent {
    /// Hex SHA-256 of the file.
    #[serde(default)]
    pub sha256: Option<String>,
    /// The id, with `versions`.
    #[serde(default)]
    pub id: Option<String>,
    /// `<1.2.3`. Pre-releases of a version in the range are in it too.
    #[serde(default)]
    pub versions: Option<VersionReq>,
    /// For people.
    #[serde(default)]
    pub reason: String,
}

/// A license that ended early.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokedLicense {
    /// Its `jti`.
    pub jti: String,
    /// Components built later don't load; the list's own date if there is none.
    #[serde(default)]
    pub from: Option<DateTime<Utc>>,
    /// For people.
    #[serde(default)]
    pub reason: String,
}

impl Revocations {
    /// Reads a list, and checks it against the root.
    ///
    /// # Errors
    /// When it is malformed, or too few revocation keys signed it.
    pub fn read(bytes: &[u8], root: &Root) -> Result<Self, TrustError> {
        let malformed = |detail: String| TrustError::Malformed { what: WHAT, detail };
        let envelope = Envelope::parse(bytes).map_err(|error| malformed(error.to_string()))?;
        if envelope.payload_type != REVOCATIONS_TYPE {
            return Err(malformed(format!(
                "its type is {:?}, not {REVOCATIONS_TYPE:?}",
                envelope.payload_type
            )));
        }
        let list: Self =
            serde_json::from_slice(&envelope.payload).map_err(|error| malformed(error.to_string()))?;
        root.authorize(Role::Revocation, &envelope, list.issued_at, WHAT)?;
        list.check().map_err(malformed)?;
        Ok(list)
    }

    fn check(&self) -> Result<(), String> {
        let whole = |entry: &RevokedComponent| {
            let by_range = entry.id.is_some() && entry.versions.is_some();
            entry.sha256.is_some() != by_range && entry.id.is_some() == entry.versions.is_some()
        };
        if !self.components.iter().all(whole) {
            return Err("a component is named by 'sha256', or by 'id' and 'versions'".to_owned());
        }
        Ok(())
    }

    /// Signs a list.
    ///
    /// # Errors
    /// When an entry is contradictory.
    pub fn sign(&self, keys: &[&SecretKey]) -> Result<Vec<u8>, TrustError> {
        let malformed = |detail: String| TrustError::Malformed { what: WHAT, detail };
        self.check().map_err(malformed)?;
        let payload = serde_json::to_vec(self).map_err(|error| malformed(error.to_string()))?;
        Ok(Envelope::sign(REVOCATIONS_TYPE, payload, keys).to_json())
    }

    /// The entry by which a key may not have signed this.
    pub(crate) fn key(&self, id: KeyId, dated: DateTime<Utc>, sha256: &str) -> Option<&RevokedKey> {
        self.keys.iter().find(|entry| {
            entry.keyid == id
                && entry.from.is_none_or(|from| dated >= from)
                && !entry.except.iter().any(|good| good == sha256)
        })
    }

    /// The entry that names this very file.
    pub(crate) fn file(&self, sha256: &str) -> Option<&RevokedComponent> {
        self.components.iter().find(|entry| entry.sha256.as_deref() == Some(sha256))
    }

    /// The entry that names this version of a plugin.
    pub(crate) fn version(&self, id: &str, version: &Version) -> Option<&RevokedComponent> {
        // A requirement doesn't match pre-releases by itself: `<1.2.0` would let `1.1.9-rc.1` pass.
        let release = Version { pre: Prerelease::EMPTY, ..version.clone() };
        self.components.iter().find(|entry| {
            let range = entry.versions.as_ref();
            entry.id.as_deref() == Some(id)
                && range.is_some_and(|range| range.matches(version) || range.matches(&release))
        })
    }

    /// When a license ended early, if it did.
    pub(crate) fn license(&self, jti: &str) -> Option<DateTime<Utc>> {
        let entry = self.licenses.iter().find(|entry| entry.jti == jti)?;
        Some(entry.from.unwrap_or(self.issued_at))
    }
}
