//! The catalogue as it is shown.

use brokle_core::ids::{OrganizationId, ProjectId};
use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Inner, state_of};
use crate::state::State;

/// A component: its versions, and what scopes make of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// Its id; the file's name if it couldn't be read.
    pub id: String,
    /// The short name of its newest version.
    pub name: String,
    /// Its role; empty if it couldn't be read.
    pub kind: String,
    /// In order of installation.
    pub versions: Vec<VersionEntry>,
    /// The instance's setting first.
    pub scopes: Vec<ScopeEntry>,
}

/// A version.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VersionEntry {
    /// SemVer; empty if it couldn't be read.
    pub version: String,
    /// Hex SHA-256 of the file.
    pub sha256: String,
    /// What became of it.
    pub state: State,
    /// Why it is rejected, degraded, quarantined or waiting: a stable code.
    pub code: Option<String>,
    /// The same for people.
    pub reason: Option<String>,
    /// `embedded`, `folder`, `upload` or `oci`.
    pub source: String,
    /// Which file or reference of the source.
    pub reference: String,
    /// How far it is trusted.
    pub level: Option<String>,
    /// Its place among the releases of its id.
    pub release_seq: Option<i64>,
    /// Bytes in the file.
    pub size: i64,
    /// When it was first seen.
    pub installed_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// What a scope says; what it doesn't say is the wider scope's.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScopeEntry {
    /// None: the instance.
    pub organization_id: Option<OrganizationId>,
    /// None: the whole organization.
    pub project_id: Option<ProjectId>,
    /// Does it serve here?
    pub enabled: Option<bool>,
    /// Which version, by its hash.
    pub sha256: Option<String>,
    /// Which one a rollback returns to.
    pub previous_sha256: Option<String>,
    /// Is there a configuration of its own?
    pub configured: bool,
}

impl Entry {
    /// The instance's active version, or the one that says most about the component's state.
    #[must_use]
    pub fn current(&self) -> Option<&VersionEntry> {
        let instance = self.scopes.iter().find(|scope| scope.organization_id.is_none());
        let active = instance.and_then(|scope| scope.sha256.as_deref());
        let active = active.and_then(|sha256| self.versions.iter().find(|version| version.sha256 == sha256));
        active
            .or_else(|| self.versions.iter().find(|version| version.state.serves()))
            .or(self.versions.last())
    }

    /// What an organization may see of it: the settings of the instance and of others are left out.
    #[must_use]
    pub fn seen_by(&self, organization: OrganizationId) -> Self {
        let mut seen = self.clone();
        seen.scopes.retain(|scope| scope.organization_id == Some(organization));
        seen
    }
}

impl Inner {
    /// All of it, by id.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut versions: Vec<_> = self.versions.values().collect();
        versions.sort_by(|a, b| {
            (&a.plugin_id, a.installed_at, &a.sha256).cmp(&(&b.plugin_id, b.installed_at, &b.sha256))
        });
        for version in versions {
            if entries.last().is_none_or(|entry| entry.id != version.plugin_id) {
                entries.push(Entry {
                    id: version.plugin_id.clone(),
                    name: String::new(),
                    kind: String::new(),
                    versions: Vec::new(),
                    scopes: self.scope_entries(&version.plugin_id),
                });
            }
            let Some(entry) = entries.last_mut() else { continue };
            entry.name.clone_from(&version.name);
            entry.kind.clone_from(&version.kind);
            let trouble = self.troubles.get(&version.sha256);
            let mut state = state_of(version);
            if trouble.is_some() && state.serves() {
                state = State::Rejected;
            }
            entry.versions.push(VersionEntry {
                version: version.version.clone(),
                sha256: version.sha256.clone(),
                state,
                code: trouble.map(|trouble| trouble.code.to_owned()).or_else(|| version.code.clone()),
                reason: trouble.map(|trouble| trouble.reason.clone()).or_else(|| version.reason.clone()),
                source: version.source.clone(),
                reference: version.reference.clone(),
                level: version.level.clone(),
                release_seq: version.release_seq,
                size: version.size,
                installed_at: version.installed_at,
                updated_at: version.updated_at,
            });
        }
        entries
    }

    fn scope_entries(&self, id: &str) -> Vec<ScopeEntry> {
        let mut scopes: Vec<ScopeEntry> = self
            .scopes
            .iter()
            .filter(|setting| setting.plugin_id == id)
            .map(|setting| ScopeEntry {
                organization_id: setting.key.organization,
                project_id: setting.key.project,
                enabled: setting.enabled,
                sha256: setting.sha256.clone(),
                previous_sha256: setting.previous_sha256.clone(),
                configured: setting.config.is_some(),
            })
            .collect();
        scopes.sort_by_key(|scope| (scope.organization_id, scope.project_id));
        scopes
    }
}
