//! Exporters, ready to send.
//!
//! A fresh instance sends one batch: what it kept of the one before would be another project's.

use crate::bindings::exporter::{Exporter, ExporterIndices};
use crate::error::PluginError;
use crate::exporting::{Batch, Failure, Receipt};
use crate::instance::{CallContext, State, guarded};
use crate::loaded::{Loaded, bound_world, plugin};

/// An exporter: compiled, linked, proved by its own test.
pub struct ExporterPlugin(Loaded<ExporterIndices>);
plugin!(ExporterPlugin);

bound_world!(Exporter, ExporterIndices, exporter);

impl ExporterPlugin {
    /// Has a fresh instance send a batch.
    ///
    /// # Errors
    /// Outer: the plugin failed. Inner: the receiver doesn't have it.
    pub async fn export(
        &self,
        context: CallContext,
        batch: &Batch,
    ) -> Result<Result<Receipt, Failure>, PluginError> {
        let (mut session, bindings) =
            self.0.bind(context, |indices, store, instance| indices.load(store, instance)).await?;
        let sink = bindings.brokle_exporter_sink();
        guarded!(session, "export", sink.call_export(&mut session.store, batch))
    }
}

impl crate::bindings::exporter::brokle::exporter::batches::Host for State {}
