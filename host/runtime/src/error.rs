//! What can go wrong with a plugin.

use std::sync::Arc;

/// A component that can't be loaded. The rest of the host goes on without it.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Not a component, or one without our sections.
    #[error("not a Brokle plugin: {0}")]
    NotAPlugin(String),
    /// The manifest can't be read.
    #[error("the plugin's manifest: {0}")]
    Manifest(String),
    /// Built for a contract that this host doesn't speak.
    #[error(
        "{plugin} was built for {wants}; this host offers {offers}. Build it anew with the SDK of one of those versions."
    )]
    Abi {
        /// The plugin's id and version.
        plugin: String,
        /// Its contract.
        wants: String,
        /// Ours.
        offers: String,
    },
    /// It asks for something that the host doesn't offer.
    #[error("{plugin} imports what this host doesn't offer: {missing}. On offer: {offered}.")]
    Imports {
        /// The plugin's id and version.
        plugin: String,
        /// What is missing.
        missing: String,
        /// What there is.
        offered: String,
    },
    /// It imports a capability that its manifest doesn't ask for.
    #[error("{plugin} imports {import}, which its manifest doesn't ask for: add it to `capabilities`.")]
    NotAskedFor {
        /// The plugin's id and version.
        plugin: String,
        /// The import.
        import: String,
    },
    /// It doesn't export what its world demands.
    #[error("{plugin} doesn't implement its world: {detail}")]
    World {
        /// The plugin's id and version.
        plugin: String,
        /// Which export, and how it differs.
        detail: String,
    },
    /// It needs more than an instance may have.
    #[error("{plugin} needs more than this host allows: {detail}")]
    Resources {
        /// The plugin's id and version.
        plugin: String,
        /// Which limit.
        detail: String,
    },
    /// It failed its own test.
    #[error("{plugin} failed its self-test: {detail}")]
    SelfTest {
        /// The plugin's id and version.
        plugin: String,
        /// What it said.
        detail: String,
    },
    /// The engine failed to compile it.
    #[error("{plugin} can't be compiled: {detail}")]
    Compile {
        /// The plugin's id and version.
        plugin: String,
        /// The engine's reason.
        detail: String,
    },
    /// The file can't be read.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl LoadError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotAPlugin(_) | Self::Manifest(_) => "PLUGIN_INVALID",
            Self::Abi { .. } | Self::World { .. } => "PLUGIN_ABI",
            Self::Imports { .. } | Self::NotAskedFor { .. } => "PLUGIN_CAPABILITY",
            Self::Resources { .. } => "PLUGIN_RESOURCES",
            Self::SelfTest { .. } => "PLUGIN_SELF_TEST",
            Self::Compile { .. } => "PLUGIN_COMPILE",
            Self::Io { .. } => "PLUGIN_UNREADABLE",
        }
    }
}

/// A call that a plugin didn't bring to an end. Its instance is gone; other requests go on.
#[derive(Debug, Clone, thiserror::Error)]
#[error("plugin {plugin} failed in {export}: {fault}")]
pub struct PluginError {
    /// The plugin's id and version.
    pub plugin: Arc<str>,
    /// The export that was called.
    pub export: &'static str,
    /// What happened.
    pub fault: Fault,
}

/// What happened to a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A panic, an unreachable instruction, a bad memory access.
    #[error("it trapped ({0})")]
    Trap(String),
    /// It wanted more memory than [`Limits::memory`](crate::Limits::memory).
    #[error("it reached its memory limit of {} MiB", .0 >> 20)]
    Memory(usize),
    /// It wanted more table elements.
    #[error("it reached its table limit of {0} elements")]
    Table(usize),
    /// It ran longer than [`Limits::cpu`](crate::Limits::cpu).
    #[error("it reached its CPU limit of {0} ms")]
    Cpu(u128),
    /// The call took longer than [`Limits::deadline`](crate::Limits::deadline).
    #[error("it reached its deadline of {0} ms")]
    Deadline(u128),
    /// It recursed too deep.
    #[error("it overflowed its stack")]
    Stack,
    /// It made the host allocate too much.
    #[error("it reached its limit of {} MiB for data passed to the host", .0 >> 20)]
    HostcallFuel(usize),
    /// It held too many handles.
    #[error("it reached its limit of {0} handles")]
    Handles(usize),
    /// Every instance slot is taken.
    #[error("every sandbox slot is taken")]
    Busy,
    /// The host couldn't make an instance.
    #[error("no sandbox could be made for it ({0})")]
    Instantiate(String),
}

impl Fault {
    /// The stable word for it, in metrics and on traces.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Trap(_) => "trap",
            Self::Memory(_) => "memory_limit",
            Self::Table(_) => "table_limit",
            Self::Cpu(_) => "cpu_limit",
            Self::Deadline(_) => "deadline",
            Self::Stack => "stack_overflow",
            Self::HostcallFuel(_) => "hostcall_limit",
            Self::Handles(_) => "handle_limit",
            Self::Busy => "busy",
            Self::Instantiate(_) => "instantiate",
        }
    }
}
