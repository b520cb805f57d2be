//! Bringing a component in.

use brokle_runtime::{Inspection, inspect};
use brokle_storage::sql::plugins::{ScopeKey, Version};
use bytes::Bytes;

use super::{Actor, Catalogue, CatalogueError, Inner, state_of};
use crate::configuration;
use crate::files::{MAX_COMPONENT, MAX_ENVELOPE, hex_digest};
use crate::gate::{Admission, Candidate, Refusal, Source};
use crate::grants;
use crate::health::Health;
use crate::loaded::{Component, Loaded};
use crate::lock::Line;
use crate::sources::oci;
use crate::state::State;

/// Refused uploads and pulls that are remembered; the oldest goes first.
const MAX_REJECTED: usize = 100;

/// When an installed component begins to serve by itself, in the whole instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// Never.
    No,
    /// If it is newer than what serves, or nothing does.
    #[default]
    IfNewer,
    /// Always: also an older version than the one that serves.
    Yes,
}

/// A component that is offered for installation.
#[derive(Clone, Debug)]
pub struct Offer {
    /// The file.
    pub component: Bytes,
    /// Its signature.
    pub envelope: Option<Vec<u8>>,
    /// Where it comes from.
    pub source: Source,
    /// Which file or reference of the source.
    pub reference: String,
    /// On what terms.
    pub terms: Terms,
}

/// What whoever installs a component says beside it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Terms {
    /// An operator vouches for this hash: it must be the file's, which then needs no signature.
    pub pin: Option<String>,
    /// An operator asks for an older release.
    pub allow_downgrade: bool,
    /// When it begins to serve.
    pub start: Start,
}

impl Offer {
    /// An offer of these bytes, unsigned, unpinned.
    pub fn new(component: impl Into<Bytes>, source: Source, reference: impl Into<String>) -> Self {
        Self {
            component: component.into(),
            envelope: None,
            source,
            reference: reference.into(),
            terms: Terms::default(),
        }
    }
}

/// A component that passed every check.
struct Accepted {
    sha256: String,
    inspection: Inspection,
    admission: Admission,
    component: Component,
}

impl Catalogue {
    /// Installs a component, and starts it if that is wanted and nothing stands in the way. The same file again is well.
    ///
    /// # Errors
    /// [`CatalogueError::Refused`]: it is in the catalogue as `rejected` from then on, unless it was installed before.
    pub async fn install(&self, offer: Offer, actor: &Actor) -> Result<Version, CatalogueError> {
        let mut inner = self.lock().await;
        let sha256 = hex_digest(&offer.component);
        let installed = self.install_locked(&mut inner, &sha256, offer, actor).await;
        self.publish(&inner);
        installed
    }

    /// The same for those who hold the lock, and publish.
    pub(super) async fn install_locked(
        &self,
        inner: &mut Inner,
        sha256: &str,
        offer: Offer,
        actor: &Actor,
    ) -> Result<Version, CatalogueError> {
        match self.accept(inner, sha256, &offer).await {
            Ok(accepted) => self.keep(inner, &offer, accepted, actor).await,
            Err(CatalogueError::Refused(refusal)) => {
                self.reject(inner, sha256, &offer, &refusal, actor).await?;
                Err(refusal.into())
            }
            Err(error) => Err(error),
        }
    }

    /// Pulls a component from a registry, `oci://registry/name:version`, and installs it: see [`crate::sources::oci`].
    ///
    /// # Errors
    /// [`CatalogueError::Source`] when it can't be had; otherwise as for [`install`](Self::install).
    pub async fn install_from(
        &self,
        reference: &str,
        terms: Terms,
        actor: &Actor,
    ) -> Result<Version, CatalogueError> {
        if !reference.starts_with("oci://") {
            return Err(CatalogueError::Source(
                "a reference such as oci://registry/name:version is expected".into(),
            ));
        }
        let pulled = oci::pull(reference, &self.settings.logins).await?;
        let offer = Offer::new(pulled.stored.component, Source::Oci, pulled.reference);
        self.install(Offer { envelope: pulled.stored.envelope, terms, ..offer }, actor).await
    }

