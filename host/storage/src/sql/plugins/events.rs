//! What happened to components, newest first.

use brokle_core::ids::PluginEventId;
use chrono::{DateTime, Utc};

use super::{Plugins, ScopeKey, owner};
use crate::sql::dialect::Access;
use crate::sql::{MAX_PAGE, StorageError, transaction};

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its id.
    pub id: PluginEventId,
    /// When.
    pub at: DateTime<Utc>,
    /// The component.
    pub plugin_id: String,
    /// The version that it is about.
    pub version: Option<String>,
    /// The same by hash.
    pub sha256: Option<String>,
    /// Where it holds.
    pub scope: ScopeKey,
    /// What happened: `installed`, `enabled`, `rolled_back`, ….
    pub event: String,
    /// The version's state from then on.
    pub state: Option<String>,
    /// Why: a stable code.
    pub code: Option<String>,
    /// The same for people.
    pub reason: Option<String>,
    /// Who: `key:<id>`, `folder`, `system`, ….
    pub actor: String,
}

/// Which events.
#[derive(Clone, Copy, Debug)]
pub struct EventFilter<'a> {
    /// One component's only.
    pub plugin_id: Option<&'a str>,
    /// Those before this one.
    pub before: Option<PluginEventId>,
    /// How many at most.
    pub limit: u32,
}

#[derive(sqlx::FromRow)]
struct Row {
    #[sqlx(try_from = "String")]
    id: PluginEventId,
    at: DateTime<Utc>,
    plugin_id: String,
    version: Option<String>,
    sha256: Option<String>,
    organization_id: Option<String>,
    project_id: Option<String>,
    event: String,
    state: Option<String>,
    code: Option<String>,
    reason: Option<String>,
    actor: String,
}

impl TryFrom<Row> for Event {
    type Error = StorageError;

    fn try_from(row: Row) -> Result<Self, StorageError> {
        let organization = row.organization_id.map(|id| id.parse()).transpose();
        let project = row.project_id.map(|id| id.parse()).transpose();
        Ok(Self {
            id: row.id,
            at: row.at,
            plugin_id: row.plugin_id,
            version: row.version,
            sha256: row.sha256,
            scope: ScopeKey {
                organization: organization.map_err(StorageError::corrupt)?,
                project: project.map_err(StorageError::corrupt)?,
            },
            event: row.event,
            state: row.state,
            code: row.code,
            reason: row.reason,
            actor: row.actor,
        })
    }
}

/// Writes an event in the transaction at hand.
macro_rules! record {
    ($tx:ident, $event:expr) => {
        sqlx::query(
            "INSERT INTO plugin_events (id, at, plugin_id, version, sha256, organization_id, project_id, event, state,
                code, reason, actor) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        )
        .bind($event.id.to_string())
        .bind($event.at)
        .bind(&$event.plugin_id)
        .bind(&$event.version)
        .bind(&$event.sha256)
        .bind($event.scope.organization.map(|id| id.to_string()))
        .bind($event.scope.project.map(|id| id.to_string()))
        .bind(&$event.event)
        .bind(&$event.state)
        .bind(&$event.code)
        .bind(&$event.reason)
        .bind(&$event.actor)
        .execute(&mut *$tx)
        .await?
    };
}
pub(super) use record;

impl Plugins<'_> {
    /// Writes an event that changes no row, such as a refusal.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn record(&self, event: &Event) -> Result<(), StorageError> {
        transaction!(self.0, Access::Write, owner(event.scope.organization), |tx| {
            record!(tx, event);
        });
        Ok(())
    }

    /// The events of one organization, or without one the instance's, newest first.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] and the like.
    pub async fn events(&self, of: ScopeKey, filter: EventFilter<'_>) -> Result<Vec<Event>, StorageError> {
        // Every id is smaller than this text.
        let before = filter.before.map_or_else(|| "Z".to_owned(), |id| id.to_string());
        let rows = transaction!(self.0, Access::Read, owner(of.organization), |tx| {
            sqlx::query_as::<_, Row>(
                "SELECT id, at, plugin_id, version, sha256, organization_id, project_id, event, state, code, reason,
                    actor FROM plugin_events
                 WHERE coalesce(organization_id, '') = $1 AND ($2 = '' OR plugin_id = $2) AND id < $3
                 ORDER BY id DESC LIMIT $4",
            )
            .bind(of.organization.map(|id| id.to_string()).unwrap_or_default())
            .bind(filter.plugin_id.unwrap_or_default())
            .bind(&before)
            .bind(i64::from(filter.limit.min(MAX_PAGE)))
            .fetch_all(&mut *tx)
            .await?
        });
        rows.into_iter().map(Event::try_from).collect()
    }
}
