//! What operators and tenants say: on, off, which version, which configuration, which grants, back.

use std::collections::HashMap;

use brokle_runtime::Manifest;
use brokle_storage::sql::plugins::{ScopeKey, ScopeSetting, Version};
use serde_json::Value;

use super::plan::bytes_of;
use super::{Actor, Catalogue, CatalogueError, Inner, state_of};
use crate::configuration::{self, MAX_CONFIG, Problem};
use crate::gate::Source;
use crate::grants;
use crate::state::State;

/// The code of a configuration that isn't accepted.
const CONFIG: &str = "PLUGIN_CONFIG";

impl Catalogue {
    /// Switches a component on in a scope: this version, or without one what the scope or a wider one had last, or the
    /// newest that is installed. A quarantined version gets another chance.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`]; [`CatalogueError::Conflict`] when it waits for grants or its name is taken;
    /// [`CatalogueError::Invalid`] when the scope's configuration doesn't fit the version;
    /// [`CatalogueError::Refused`] when the version is.
    pub async fn enable(
        &self,
        id: &str,
        key: ScopeKey,
        version: Option<&str>,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        let sha256 = self.choose(&inner, id, key, version)?;
        self.readmit(&mut inner, &sha256, actor).await?;
        let enabled = self.activate(&mut inner, id, key, &sha256, "enabled", actor).await;
        self.publish(&inner);
        enabled
    }

