//! Where observations are kept: files of the data directory, or the ClickHouse that `storage.clickhouse_url` names.
//!
//! ClickHouse's schema is brought up at the start. If it can't be reached then, or not in time, the gateway serves all the
//! same, and the telemetry queue holds what comes; [`Pending`] is tried again until the schema is there. A schema that this
//! binary doesn't know, or a file that was changed, ends the start.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_storage::observations::clickhouse::{ClickHouse, Migrator};
use brokle_storage::observations::{AnalyticsError, ClickHouseObservations, QueryStore, SqliteObservations};
use brokle_storage::sql::migrate::MigrateError;

use super::Failure;
use crate::config::Config;

/// How long the start waits for ClickHouse.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries to bring the schema up.
const RETRY: Duration = Duration::from_secs(1);

/// A store, and what is left to do for it.
pub(super) struct Opened {
    pub(super) store: Arc<dyn QueryStore>,
    pub(super) pending: Option<Pending>,
}

/// A ClickHouse that couldn't be migrated yet.
#[derive(Debug)]
pub(super) struct Pending(ClickHouse);

impl Pending {
    /// Tries until the schema is there, or never will be.
    pub(super) async fn finish(self) {
        loop {
            match migrate(&self.0).await {
                Ok(()) => return tracing::info!("ClickHouse is there"),
                Err(error) if is_away(&error) => tokio::time::sleep(RETRY).await,
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    return tracing::error!(
                        error,
                        "ClickHouse can't be migrated: the queue holds what comes"
                    );
                }
            }
        }
    }
}

/// The telemetry's directory, which is made if it isn't there.
pub(super) fn directory(config: &Config) -> Result<PathBuf, Failure> {
    let directory = config.storage.data_dir.join("telemetry");
    super::make_private_directory(&directory)?;
    Ok(directory)
}

pub(super) async fn open(config: &Config, clock: Arc<dyn Clock>) -> Result<Opened, Failure> {
    let Some(database) = config.clickhouse()? else {
        let store = Arc::new(SqliteObservations::open(directory(config)?)?);
        return Ok(Opened { store, pending: None });
    };
    let store = Arc::new(ClickHouseObservations::new(database.clone(), clock)?);
    let away = "ClickHouse can't be reached: the queue holds what comes until it is there";
    let pending = match tokio::time::timeout(START_TIMEOUT, migrate(&database)).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) if is_away(&error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "{away}");
            Some(Pending(database))
        }
        Ok(Err(error)) => return Err(error.into()),
        Err(_) => {
            tracing::warn!(seconds = START_TIMEOUT.as_secs(), "{away}");
            Some(Pending(database))
        }
    };
    Ok(Opened { store, pending })
}

/// The ClickHouse that a worker inserts into. It leaves the schema to the servers, and waits for it.
pub(super) fn shared(config: &Config, clock: Arc<dyn Clock>) -> Result<Option<Arc<dyn QueryStore>>, Failure> {
    let Some(database) = config.clickhouse()? else { return Ok(None) };
    Ok(Some(Arc::new(ClickHouseObservations::new(database, clock)?)))
}

async fn migrate(database: &ClickHouse) -> Result<(), MigrateError> {
    let migrator = Migrator::new(database);
    let applied = migrator.up(None, false, |step| {
        tracing::info!(version = step.version, name = step.name, "migrated ClickHouse");
    });
    applied.await.map(drop)
}

fn is_away(error: &MigrateError) -> bool {
    matches!(
        error,
        MigrateError::Analytics(AnalyticsError::Unavailable(_))
            | MigrateError::BrokenOff { source: AnalyticsError::Unavailable(_), .. }
    )
}
