//! Exporters, ready to send.
//!
//! A fresh instance sends one batch: what it kept of the one before would be another project's.

use wasmtime::component::{Component, HasSelf, Instance, InstancePre, Linker};
use wasmtime::{Result as Wasm, Store};

use crate::bindings::exporter::{Exporter, ExporterIndices};
use crate::engine::RuntimeConfig;
use crate::error::PluginError;
use crate::exporting::{Batch, Failure, Receipt};
use crate::instance::{CallContext, State, guarded};
use crate::limits::Limits;
use crate::loaded::{Loaded, World, plugin};
use crate::manifest::Kind;

/// An exporter: compiled, linked, proved by its own test.
pub struct ExporterPlugin(Loaded<ExporterIndices>);
plugin!(ExporterPlugin);

impl World for ExporterIndices {
    const KIND: Kind = Kind::Exporter;

    fn limits(config: &RuntimeConfig) -> Limits {
        config.exporter
    }

    fn link(linker: &mut Linker<State>) -> Wasm<()> {
        Exporter::add_to_linker::<_, HasSelf<State>>(linker, |state| state)
    }

    fn find(
        _: &Component,
        pre: &InstancePre<State>,
        instance: &Instance,
        store: &mut Store<State>,
    ) -> Wasm<Self> {
        let indices = Self::new(pre)?;
        indices.load(store, instance)?;
        Ok(indices)
    }
}

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