    /// Switches a component off in a scope.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`].
    pub async fn disable(&self, id: &str, key: ScopeKey, actor: &Actor) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        known(&inner, id)?;
        let setting =
            ScopeSetting { enabled: Some(false), ..inner.setting_or_new(id, key, self.parts.clock.now()) };
        self.say(&mut inner, setting, "disabled", None, actor).await?;
        self.settle(&mut inner, actor).await?;
        self.publish(&inner);
        Ok(())
    }

    /// Lets a scope say nothing of a component any more: the wider scope's word holds.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`].
    pub async fn inherit(&self, id: &str, key: ScopeKey, actor: &Actor) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        known(&inner, id)?;
        let event = self.event("inherits", id, key, actor);
        self.parts.database.plugins().delete_scope(id, key, &event).await?;
        inner.scopes.retain(|setting| setting.plugin_id != id || setting.key != key);
        self.settle(&mut inner, actor).await?;
        self.publish(&inner);
        Ok(())
    }

    /// Returns to the version that served in a scope before; doing it again returns from there.
    ///
    /// # Errors
    /// [`CatalogueError::Conflict`] `PLUGIN_NO_PREVIOUS`; otherwise as for [`enable`](Self::enable).
    pub async fn rollback(&self, id: &str, key: ScopeKey, actor: &Actor) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        known(&inner, id)?;
        let previous = inner.setting(id, key).and_then(|setting| setting.previous_sha256.clone());
        let previous = previous.filter(|sha256| inner.versions.contains_key(sha256)).ok_or_else(|| {
            let text = format!("{id} has no previous version in this scope");
            CatalogueError::conflict("PLUGIN_NO_PREVIOUS", text)
        })?;
        self.readmit(&mut inner, &previous, actor).await?;
        let rolled = self.activate(&mut inner, id, key, &previous, "rolled_back", actor).await;
        self.publish(&inner);
        rolled
    }

    /// What operators grant a component, now or once it is installed. What waited for it starts.
    ///
    /// # Errors
    /// [`CatalogueError::Invalid`] `PLUGIN_GRANTS` when an installed version doesn't ask for one of them;
    /// [`CatalogueError::Refused`] when the license that pays for it has ended.
    pub async fn set_grants(&self, id: &str, wanted: Value, actor: &Actor) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        if let Some(newest) = inner.newest(id) {
            self.may_configure(&inner, &newest.sha256).await?;
        }
        let waiting = |version: &&Version| {
            version.plugin_id == id
                && state_of(version) == State::Installed
                && version.code.as_deref() == Some(grants::WAITING)
        };
        let waiting: Vec<String> =
            inner.versions.values().filter(waiting).map(|version| version.sha256.clone()).collect();
        for sha256 in &waiting {
            // One that has waited since before this server's start isn't in memory.
            match self.readmit(&mut inner, sha256, actor).await {
                Ok(()) | Err(CatalogueError::Refused(_) | CatalogueError::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        let checked = match inner.newest(id).and_then(|version| inner.loaded.get(&version.sha256)) {
            Some(loaded) => {
                let manifest = &loaded.component.inspection().manifest;
                grants::configure(manifest, &wanted, self.parts.services.as_ref()).map(drop)
            }
            None => grants::check_form(&wanted),
        };
        checked.map_err(|problems| CatalogueError::Invalid { code: grants::WAITING, problems })?;
        let event = self.event("granted", id, ScopeKey::default(), actor);
        self.parts.database.plugins().put_grants(id, &wanted, self.parts.clock.now(), &event).await?;
        inner.grants.insert(id.to_owned(), wanted);
        self.grant(&mut inner);
        for sha256 in waiting {
            self.start_or_wait(&mut inner, &sha256, actor).await?;
        }
        self.publish(&inner);
        Ok(())
    }

    /// What a component asks for and what operators grant it.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`] when nothing is known of it.
    pub async fn grants(&self, id: &str) -> Result<(Value, Value), CatalogueError> {
        let inner = self.lock().await;
        let loaded = inner.newest(id).and_then(|version| inner.loaded.get(&version.sha256));
        let asked = loaded.map(|loaded| {
            serde_json::to_value(&loaded.component.inspection().manifest.capabilities).unwrap_or_default()
        });
        let granted = inner.grants.get(id).cloned();
        if asked.is_none() && granted.is_none() {
            known(&inner, id)?;
        }
        Ok((asked.unwrap_or_default(), granted.unwrap_or_default()))
    }

    /// Gives a component a configuration in a scope, or without one lets the wider scope's hold.
    ///
    /// # Errors
    /// [`CatalogueError::Invalid`] `PLUGIN_CONFIG` with each problem's key; [`CatalogueError::Refused`] when the license that
    /// pays for the component has ended.
    pub async fn set_config(
        &self,
        id: &str,
        key: ScopeKey,
        config: Option<Value>,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        known(&inner, id)?;
        let chosen = self.choose(&inner, id, key, None);
        if let Ok(sha256) = &chosen {
            self.may_configure(&inner, sha256).await?;
        }
        if let Some(config) = &config {
            self.check_config(&inner, &chosen?, config).await?;
        }
        let setting = ScopeSetting { config, ..inner.setting_or_new(id, key, self.parts.clock.now()) };
        self.say(&mut inner, setting, "configured", None, actor).await?;
        self.publish(&inner);
        Ok(())
    }

    /// A component's configuration in a scope: its own, and the one that holds.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`].
    pub async fn config(
        &self,
        id: &str,
        key: ScopeKey,
    ) -> Result<(Option<Value>, Option<Value>), CatalogueError> {
        let inner = self.lock().await;
        known(&inner, id)?;
        let own = inner.setting(id, key).and_then(|setting| setting.config.clone());
        Ok((own, inner.effective(id, key).config))
    }

    /// Removes a version that serves nowhere, or without one all of them. What a folder or the server itself offers
    /// stays `available`, and is installed again only when somebody enables it.
    ///
    /// # Errors
    /// [`CatalogueError::NotFound`]; [`CatalogueError::Conflict`] `PLUGIN_IN_USE` while a scope has it enabled.
    pub async fn remove(&self, id: &str, version: Option<&str>, actor: &Actor) -> Result<(), CatalogueError> {
        let mut inner = self.lock().await;
        let chosen = |known: &&Version| {
            known.plugin_id == id
                && version.is_none_or(|wanted| known.version == wanted || known.sha256 == wanted)
        };
        let chosen: Vec<Version> = inner.versions.values().filter(chosen).cloned().collect();
        if chosen.is_empty() {
            return Err(CatalogueError::NotFound);
        }
        let wanted = inner.wanted();
        if let Some(used) = chosen.iter().find(|version| wanted.contains(&version.sha256)) {
            let text = format!("{id} {} is enabled: disable it first", used.version);
            return Err(CatalogueError::conflict("PLUGIN_IN_USE", text));
        }
        for version in chosen {
            self.remove_one(&mut inner, &version, actor).await?;
        }
        self.publish(&inner);
        Ok(())
    }

    async fn remove_one(
        &self,
        inner: &mut Inner,
        version: &Version,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        inner.loaded.remove(&version.sha256);
        inner.trips.remove(&version.sha256);
        inner.troubles.remove(&version.sha256);
        let offered = matches!(Source::named(&version.source), Source::Embedded | Source::Folder);
        if offered && state_of(version) != State::Rejected {
            for next in [State::Installed, State::Available] {
                self.move_to(inner, &version.sha256, next, None, actor).await?;
            }
            return Ok(());
        }
        let event = self.version_event("removed", version, ScopeKey::default(), actor);
        self.parts.database.plugins().delete_version(&version.sha256, &event).await?;
        inner.versions.remove(&version.sha256);
        inner.lock.remove(&version.plugin_id, &version.version)?;
        Ok(self.files.remove(&version.sha256)?)
    }

    /// Which version is meant.
    fn choose(
        &self,
        inner: &Inner,
        id: &str,
        key: ScopeKey,
        version: Option<&str>,
    ) -> Result<String, CatalogueError> {
        known(inner, id)?;
        let mine = inner.versions.values().filter(|known| known.plugin_id == id);
        let chosen = match version {
            Some(wanted) => mine
                .filter(|known| known.version == wanted || known.sha256 == wanted)
                // Of two files of one version the one that isn't refused.
                .min_by_key(|known| state_of(known) == State::Rejected)
                .map(|known| known.sha256.clone()),
            None => {
                let last =
                    inner.effective(id, key).sha256.filter(|sha256| inner.versions.contains_key(sha256));
                last.or_else(|| inner.newest(id).map(|newest| newest.sha256.clone()))
            }
        };
        chosen.ok_or(CatalogueError::NotFound)
    }

    /// Makes a version serve in a scope. The caller has made sure that it may load, and publishes.
    pub(super) async fn activate(
        &self,
        inner: &mut Inner,
        id: &str,
        key: ScopeKey,
        sha256: &str,
        event: &str,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let version = inner.versions.get(sha256).cloned().ok_or(CatalogueError::NotFound)?;
        let loaded = inner.loaded.get(sha256).cloned().ok_or(CatalogueError::NotFound)?;
        if let Some(rival) = inner.rival(&version) {
            let text = format!("{} already serves as '{}': disable it first", rival.plugin_id, version.name);
            return Err(CatalogueError::conflict("PLUGIN_NAME_TAKEN", text));
        }
        let missing = grants::outstanding(
            &loaded.component.inspection().manifest,
            inner.grants.get(&version.plugin_id),
        );
        if !missing.is_empty() {
            let text = format!("{id} {} waits for grants: {}", version.version, missing.join(", "));
            return Err(CatalogueError::conflict(grants::WAITING, text));
        }
        if let Some(config) = inner.effective(id, key).config {
            self.check_config(inner, sha256, &config).await?;
        }
        let mut setting = inner.setting_or_new(id, key, self.parts.clock.now());
        let inherits = key != ScopeKey::default()
            && setting.sha256.is_none()
            && inner.effective(id, key).sha256.as_deref() == Some(sha256);
        if !inherits && setting.sha256.as_deref() != Some(sha256) {
            setting.previous_sha256 = setting.sha256.replace(sha256.to_owned());
        }
        setting.enabled = Some(true);
        loaded.health.begin(false);
        inner.trips.remove(sha256);
        self.say(inner, setting, event, Some(&version), actor).await?;
        self.settle(inner, actor).await
    }

    /// Writes a scope's word.
    pub(super) async fn say(
        &self,
        inner: &mut Inner,
        setting: ScopeSetting,
        event: &str,
        version: Option<&Version>,
        actor: &Actor,
    ) -> Result<(), CatalogueError> {
        let mut event = self.event(event, &setting.plugin_id, setting.key, actor);
        event.version = version.map(|version| version.version.clone());
        event.sha256 = version.map(|version| version.sha256.clone()).or_else(|| setting.sha256.clone());
        self.parts.database.plugins().put_scope(&setting, &event).await?;
        inner.replace(setting);
        Ok(())
    }

    /// Brings each version's state into line with what scopes want.
    pub(super) async fn settle(&self, inner: &mut Inner, actor: &Actor) -> Result<(), CatalogueError> {
        let wanted = inner.wanted();
        let mut moves: Vec<(String, State)> = inner
            .versions
            .values()
            .filter_map(|version| {
                let next = match (state_of(version), wanted.contains(&version.sha256)) {
                    (State::Installed, true) => State::Enabled,
                    (State::Enabled | State::Degraded, false) => State::Installed,
                    _ => return None,
                };
                Some((version.sha256.clone(), next))
            })
            .collect();
        // What stops is told before what starts.
        moves.sort_by_key(|(_, next)| *next == State::Enabled);
        for (sha256, next) in moves {
            self.move_to(inner, &sha256, next, None, actor).await?;
        }
        Ok(())
    }

    /// Resolves what loaded versions were granted, anew: grants, or what they refer to, may have changed. A version whose
    /// grants can't be given gets none of them.
    pub(super) fn grant(&self, inner: &mut Inner) {
        let Some(services) = &self.parts.services else { return };
        let mut capabilities = HashMap::new();
        for (sha256, loaded) in &inner.loaded {
            let manifest = &loaded.component.inspection().manifest;
            let Some(grants) = inner.grants.get(&manifest.id) else { continue };
            match grants::configure(manifest, grants, Some(services)) {
                Ok(granted) => capabilities.extend(granted.map(|granted| (sha256.clone(), granted))),
                Err(problems) => {
                    let problems: Vec<String> = problems
                        .iter()
                        .map(|problem| format!("{}: {}", problem.pointer, problem.message))
                        .collect();
                    tracing::error!(
                        plugin = manifest.label(),
                        problems = problems.join("; "),
                        "grants can't be given"
                    );
                }
            }
        }
        inner.capabilities = capabilities;
    }

    /// Lets everybody see what serves now.
    pub(super) fn publish(&self, inner: &Inner) {
        self.snapshots.store(inner.snapshot());
        self.shown.store(inner.entries().into());
        self.parts.watch.swapped();
    }

    /// The manifest's schema, then the component's own word.
    pub(super) async fn check_config(
        &self,
        inner: &Inner,
        sha256: &str,
        config: &Value,
    ) -> Result<(), CatalogueError> {
        let loaded = inner.loaded.get(sha256).ok_or(CatalogueError::NotFound)?;
        let bytes = bytes_of(Some(config));
        let refused = |problems| Err(CatalogueError::Invalid { code: CONFIG, problems });
        if bytes.len() > MAX_CONFIG {
            return refused(vec![Problem::new("", "a configuration of 64 KiB at most is expected")]);
        }
        let schema = loaded.component.inspection().manifest.config.as_ref();
        let problems = configuration::check(schema, config);
        if !problems.is_empty() {
            return refused(problems);
        }
        match loaded.component.check_config(&bytes).await {
            Ok(found) if found.is_empty() => Ok(()),
            Ok(found) => {
                refused(found.into_iter().map(|found| Problem::new(found.pointer, found.message)).collect())
            }
            Err(error) => refused(vec![Problem::new("", error.to_string())]),
        }
    }
}

impl Inner {
    /// The grants that a version waits for.
    pub(super) fn outstanding(&self, version: &Version, manifest: &Manifest) -> Vec<&'static str> {
        grants::outstanding(manifest, self.grants.get(&version.plugin_id))
    }

    /// The newest version that isn't refused.
    pub(super) fn newest(&self, id: &str) -> Option<&Version> {
        let mine = self.versions.values().filter(|version| version.plugin_id == id);
        mine.filter(|version| state_of(version) != State::Rejected)
            .max_by_key(|version| semver::Version::parse(&version.version).ok())
    }
}

fn known(inner: &Inner, id: &str) -> Result<(), CatalogueError> {
    let is_known = inner.versions.values().any(|version| version.plugin_id == id);
    if is_known { Ok(()) } else { Err(CatalogueError::NotFound) }
}
