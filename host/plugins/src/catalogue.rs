//! The catalogue: the one writer of what there is and what serves.
//!
//! Writers take a lock and take their time; readers don't notice. A change is written with its event first, in one
//! transaction, then the next [`Snapshot`] is put in place. Several servers on one database follow each other by the
//! `plugins` revision ([`Catalogue::refresh`]); each needs the components' files.
//!
//! What an operator meets:
//! - An **installation** is: size cap, inspection without compiling, lock file, gate (signature, then licence), compile,
//!   link, self-test, and only then a file and a row. Whatever fails is a `rejected` version with its code, an event and a
//!   count; nothing else is disturbed.
//! - At each **start** the same bytes pass the same checks again.
//! - The version that is **enabled** by itself after an installation is one that is newer than what serves, if its grants
//!   are there. Otherwise it waits as `installed`, with the reason.
//! - Two components can't serve under one short name: the second is refused (`PLUGIN_NAME_TAKEN`), so that nothing
//!   installed later takes over the connections of what is there.

mod entry;
mod error;
mod install;
mod plan;
mod scopes;
mod start;
mod supervise;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use arc_swap::ArcSwap;
use brokle_core::clock::Clock;
use brokle_core::ids::PluginEventId;
use brokle_core::random::Random;
use brokle_runtime::Runtime;
use brokle_runtime::capabilities::{PluginCapabilities, Services};
use brokle_storage::sql::Database;
use brokle_storage::sql::plugins::{Event, EventFilter, ScopeKey, ScopeSetting, Version};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, MutexGuard};

pub use self::entry::{Entry, ScopeEntry, VersionEntry};
pub use self::error::CatalogueError;
pub use self::install::{Offer, Start, Terms};
use crate::files::Files;
use crate::gate::Gate;
use crate::health::{Budget, Tripped};
use crate::loaded::Loaded;
use crate::lock::Lock;
use crate::snapshot::Snapshots;
use crate::sources::folder::Folder;
use crate::sources::oci::Login;
use crate::state::State;
use crate::watch::Watch;

/// Who does something: `key:<id>`, `folder`, `health`, `system`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Actor(String);

impl Actor {
    /// Somebody with a key.
    pub fn key(id: impl std::fmt::Display) -> Self {
        Self(format!("key:{id}"))
    }

    /// A part of the server itself.
    #[must_use]
    pub fn system(part: &str) -> Self {
        Self(part.to_owned())
    }
}

/// How the catalogue behaves.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The folder that is watched; none: none is.
    pub folder: Option<PathBuf>,
    /// The lock file; none: `DATA_DIR/brokle-plugins.lock`.
    pub lock_file: Option<PathBuf>,
    /// Development: a rebuilt file may take the place of the same version.
    pub dev: bool,
    /// When a version has failed too often.
    pub budget: Budget,
    /// Who we are to registries, by host (and port); to others nobody.
    pub logins: BTreeMap<String, Login>,
}

/// What a catalogue is made with.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The sandbox.
    pub runtime: Runtime,
    /// Where the rows are.
    pub database: Database,
    /// Where the files are.
    pub data_dir: PathBuf,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance.
    pub random: Arc<dyn Random>,
    /// Who may load.
    pub gate: Arc<dyn Gate>,
    /// Who counts.
    pub watch: Arc<dyn Watch>,
    /// What stands behind capabilities; none: grants are checked, and give nothing.
    pub services: Option<Services>,
}

/// How often a version was taken out, and until when it stays out.
#[derive(Clone, Copy, Debug)]
struct Trip {
    times: u32,
    until: DateTime<Utc>,
}

/// A version that can't serve on this server although the rows say so: its file isn't here, for instance.
#[derive(Clone, Debug)]
struct Trouble {
    code: &'static str,
    reason: String,
}

#[derive(Debug)]
struct Inner {
    versions: BTreeMap<String, Version>,
    scopes: Vec<ScopeSetting>,
    grants: HashMap<String, Value>,
    loaded: HashMap<String, Loaded>,
    /// What loaded versions were granted.
    capabilities: HashMap<String, Arc<PluginCapabilities>>,
    trips: HashMap<String, Trip>,
    troubles: HashMap<String, Trouble>,
    /// Bytes of the embedded set, by hash.
    embedded: HashMap<String, Bytes>,
    lock: Lock,
    folder: Option<Folder>,
}

/// The catalogue.
#[derive(Debug)]
pub struct Catalogue {
    parts: Parts,
    settings: Settings,
    files: Files,
    inner: Mutex<Inner>,
    snapshots: Arc<Snapshots>,
    shown: ArcSwap<Vec<Entry>>,
    revision: AtomicI64,
    last_event: parking_lot::Mutex<u128>,
    tell: UnboundedSender<Tripped>,
    told: Mutex<UnboundedReceiver<Tripped>>,
}

