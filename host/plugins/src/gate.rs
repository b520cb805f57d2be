//! Who may load: asked at installation and again at each load, about the bytes that are then compiled.

use std::fmt::Debug;
use std::sync::Arc;

use brokle_core::clock::Clock;
use brokle_runtime::Inspection;
use brokle_runtime::license::{self, Action, Licenses};
use brokle_runtime::trust::{self, Level, Rules, TrustStore, Verdict};
use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use serde::Serialize;

/// Where a component comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The server's own set: in the binary, or the folder that stands for it.
    Embedded,
    /// The watched folder.
    Folder,
    /// The API or the command line.
    Upload,
    /// A registry.
    Oci,
}

impl Source {
    /// Its name in the API and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Folder => "folder",
            Self::Upload => "upload",
            Self::Oci => "oci",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        let all = [Self::Embedded, Self::Folder, Self::Oci];
        all.into_iter().find(|source| source.as_str() == name).unwrap_or(Self::Upload)
    }
}

/// A component that wants in.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its bytes, the very ones that will be compiled.
    pub component: &'a [u8],
    /// Its signature.
    pub envelope: Option<&'a [u8]>,
    /// What it says of itself.
    pub inspection: &'a Inspection,
    /// Where it comes from.
    pub source: Source,
    /// Did an operator pin this very hash?
    pub pinned: bool,
    /// The newest release of its id that was ever let in.
    pub highest_seq: Option<u64>,
    /// Did an operator ask for an older release?
    pub allow_downgrade: bool,
}

/// It may load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// How far it is trusted: `vendor`, `verified`, `private`, `unsigned`.
    pub level: &'static str,
    /// Its place among the releases of its id.
    pub release_seq: Option<u64>,
}

/// It may not load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// A stable code such as `PLUGIN_UNSIGNED`.
    pub code: &'static str,
    /// The same for people.
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Decides who may load: signature first, then licence.
pub trait Gate: Send + Sync + Debug {
    /// Lets a component in, or says why not.
    ///
    /// # Errors
    /// The refusal, with its code.
    fn admit(&self, candidate: &Candidate<'_>) -> Result<Admission, Refusal>;

    /// Whether the configuration and the grants of an installed component may be changed now. One that a license pays for
    /// keeps what it has when that has ended.
    ///
    /// # Errors
    /// The refusal, with its code.
    fn configure(&self, _candidate: &Candidate<'_>) -> Result<(), Refusal> {
        Ok(())
    }

    /// Looks at what it goes by (keys, revocations, license) as it is now; true if whom it believes has changed, so that
    /// what serves has to be asked about again, and what was refused may be offered again. Called each second.
    fn look(&self) -> bool {
        false
    }
}

/// How often the trust store's files are read again: another process may import a revocation.
const RELOAD: TimeDelta = TimeDelta::seconds(10);
/// How often the license is evaluated.
const EVALUATE: TimeDelta = TimeDelta::hours(1);

/// The gate of a real server: its trust store, then its license for each entitlement that the component needs.
#[derive(Debug)]
pub struct Trusted {
    store: Arc<TrustStore>,
    licenses: Arc<Licenses>,
    clock: Arc<dyn Clock>,
    dev: bool,
    looked: Mutex<Looked>,
}

/// When it last looked, and what at.
#[derive(Debug)]
struct Looked {
    reloaded: DateTime<Utc>,
    evaluated: DateTime<Utc>,
    root: Option<u64>,
    revocations: Option<u64>,
    publishers: usize,
    license: License,
}

/// Which license holds, and how: its id and its state.
type License = (Option<String>, license::State);

impl Trusted {
    /// A gate that believes the store and asks the license; `dev` lets unsigned components in.
    #[must_use]
    pub fn new(store: Arc<TrustStore>, licenses: Arc<Licenses>, clock: Arc<dyn Clock>, dev: bool) -> Self {
        let now = clock.now();
        let looked = Looked { reloaded: now, evaluated: now, ..Looked::at(&store, &licenses) };
        Self { store, licenses, clock, dev, looked: Mutex::new(looked) }
    }

