//! What this host believes, and what it remembers: under `DATA_DIR/trust` (0700, files 0600).
//!
//! | file | content |
//! |---|---|
//! | `roots/2.json`, `roots/3.json`, … | the roots that followed the first one, as they were signed |
//! | `revocations.json` | the newest list, as it was signed |
//! | `publishers.json` | the operator's publishers |
//! | `release-seq.json` | the highest `release_seq` of each id that was taken |
//!
//! Roots and lists are verified again at every start, each from the one before: whoever can write into the folder still
//! can't make the host believe a key. (Deleting a file takes memory away; that can't be prevented offline.) Every file is
//! written aside and renamed, under one lock, so that the server and the command line may both write.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};
use semver::Version;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dsse::MAX_ENVELOPE;
use super::files;
use super::keys::{KeyId, PublicKey};
use super::revocations::Revocations;
use super::root::{Role, Root};
use super::verify::{self, Rules, Verdict};
use super::{Publisher, Refusal, TrustError};
use crate::load::Inspection;

// `COMPILED_ROOT`, `COMPILED_REVOCATIONS` and `BUILT_AT`, from the environment of the build.
include!(concat!(env!("OUT_DIR"), "/trust_anchor.rs"));

/// The largest of the plain files, in bytes.
const MAX_FILE: usize = 4 << 20;

/// Where trust starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Nowhere: nobody is a vendor, licenses don't hold, operators' publishers still do.
    Unprovisioned,
    /// A root: its envelope, and the list of revocations that came with it.
    Provisioned {
        /// The root's envelope.
        root: Vec<u8>,
        /// The list's envelope.
        revocations: Option<Vec<u8>>,
    },
}

impl Anchor {
    /// The binary's own, or the one that the operator names (`BROKLE_TRUST_ROOT`).
    ///
    /// # Errors
    /// When the file can't be read, or when the binary has a root of its own and another one is named.
    pub fn choose(configured: Option<&Path>) -> Result<Self, TrustError> {
        Self::choose_from(COMPILED_ROOT, COMPILED_REVOCATIONS, configured)
    }

    pub(super) fn choose_from(
        compiled: Option<&[u8]>,
        revocations: Option<&[u8]>,
        configured: Option<&Path>,
    ) -> Result<Self, TrustError> {
        match (compiled, configured) {
            (Some(_), Some(path)) => Err(TrustError::Forbidden(format!(
                "this binary has a root of trust of its own, so BROKLE_TRUST_ROOT ({}) is refused: unset it. A newer root \
                 is imported with `brokle trust import-root`.",
                path.display()
            ))),
            (Some(root), None) => {
                Ok(Self::Provisioned { root: root.to_vec(), revocations: revocations.map(<[u8]>::to_vec) })
            }
            (None, Some(path)) => {
                Ok(Self::Provisioned { root: files::read_named(path, MAX_ENVELOPE)?, revocations: None })
            }
            (None, None) => Ok(Self::Unprovisioned),
        }
    }
}

/// When this binary was built, or the date of its sources where that is set (`SOURCE_DATE_EPOCH`).
#[must_use]
pub fn built_at() -> DateTime<Utc> {
    DateTime::from_timestamp(BUILT_AT, 0).unwrap_or_default()
}

/// What is believed now; replaced as a whole.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held {
    pub(crate) root: Option<Root>,
    pub(crate) revocations: Option<Revocations>,
    pub(crate) publishers: Vec<Publisher>,
    pub(crate) release_seqs: BTreeMap<String, u64>,
    pub(crate) builtins: Arc<HashSet<[u8; 32]>>,
}

/// What this host believes. Cheap to ask from many threads; changes are seen by the next question.
#[derive(Debug)]
pub struct TrustStore {
    /// `None` for a store that keeps nothing.
    folder: Option<PathBuf>,
    anchor: Anchor,
    host: Version,
    held: ArcSwap<Held>,
}

impl TrustStore {
    /// Opens the store in a folder, which is made if need be. `host` is the version that statements' host ranges are held
    /// against; `builtins` are the SHA-256 of the components that are parts of the binary.
    ///
    /// # Errors
    /// When a file can't be read or doesn't verify; the message names it.
    pub fn open(
        folder: &Path,
        anchor: Anchor,
        host: Version,
        builtins: impl IntoIterator<Item = [u8; 32]>,
    ) -> Result<Self, TrustError> {
        files::private_folder(&folder.join("roots"))?;
        let held = Held { builtins: Arc::new(builtins.into_iter().collect()), ..Held::default() };
        let store = Self { folder: Some(folder.to_owned()), anchor, host, held: ArcSwap::from_pointee(held) };
        store.reload()?;
        Ok(store)
    }

    /// A store that has an anchor only, and keeps nothing: for a question on the command line.
    ///
    /// # Errors
    /// When the anchor doesn't verify.
    pub fn detached(anchor: Anchor, host: Version) -> Result<Self, TrustError> {
        let store = Self { folder: None, anchor, host, held: ArcSwap::from_pointee(Held::default()) };
        store.reload()?;
        Ok(store)
    }