    /// Everything that is asked of a component before it is in.
    async fn accept(&self, inner: &Inner, sha256: &str, offer: &Offer) -> Result<Accepted, CatalogueError> {
        if offer.component.len() as u64 > MAX_COMPONENT {
            return Err(
                Refusal::new("PLUGIN_INVALID", "larger than the 64 MiB that a component may have").into()
            );
        }
        let inspection = inspect(&offer.component).map_err(Refusal::from)?;
        let admission = self.admit(inner, sha256, &inspection, offer).await?;
        let (id, version) = (&inspection.manifest.id, inspection.manifest.version.to_string());
        let twin = inner.versions.values().find(|other| {
            other.plugin_id == *id
                && other.version == version
                && other.sha256 != sha256
                && state_of(other) != State::Rejected
        });
        if let (Some(_), false) = (twin, self.settings.dev || offer.source == Source::Embedded) {
            let text =
                format!("another file is installed as {id} {version}: remove that one, or raise the version");
            return Err(Refusal::new("PLUGIN_VERSION_CONFLICT", text).into());
        }
        for schema in [&inspection.manifest.config, &inspection.manifest.options].into_iter().flatten() {
            configuration::compile(schema).map_err(|error| {
                Refusal::new("PLUGIN_INVALID", format!("its schema can't be used: {error}"))
            })?;
        }
        let component = match inner.loaded.get(sha256) {
            Some(loaded) => loaded.component.clone(),
            None => self.load(offer).await?,
        };
        Ok(Accepted { sha256: sha256.to_owned(), inspection, admission, component })
    }

    /// Compiles and tests, but for what the server brings itself: that waits for its first call.
    pub(super) async fn load(&self, offer: &Offer) -> Result<Component, Refusal> {
        let (runtime, bytes) = (&self.parts.runtime, offer.component.clone());
        let loaded = match offer.source {
            Source::Embedded => Component::later(runtime, bytes),
            _ => Component::load(runtime, bytes).await,
        };
        loaded.map_err(Refusal::from)
    }

    /// Lock file, then gate: for installations and for each load.
    pub(super) async fn admit(
        &self,
        inner: &Inner,
        sha256: &str,
        inspection: &Inspection,
        offer: &Offer,
    ) -> Result<Admission, CatalogueError> {
        if offer.envelope.as_ref().is_some_and(|envelope| envelope.len() as u64 > MAX_ENVELOPE) {
            return Err(Refusal::new("PLUGIN_SIG_INVALID", "the signature is larger than 256 KiB").into());
        }
        let (id, version) = (&inspection.manifest.id, inspection.manifest.version.to_string());
        let mismatch = |wanted: &str| {
            let text = format!("{id} {version} is sha256:{sha256}, but sha256:{wanted} is expected");
            Refusal::new("PLUGIN_HASH_MISMATCH", text)
        };
        if offer.source != Source::Embedded
            && let Some(locked) = inner.lock.sha256_of(id, &version)
            && locked != sha256
            && !self.settings.dev
        {
            return Err(mismatch(locked).into());
        }
        if let Some(pin) = offer.terms.pin.as_deref().filter(|pin| *pin != sha256) {
            return Err(mismatch(pin).into());
        }
        let candidate = self.candidate(inner, sha256, inspection, offer).await?;
        Ok(self.parts.gate.admit(&candidate)?)
    }

    /// Refuses a change of how a component works that a license pays for, when that has ended.
    pub(super) async fn may_configure(&self, inner: &Inner, sha256: &str) -> Result<(), CatalogueError> {
        let (Some(version), Some(loaded)) = (inner.versions.get(sha256), inner.loaded.get(sha256)) else {
            return Ok(());
        };
        let offer = self.stored(inner, version)?;
        let terms = Terms { allow_downgrade: true, ..Terms::default() };
        let offer = Offer { terms, ..offer };
        let candidate = self.candidate(inner, sha256, loaded.component.inspection(), &offer).await?;
        Ok(self.parts.gate.configure(&candidate)?)
    }