    /// The signature's verdict, and the entitlements that are asked for: a statement has all that the manifest asks for,
    /// and may demand more.
    fn verify(&self, candidate: &Candidate<'_>) -> Result<(Verdict, Vec<String>), Refusal> {
        let inspection = candidate.inspection;
        let rules = Rules {
            dev: self.dev,
            pinned: candidate.pinned.then(|| inspection.digest()).into_iter().collect(),
            highest_release_seq: candidate.highest_seq,
            allow_downgrade: candidate.allow_downgrade,
        };
        let (component, envelope) = (candidate.component, candidate.envelope);
        let verdict = self.store.verify(component, envelope, inspection, &rules, self.clock.now());
        let verdict = verdict.map_err(refused)?;
        let statement = verdict.statement.as_ref();
        let asked = statement.map_or(&inspection.manifest.entitlements, |statement| &statement.entitlements);
        let asked = asked.clone();
        Ok((verdict, asked))
    }
}

fn refused(refusal: trust::Refusal) -> Refusal {
    Refusal::new(refusal.code.as_str(), refusal.detail)
}

impl Looked {
    fn at(store: &TrustStore, licenses: &Licenses) -> Self {
        let license = licenses.current();
        Self {
            reloaded: DateTime::default(),
            evaluated: DateTime::default(),
            root: store.root().map(|root| root.version),
            revocations: store.revocations().map(|list| list.version),
            publishers: store.publishers().len(),
            license: (license.claims.as_ref().map(|claims| claims.jti.clone()), license.state),
        }
    }
}

impl Gate for Trusted {
    fn admit(&self, candidate: &Candidate<'_>) -> Result<Admission, Refusal> {
        let (verdict, asked) = self.verify(candidate)?;
        let built_at =
            verdict.statement.as_ref().map_or_else(trust::built_at, |statement| statement.built_at);
        let license = self.licenses.current();
        for entitlement in &asked {
            license.require(entitlement, built_at).map_err(refused)?;
        }
        let level = match verdict.level {
            Level::Vendor => "vendor",
            Level::Verified => "verified",
            Level::Private => "private",
            Level::Unsigned => "unsigned",
        };
        Ok(Admission { level, release_seq: verdict.statement.map(|statement| statement.release_seq) })
    }

    fn configure(&self, candidate: &Candidate<'_>) -> Result<(), Refusal> {
        let (_, asked) = self.verify(candidate)?;
        let license = self.licenses.current();
        let paid = |entitlement: &String| license.allows(Action::ConfigurePaid { entitlement });
        asked.iter().try_for_each(paid).map_err(refused)
    }

    fn look(&self) -> bool {
        let now = self.clock.now();
        let mut looked = self.looked.lock();
        if now - looked.reloaded <= RELOAD {
            return false;
        }
        if now - looked.evaluated > EVALUATE || self.licenses.is_stale() {
            looked.evaluated = now;
            self.licenses.evaluate(now);
        }
        looked.reloaded = now;
        if let Err(error) = self.store.reload() {
            tracing::warn!(%error, "the trust store can't be read: what was believed stays");
            return false;
        }
        let seen = Looked::at(&self.store, &self.licenses);
        let changed = (seen.root, seen.revocations, seen.publishers, &seen.license)
            != (looked.root, looked.revocations, looked.publishers, &looked.license);
        *looked = Looked { reloaded: looked.reloaded, evaluated: looked.evaluated, ..seen };
        changed
    }
}

/// A gate that knows no publishers' keys: the server's own set passes, and what an operator pinned by hash; anything
/// else only in development.
#[derive(Clone, Copy, Debug, Default)]
pub struct PinnedOnly {
    /// Development: everything passes.
    pub dev: bool,
}

impl Gate for PinnedOnly {
    fn admit(&self, candidate: &Candidate<'_>) -> Result<Admission, Refusal> {
        if candidate.source == Source::Embedded {
            return Ok(Admission { level: "vendor", release_seq: None });
        }
        if candidate.pinned || self.dev {
            return Ok(Admission { level: "unsigned", release_seq: None });
        }
        let label = candidate.inspection.manifest.label();
        let sha256 = &candidate.inspection.sha256;
        Err(Refusal::new(
            "PLUGIN_UNSIGNED",
            format!("{label} has no signature that is trusted here; sign it, or pin sha256:{sha256}"),
        ))
    }
}

#[cfg(test)]
mod tests {
    use brokle_core::clock::ManualClock;
    use brokle_core::random::SeededRandom;
    use brokle_runtime::inspect;
    use brokle_runtime::license::{Claims, Tier};
    use brokle_runtime::trust::{Anchor, Role, Root, RootKey, SecretKey, Statement};