impl Catalogue {
    /// Opens the catalogue; nothing serves before [`start`](Self::start).
    ///
    /// # Errors
    /// When a folder or the lock file can't be read.
    pub fn open(parts: Parts, settings: Settings) -> Result<Arc<Self>, CatalogueError> {
        let files = Files::open(&parts.data_dir)?;
        let lock_file = settings.lock_file.clone();
        let lock = Lock::open(lock_file.unwrap_or_else(|| parts.data_dir.join("brokle-plugins.lock")))?;
        let (tell, told) = unbounded_channel();
        let inner = Inner {
            versions: BTreeMap::new(),
            scopes: Vec::new(),
            grants: HashMap::new(),
            loaded: HashMap::new(),
            capabilities: HashMap::new(),
            trips: HashMap::new(),
            troubles: HashMap::new(),
            embedded: HashMap::new(),
            lock,
            folder: settings.folder.clone().map(Folder::new),
        };
        Ok(Arc::new(Self {
            parts,
            settings,
            files,
            inner: Mutex::new(inner),
            snapshots: Arc::default(),
            shown: ArcSwap::default(),
            revision: AtomicI64::new(-1),
            last_event: parking_lot::Mutex::new(0),
            tell,
            told: Mutex::new(told),
        }))
    }

    /// What serves now, and from now on.
    #[must_use]
    pub fn snapshots(&self) -> Arc<Snapshots> {
        Arc::clone(&self.snapshots)
    }

    /// Every component with its versions, by id; without a lock.
    #[must_use]
    pub fn list(&self) -> Arc<Vec<Entry>> {
        self.shown.load_full()
    }

    /// One component.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`].
    pub fn get(&self, id: &str) -> Result<Entry, CatalogueError> {
        self.list().iter().find(|entry| entry.id == id).cloned().ok_or(CatalogueError::NotFound)
    }

    /// What happened, newest first: an organization's events, or without one the instance's.
    ///
    /// # Errors
    /// The database's.
    pub async fn events(&self, of: ScopeKey, filter: EventFilter<'_>) -> Result<Vec<Event>, CatalogueError> {
        Ok(self.parts.database.plugins().events(of, filter).await?)
    }

    async fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().await
    }

    /// An event about a component, to be completed.
    fn event(&self, event: &str, plugin_id: &str, scope: ScopeKey, actor: &Actor) -> Event {
        Event {
            id: self.event_id(),
            at: self.parts.clock.now(),
            plugin_id: plugin_id.to_owned(),
            version: None,
            sha256: None,
            scope,
            event: event.to_owned(),
            state: None,
            code: None,
            reason: None,
            actor: actor.0.clone(),
        }
    }

    /// Ids of one server's events are in the order of the events, also within a millisecond.
    fn event_id(&self) -> PluginEventId {
        let mut last = self.last_event.lock();
        let fresh = PluginEventId::generate(&*self.parts.clock, &*self.parts.random).as_u128();
        *last = fresh.max(last.saturating_add(1));
        PluginEventId::from_u128(*last)
    }

    /// An event about a version.
    fn version_event(&self, event: &str, version: &Version, scope: ScopeKey, actor: &Actor) -> Event {
        Event {
            version: Some(version.version.clone()).filter(|version| !version.is_empty()),
            sha256: Some(version.sha256.clone()),
            state: Some(version.state.clone()),
            code: version.code.clone(),
            reason: version.reason.clone(),
            ..self.event(event, &version.plugin_id, scope, actor)
        }
    }

    /// Moves a version to another state, if there is a way; rows and memory agree afterwards.
    async fn move_to(
        &self,
        inner: &mut Inner,
        sha256: &str,
        next: State,
        why: Option<(&str, String)>,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let Some(version) = inner.versions.get(sha256) else { return Ok(()) };
        let current = state_of(version);
        if !current.may_become(next) {
            return Ok(());
        }
        let (code, reason) = why.map_or((None, None), |(code, reason)| (Some(code.to_owned()), Some(reason)));
        let updated_at = self.parts.clock.now();
        let version = Version { state: next.to_string(), code, reason, updated_at, ..version.clone() };
        let event = self.version_event(next.as_str(), &version, ScopeKey::default(), actor);
        self.parts.database.plugins().put_version(&version, &event).await?;
        tracing::info!(
            plugin = version.plugin_id,
            version = version.version,
            from = current.as_str(),
            to = next.as_str(),
            code = version.code,
            reason = version.reason,
            actor = actor.0,
            "a plugin's state changed"
        );
        inner.versions.insert(sha256.to_owned(), version);
        Ok(())
    }
}

/// A stored state; one that this binary doesn't know serves nobody.
fn state_of(version: &Version) -> State {
    version.state.parse().unwrap_or(State::Rejected)
}
