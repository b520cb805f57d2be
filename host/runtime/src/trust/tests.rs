//! What is run and what isn't. Roots and keys are made here, from a seed; none is ever kept.

mod signatures;
mod stored;
mod vectors;

use std::collections::BTreeMap;
use std::path::Path;

use brokle_core::random::SeededRandom;
use chrono::{DateTime, TimeDelta, Utc};
use semver::{Version, VersionReq};

use super::*;
use crate::load::{Inspection, inspect};

pub(crate) fn day(day: i64) -> DateTime<Utc> {
    let start: DateTime<Utc> = "2026-01-01T00:00:00Z".parse().unwrap();
    start + TimeDelta::days(day)
}

pub(crate) fn key(seed: u64) -> SecretKey {
    SecretKey::generate(&SeededRandom::new(seed))
}

pub(crate) fn root_key(key: &SecretKey, role: Role) -> (KeyId, RootKey) {
    let public = key.public();
    (public.id(), RootKey { public, role, not_before: day(0), not_after: day(1000), prefixes: vec![] })
}

/// The vendor of these tests: two of three root keys, two of two publishers, one of the others.
pub(crate) struct Vendor {
    pub(crate) roots: [SecretKey; 3],
    pub(crate) publishers: [SecretKey; 2],
    pub(crate) verified: SecretKey,
    pub(crate) license: SecretKey,
    pub(crate) revocation: SecretKey,
}

impl Vendor {
    pub(crate) fn new() -> Self {
        Self {
            roots: [key(1), key(2), key(3)],
            publishers: [key(11), key(12)],
            verified: key(13),
            license: key(21),
            revocation: key(31),
        }
    }

    pub(crate) fn root(&self, version: u64) -> Root {
        let mut keys: BTreeMap<KeyId, RootKey> = self
            .roots
            .iter()
            .map(|key| root_key(key, Role::Root))
            .chain(self.publishers.iter().map(|key| root_key(key, Role::Publisher)))
            .collect();
        keys.extend([root_key(&self.license, Role::License), root_key(&self.revocation, Role::Revocation)]);
        let (id, mut verified) = root_key(&self.verified, Role::Publisher);
        verified.prefixes = vec!["acme.".to_owned().try_into().unwrap()];
        keys.insert(id, verified);
        let thresholds =
            [(Role::Root, 2), (Role::Publisher, 2), (Role::License, 1), (Role::Revocation, 1)].into();
        Root { version, issued_at: day(1), expires: day(900), keys, thresholds }
    }

    pub(crate) fn anchor(&self) -> Anchor {
        let root = self.root(1).sign(&[&self.roots[0], &self.roots[1]]).unwrap();
        Anchor::Provisioned { root, revocations: None }
    }

    pub(crate) fn store(&self, folder: &Path) -> TrustStore {
        open(folder, self.anchor())
    }

    pub(crate) fn both(&self) -> [&SecretKey; 2] {
        [&self.publishers[0], &self.publishers[1]]
    }

    pub(crate) fn revocations(&self, version: u64) -> Revocations {
        Revocations {
            version,
            issued_at: day(10),
            next_update: day(100),
            keys: vec![],
            components: vec![],
            licenses: vec![],
            min_release_seq: BTreeMap::new(),
            min_security_epoch: 0,
        }
    }

    /// Imports a list that `change` has made.
    pub(crate) fn revoke(&self, store: &TrustStore, change: impl FnOnce(&mut Revocations)) {
        let version = store.revocations().map_or(1, |list| list.version + 1);
        let mut list = self.revocations(version);
        change(&mut list);
        store.import_revocations(&list.sign(&[&self.revocation]).unwrap()).unwrap();
    }
}

pub(crate) fn open(folder: &Path, anchor: Anchor) -> TrustStore {
    TrustStore::open(folder, anchor, Version::new(0, 1, 0), []).unwrap()
}

/// The smallest file that describes itself: a component's header and the two sections.
pub(crate) fn component(id: &str, version: &str, entitlements: &[&str]) -> Vec<u8> {
    let manifest = serde_json::json!({
        "id": id, "version": version, "kind": "provider", "wit": "brokle:provider@0.1.0", "name": "small",
        "entitlements": entitlements,
    });
    let abi = serde_json::json!({"sdk": "brokle-plugin/0.1.0", "package": "small", "version": version});
    let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
    for (name, content) in [("brokle:manifest", manifest), ("brokle:abi", abi)] {
        section(&mut bytes, name, content.to_string().as_bytes());
    }
    bytes
}

pub(crate) fn section(bytes: &mut Vec<u8>, name: &str, content: &[u8]) {
    let leb = |mut value: usize| {
        let mut out = vec![];
        loop {
            let byte = (value & 0x7f) as u8;
            value >>= 7;
            out.push(if value == 0 { byte } else { byte | 0x80 });
            if value == 0 {
                return out;
            }
        }
    };
    let body = [leb(name.len()), name.as_bytes().to_vec(), content.to_vec()].concat();
    bytes.push(0);
    bytes.extend(leb(body.len()));
    bytes.extend(body);
}

/// A component with its statement, before it is signed.
pub(crate) struct Plugin {
    pub(crate) bytes: Vec<u8>,
    pub(crate) inspection: Inspection,
    pub(crate) statement: Statement,
}

impl Plugin {
    pub(crate) fn new(id: &str) -> Self {
        Self::of(component(id, "1.2.0", &[]))
    }

    pub(crate) fn of(bytes: Vec<u8>) -> Self {
        let inspection = inspect(&bytes).unwrap();
        let host: VersionReq = ">=0.1, <2".parse().unwrap();
        let statement = Statement::of(&inspection, 5, host, day(50));
        Self { bytes, inspection, statement }
    }

    pub(crate) fn signed(&self, keys: &[&SecretKey]) -> Vec<u8> {
        self.statement.sign(keys).to_json()
    }

    pub(crate) fn verify(
        &self,
        store: &TrustStore,
        envelope: &[u8],
        rules: &Rules,
    ) -> Result<Verdict, Refusal> {
        store.verify(&self.bytes, Some(envelope), &self.inspection, rules, day(60))
    }

    pub(crate) fn judge(&self, store: &TrustStore, keys: &[&SecretKey]) -> Result<Level, RefusalCode> {
        match self.verify(store, &self.signed(keys), &Rules::default()) {
            Ok(verdict) => Ok(verdict.level),
            Err(refusal) => Err(refusal.code),
        }
    }
}

pub(crate) fn publisher(key: &SecretKey, prefix: &str) -> Publisher {
    let prefix = prefix.to_owned().try_into().unwrap();
    Publisher { name: "test".into(), prefix, public: key.public(), added_at: day(0) }
}
