//! From what scopes say to what serves: pure, over the catalogue's rows.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use brokle_storage::sql::plugins::{ScopeKey, ScopeSetting, Version};
use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Inner, state_of};
use crate::snapshot::{Snapshot, View};

/// What holds for a component in a scope, wider scopes included.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Effective {
    pub(super) enabled: bool,
    pub(super) sha256: Option<String>,
    pub(super) config: Option<Value>,
}

impl Inner {
    /// What a scope says of a component itself.
    pub(super) fn setting(&self, id: &str, key: ScopeKey) -> Option<&ScopeSetting> {
        self.scopes.iter().find(|setting| setting.plugin_id == id && setting.key == key)
    }

    /// The same to be changed; an empty one if it says nothing yet.
    pub(super) fn setting_or_new(&self, id: &str, key: ScopeKey, now: DateTime<Utc>) -> ScopeSetting {
        let known = self.setting(id, key).cloned();
        let mut setting = known.unwrap_or_else(|| ScopeSetting {
            plugin_id: id.to_owned(),
            key,
            enabled: None,
            sha256: None,
            previous_sha256: None,
            config: None,
            updated_at: now,
        });
        setting.updated_at = now;
        setting
    }

    pub(super) fn replace(&mut self, setting: ScopeSetting) {
        self.scopes.retain(|old| old.plugin_id != setting.plugin_id || old.key != setting.key);
        self.scopes.push(setting);
    }

    /// The instance's word, then the organization's over it, then the project's.
    pub(super) fn effective(&self, id: &str, key: ScopeKey) -> Effective {
        let mut effective = Effective::default();
        let mut scopes = vec![ScopeKey::default()];
        if key.organization.is_some() {
            scopes.push(ScopeKey { project: None, ..key });
        }
        if key.project.is_some() {
            scopes.push(key);
        }
        for setting in scopes.into_iter().filter_map(|scope| self.setting(id, scope)) {
            effective.enabled = setting.enabled.unwrap_or(effective.enabled);
            effective.sha256 = setting.sha256.clone().or(effective.sha256);
            effective.config = setting.config.clone().or(effective.config);
        }
        effective
    }

    /// Every scope in which anything is said, the instance first.
    fn keys(&self) -> Vec<ScopeKey> {
        let mut seen = HashSet::from([ScopeKey::default()]);
        let mut keys = vec![ScopeKey::default()];
        keys.extend(self.scopes.iter().map(|setting| setting.key).filter(|key| seen.insert(*key)));
        keys
    }

    /// The hashes that some scope has enabled.
    pub(super) fn wanted(&self) -> BTreeSet<String> {
        let mut wanted = BTreeSet::new();
        for setting in &self.scopes {
            let effective = self.effective(&setting.plugin_id, setting.key);
            wanted.extend(effective.sha256.filter(|_| effective.enabled));
        }
        wanted
    }

    /// Another component that is enabled somewhere under this one's name and role.
    pub(super) fn rival(&self, version: &Version) -> Option<&Version> {
        let wanted = self.wanted();
        let mut others = wanted.iter().filter_map(|sha256| self.versions.get(sha256));
        others.find(|other| {
            other.plugin_id != version.plugin_id && other.name == version.name && other.kind == version.kind
        })
    }

    /// What serves.
    pub(super) fn snapshot(&self) -> Snapshot {
        let mut snapshot = Snapshot::new(self.view(ScopeKey::default()));
        for key in self.keys() {
            match (key.organization, key.project) {
                (Some(_), Some(project)) => snapshot.set_project(project, self.view(key)),
                (Some(organization), None) => snapshot.set_organization(organization, self.view(key)),
                _ => {}
            }
        }
        snapshot
    }

    fn view(&self, key: ScopeKey) -> View {
        let mut view = View::new();
        // Oldest first: of two with one name the older keeps it.
        let ids: BTreeSet<_> =
            self.versions.values().map(|version| (version.installed_at, &version.plugin_id)).collect();
        let mut done = HashSet::new();
        for (_, id) in ids {
            if !done.insert(id) {
                continue;
            }
            let effective = self.effective(id, key);
            let Some(sha256) = effective.sha256.filter(|_| effective.enabled) else { continue };
            let serves = self.versions.get(&sha256).is_some_and(|version| state_of(version).serves());
            if let (true, Some(loaded)) = (serves, self.loaded.get(&sha256)) {
                let embedded = self.embedded.contains_key(&sha256);
                let granted = self.capabilities.get(&sha256);
                loaded.show(&mut view, bytes_of(effective.config.as_ref()), embedded, granted);
            }
        }
        view
    }
}

/// A configuration as instances read it.
pub(super) fn bytes_of(config: Option<&Value>) -> Arc<[u8]> {
    config.map(|config| config.to_string().into_bytes()).unwrap_or_default().into()
}
