//! API keys: who may call, as far as the database knows. The keys themselves are nowhere; their SHA-256 is.

use std::collections::BTreeMap;

use brokle_core::ids::{ApiKeyId, EnvironmentId, OrganizationId, ProjectId};
use brokle_core::tenancy::{Capture, Tenant};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::dialect::{Access, Scope, SystemErrand};
use super::{Database, Page, StorageError, transaction};

/// What a key is restricted to; an empty list restricts nothing. What the patterns mean is `brokle_identity`'s business.
///
/// A member that this version doesn't know makes the row unreadable: a restriction is never passed over.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Restrictions {
    /// Models, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// Routes, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<String>,
    /// Paths, as patterns.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<String>,
    /// Addresses that calls come from, in CIDR notation.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub cidrs: Vec<String>,
}

/// What is known of a key, without the key and its hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// Whom it calls for.
    pub tenant: Tenant,
    /// What people call it.
    pub name: String,
    /// Enough of the key to recognize it: `bk_AbCd...XyZa`.
    pub preview: String,
    /// What it may do, by name.
    pub scopes: Vec<String>,
    /// The key's own limit; `None` leaves it to the tenant's.
    pub requests_per_minute: Option<u32>,
    /// What it is restricted to.
    pub restrictions: Restrictions,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// From when on what it was before it was last rotated is refused.
    pub previous_expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used; written about every ten seconds.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was created.
    pub created_at: DateTime<Utc>,
}

/// A key that is to be stored.
#[derive(Clone, Debug)]
pub struct NewApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What people call it.
    pub name: String,
    /// SHA-256 of the whole key.
    pub key_hash: [u8; 32],
    /// Enough of the key to recognize it.
    pub preview: String,
    /// What it may do, by name.
    pub scopes: Vec<String>,
    /// The key's own limit, at least 1.
    pub requests_per_minute: Option<u32>,
    /// What it is restricted to.
    pub restrictions: Restrictions,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// Now.
    pub created_at: DateTime<Utc>,
}

/// What a presented key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOwner {
    /// The key.
    pub key: ApiKey,
    /// What its project keeps of the calls' content.
    pub capture: Capture,
    /// From when on what was presented is refused: the key's end, or that of its time after a rotation.
    pub valid_until: Option<DateTime<Utc>>,
}

/// What a key becomes.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// SHA-256 of the new key.
    pub key_hash: [u8; 32],
    /// Enough of the new key to recognize it.
    pub preview: String,
    /// From when on the old key is refused.
    pub previous_expires_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    #[sqlx(try_from = "String")]
    id: ApiKeyId,
    #[sqlx(try_from = "String")]
    organization_id: OrganizationId,
    #[sqlx(try_from = "String")]
    project_id: ProjectId,
    #[sqlx(try_from = "String")]
    environment_id: EnvironmentId,
    name: String,
    preview: String,
    scopes: String,
    requests_per_minute: Option<i64>,
    restrictions: String,
    expires_at: Option<DateTime<Utc>>,
    previous_expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct OwnerRow {
    #[sqlx(flatten)]
    key: Row,
    #[sqlx(try_from = "String")]
    capture: Capture,
    is_current: bool,
}

impl TryFrom<Row> for ApiKey {
    type Error = StorageError;

    fn try_from(row: Row) -> Result<Self, StorageError> {
        Ok(Self {
            id: row.id,
            tenant: Tenant {
                organization: row.organization_id,
                project: row.project_id,
                environment: row.environment_id,
            },
            name: row.name,
            preview: row.preview,
            scopes: serde_json::from_str(&row.scopes).map_err(StorageError::corrupt)?,
            requests_per_minute: row
                .requests_per_minute
                .map(u32::try_from)
                .transpose()
                .map_err(StorageError::corrupt)?,
            restrictions: serde_json::from_str(&row.restrictions).map_err(StorageError::corrupt)?,
            expires_at: row.expires_at,
            previous_expires_at: row.previous_expires_at,
            revoked_at: row.revoked_at,
            last_used_at: row.last_used_at,
            created_at: row.created_at,
        })
    }
}

macro_rules! columns {
    () => {
        "id, organization_id, project_id, environment_id, name, preview, scopes, requests_per_minute, \
         restrictions, expires_at, previous_expires_at, revoked_at, last_used_at, created_at"
    };
}

/// Inserts a key for a tenant in the transaction at hand and gives its row.
macro_rules! insert {
    ($tx:ident, $tenant:expr, $key:expr) => {
        sqlx::query_as::<_, $crate::sql::api_keys::Row>(concat!(
            "INSERT INTO api_keys (id, organization_id, project_id, environment_id, name, key_hash, preview, scopes,
                requests_per_minute, expires_at, created_at, restrictions)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) RETURNING ",
            columns!()
        ))
        .bind($key.id.to_string())
        .bind($tenant.organization.to_string())
        .bind($tenant.project.to_string())
        .bind($tenant.environment.to_string())
        .bind(&$key.name)
        .bind($key.key_hash.as_slice())
        .bind(&$key.preview)
        .bind(serde_json::to_string(&$key.scopes).map_err(StorageError::corrupt)?)
        .bind($key.requests_per_minute.map(i64::from))
        .bind($key.expires_at)
        .bind($key.created_at)
        .bind(serde_json::to_string(&$key.restrictions).map_err(StorageError::corrupt)?)
        .fetch_one(&mut *$tx)
        .await?
    };
}
pub(super) use {columns, insert};