    async fn candidate<'a>(
        &self,
        inner: &Inner,
        sha256: &str,
        inspection: &'a Inspection,
        offer: &'a Offer,
    ) -> Result<Candidate<'a>, CatalogueError> {
        let highest = self.parts.database.plugins().highest_release(&inspection.manifest.id).await?;
        Ok(Candidate {
            component: &offer.component,
            envelope: offer.envelope.as_deref(),
            inspection,
            source: offer.source,
            pinned: offer.terms.pin.is_some() || inner.lock.pins(sha256),
            highest_seq: highest.and_then(|seq| u64::try_from(seq).ok()),
            allow_downgrade: offer.terms.allow_downgrade,
        })
    }

    /// Writes what was accepted, and starts it if nothing stands in the way.
    async fn keep(
        &self,
        inner: &mut Inner,
        offer: &Offer,
        accepted: Accepted,
        actor: &Actor,
    ) -> Result<Version, CatalogueError> {
        let Accepted { sha256, inspection, admission, component } = accepted;
        let manifest = &inspection.manifest;
        if offer.source == Source::Embedded {
            inner.embedded.insert(sha256.clone(), offer.component.clone());
        } else {
            self.files.put(&sha256, &offer.component, offer.envelope.as_deref())?;
            let pinned = offer.terms.pin.is_some() || inner.lock.pins(&sha256);
            if pinned || admission.level != "unsigned" {
                inner.lock.set(Line {
                    id: manifest.id.clone(),
                    version: manifest.version.to_string(),
                    sha256: sha256.clone(),
                    source: format!("{}:{}", offer.source.as_str(), offer.reference),
                    pinned,
                })?;
            }
        }
        let now = self.parts.clock.now();
        let known = inner.versions.get(&sha256);
        let state =
            known.map(state_of).filter(|state| *state != State::Rejected && *state != State::Available);
        let version = Version {
            sha256: sha256.clone(),
            plugin_id: manifest.id.clone(),
            version: manifest.version.to_string(),
            kind: manifest.kind.world().to_owned(),
            name: manifest.name.clone(),
            state: state.unwrap_or(State::Installed).to_string(),
            code: known.filter(|_| state.is_some()).and_then(|known| known.code.clone()),
            reason: known.filter(|_| state.is_some()).and_then(|known| known.reason.clone()),
            source: offer.source.as_str().to_owned(),
            reference: offer.reference.clone(),
            level: Some(admission.level.to_owned()),
            release_seq: admission.release_seq.and_then(|seq| i64::try_from(seq).ok()),
            size: i64::try_from(inspection.size).unwrap_or(i64::MAX),
            installed_at: known.map_or(now, |known| known.installed_at),
            updated_at: now,
        };
        let event = self.version_event("installed", &version, ScopeKey::default(), actor);
        self.parts.database.plugins().put_version(&version, &event).await?;
        inner.versions.insert(sha256.clone(), version.clone());
        inner.troubles.remove(&sha256);
        self.remember(inner, &version, component);
        if self.should_start(inner, &version, offer.terms.start) {
            self.start_or_wait(inner, &sha256, actor).await?;
        }
        Ok(inner.versions.get(&sha256).cloned().unwrap_or(version))
    }

    pub(super) fn remember(&self, inner: &mut Inner, version: &Version, component: Component) {
        if !inner.loaded.contains_key(&version.sha256) {
            let (clock, watch) = (self.parts.clock.clone(), self.parts.watch.clone());
            let budget = self.settings.budget;
            let health =
                Health::new(&version.plugin_id, &version.sha256, budget, clock, watch, self.tell.clone());
            health.begin(state_of(version) == State::Degraded);
            inner.loaded.insert(version.sha256.clone(), Loaded { component, health: health.into() });
            self.grant(inner);
        }
    }

    fn should_start(&self, inner: &Inner, version: &Version, start: Start) -> bool {
        let serving = inner.effective(&version.plugin_id, ScopeKey::default());
        let serving = serving.sha256.as_ref().and_then(|sha256| inner.versions.get(sha256));
        match start {
            Start::No => false,
            Start::Yes => true,
            Start::IfNewer => serving.is_none_or(|serving| {
                let number = |text: &str| semver::Version::parse(text).ok();
                let rebuilt = self.settings.dev && serving.version == version.version;
                rebuilt || number(&version.version) > number(&serving.version)
            }),
        }
    }

    /// Enables a version in the instance, or writes down what it waits for.
    pub(super) async fn start_or_wait(
        &self,
        inner: &mut Inner,
        sha256: &str,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let (Some(loaded), Some(version)) = (inner.loaded.get(sha256), inner.versions.get(sha256)) else {
            return Ok(());
        };
        let manifest = &loaded.component.inspection().manifest;
        let missing = inner.outstanding(version, manifest);
        if !missing.is_empty() {
            let reason = format!("it waits for grants: {}", missing.join(", "));
            return self.wait(inner, sha256, grants::WAITING, reason, actor).await;
        }
        let id = manifest.id.clone();
        match self.activate(inner, &id, ScopeKey::default(), sha256, "enabled", actor).await {
            Err(CatalogueError::Conflict { code, message }) => {
                self.wait(inner, sha256, code, message, actor).await
            }
            Err(error @ CatalogueError::Invalid { code, .. }) => {
                self.wait(inner, sha256, code, error.to_string(), actor).await
            }
            other => other,
        }
    }

    async fn wait(
        &self,
        inner: &mut Inner,
        sha256: &str,
        code: &str,
        reason: String,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let Some(version) = inner.versions.get(sha256) else { return Ok(()) };
        let (code, reason) = (Some(code.to_owned()), Some(reason));
        let version = Version { code, reason, updated_at: self.parts.clock.now(), ..version.clone() };
        let event = self.version_event("waiting", &version, ScopeKey::default(), actor);
        self.parts.database.plugins().put_version(&version, &event).await?;
        inner.versions.insert(sha256.to_owned(), version);
        Ok(())
    }

    /// Writes a refusal down. What is installed already stays as it is: only the offer was bad.
    pub(super) async fn reject(
        &self,
        inner: &mut Inner,
        sha256: &str,
        offer: &Offer,
        refusal: &Refusal,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        self.parts.watch.refused(refusal.code);
        tracing::warn!(
            source = offer.source.as_str(),
            reference = offer.reference,
            sha256,
            code = refusal.code,
            "a plugin is refused: {}",
            refusal.detail
        );
        let manifest = inspect(&offer.component).ok().map(|inspection| inspection.manifest);
        let now = self.parts.clock.now();
        let known = inner.versions.get(sha256);
        let keeps = known.is_some_and(|known| !matches!(state_of(known), State::Rejected | State::Available));
        let version = Version {
            sha256: sha256.to_owned(),
            plugin_id: manifest.as_ref().map_or_else(|| shown(&offer.reference), |m| m.id.clone()),
            version: manifest.as_ref().map(|m| m.version.to_string()).unwrap_or_default(),
            kind: manifest.as_ref().map(|m| m.kind.world().to_owned()).unwrap_or_default(),
            name: manifest.as_ref().map(|m| m.name.clone()).unwrap_or_default(),
            state: State::Rejected.to_string(),
            code: Some(refusal.code.to_owned()),
            reason: Some(refusal.detail.chars().take(1_000).collect()),
            source: offer.source.as_str().to_owned(),
            reference: offer.reference.clone(),
            level: None,
            release_seq: None,
            size: i64::try_from(offer.component.len()).unwrap_or(i64::MAX),
            installed_at: known.map_or(now, |known| known.installed_at),
            updated_at: now,
        };
        let event = self.version_event("rejected", &version, ScopeKey::default(), actor);
        if keeps {
            return Ok(self.parts.database.plugins().record(&event).await?);
        }
        self.parts.database.plugins().put_version(&version, &event).await?;
        inner.versions.insert(sha256.to_owned(), version);
        self.forget_old_refusals(inner).await
    }

    async fn forget_old_refusals(&self, inner: &mut Inner) -> Result<(), CatalogueError> {
        let mut refused: Vec<_> = inner
            .versions
            .values()
            .filter(|version| {
                state_of(version) == State::Rejected && version.source != Source::Embedded.as_str()
            })
            .map(|version| (version.updated_at, version.sha256.clone()))
            .collect();
        refused.sort();
        let surplus = refused.len().saturating_sub(MAX_REJECTED);
        for (_, sha256) in refused.into_iter().take(surplus) {
            if let Some(version) = inner.versions.remove(&sha256) {
                let event =
                    self.version_event("forgotten", &version, ScopeKey::default(), &Actor::system("system"));
                self.parts.database.plugins().delete_version(&sha256, &event).await?;
            }
        }
        Ok(())
    }
}

/// A reference where an id is expected: its last part, cut.
fn shown(reference: &str) -> String {
    reference.rsplit('/').next().unwrap_or_default().chars().take(128).collect()
}