    /// Reads the files again: another process may have changed them.
    ///
    /// # Errors
    /// When one can't be read or doesn't verify. What was held stays.
    pub fn reload(&self) -> Result<(), TrustError> {
        let mut held = Held { builtins: self.held.load().builtins.clone(), ..Held::default() };
        held.publishers = self.plain("publishers.json")?;
        held.release_seqs = self.plain("release-seq.json")?;
        if let Anchor::Provisioned { root, revocations } = &self.anchor {
            let mut chain = vec![Root::anchor(root)?];
            // From the anchor on: a release may bring a newer one than the files have.
            while let Some(last) = chain.last()
                && let Some(next) = last.version.checked_add(1)
                && let Some(bytes) = self.read(&root_name(next), MAX_ENVELOPE)?
            {
                let next = last.succeed(&bytes)?;
                chain.push(next);
            }
            let kept = self.read("revocations.json", MAX_ENVELOPE)?;
            for bytes in [revocations, &kept].into_iter().flatten() {
                let list = read_held_list(bytes, &chain)?;
                if held.revocations.as_ref().is_none_or(|older| older.version < list.version) {
                    held.revocations = Some(list);
                }
            }
            held.root = chain.pop();
        }
        self.held.store(Arc::new(held));
        Ok(())
    }

    /// Whether this host runs these bytes. The order of the questions is that of `trust/verify.rs`; the license isn't among
    /// them.
    ///
    /// # Errors
    /// The first no, with its stable code.
    pub fn verify(
        &self,
        component: &[u8],
        envelope: Option<&[u8]>,
        inspection: &Inspection,
        rules: &Rules,
        now: DateTime<Utc>,
    ) -> Result<Verdict, Refusal> {
        verify::verify(&self.held.load(), &self.host, component, envelope, inspection, rules, now)
    }

    /// Remembers that a component was taken: older releases of its id are refused from here on. Call it once the component
    /// is installed. With `allow_downgrade` the memory goes back to this release.
    ///
    /// # Errors
    /// When it can't be written; nothing is remembered then.
    pub fn record(&self, verdict: &Verdict, allow_downgrade: bool) -> Result<(), TrustError> {
        let Some(statement) = &verdict.statement else { return Ok(()) };
        let _lock = self.lock()?;
        let mut seqs: BTreeMap<String, u64> = self.plain("release-seq.json")?;
        let highest = seqs.entry(statement.id.clone()).or_default();
        *highest = if allow_downgrade { statement.release_seq } else { statement.release_seq.max(*highest) };
        self.write_plain("release-seq.json", &seqs)?;
        self.reload()
    }

    /// Takes the root that follows the one held.
    ///
    /// # Errors
    /// When it isn't the next one, isn't signed by both thresholds, or has ended; when this binary has no root to start from.
    pub fn import_root(&self, bytes: &[u8], now: DateTime<Utc>) -> Result<u64, TrustError> {
        let _lock = self.lock()?;
        self.reload()?;
        let held = self.held.load();
        let Some(root) = &held.root else { return Err(no_anchor()) };
        let next = root.succeed(bytes)?;
        if next.expires <= now {
            return Err(TrustError::Forbidden(format!("root {} ended on {}", next.version, next.expires)));
        }
        self.write(&root_name(next.version), bytes)?;
        self.reload()?;
        Ok(next.version)
    }

    /// Takes a newer list of revocations. The one that is held already is taken too, without effect.
    ///
    /// # Errors
    /// When too few revocation keys signed it, when it is older than the one held, or another one of the same version.
    pub fn import_revocations(&self, bytes: &[u8]) -> Result<u64, TrustError> {
        let _lock = self.lock()?;
        self.reload()?;
        let held = self.held.load();
        let Some(root) = &held.root else { return Err(no_anchor()) };
        let list = Revocations::read(bytes, root)?;
        if let Some(older) = &held.revocations {
            if *older == list {
                return Ok(list.version);
            }
            if older.version >= list.version {
                let expected = format!("but version {} is held already", older.version);
                return Err(TrustError::Version {
                    what: "the list of revocations",
                    found: list.version,
                    expected,
                });
            }
        }
        self.write("revocations.json", bytes)?;
        self.reload()?;
        Ok(list.version)
    }

    /// Believes a publisher, for the ids under its prefix. One key has one prefix: adding it again changes that.
    ///
    /// # Errors
    /// When the key is one of the root's own, or the file can't be written.
    pub fn add_publisher(&self, publisher: Publisher) -> Result<(), TrustError> {
        let _lock = self.lock()?;
        let id = publisher.public.id();
        if self.held.load().root.as_ref().is_some_and(|root| root.keys.contains_key(&id)) {
            return Err(TrustError::Forbidden(format!(
                "key {id} is one of the root's, which says what it may sign"
            )));
        }
        let mut publishers: Vec<Publisher> = self.plain("publishers.json")?;
        publishers.retain(|other| other.public != publisher.public);
        publishers.push(publisher);
        self.write_plain("publishers.json", &publishers)?;
        self.reload()
    }

