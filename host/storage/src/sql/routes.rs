//! Routes that an organization, or one of its projects, defines. Each change is a version of its own, with who and when;
//! the last [`KEPT_VERSIONS`] are kept. What a definition says is its reader's business: here it is a JSON object.

use brokle_core::ids::{OrganizationId, ProjectId, RouteId};
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope};
use super::{Database, Page, StorageError, transaction};

/// How many versions of a route are kept.
pub const KEPT_VERSIONS: i64 = 100;

/// A JSON object.
pub type Definition = serde_json::Map<String, serde_json::Value>;

/// A route, as one of its versions has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    /// Its id.
    pub id: RouteId,
    /// Whose it is.
    pub organization: OrganizationId,
    /// The one project that it serves; without, it serves the whole organization.
    pub project: Option<ProjectId>,
    /// What callers ask for; unique among the organization's or the project's.
    pub name: String,
    /// Counts up from 1.
    pub version: i64,
    /// What this version says.
    pub definition: Definition,
    /// Who made this version.
    pub changed_by: String,
    /// When.
    pub changed_at: DateTime<Utc>,
    /// When the route was made.
    pub created_at: DateTime<Utc>,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: RouteId,
    #[sqlx(try_from = "String")]
    organization_id: OrganizationId,
    project_id: Option<String>,
    name: String,
    version: i64,
    definition: String,
    changed_by: String,
    changed_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
}

impl TryFrom<Row> for Route {
    type Error = StorageError;

    fn try_from(row: Row) -> Result<Self, StorageError> {
        Ok(Self {
            id: row.id,
            organization: row.organization_id,
            project: row.project_id.map(|id| id.parse()).transpose().map_err(StorageError::corrupt)?,
            name: row.name,
            version: row.version,
            definition: serde_json::from_str(&row.definition).map_err(StorageError::corrupt)?,
            changed_by: row.changed_by,
            changed_at: row.changed_at,
            created_at: row.created_at,
        })
    }
}

/// Routes with each of their versions; `current!` adds the condition that leaves the one that serves.
macro_rules! select {
    () => {
        "SELECT r.id, r.organization_id, r.project_id, r.name, v.version, v.definition, v.changed_by, v.changed_at, \
         r.created_at FROM routes r JOIN route_versions v \
         ON v.organization_id = r.organization_id AND v.route_id = r.id "
    };
}
macro_rules! current {
    () => {
        concat!(select!(), "AND v.version = r.version ")
    };
}

/// The tables of routes and their versions.
#[derive(Clone, Copy, Debug)]
pub struct Routes<'a>(&'a Database);

impl Database {
    /// The tables of routes and their versions.
    #[must_use]
    pub fn routes(&self) -> Routes<'_> {
        Routes(self)
    }
}

