//! The root of trust: which keys may sign what, and how many of them it takes.
//!
//! A root is a DSSE envelope of type `application/vnd.brokle.root+json`. Each key has one role, so that a key kept in a
//! build machine can't sign licenses. A publisher's key without `prefixes` is the vendor's own; one with prefixes belongs
//! to somebody whom the vendor has verified, and signs for those ids only.
//!
//! Roots follow each other one by one: N+1 is signed by the root keys of N (so the holders of N wanted it) and by its own
//! (so those who are to hold on from now really have the keys). Both thresholds count distinct keys.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::dsse::Envelope;
use super::keys::{KeyId, PublicKey, SecretKey};
use super::publishers::Prefix;
use super::{ROOT_TYPE, TrustError};

/// The most keys in a root.
const MAX_KEYS: usize = 256;

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Roots.
    Root,
    /// Plugins' statements.
    Publisher,
    /// Licenses.
    License,
    /// Lists of revocations.
    Revocation,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Publisher, Self::License, Self::Revocation];

    /// `root`, `publisher`, `license`, `revocation`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Publisher => "publisher",
            Self::License => "license",
            Self::Revocation => "revocation",
        }
    }
}

/// One key of a root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RootKey {
    /// The key.
    pub public: PublicKey,
    /// What it may sign.
    pub role: Role,
    /// It may sign what is dated from here on.
    pub not_before: DateTime<Utc>,
    /// It may sign what is dated up to here.
    pub not_after: DateTime<Utc>,
    /// For a verified publisher: the ids that it may sign for. Empty for the vendor's own keys.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefixes: Vec<Prefix>,
}

impl RootKey {
    /// Whether it may sign what bears this date.
    pub(crate) fn covers(&self, at: DateTime<Utc>) -> bool {
        (self.not_before..=self.not_after).contains(&at)
    }
}

/// A root's content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// 1, 2, 3 and so on.
    pub version: u64,
    /// When it was made.
    pub issued_at: DateTime<Utc>,
    /// It vouches for nothing that is dated later.
    pub expires: DateTime<Utc>,
    /// The keys, by their ids.
    pub keys: BTreeMap<KeyId, RootKey>,
    /// How many keys of each role it takes.
    pub thresholds: BTreeMap<Role, usize>,
}

impl Root {
    /// Reads a root that stands for itself: the first one, which the binary or the operator vouches for.
    ///
    /// # Errors
    /// When it is malformed, or too few of its own root keys signed it.
    pub fn anchor(bytes: &[u8]) -> Result<Self, TrustError> {
        let (root, envelope) = Self::parse(bytes)?;
        root.authorize(Role::Root, &envelope, root.issued_at, "the root")?;
        Ok(root)
    }

    /// Reads the root that follows this one.
    ///
    /// # Errors
    /// When it is malformed, when its version isn't the next one, or when the root keys of this root or its own didn't
    /// reach their threshold.
    pub fn succeed(&self, bytes: &[u8]) -> Result<Self, TrustError> {
        let (next, envelope) = Self::parse(bytes)?;
        if self.version.checked_add(1) != Some(next.version) {
            let expected = match next.version <= self.version {
                true => format!("but version {} is held already", self.version),
                false => format!("but {} comes next; import the ones between first", self.version + 1),
            };
            return Err(TrustError::Version { what: "the root", found: next.version, expected });
        }
        // An expired root still names its successor (as TUF has it), else expiry would be for ever.
        let dated = next.issued_at.min(self.expires);
        self.authorize(Role::Root, &envelope, dated, "the root, by the keys of the one before")?;
        next.authorize(Role::Root, &envelope, next.issued_at, "the root, by its own keys")?;
        Ok(next)
    }