    /// Stops believing a publisher's key. Says whether there was one.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn remove_publisher(&self, id: KeyId) -> Result<bool, TrustError> {
        let _lock = self.lock()?;
        let mut publishers: Vec<Publisher> = self.plain("publishers.json")?;
        let before = publishers.len();
        publishers.retain(|publisher| publisher.public.id() != id);
        if publishers.len() == before {
            return Ok(false);
        }
        self.write_plain("publishers.json", &publishers)?;
        self.reload()?;
        Ok(true)
    }

    /// The root that is held.
    #[must_use]
    pub fn root(&self) -> Option<Root> {
        self.held.load().root.clone()
    }

    /// The list of revocations that is held.
    #[must_use]
    pub fn revocations(&self) -> Option<Revocations> {
        self.held.load().revocations.clone()
    }

    /// The operator's publishers.
    #[must_use]
    pub fn publishers(&self) -> Vec<Publisher> {
        self.held.load().publishers.clone()
    }

    /// What an operator should know, one sentence each: a root that has ended, a list that should have been followed.
    #[must_use]
    pub fn warnings(&self, now: DateTime<Utc>) -> Vec<String> {
        let held = self.held.load();
        let mut warnings = Vec::new();
        if let Some(root) = held.root.as_ref().filter(|root| root.expires <= now) {
            warnings.push(format!(
                "the root of trust ended on {}: what is signed later is refused until a newer root is imported",
                root.expires
            ));
        }
        if let Some(list) = held.revocations.as_ref().filter(|list| list.next_update <= now) {
            warnings.push(format!(
                "the list of revocations should have been followed by a newer one on {}; it holds until then",
                list.next_update
            ));
        }
        warnings
    }

    pub(crate) fn held(&self) -> Arc<Held> {
        self.held.load_full()
    }

    fn path(&self, name: &str) -> Result<PathBuf, TrustError> {
        let folder = self.folder.as_ref().map(|folder| folder.join(name));
        folder.ok_or_else(|| TrustError::Forbidden("this store keeps nothing".to_owned()))
    }

    /// A file of the folder; `None` when it isn't there.
    fn read(&self, name: &str, cap: usize) -> Result<Option<Vec<u8>>, TrustError> {
        match &self.folder {
            Some(folder) => files::read_if_there(&folder.join(name), cap),
            None => Ok(None),
        }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), TrustError> {
        files::write(&self.path(name)?, bytes, 0o600)
    }

    /// Held until it is dropped; other processes wait.
    fn lock(&self) -> Result<File, TrustError> {
        let path = self.path("lock")?;
        let lock = File::options().write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(TrustError::io(&path))?;
        lock.lock().map_err(TrustError::io(&path))?;
        Ok(lock)
    }

    fn plain<T: DeserializeOwned + Default>(&self, name: &'static str) -> Result<T, TrustError> {
        let Some(bytes) = self.read(name, MAX_FILE)? else { return Ok(T::default()) };
        serde_json::from_slice(&bytes)
            .map_err(|error| TrustError::Malformed { what: name, detail: error.to_string() })
    }

    fn write_plain(&self, name: &'static str, value: &impl Serialize) -> Result<(), TrustError> {
        let bytes = serde_json::to_vec_pretty(value)
            .map_err(|error| TrustError::Malformed { what: name, detail: error.to_string() })?;
        self.write(name, &bytes)
    }
}

/// A list that was taken once. The root that it was taken under may have been followed since by one with other revocation
/// keys; what was revoked stays revoked until a newer list says otherwise.
fn read_held_list(bytes: &[u8], chain: &[Root]) -> Result<Revocations, TrustError> {
    let mut outcome = Err(no_anchor());
    for root in chain.iter().rev() {
        outcome = Revocations::read(bytes, root);
        if outcome.is_ok() {
            break;
        }
    }
    outcome
}

fn root_name(version: u64) -> String {
    format!("roots/{version}.json")
}

fn no_anchor() -> TrustError {
    TrustError::Forbidden(
        "this binary has no root of trust; name the first one with BROKLE_TRUST_ROOT=root.json".to_owned(),
    )
}

impl Held {
    /// The key that a license of this date may be signed with.
    pub(crate) fn license_key(&self, id: KeyId, dated: DateTime<Utc>) -> Result<&PublicKey, String> {
        let Some(root) = &self.root else {
            return Err(
                "this binary has no root of trust, so it can't check licenses (BROKLE_TRUST_ROOT)".to_owned()
            );
        };
        let Some(key) = root.keys.get(&id) else {
            return Err(format!("key {id} isn't in root {}", root.version));
        };
        if key.role != Role::License {
            return Err(format!("key {id} has the role {}, which signs no licenses", key.role.as_str()));
        }
        if !key.covers(dated) || dated > root.expires {
            return Err(format!("key {id} may not sign what is dated {dated}"));
        }
        if self.revocations.as_ref().is_some_and(|list| list.key(id, dated, "").is_some()) {
            return Err(format!("key {id} was revoked"));
        }
        Ok(&key.public)
    }
}