/// Writes a version of a route, and forgets those that are too old.
macro_rules! insert_version {
    ($tx:expr, $organization:expr, $route:expr) => {{
        sqlx::query(
            "INSERT INTO route_versions (organization_id, route_id, version, definition, changed_by, changed_at)
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind($organization.to_string())
        .bind($route.id.to_string())
        .bind($route.version)
        .bind(serde_json::to_string(&$route.definition).map_err(StorageError::corrupt)?)
        .bind(&$route.changed_by)
        .bind($route.changed_at)
        .execute(&mut *$tx)
        .await?;
        sqlx::query("DELETE FROM route_versions WHERE organization_id = $1 AND route_id = $2 AND version <= $3")
            .bind($organization.to_string())
            .bind($route.id.to_string())
            .bind($route.version - KEPT_VERSIONS)
            .execute(&mut *$tx)
            .await?;
    }};
}

impl Routes<'_> {
    /// Stores a route's first version for the organization; the organization inside of it is not looked at.
    ///
    /// # Errors
    /// [`StorageError::Conflict`] when its owner has one of this name, [`StorageError::NotFound`] when the organization
    /// has no such project.
    pub async fn create(&self, organization: OrganizationId, route: &Route) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            sqlx::query(
                "INSERT INTO routes (id, organization_id, project_id, name, version, created_at)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(route.id.to_string())
            .bind(organization.to_string())
            .bind(route.project.map(|project| project.to_string()))
            .bind(&route.name)
            .bind(route.version)
            .bind(route.created_at)
            .execute(&mut *tx)
            .await?;
            insert_version!(tx, organization, route);
        });
        Ok(())
    }

    /// How many routes the organization has, those of its projects included.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn count(&self, organization: OrganizationId) -> Result<i64, StorageError> {
        Ok(transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_scalar("SELECT count(*) FROM routes WHERE organization_id = $1")
                .bind(organization.to_string())
                .fetch_one(&mut *tx)
                .await?
        }))
    }

    /// Reads the route of this id or name that the project sees: its own before the organization's.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when there is none.
    pub async fn find(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        id_or_name: &str,
    ) -> Result<Route, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                current!(),
                "WHERE r.organization_id = $1 AND (r.project_id IS NULL OR r.project_id = $2)
                   AND (r.id = $3 OR r.name = $3)
                 ORDER BY CASE WHEN r.id = $3 THEN 0 WHEN r.project_id IS NOT NULL THEN 1 ELSE 2 END LIMIT 1"
            ))
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(id_or_name)
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
    }

    /// Lists the routes that the project sees, its own and the organization's, the oldest first.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn list(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        page: Page<RouteId>,
    ) -> Result<Vec<Route>, StorageError> {
        let (after, limit) = page.bounds();
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                current!(),
                "WHERE r.organization_id = $1 AND (r.project_id IS NULL OR r.project_id = $2) AND r.id > $3
                 ORDER BY r.id LIMIT $4"
            ))
            .bind(organization.to_string())
            .bind(project.to_string())
            .bind(&after)
            .bind(limit)
            .fetch_all(&mut *tx)
            .await?
        })
        .into_iter()
        .map(Route::try_from)
        .collect()
    }

    /// All routes that serve the project: its own, then the organization's, the oldest first.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn serving(
        &self,
        organization: OrganizationId,
        project: ProjectId,
    ) -> Result<Vec<Route>, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                current!(),
                "WHERE r.organization_id = $1 AND (r.project_id IS NULL OR r.project_id = $2)
                 ORDER BY CASE WHEN r.project_id IS NULL THEN 1 ELSE 0 END, r.id"
            ))
            .bind(organization.to_string())
            .bind(project.to_string())
            .fetch_all(&mut *tx)
            .await?
        })
        .into_iter()
        .map(Route::try_from)
        .collect()
    }

    /// The versions of a route before one, the newest first.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like; of no such route there are none.
    pub async fn versions(
        &self,
        organization: OrganizationId,
        id: RouteId,
        before: i64,
        limit: u32,
    ) -> Result<Vec<Route>, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                select!(),
                "WHERE r.organization_id = $1 AND r.id = $2 AND v.version < $3 ORDER BY v.version DESC LIMIT $4"
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .bind(before)
            .bind(i64::from(limit))
            .fetch_all(&mut *tx)
            .await?
        })
        .into_iter()
        .map(Route::try_from)
        .collect()
    }

    /// Reads one version of a route.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has no such route, or it no such version.
    pub async fn version(
        &self,
        organization: OrganizationId,
        id: RouteId,
        version: i64,
    ) -> Result<Route, StorageError> {
        transaction!(self.0, Access::Read, Scope::Organization(organization), |tx| {
            sqlx::query_as::<_, Row>(concat!(
                select!(),
                "WHERE r.organization_id = $1 AND r.id = $2 AND v.version = $3"
            ))
            .bind(organization.to_string())
            .bind(id.to_string())
            .bind(version)
            .fetch_one(&mut *tx)
            .await?
        })
        .try_into()
    }

    /// Adds the version that follows the one before it, which must be the one that serves: nobody's change is lost.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id whose newest version is the one before.
    pub async fn change(&self, organization: OrganizationId, next: &Route) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
            let changed: Option<i64> = sqlx::query_scalar(
                "UPDATE routes SET version = $3 WHERE organization_id = $1 AND id = $2 AND version = $4
                 RETURNING version",
            )
            .bind(organization.to_string())
            .bind(next.id.to_string())
            .bind(next.version)
            .bind(next.version - 1)
            .fetch_optional(&mut *tx)
            .await?;
            changed.ok_or(StorageError::NotFound)?;
            insert_version!(tx, organization, next);
        });
        Ok(())
    }

    /// Deletes a route with all its versions, if this one serves.
    ///
    /// # Errors
    /// [`StorageError::NotFound`] when the organization has none of this id and version.
    pub async fn delete(
        &self,
        organization: OrganizationId,
        id: RouteId,
        version: i64,
    ) -> Result<(), StorageError> {
        let deleted: Option<String> =
            transaction!(self.0, Access::Write, Scope::Organization(organization), |tx| {
                sqlx::query_scalar(
                    "DELETE FROM routes WHERE organization_id = $1 AND id = $2 AND version = $3 RETURNING id",
                )
                .bind(organization.to_string())
                .bind(id.to_string())
                .bind(version)
                .fetch_optional(&mut *tx)
                .await?
            });
        deleted.map(drop).ok_or(StorageError::NotFound)
    }
}
