//! What happens without anybody asking: failures, back-off, probation, the watched folder.

use std::sync::Arc;

use brokle_runtime::inspect;
use brokle_storage::sql::plugins::ScopeSetting;
use chrono::TimeDelta;

use super::install::{Offer, Terms};
use super::{Actor, Catalogue, CatalogueError, Inner, Trip, state_of};
use crate::gate::{Refusal, Source};
use crate::health::Tripped;
use crate::sources::folder::Found;
use crate::state::State;

/// The code of a version that failed too often.
pub(super) const TRAPS: &str = "PLUGIN_TRAPS";

impl Catalogue {
    /// Takes out versions that fail, as soon as they have failed too often. Ends with the catalogue; for a task of its
    /// own.
    pub async fn supervise(self: Arc<Self>) {
        let mut told = self.told.lock().await;
        while let Some(tripped) = told.recv().await {
            if let Err(error) = self.take_out(&tripped).await {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, sha256 = %tripped.sha256, "a failing plugin couldn't be taken out");
            }
        }
    }

    /// What is due by the clock: other servers' changes, the folder, back-offs. To be called each second; what fails is
    /// logged, and tried again at the next turn.
    pub async fn tick(&self) {
        for done in
            [self.refresh().await, self.ask_again().await, self.look().await, self.end_backoffs().await]
        {
            if let Err(error) = done {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the plugins couldn't be looked after"
                );
            }
        }
    }

    /// Rolls every scope that uses the version back to what it had before, or leaves it without.
    async fn take_out(&self, tripped: &Tripped) -> Result<(), CatalogueError> {
        let actor = Actor::system("health");
        let mut inner = self.lock().await;
        let sha256 = &*tripped.sha256;
        let Some(version) = inner.versions.get(sha256).filter(|version| state_of(version).serves()) else {
            return Ok(());
        };
        let id = version.plugin_id.clone();
        let now = self.parts.clock.now();
        let times = inner.trips.get(sha256).map_or(1, |trip| trip.times.saturating_add(1));
        let backoff = TimeDelta::from_std(self.settings.budget.backoff(times)).unwrap_or(TimeDelta::MAX);
        inner.trips.insert(sha256.to_owned(), Trip { times, until: now + backoff });
        let reason = Some((TRAPS, tripped.reason.clone()));
        self.move_to(&mut inner, sha256, State::Quarantined, reason, &actor).await?;
        let using: Vec<ScopeSetting> = inner
            .scopes
            .iter()
            .filter(|setting| setting.plugin_id == id && setting.sha256.as_deref() == Some(sha256))
            .cloned()
            .collect();
        for setting in using {
            if let Some(previous) = self.last_good(&mut inner, &setting, &actor).await {
                let version = inner.versions.get(&previous).cloned();
                let setting = ScopeSetting {
                    sha256: Some(previous),
                    previous_sha256: None,
                    updated_at: now,
                    ..setting
                };
                self.say(&mut inner, setting, "rolled_back", version.as_ref(), &actor).await?;
            }
        }
        self.settle(&mut inner, &actor).await?;
        self.publish(&inner);
        Ok(())
    }

    async fn last_good(&self, inner: &mut Inner, setting: &ScopeSetting, actor: &Actor) -> Option<String> {
        let previous = setting.previous_sha256.clone()?;
        let state = inner.versions.get(&previous).map(state_of)?;
        if !matches!(state, State::Installed | State::Enabled) {
            return None;
        }
        self.readmit(inner, &previous, actor).await.ok()?;
        Some(previous)
    }

    /// Gives quarantined versions that a scope still wants another chance, and ends probations that went well.
    async fn end_backoffs(&self) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        let (now, actor) = (self.parts.clock.now(), Actor::system("health"));
        let window = TimeDelta::from_std(self.settings.budget.window).unwrap_or(TimeDelta::MAX);
        let wanted = inner.wanted();
        let mut moves = Vec::new();
        for version in inner.versions.values().filter(|version| wanted.contains(&version.sha256)) {
            let due = inner.trips.get(&version.sha256).is_none_or(|trip| trip.until <= now);
            match state_of(version) {
                State::Quarantined if due => moves.push((version.sha256.clone(), State::Degraded)),
                State::Degraded if now - version.updated_at > window => {
                    moves.push((version.sha256.clone(), State::Enabled));
                }
                _ => {}
            }
        }
        let any = !moves.is_empty();
        for (sha256, next) in moves {
            let probation = next == State::Degraded;
            if probation && self.readmit(&mut inner, &sha256, &Actor::system("system")).await.is_err() {
                continue;
            }
            if let Some(loaded) = inner.loaded.get(&sha256) {
                loaded.health.begin(probation);
            }
            if !probation {
                inner.trips.remove(&sha256);
            }
            let why = probation.then(|| (TRAPS, "on probation after a quarantine".to_owned()));
            self.move_to(&mut inner, &sha256, next, why, &actor).await?;
        }
        if any {
            self.publish(&inner);
        }
        Ok(())
    }

    /// Asks the gate about everything that serves, if it has changed its mind about anybody. What it no longer believes is
    /// `rejected` at once. A license that ended is no reason: what is loaded goes on, and isn't loaded again. What the watched
    /// folder has is offered anew.
    async fn ask_again(&self) -> Result<(), CatalogueError> {
        if !self.parts.gate.look() {
            return Ok(());
        }
        let mut inner = self.lock().await;
        if let Some(folder) = &mut inner.folder {
            folder.offer_again();
        }
        let actor = Actor::system("trust");
        for sha256 in inner.wanted() {
            let Some(version) = inner.versions.get(&sha256).filter(|version| state_of(version).serves())
            else {
                continue;
            };
            let Ok(offer) = self.stored(&inner, version) else { continue };
            let Ok(inspection) = inspect(&offer.component) else { continue };
            let terms = Terms { allow_downgrade: true, ..Terms::default() };
            let offer = Offer { terms, ..offer };
            match self.admit(&inner, &sha256, &inspection, &offer).await {
                Err(CatalogueError::Refused(refusal)) if !refusal.code.starts_with("LICENSE_") => {
                    inner.loaded.remove(&sha256);
                    self.parts.watch.refused(refusal.code);
                    let why = Some((refusal.code, refusal.detail));
                    self.move_to(&mut inner, &sha256, State::Rejected, why, &actor).await?;
                }
                Ok(_) | Err(CatalogueError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.publish(&inner);
        Ok(())
    }

    /// Looks into the watched folder, and installs what is new or changed there.
    ///
    /// # Errors
    /// The database's. What is wrong with a file is the file's: it is `rejected`.
    pub async fn look(&self) -> Result<(), CatalogueError> {
        let found = {
            let mut inner = self.lock().await;
            let Some(mut folder) = inner.folder.take() else { return Ok(()) };
            let looked = tokio::task::spawn_blocking(move || {
                let found = folder.look();
                (folder, found)
            });
            let (folder, found) = looked.await.map_err(|error| CatalogueError::Source(error.to_string()))?;
            inner.folder = Some(folder);
            found
        };
        let actor = Actor::system("folder");
        for Found { name, read } in found {
            let outcome = match read {
                Ok(stored) => {
                    let offer = Offer::new(stored.component, Source::Folder, name.clone());
                    self.install_new(Offer { envelope: stored.envelope, ..offer }, &actor).await
                }
                Err(error) => self.unreadable(&name, &error, &actor).await,
            };
            match outcome {
                // A refusal is written down already.
                Ok(()) | Err(CatalogueError::Refused(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Installs what isn't known yet, or was refused: what an operator removed stays away.
    async fn install_new(&self, offer: Offer, actor: &Actor) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        let sha256 = crate::files::hex_digest(&offer.component);
        if inner.versions.get(&sha256).is_some_and(|known| state_of(known) != State::Rejected) {
            return Ok(());
        }
        let installed = self.install_locked(&mut inner, &sha256, offer, actor).await;
        self.publish(&inner);
        installed.map(drop)
    }

    async fn unreadable(
        &self,
        name: &str,
        error: &std::io::Error,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        let offer = Offer::new(Vec::new(), Source::Folder, name);
        let sha256 = crate::files::hex_digest(format!("folder:{name}").as_bytes());
        let refusal = Refusal::new("PLUGIN_UNREADABLE", error.to_string());
        self.reject(&mut inner, &sha256, &offer, &refusal, actor).await?;
        self.publish(&inner);
        Ok(())
    }
}