    use super::*;

    /// A component's header with the two sections that describe it.
    fn component() -> Vec<u8> {
        let manifest =
            r#"{"id":"acme.a","version":"1.0.0","kind":"provider","wit":"brokle:provider@0.1.0","name":"a"}"#;
        let abi = r#"{"sdk":"brokle-plugin/0.1.0","package":"a","version":"1.0.0"}"#;
        let mut bytes = b"\0asm\x0d\0\x01\0".to_vec();
        for (name, content) in [("brokle:manifest", manifest), ("brokle:abi", abi)] {
            let length = 1 + name.len() + content.len();
            // LEB128 in two bytes, the first with its high bit set.
            bytes.extend([0, (length & 0x7f) as u8 | 0x80, (length >> 7) as u8, name.len() as u8]);
            bytes.extend([name.as_bytes(), content.as_bytes()].concat());
        }
        bytes
    }

    #[test]
    fn what_the_statement_demands_is_asked_of_the_license() {
        // No license is held against a time before the host was built.
        let clock = Arc::new(ManualClock::new(trust::built_at()));
        let now = clock.now();
        let keys = [1, 2, 3].map(|seed| SecretKey::generate(&SeededRandom::new(seed)));
        let key = |key: &SecretKey, role| {
            let (public, not_after) = (key.public(), now + TimeDelta::days(9));
            (public.id(), RootKey { public, role, not_before: now, not_after, prefixes: vec![] })
        };
        let root = Root {
            version: 1,
            issued_at: now,
            expires: now + TimeDelta::days(9),
            keys: [key(&keys[0], Role::Root), key(&keys[1], Role::Publisher), key(&keys[2], Role::License)]
                .into(),
            thresholds: Role::ALL.map(|role| (role, 1)).into(),
        };
        let anchor = Anchor::Provisioned { root: root.sign(&[&keys[0]]).unwrap(), revocations: None };
        let store = Arc::new(TrustStore::detached(anchor, semver::Version::new(0, 1, 0)).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let licenses =
            Licenses::open(folder.path(), None, store.clone(), &SeededRandom::new(3), now).unwrap();
        let gate = Trusted::new(store, Arc::new(licenses), clock.clone(), false);

        let bytes = component();
        let inspection = inspect(&bytes).unwrap();
        let mut statement = Statement::of(&inspection, 1, ">=0.1".parse().unwrap(), now);
        let asked = |statement: &Statement, ask: &dyn Fn(&Candidate<'_>) -> Result<(), Refusal>| {
            let envelope = statement.sign(&[&keys[1]]).to_json();
            ask(&Candidate {
                component: &bytes,
                envelope: Some(&envelope),
                inspection: &inspection,
                source: Source::Upload,
                pinned: false,
                highest_seq: None,
                allow_downgrade: false,
            })
            .map_err(|refusal| refusal.code)
        };
        let admit = |statement: &Statement| asked(statement, &|candidate| gate.admit(candidate).map(drop));
        let configure = |statement: &Statement| asked(statement, &|candidate| gate.configure(candidate));
        assert_eq!(admit(&statement), Ok(()));
        // The manifest asks for nothing; its publisher does.
        statement.entitlements.push("pii.redaction".to_owned());
        assert_eq!(admit(&statement), Err("LICENSE_MISSING"));
        assert!(!gate.look());

        // Another process installs a license: that is seen, and told.
        let mut claims = Claims::new("Example", "lic-1", Tier::Enterprise, now, now + TimeDelta::days(1));
        (claims.grace_days, claims.warn_days) = (0, 0);
        std::fs::write(folder.path().join("license.jwt"), claims.sign(&keys[2]).unwrap()).unwrap();
        assert!(!gate.look(), "not at each second");
        clock.advance(RELOAD + TimeDelta::seconds(1));
        assert!(gate.look());
        assert_eq!((admit(&statement), configure(&statement)), (Ok(()), Ok(())));

        // It ends: what was built before goes on to load, and isn't configured any more.
        clock.advance(TimeDelta::days(1));
        assert!(gate.look());
        assert_eq!((admit(&statement), configure(&statement)), (Ok(()), Err("LICENSE_EXPIRED")));
        statement.entitlements.clear();
        assert_eq!(configure(&statement), Ok(()), "nobody pays for it");
    }
}
