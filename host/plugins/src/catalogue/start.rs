//! Before the first call: rows, the embedded set, and everything that was enabled when the server stopped, each checked
//! as at its installation.

use std::sync::atomic::Ordering;

use brokle_runtime::{Builtin, inspect};
use brokle_storage::sql::plugins::{ScopeKey, ScopeSetting, Version};
use brokle_storage::sql::revisions::Revision;
use chrono::TimeDelta;

use super::{Actor, Catalogue, CatalogueError, Inner, Trip, Trouble, state_of};
use crate::files::{Stored, hex_digest};
use crate::gate::{Refusal, Source};
use crate::grants;
use crate::loaded::Component;
use crate::state::State;

use super::install::{Offer, Start, Terms};

impl Catalogue {
    /// Reads the rows, brings the embedded set in, loads what is enabled, and publishes the first snapshot. A component
    /// that fails is refused with its code; the others go on.
    ///
    /// # Errors
    /// When the database can't be read.
    pub async fn start(&self, embedded: Vec<Builtin>) -> Result<(), CatalogueError> {
        let actor = Actor::system("system");
        {
            let mut inner = self.lock().await;
            self.read_rows(&mut inner).await?;
            let embedded: Vec<_> =
                embedded.into_iter().map(|builtin| (hex_digest(&builtin.bytes), builtin)).collect();
            inner.embedded = embedded.iter().map(|(sha256, b)| (sha256.clone(), b.bytes.clone())).collect();
            for (sha256, builtin) in embedded {
                self.start_embedded(&mut inner, sha256, builtin, &actor).await?;
            }
            self.forget_embedded(&mut inner, &actor).await?;
            for sha256 in inner.wanted() {
                match self.readmit(&mut inner, &sha256, &actor).await {
                    Ok(()) | Err(CatalogueError::Refused(_) | CatalogueError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
            self.settle(&mut inner, &actor).await?;
            self.publish(&inner);
        }
        Ok(())
    }

    /// Takes over what other servers, or people, wrote. Cheap when nothing changed; to be called each second.
    ///
    /// # Errors
    /// When the database can't be read; what serves goes on serving.
    pub async fn refresh(&self) -> Result<(), CatalogueError> {
        let revision = self.parts.database.revision(Revision::Plugins).await?;
        if self.revision.load(Ordering::SeqCst) == revision {
            return Ok(());
        }
        let mut inner = self.lock().await;
        self.read_rows(&mut inner).await?;
        let actor = Actor::system("system");
        for sha256 in inner.wanted() {
            let serves = inner.versions.get(&sha256).is_some_and(|version| state_of(version).serves());
            if serves && !inner.loaded.contains_key(&sha256) && !inner.troubles.contains_key(&sha256) {
                match self.readmit(&mut inner, &sha256, &actor).await {
                    Ok(()) | Err(CatalogueError::Refused(_) | CatalogueError::NotFound) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let kept = inner.versions.keys().cloned().collect::<std::collections::BTreeSet<_>>();
        inner.loaded.retain(|sha256, _| kept.contains(sha256));
        self.grant(&mut inner);
        self.publish(&inner);
        Ok(())
    }

    async fn read_rows(&self, inner: &mut Inner) -> Result<(), CatalogueError> {
        // Read before the rows: a change in between is seen again at the next turn.
        let revision = self.parts.database.revision(Revision::Plugins).await?;
        let plugins = self.parts.database.plugins();
        let versions = plugins.versions().await?;
        inner.scopes = plugins.scopes().await?;
        inner.grants = plugins.grants().await?.into_iter().collect();
        inner.versions = versions.into_iter().map(|version| (version.sha256.clone(), version)).collect();
        let backoff = TimeDelta::from_std(self.settings.budget.backoff(1)).unwrap_or(TimeDelta::MAX);
        for version in inner.versions.values().filter(|version| state_of(version) == State::Quarantined) {
            let first = Trip { times: 1, until: version.updated_at + backoff };
            inner.trips.entry(version.sha256.clone()).or_insert(first);
        }
        self.revision.store(revision, Ordering::SeqCst);
        Ok(())
    }

    /// One of the server's own set. It takes the place of the one that an older server had, unless an operator chose
    /// another source's version, switched it off or removed it.
    async fn start_embedded(
        &self,
        inner: &mut Inner,
        sha256: String,
        builtin: Builtin,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let offer = Offer::new(builtin.bytes, Source::Embedded, builtin.name);
        let id = match inspect(&offer.component) {
            Ok(inspection) => inspection.manifest.id,
            Err(error) => return self.reject(inner, &sha256, &offer, &error.into(), actor).await,
        };
        if inner.versions.get(&sha256).is_some_and(|known| state_of(known) != State::Rejected) {
            return Ok(());
        }
        let setting = inner.setting(&id, ScopeKey::default()).cloned();
        let current = setting.as_ref().and_then(|setting| setting.sha256.as_ref());
        let current = current.and_then(|sha256| inner.versions.get(sha256));
        let follows = current.is_none_or(|version| version.source == Source::Embedded.as_str());
        let removed = inner.versions.values().any(|version| {
            version.plugin_id == id
                && version.source == Source::Embedded.as_str()
                && state_of(version) == State::Available
        });
        let enabled = setting.as_ref().and_then(|setting| setting.enabled).unwrap_or(true);
        let start = if follows && enabled && !removed { Start::Yes } else { Start::No };
        match self
            .install_locked(
                inner,
                &sha256,
                Offer { terms: Terms { start, ..Terms::default() }, ..offer },
                actor,
            )
            .await
        {
            Ok(_) | Err(CatalogueError::Refused(_)) => {}
            Err(error) => return Err(error),
        }
        // What an older server carried is gone with it: there is nothing to roll back to.
        if let Some(setting) = inner.setting(&id, ScopeKey::default()).cloned()
            && let Some(previous) = &setting.previous_sha256
            && inner.versions.get(previous).is_some_and(|version| version.source == Source::Embedded.as_str())
            && !inner.embedded.contains_key(previous)
        {
            let setting = ScopeSetting { previous_sha256: None, ..setting };
            self.say(inner, setting, "upgraded", None, actor).await?;
        }
        Ok(())
    }

    /// Embedded versions that this server doesn't carry, and that nothing wants.
    async fn forget_embedded(&self, inner: &mut Inner, actor: &Actor) -> Result<(), CatalogueError> {
        let wanted = inner.wanted();
        let gone: Vec<Version> = inner
            .versions
            .values()
            .filter(|version| {
                version.source == Source::Embedded.as_str()
                    && !inner.embedded.contains_key(&version.sha256)
                    && !wanted.contains(&version.sha256)
            })
            .cloned()
            .collect();
        for version in gone {
            let event = self.version_event("forgotten", &version, ScopeKey::default(), actor);
            self.parts.database.plugins().delete_version(&version.sha256, &event).await?;
            inner.versions.remove(&version.sha256);
        }
        Ok(())
    }

    /// Makes sure that a version is loaded: its bytes pass the checks of an installation again, also the gate's if it is
    /// in memory. A quarantined or available one is `installed` from then on.
    pub(super) async fn readmit(
        &self,
        inner: &mut Inner,
        sha256: &str,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let version = inner.versions.get(sha256).cloned().ok_or(CatalogueError::NotFound)?;
        let offer = match self.stored(inner, &version) {
            Ok(offer) => offer,
            Err(error) => {
                let reason = format!("its file can't be read here: {error}");
                tracing::error!(plugin = version.plugin_id, version = version.version, "{reason}");
                inner.troubles.insert(sha256.to_owned(), Trouble { code: "PLUGIN_UNREADABLE", reason });
                return Err(CatalogueError::NotFound);
            }
        };
        match self.check_again(inner, sha256, &offer).await {
            Ok(component) => {
                inner.troubles.remove(sha256);
                self.remember(inner, &version, component);
                if matches!(state_of(&version), State::Rejected | State::Available | State::Quarantined)
                    && !(state_of(&version) == State::Quarantined && actor.0 == "system")
                {
                    self.move_to(inner, sha256, State::Installed, None, actor).await?;
                }
                Ok(())
            }
            Err(CatalogueError::Refused(refusal)) => {
                inner.loaded.remove(sha256);
                self.parts.watch.refused(refusal.code);
                let why = Some((refusal.code, refusal.detail.clone()));
                self.move_to(inner, sha256, State::Rejected, why, actor).await?;
                Err(refusal.into())
            }
            Err(error) => Err(error),
        }
    }

    pub(super) fn stored(&self, inner: &Inner, version: &Version) -> std::io::Result<Offer> {
        let source = Source::named(&version.source);
        if let Some(bytes) = inner.embedded.get(&version.sha256) {
            return Ok(Offer::new(bytes.clone(), source, version.reference.clone()));
        }
        let Stored { component, envelope } = self.files.get(&version.sha256)?;
        Ok(Offer { envelope, ..Offer::new(component, source, version.reference.clone()) })
    }

    async fn check_again(
        &self,
        inner: &Inner,
        sha256: &str,
        offer: &Offer,
    ) -> Result<Component, CatalogueError> {
        let inspection = inspect(&offer.component).map_err(Refusal::from)?;
        // What was let in once may stay, also when newer releases came after it.
        let terms = Terms { allow_downgrade: true, ..Terms::default() };
        let offer = Offer { terms, ..offer.clone() };
        self.admit(inner, sha256, &inspection, &offer).await?;
        match inner.loaded.get(sha256) {
            Some(loaded) => Ok(loaded.component.clone()),
            None => Ok(self.load(&offer).await?),
        }
    }

    /// Versions that an operator would have to do something for.
    #[must_use]
    pub fn waiting(&self) -> usize {
        let waits = |code: &Option<String>| code.as_deref() == Some(grants::WAITING);
        self.list().iter().flat_map(|entry| &entry.versions).filter(|version| waits(&version.code)).count()
    }
}
