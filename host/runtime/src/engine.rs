//! The engine: one configuration for everything that compiles or runs.

use std::path::Path;
use std::sync::Arc;
use std::thread;

use tokio::sync::Semaphore;
use wasmtime::{
    Config, Engine, InstanceAllocationStrategy, OptLevel, PoolingAllocationConfig, WasmBacktraceDetails,
};

use crate::cache::Cache;
use crate::lane::Lane;
use crate::limits::{Limits, TICK};

/// What an operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// Instances alive at once: 1,000. Each is one request or one translated stream; what comes
    /// on top is answered 503 with the plugin's name.
    pub max_instances: u32,
    /// For providers.
    pub provider: Limits,
    /// For routing policies.
    pub policy: Limits,
    /// For guardrails.
    pub guardrail: Limits,
    /// For exporters.
    pub exporter: Limits,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            max_instances: 1_000,
            provider: Limits::provider(),
            policy: Limits::policy(),
            guardrail: Limits::guardrail(),
            exporter: Limits::exporter(),
        }
    }
}

/// The engine with its ticker, its cache and its slots. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(crate) engine: Engine,
    pub(crate) cache: Arc<Cache>,
    pub(crate) slots: Arc<Semaphore>,
    pub(crate) lane: Arc<Lane>,
    pub(crate) config: RuntimeConfig,
}

impl Runtime {
    /// Starts the engine. Compiled code is kept under `data_dir`; `cache_key` is 32 random bytes,
    /// kept for the next start if there is no key yet.
    ///
    /// # Errors
    /// The engine can't be made on this machine, or the folder can't be used.
    pub fn start(config: RuntimeConfig, data_dir: &Path, cache_key: [u8; 32]) -> std::io::Result<Self> {
        let engine = match Engine::new(&settings(Some(&config))) {
            Ok(engine) => engine,
            Err(error) => {
                // The pool reserves address space (about 4 GiB a slot), which containers may cap.
                tracing::warn!(%error, "no pool of sandboxes on this machine; each is allocated when it is needed");
                Engine::new(&settings(None)).map_err(std::io::Error::other)?
            }
        };
        start_ticker(&engine)?;
        Ok(Self {
            cache: Arc::new(Cache::open(data_dir, cache_key)?),
            lane: Lane::new(),
            slots: Arc::new(Semaphore::new(config.max_instances as usize)),
            config,
            engine,
        })
    }

    /// Instances alive now.
    pub fn instances(&self) -> usize {
        (self.config.max_instances as usize).saturating_sub(self.slots.available_permits())
    }
}

/// The one constructor of engine settings.
fn settings(pool: Option<&RuntimeConfig>) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .epoch_interruption(true)
        .wasm_component_model(true)
        // Proposals that plugins don't need are surface that needn't be there.
        .wasm_memory64(false)
        .wasm_multi_memory(false)
        .wasm_relaxed_simd(false)
        .wasm_tail_call(false)
        .wasm_wide_arithmetic(false)
        // Host and guest stacks: the difference is the host's own.
        .max_wasm_stack(512 << 10)
        .async_stack_size(2 << 20)
        .wasm_backtrace_details(WasmBacktraceDetails::Disable)
        .memory_init_cow(true);
    if let Some(runtime) = pool {
        let instances = runtime.max_instances;
        let roles = [runtime.provider, runtime.policy, runtime.guardrail, runtime.exporter];
        let memory = roles.iter().map(|role| role.memory).max().unwrap_or_default();
        let mut pool = PoolingAllocationConfig::default();
        pool.total_component_instances(instances)
            // A Rust guest is one or two modules, a Python guest 38; the number is a count and reserves nothing.
            .total_core_instances(instances * 64)
            .total_memories(instances)
            .total_tables(instances * 2)
            .total_stacks(instances)
            .max_memory_size(memory)
            .table_elements(runtime.provider.table_elements)
            .max_core_instances_per_component(64)
            .max_memories_per_component(1)
            .max_tables_per_component(8)
            .max_component_instance_size(1 << 20)
            .max_core_instance_size(1 << 20)
            .max_unused_warm_slots(64)
            // A whole small memory is reset by copying it rather than by page faults: 8 against
            // 57 us a fresh instance on two cores (docs/adr/0002). The whole of it: asking the
            // kernel which pages were written would be cheaper, and forgets those in the swap.
            .linear_memory_keep_resident(512 << 10)
            .table_keep_resident(16 << 10);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    }
    config
}

/// Advances the engine's epoch from a thread of its own, which a busy guest can't starve. The
/// thread ends by itself when the last engine is gone.
fn start_ticker(engine: &Engine) -> std::io::Result<()> {
    let weak = engine.weak();
    thread::Builder::new().name("epoch".into()).spawn(move || {
        while let Some(engine) = weak.upgrade() {
            engine.increment_epoch();
            drop(engine);
            thread::park_timeout(TICK);
        }
    })?;
    Ok(())
}