/// The table of API keys.
#[derive(Clone, Copy, Debug)]
pub struct ApiKeys<'a>(&'a Database);

impl Database {
    /// The table of API keys.
    #[must_use]
    pub fn api_keys(&self) -> ApiKeys<'_> {
        ApiKeys(self)
    }
}

impl ApiKeys<'_> {
    /// Stores a key for the tenant.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the tenant's three ids don't belong together, [`StorageError::Conflict`] when
    /// the very same key is stored already, for whomever.
    pub async fn create(&self, tenant: Tenant, key: &NewApiKey) -> Result<ApiKey, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(tenant.organization), |tx| insert!(
            tx, tenant, key
        ))
        .try_into()
    }

    /// Reads a key.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn get(&self, organization: OrganizationId, id: ApiKeyId) -> Result<ApiKey, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "SELECT ",
                columns!(),
                " FROM api_keys WHERE organization_id = $1 AND id = $2"
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
    }

    /// Lists the tenant's keys, revoked and expired ones included.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(&self, tenant: Tenant, page: Page<ApiKeyId>) -> Result<Vec<ApiKey>, StorageError> {
        let (after, limit) = page.bounds();
        transaction!(self.0, Access::Read, Scope::Organization(tenant.organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "SELECT ",
                columns!(),
                " FROM api_keys WHERE organization_id = $1 AND project_id = $2 AND environment_id = $3 AND id > $4
                  ORDER BY id LIMIT $5"
            ))
            .bind(tenant.organization.to_string())
            .bind(tenant.project.to_string())
            .bind(tenant.environment.to_string())
            .bind(&after)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?
        })
        .into_iter()
        .map(ApiKey::try_from)
        .collect()
    }

    /// Revokes a key; one that is revoked already keeps the time of the first revocation.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id.
    pub async fn revoke(
        &self,
        organization: OrganizationId,
        id: ApiKeyId,
        now: DateTime<Utc>,
    ) -> Result<ApiKey, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "UPDATE api_keys SET revoked_at = coalesce(revoked_at, $3) WHERE organization_id = $1 AND id = $2
                 RETURNING ",
                columns!()
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .bind(now)
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
    }

    /// Gives a key another secret. What it was before goes on until the rotation says; what it was before that ends now.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id, or it was revoked.
    pub async fn rotate(
        &self,
        organization: OrganizationId,
        id: ApiKeyId,
        rotation: &Rotation,
    ) -> Result<ApiKey, StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                "UPDATE api_keys SET previous_key_hash = key_hash, previous_expires_at = $3, key_hash = $4, preview = $5
                 WHERE organization_id = $1 AND id = $2 AND revoked_at IS NULL RETURNING ",
                columns!()
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .bind(rotation.previous_expires_at)
            .bind(rotation.key_hash.as_slice())
            .bind(&rotation.preview)
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
    }

    /// Writes when keys were last used. A time before the stored one changes nothing, and neither does a key that the
    /// organization doesn't have.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like; then none of them is written.
    pub async fn touch(
        &self,
        organization: OrganizationId,
        used: &BTreeMap<ApiKeyId, DateTime<Utc>>,
    ) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            for (id, at) in used {
                sqlx::query(
                    "UPDATE api_keys SET last_used_at = $3
                     WHERE organization_id = $1 AND id = $2 AND (last_used_at IS NULL OR last_used_at < $3)",
                )
                .bind(organization.to_string())
                .bind(id.to_string())
                .bind(at)
                .execute(&mut *tx)
                .await?;
            }
        });
        Ok(())
    }

    /// Finds out who a presented key belongs to: the one reading that can't name its tenant, since the tenant is what it
    /// asks for. PostgreSQL lets it through as `SystemErrand::KeyLookup`.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like; a key that isn't there is `None`.
    pub async fn find_owner(&self, key_hash: &[u8; 32]) -> Result<Option<KeyOwner>, StorageError> {
        let row = transaction!(self.0, Access::Read, Scope::System(SystemErrand::KeyLookup), |tx| {
            sqlx::query_as::<_, OwnerRow>(
                "SELECT api_keys.id, api_keys.organization_id, project_id, environment_id, api_keys.name, preview,
                    scopes, requests_per_minute, restrictions, expires_at, previous_expires_at, revoked_at,
                    last_used_at, api_keys.created_at, capture, key_hash = $1 AS is_current
                 FROM api_keys JOIN projects ON projects.id = project_id
                    AND projects.organization_id = api_keys.organization_id
                 WHERE key_hash = $1 OR previous_key_hash = $1",
            )
            .bind(key_hash.as_slice())
            .fetch_optional(&mut *tx)
            .await?
        });
        row.map(|row| {
            let key = ApiKey::try_from(row.key)?;
            let valid_until = match row.is_current {
                true => key.expires_at,
                // The earlier one. A rotation always says when; a row that doesn't has a key that is over.
                false => {
                    let end = key.previous_expires_at.unwrap_or(key.created_at);
                    Some(key.expires_at.map_or(end, |own| own.min(end)))
                }
            };
            Ok(KeyOwner { key, capture: row.capture, valid_until })
        })
        .transpose()
    }
}
