//! Components: the versions that were seen, what each scope makes of them, what operators granted, and the events of
//! it all. A change and its event are one transaction.
//!
//! Versions and grants are the instance's. What a scope says is the instance's (no organization), an organization's or
//! a project's; a scope's row is written in its organization's name, so that row-level security holds it there.

mod events;
mod rows;

use brokle_core::ids::OrganizationId;
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope, SystemErrand};
use super::{Database, StorageError, transaction};

use self::events::record;
pub use self::events::{Event, EventFilter};
pub use self::rows::{ScopeKey, ScopeSetting, Version};
use self::rows::{ScopeRow, VersionRow};

/// The tables of components.
#[derive(Clone, Copy, Debug)]
pub struct Plugins<'a>(&'a Database);

impl Database {
    /// The tables of components.
    #[must_use]
    pub fn plugins(&self) -> Plugins<'_> {
        Plugins(self)
    }
}

/// Whose transaction a scope's row is written in.
fn owner(organization: Option<OrganizationId>) -> Scope {
    organization.map_or(Scope::System(SystemErrand::Plugins), Scope::Organization)
}

macro_rules! version_columns {
    () => {
        "sha256, plugin_id, version, kind, name, state, code, reason, source, reference, level, release_seq, size, \
         installed_at, updated_at"
    };
}

macro_rules! scope_columns {
    () => {
        "plugin_id, organization_id, project_id, enabled, sha256, previous_sha256, config, updated_at"
    };
}

