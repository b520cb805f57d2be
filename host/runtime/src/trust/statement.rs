//! What a publisher signs about a component.

use chrono::{DateTime, Utc};
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};

use super::STATEMENT_TYPE;
use super::dsse::Envelope;
use super::keys::SecretKey;
use crate::load::Inspection;

/// The payload of `NAME.wasm.dsse.json`. Members that aren't listed here are refused: a restriction that a newer publisher
/// states must not be overlooked by an older host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The manifest's id.
    pub id: String,
    /// The manifest's version.
    pub version: Version,
    /// Grows with every release of this id, whatever its version number does.
    pub release_seq: u64,
    /// Raised when older releases must no longer run, for security's sake.
    #[serde(default)]
    pub security_epoch: u64,
    /// Hex SHA-256 of the file.
    pub sha256: String,
    /// Bytes in the file.
    pub size: u64,
    /// The manifest's contract: `brokle:provider@0.1.0`.
    pub wit: String,
    /// The hosts that it was made for: `>=0.1, <2`.
    pub host: VersionReq,
    /// The interfaces that it may import.
    pub capabilities: Vec<String>,
    /// What a license must have for it to run: `pii.redaction`.
    #[serde(default)]
    pub entitlements: Vec<String>,
    /// When it was built. A license's end is held against it.
    pub built_at: DateTime<Utc>,
}

impl Statement {
    /// The statement that describes a component as it is.
    #[must_use]
    pub fn of(inspection: &Inspection, release_seq: u64, host: VersionReq, built_at: DateTime<Utc>) -> Self {
        let manifest = &inspection.manifest;
        Self {
            id: manifest.id.clone(),
            version: manifest.version.clone(),
            release_seq,
            security_epoch: 0,
            sha256: inspection.sha256.clone(),
            size: inspection.size as u64,
            wit: manifest.wit.clone(),
            host,
            capabilities: inspection.imports.clone(),
            entitlements: manifest.entitlements.clone(),
            built_at,
        }
    }

    /// Signs it.
    #[must_use]
    pub fn sign(&self, keys: &[&SecretKey]) -> Envelope {
        // Strings, numbers and dates: there is nothing that JSON couldn't hold.
        Envelope::sign(STATEMENT_TYPE, serde_json::to_vec(self).unwrap_or_default(), keys)
    }

    /// `id version`, as errors and logs name it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.id, self.version)
    }
}
