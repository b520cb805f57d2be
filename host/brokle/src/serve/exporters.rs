//! The configured exporters.

use std::sync::Arc;

use brokle_core::clock::SystemClock;
use brokle_core::random::SystemRandom;
use brokle_exporters::{Parts, Service, Times};
use brokle_storage::sql::Database;

use super::gateway::Assembled;
use super::{Failure, Role};
use crate::config::Config;

/// Those that the configuration names; none named, none. One whose component doesn't serve is no reason not to start: it may
/// be waiting for its grants, and the store holds what it doesn't send.
pub(super) async fn of(
    config: &Config,
    database: &Database,
    made: &Assembled,
    role: Role,
) -> Result<Option<Arc<Service>>, Failure> {
    if config.exporters.is_empty() {
        return Ok(None);
    }
    let plugins = made.catalogue.snapshots();
    let snapshot = plugins.load();
    let mut exporters = Vec::with_capacity(config.exporters.len());
    for (index, one) in config.exporters.iter().enumerate() {
        let exporter = one.to_exporter().map_err(|problem| format!("exporters.{index}.{problem}"))?;
        let lines = |fault: brokle_exporters::ConfigFault| {
            let line = |(pointer, message): &(String, String)| {
                format!("exporters.{index}{}: {message}", pointer.replace('/', "."))
            };
            fault.problems.iter().map(line).collect::<Vec<_>>().join("\n")
        };
        if !exporter.check(snapshot.instance()).await.map_err(lines)? {
            let (name, plugin) = (&exporter.name, &exporter.plugin);
            tracing::warn!(
                "exporter '{name}': no plugin '{plugin}' serves; until one does (`brokle plugin grant`), the store holds \
                 what it would send"
            );
        }
        exporters.push(exporter);
    }
    let service = Arc::new(Service::new(Parts {
        database: database.clone(),
        store: Arc::clone(&made.store),
        plugins,
        metrics: Arc::clone(&made.metrics),
        clock: Arc::new(SystemClock),
        random: Arc::new(SystemRandom),
        exporters,
        // A file belongs to one server, beside which there may be workers.
        is_alone: database.kind() == "sqlite" && role != Role::Worker,
        times: Times::default(),
    }));
    service.begin().await;
    Ok(Some(service))
}