impl Plugins<'_> {
    /// Every version, by id and time of installation.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn versions(&self) -> Result<Vec<Version>, StorageError> {
        let rows = transaction!(self.0, Access::Read, Scope::System(SystemErrand::Plugins), |tx| {
            sqlx::query_as::<_, VersionRow>(concat!(
                "SELECT ",
                version_columns!(),
                " FROM plugin_versions ORDER BY plugin_id, installed_at, sha256"
            ))
            .fetch_all(&mut *tx)
            .await?
        });
        Ok(rows.into_iter().map(Version::from).collect())
    }

    /// Writes a version, new or changed; its time of installation stays.
    ///
    /// # Errors
    /// [`StorageError::Invalid`] for a state or source that the schema doesn't know.
    pub async fn put_version(&self, version: &Version, event: &Event) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::System(SystemErrand::Plugins), |tx| {
            sqlx::query(concat!(
                "INSERT INTO plugin_versions (",
                version_columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
                 ON CONFLICT (sha256) DO UPDATE SET plugin_id = excluded.plugin_id, version = excluded.version,
                    kind = excluded.kind, name = excluded.name, state = excluded.state, code = excluded.code,
                    reason = excluded.reason, source = excluded.source, reference = excluded.reference,
                    level = excluded.level, release_seq = excluded.release_seq, size = excluded.size,
                    updated_at = excluded.updated_at"
            ))
            .bind(&version.sha256)
            .bind(&version.plugin_id)
            .bind(&version.version)
            .bind(&version.kind)
            .bind(&version.name)
            .bind(&version.state)
            .bind(&version.code)
            .bind(&version.reason)
            .bind(&version.source)
            .bind(&version.reference)
            .bind(&version.level)
            .bind(version.release_seq)
            .bind(version.size)
            .bind(version.installed_at)
            .bind(version.updated_at)
            .execute(&mut *tx)
            .await?;
            if let Some(seq) = version.release_seq {
                sqlx::query(
                    "INSERT INTO plugin_releases (plugin_id, highest_seq) VALUES ($1, $2)
                     ON CONFLICT (plugin_id) DO UPDATE SET highest_seq = excluded.highest_seq
                     WHERE excluded.highest_seq > plugin_releases.highest_seq",
                )
                .bind(&version.plugin_id)
                .bind(seq)
                .execute(&mut *tx)
                .await?;
            }
            record!(tx, event);
        });
        Ok(())
    }

    /// The newest release of a component that was ever let in.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn highest_release(&self, plugin_id: &str) -> Result<Option<i64>, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::System(SystemErrand::Plugins), |tx| {
            sqlx::query_scalar("SELECT highest_seq FROM plugin_releases WHERE plugin_id = $1")
                .bind(plugin_id)
                .fetch_optional(&mut *tx)
                .await?
        }))
    }

    /// Forgets a version.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is none of this hash.
    pub async fn delete_version(&self, sha256: &str, event: &Event) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::System(SystemErrand::Plugins), |tx| {
            let deleted = sqlx::query("DELETE FROM plugin_versions WHERE sha256 = $1")
                .bind(sha256)
                .execute(&mut *tx)
                .await?;
            if deleted.rows_affected() == 0 {
                return Err(StorageError::NotFound);
            }
            record!(tx, event);
        });
        Ok(())
    }

    /// What every scope says, of all organizations: for the server itself.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn scopes(&self) -> Result<Vec<ScopeSetting>, StorageError> {
        let rows = transaction!(self.0, Access::Read, Scope::System(SystemErrand::Plugins), |tx| {
            sqlx::query_as::<_, ScopeRow>(concat!(
                "SELECT ",
                scope_columns!(),
                " FROM plugin_scopes ORDER BY plugin_id, organization_id, project_id"
            ))
            .fetch_all(&mut *tx)
            .await?
        });
        rows.into_iter().map(ScopeSetting::try_from).collect()
    }

    /// Writes what a scope says of a component.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has no such project.
    pub async fn put_scope(&self, setting: &ScopeSetting, event: &Event) -> Result<(), StorageError> {
        let config = setting.config.as_ref().map(serde_json::Value::to_string);
        transaction!(self.0, Access::Write, owner(setting.key.organization), |tx| {
            sqlx::query(concat!(
                "INSERT INTO plugin_scopes (",
                scope_columns!(),
                ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
                 ON CONFLICT (plugin_id, coalesce(organization_id, ''), coalesce(project_id, '')) DO UPDATE SET
                    enabled = excluded.enabled, sha256 = excluded.sha256,
                    previous_sha256 = excluded.previous_sha256, config = excluded.config,
                    updated_at = excluded.updated_at"
            ))
            .bind(&setting.plugin_id)
            .bind(setting.key.organization.map(|id| id.to_string()))
            .bind(setting.key.project.map(|id| id.to_string()))
            .bind(setting.enabled)
            .bind(&setting.sha256)
            .bind(&setting.previous_sha256)
            .bind(&config)
            .bind(setting.updated_at)
            .execute(&mut *tx)
            .await?;
            record!(tx, event);
        });
        Ok(())
    }

    /// Forgets what a scope says of a component; nothing to forget is well too.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn delete_scope(
        &self,
        plugin_id: &str,
        key: ScopeKey,
        event: &Event,
    ) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, owner(key.organization), |tx| {
            sqlx::query(
                "DELETE FROM plugin_scopes WHERE plugin_id = $1 AND coalesce(organization_id, '') = $2
                    AND coalesce(project_id, '') = $3",
            )
            .bind(plugin_id)
            .bind(key.organization.map(|id| id.to_string()).unwrap_or_default())
            .bind(key.project.map(|id| id.to_string()).unwrap_or_default())
            .execute(&mut *tx)
            .await?;
            record!(tx, event);
        });
        Ok(())
    }

    /// What operators granted, by component.
    ///
    /// # Errors
    /// [`StorageError::Corrupt`] when one isn't JSON.
    pub async fn grants(&self) -> Result<Vec<(String, serde_json::Value)>, StorageError> {
        let rows = transaction!(self.0, Access::Read, Scope::System(SystemErrand::Plugins), |tx| {
            sqlx::query_as::<_, (String, String)>("SELECT plugin_id, grants FROM plugin_grants")
                .fetch_all(&mut *tx)
                .await?
        });
        let read = |(id, text): (String, String)| {
            Ok((id, serde_json::from_str(&text).map_err(StorageError::corrupt)?))
        };
        rows.into_iter().map(read).collect()
    }

    /// Writes what operators grant a component.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn put_grants(
        &self,
        plugin_id: &str,
        grants: &serde_json::Value,
        now: DateTime<Utc>,
        event: &Event,
    ) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::System(SystemErrand::Plugins), |tx| {
            sqlx::query(
                "INSERT INTO plugin_grants (plugin_id, grants, updated_at) VALUES ($1, $2, $3)
                 ON CONFLICT (plugin_id) DO UPDATE SET grants = excluded.grants, updated_at = excluded.updated_at",
            )
            .bind(plugin_id)
            .bind(grants.to_string())
            .bind(now)
            .execute(&mut *tx)
            .await?;
            record!(tx, event);
        });
        Ok(())
    }
}