    fn parse(bytes: &[u8]) -> Result<(Self, Envelope), TrustError> {
        let malformed = |detail: String| TrustError::Malformed { what: "the root", detail };
        let envelope = Envelope::parse(bytes).map_err(|error| malformed(error.to_string()))?;
        if envelope.payload_type != ROOT_TYPE {
            return Err(malformed(format!("its type is {:?}, not {ROOT_TYPE:?}", envelope.payload_type)));
        }
        let root: Self =
            serde_json::from_slice(&envelope.payload).map_err(|error| malformed(error.to_string()))?;
        root.check().map_err(malformed)?;
        Ok((root, envelope))
    }

    /// What no type can refuse.
    fn check(&self) -> Result<(), String> {
        if self.version == 0 {
            return Err("versions start at 1".to_owned());
        }
        if self.issued_at >= self.expires {
            return Err("it expires before it is issued".to_owned());
        }
        if self.keys.len() > MAX_KEYS {
            return Err(format!("more than {MAX_KEYS} keys"));
        }
        for (id, key) in &self.keys {
            if *id != key.public.id() {
                return Err(format!("key {id} stands under an id that isn't its own"));
            }
            if key.not_before >= key.not_after {
                return Err(format!("key {id} ends before it starts"));
            }
            if key.role != Role::Publisher && !key.prefixes.is_empty() {
                return Err(format!("key {id} has prefixes, but isn't a publisher's"));
            }
        }
        for role in Role::ALL {
            let name = role.as_str();
            let threshold = self.threshold(role);
            let keys = self.keys.values().filter(|key| key.role == role && key.prefixes.is_empty()).count();
            if threshold == 0 {
                return Err(format!("role {name} has no threshold, or one of 0"));
            }
            // A role that nobody uses needs no key: a company that signs its own plugins issues no licenses.
            if threshold > keys && (keys > 0 || role == Role::Root) {
                return Err(format!("role {name} has {keys} keys and needs {threshold} of them"));
            }
        }
        Ok(())
    }

    /// How many distinct keys of a role it takes; 0 when the root doesn't say.
    #[must_use]
    pub fn threshold(&self, role: Role) -> usize {
        self.thresholds.get(&role).copied().unwrap_or(0)
    }

    /// Signs a root, or whatever else, with its type.
    ///
    /// # Errors
    /// When the root itself is contradictory.
    pub fn sign(&self, keys: &[&SecretKey]) -> Result<Vec<u8>, TrustError> {
        let malformed = |detail: String| TrustError::Malformed { what: "the root", detail };
        self.check().map_err(malformed)?;
        let payload = serde_json::to_vec(self).map_err(|error| malformed(error.to_string()))?;
        Ok(Envelope::sign(ROOT_TYPE, payload, keys).to_json())
    }

    /// Whether enough keys of a role signed an envelope that bears a date. Signatures of keys that this root doesn't have
    /// don't count and don't harm; one of a key that it has, and that doesn't hold, refuses the whole.
    pub(crate) fn authorize(
        &self,
        role: Role,
        envelope: &Envelope,
        dated: DateTime<Utc>,
        what: &'static str,
    ) -> Result<(), TrustError> {
        let unauthorized = |detail: String| TrustError::Unauthorized { what, detail };
        if dated > self.expires {
            return Err(unauthorized(format!("root {} ended on {}", self.version, self.expires)));
        }
        let message = envelope.message();
        let mut signers = BTreeSet::new();
        for signature in &envelope.signatures {
            let id = signature.keyid;
            let Some(key) = self.keys.get(&id).filter(|key| key.role == role) else { continue };
            if !Envelope::holds(&message, signature, &key.public) {
                return Err(unauthorized(format!("the signature by {id} doesn't hold")));
            }
            if key.covers(dated) {
                signers.insert(id);
            }
        }
        let needed = self.threshold(role).max(1);
        if signers.len() < needed {
            let (role, found) = (role.as_str(), signers.len());
            return Err(unauthorized(format!(
                "{found} of {needed} {role} keys of root {} signed it",
                self.version
            )));
        }
        Ok(())
    }
}
