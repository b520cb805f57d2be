//! What the tables hold.

use brokle_core::ids::{OrganizationId, ProjectId};
use chrono::{DateTime, Utc};

use crate::sql::StorageError;

/// A version of a component that was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// Hex SHA-256 of the file.
    pub sha256: String,
    /// The component's id; the file's name if it couldn't be read.
    pub plugin_id: String,
    /// SemVer; empty if it couldn't be read.
    pub version: String,
    /// Its role; empty if it couldn't be read.
    pub kind: String,
    /// Its short name; empty if it couldn't be read.
    pub name: String,
    /// `available`, `installed`, `enabled`, `degraded`, `quarantined` or `rejected`.
    pub state: String,
    /// Why it is rejected, degraded or quarantined: a stable code.
    pub code: Option<String>,
    /// The same for people.
    pub reason: Option<String>,
    /// `embedded`, `folder`, `upload` or `oci`.
    pub source: String,
    /// Which file or reference of the source.
    pub reference: String,
    /// How far its signature is trusted.
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

#[derive(sqlx::FromRow)]
pub(super) struct VersionRow {
    sha256: String,
    plugin_id: String,
    version: String,
    kind: String,
    name: String,
    state: String,
    code: Option<String>,
    reason: Option<String>,
    source: String,
    reference: String,
    level: Option<String>,
    release_seq: Option<i64>,
    size: i64,
    installed_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl From<VersionRow> for Version {
    fn from(row: VersionRow) -> Self {
        Self {
            sha256: row.sha256,
            plugin_id: row.plugin_id,
            version: row.version,
            kind: row.kind,
            name: row.name,
            state: row.state,
            code: row.code,
            reason: row.reason,
            source: row.source,
            reference: row.reference,
            level: row.level,
            release_seq: row.release_seq,
            size: row.size,
            installed_at: row.installed_at,
            updated_at: row.updated_at,
        }
    }
}

/// Which scope: the instance, an organization, or one of its projects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ScopeKey {
    /// None: the instance.
    pub organization: Option<OrganizationId>,
    /// None: the whole organization.
    pub project: Option<ProjectId>,
}

/// What a scope says of a component; `None` leaves it to the wider scope.
#[derive(Clone, Debug, PartialEq)]
pub struct ScopeSetting {
    /// The component.
    pub plugin_id: String,
    /// The scope.
    pub key: ScopeKey,
    /// Does it serve here?
    pub enabled: Option<bool>,
    /// Which version.
    pub sha256: Option<String>,
    /// The version before, to which a rollback returns.
    pub previous_sha256: Option<String>,
    /// The configuration, whole.
    pub config: Option<serde_json::Value>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
pub(super) struct ScopeRow {
    plugin_id: String,
    organization_id: Option<String>,
    project_id: Option<String>,
    enabled: Option<bool>,
    sha256: Option<String>,
    previous_sha256: Option<String>,
    config: Option<String>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<ScopeRow> for ScopeSetting {
    type Error = StorageError;

    fn try_from(row: ScopeRow) -> Result<Self, StorageError> {
        let organization = row.organization_id.map(|id| id.parse()).transpose();
        let project = row.project_id.map(|id| id.parse()).transpose();
        let config = row.config.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Self {
            plugin_id: row.plugin_id,
            key: ScopeKey {
                organization: organization.map_err(StorageError::corrupt)?,
                project: project.map_err(StorageError::corrupt)?,
            },
            enabled: row.enabled,
            sha256: row.sha256,
            previous_sha256: row.previous_sha256,
            config: config.map_err(StorageError::corrupt)?,
            updated_at: row.updated_at,
        })
    }
}
