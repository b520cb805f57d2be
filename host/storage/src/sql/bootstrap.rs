//! A server's first start: a tenant and a key to begin with.

use std::str::FromStr;

use brokle_core::ids::{EnvironmentId, OrganizationId, ParseIdError, ProjectId};
use brokle_core::tenancy::Tenant;
use chrono::{DateTime, Utc};

use super::api_keys::{ApiKey, NewApiKey, Row, columns, insert};
use super::dialect::{Access, Dialect, Scope, SystemErrand};
use super::{Database, StorageError, transaction};

/// "bootstra" in ASCII: the advisory lock's number on PostgreSQL.
const LOCK: i64 = 0x626f_6f74_7374_7261;

/// The slug and name of the organization, and the name of the project, that a first start creates.
pub const DEFAULT_NAME: &str = "default";

/// The name of the environment that a first start creates.
pub const DEFAULT_ENVIRONMENT: &str = "development";

/// When the key is to be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreKey {
    /// Unless this very key is stored already, for whomever and even if it is revoked.
    Always,
    /// Only if the database holds no key at all.
    IfThereIsNone,
}

/// What a start found or made.
#[derive(Clone, Debug)]
pub struct Bootstrapped {
    /// The default organization, project and environment.
    pub tenant: Tenant,
    /// The key, if it was stored just now.
    pub stored: Option<ApiKey>,
}

impl Database {
    /// Makes sure that the default organization, project and environment are there (`fresh` holds the ids for what is
    /// missing), and stores the key as `when` says. All of it in one transaction, one server at a time, so that several
    /// that start together agree.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like; then nothing was done.
    pub async fn bootstrap(
        &self,
        fresh: Tenant,
        key: &NewApiKey,
        when: StoreKey,
        now: DateTime<Utc>,
    ) -> Result<Bootstrapped, StorageError> {
        let (tenant, row) = transaction!(self, Access::Write, Scope::System(SystemErrand::Bootstrap), |tx| {
            tx.lock(LOCK).await?;
            let organization: Option<String> =
                sqlx::query_scalar("SELECT id FROM organizations WHERE slug = $1")
                    .bind(DEFAULT_NAME)
                    .fetch_optional(&mut *tx)
                    .await?;
            let is_there: bool = sqlx::query_scalar(
                "SELECT EXISTS (SELECT 1 FROM api_keys WHERE key_hash = $1 OR previous_key_hash = $1 OR $2)",
            )
            .bind(key.key_hash.as_slice())
            .bind(when == StoreKey::IfThereIsNone)
            .fetch_one(&mut *tx)
            .await?;

            // From here on the organization is known, and nothing but its rows is seen.
            let is_new = organization.is_none();
            let organization: OrganizationId = parse_or(organization, fresh.organization)?;
            tx.enter(Scope::Organization(organization)).await?;
            if is_new {
                sqlx::query(
                    "INSERT INTO organizations (id, name, slug, created_at, updated_at) VALUES ($1, $2, $2, $3, $3)",
                )
                .bind(organization.to_string())
                .bind(DEFAULT_NAME)
                .bind(now)
                .execute(&mut *tx)
                .await?;
            }
            let project: Option<String> =
                sqlx::query_scalar("SELECT id FROM projects WHERE organization_id = $1 AND name = $2")
                    .bind(organization.to_string())
                    .bind(DEFAULT_NAME)
                    .fetch_optional(&mut *tx)
                    .await?;
            if project.is_none() {
                sqlx::query(
                    "INSERT INTO projects (id, organization_id, name, created_at, updated_at)
                     VALUES ($1, $2, $3, $4, $4)",
                )
                .bind(fresh.project.to_string())
                .bind(organization.to_string())
                .bind(DEFAULT_NAME)
                .bind(now)
                .execute(&mut *tx)
                .await?;
            }
            let project: ProjectId = parse_or(project, fresh.project)?;
            let environment: Option<String> = sqlx::query_scalar(
                "SELECT id FROM environments WHERE organization_id = $1 AND project_id = $2 AND name = $3",
            )
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(DEFAULT_ENVIRONMENT)
            .fetch_optional(&mut *tx)
            .await?;
            if environment.is_none() {
                sqlx::query(
                    "INSERT INTO environments (id, organization_id, project_id, name, created_at)
                     VALUES ($1, $2, $3, $4, $5)",
                )
                .bind(fresh.environment.to_string())
                .bind(organization.to_string())
                .bind(project.to_string())
                .bind(DEFAULT_ENVIRONMENT)
                .bind(now)
                .execute(&mut *tx)
                .await?;
            }
            let environment: EnvironmentId = parse_or(environment, fresh.environment)?;
            let tenant = Tenant { organization, project, environment };
            let row: Option<Row> = if is_there { None } else { Some(insert!(tx, tenant, key)) };
            (tenant, row)
        });
        Ok(Bootstrapped { tenant, stored: row.map(ApiKey::try_from).transpose()? })
    }

    /// The tenant that [`Database::bootstrap`] made; `None` before a first start.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn default_tenant(&self) -> Result<Option<Tenant>, StorageError> {
        let row: Option<(String, String, String)> =
            transaction!(self, Access::Read, Scope::System(SystemErrand::Bootstrap), |tx| {
                let organization: Option<String> =
                    sqlx::query_scalar("SELECT id FROM organizations WHERE slug = $1")
                        .bind(DEFAULT_NAME)
                        .fetch_optional(&mut *tx)
                        .await?;
                let organization: Option<OrganizationId> =
                    organization.map(|id| id.parse().map_err(StorageError::corrupt)).transpose()?;
                match organization {
                    None => None,
                    Some(organization) => {
                        tx.enter(Scope::Organization(organization)).await?;
                        sqlx::query_as(
                            "SELECT environments.organization_id, projects.id, environments.id
                             FROM environments JOIN projects ON projects.id = environments.project_id
                             WHERE environments.organization_id = $1 AND projects.organization_id = $1
                                AND projects.name = $2 AND environments.name = $3",
                        )
                        .bind(organization.to_string())
                        .bind(DEFAULT_NAME)
                        .bind(DEFAULT_ENVIRONMENT)
                        .fetch_optional(&mut *tx)
                        .await?
                    }
                }
            });
        row.map(|(organization, project, environment)| {
            Ok(Tenant {
                organization: organization.parse().map_err(StorageError::corrupt)?,
                project: project.parse().map_err(StorageError::corrupt)?,
                environment: environment.parse().map_err(StorageError::corrupt)?,
            })
        })
        .transpose()
    }
}

/// The id that is stored, or the fresh one.
fn parse_or<Id: FromStr<Err = ParseIdError>>(stored: Option<String>, fresh: Id) -> Result<Id, StorageError> {
    stored.map_or(Ok(fresh), |id| id.parse().map_err(StorageError::corrupt))
}
