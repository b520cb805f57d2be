//! What serves now: immutable, swapped as a whole.
//!
//! A call loads the [`Snapshot`] once ([`Snapshots::load`], one atomic read, no lock) and keeps what it took from it to
//! its end, its stream's end included. A swap puts another snapshot in its place; calls that began before finish on the
//! versions that they began with, and a version's code is freed when the last of them is done.
//!
//! A [`View`] is what one scope sees. Only organizations and projects that say something of their own have one;
//! everybody else shares the instance's. The project's word is above the organization's, which is above the instance's.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use brokle_core::ids::{OrganizationId, ProjectId};
use brokle_core::tenancy::Tenant;
use brokle_runtime::capabilities::PluginCapabilities;
use brokle_runtime::capabilities::telemetry::TraceParent;
use brokle_runtime::{
    CallContext, DialectPlugin, ExporterPlugin, GuardrailPlugin, PolicyPlugin, ProviderPlugin,
};

/// A version that serves in a scope, with what its instances are told there.
#[derive(Debug)]
pub struct Active<P> {
    /// The component.
    pub plugin: Arc<P>,
    /// Its configuration in this scope, and who watches it.
    pub context: CallContext,
    /// What operators granted it; none: nothing.
    pub capabilities: Option<Arc<PluginCapabilities>>,
    /// Is it one of the server's own?
    pub embedded: bool,
}

impl<P> Active<P> {
    /// A component with nothing set: for tests.
    #[must_use]
    pub fn plain(plugin: Arc<P>) -> Self {
        Self { plugin, context: CallContext::default(), capabilities: None, embedded: true }
    }

    /// What an instance is told in a call of this tenant, at its place in the trace.
    #[must_use]
    pub fn context_for(&self, tenant: Tenant, trace: Option<TraceParent>) -> CallContext {
        let capabilities = self.capabilities.as_ref().map(|granted| granted.prepare(tenant, trace));
        CallContext { capabilities, ..self.context.clone() }
    }
}

impl<P> Clone for Active<P> {
    fn clone(&self) -> Self {
        Self {
            plugin: Arc::clone(&self.plugin),
            context: self.context.clone(),
            capabilities: self.capabilities.clone(),
            embedded: self.embedded,
        }
    }
}

/// Components of one role, by short name and by id.
#[derive(Debug)]
struct Role<P> {
    by_name: HashMap<Box<str>, Active<P>>,
    names: HashMap<Box<str>, Box<str>>,
}

impl<P> Default for Role<P> {
    fn default() -> Self {
        Self { by_name: HashMap::new(), names: HashMap::new() }
    }
}

impl<P> Role<P> {
    /// The first of a name keeps it.
    fn add(&mut self, id: &str, name: &str, active: Active<P>) {
        if !self.by_name.contains_key(name) {
            self.by_name.insert(name.into(), active);
            self.names.insert(id.into(), name.into());
        }
    }

    /// A name is looked for before an id, so that no id can stand in for another component's name.
    fn get(&self, wanted: &str) -> Option<&Active<P>> {
        self.by_name.get(wanted).or_else(|| self.by_name.get(self.names.get(wanted)?))
    }
}

/// What one scope sees.
#[derive(Debug, Default)]
pub struct View {
    generation: u64,
    providers: Role<ProviderPlugin>,
    /// Vendors that the server's own components serve by a preset, each with the component's name.
    presets: HashMap<Box<str>, Box<str>>,
    policies: Role<PolicyPlugin>,
    guardrails: Role<GuardrailPlugin>,
    dialects: Role<DialectPlugin>,
    exporters: Role<ExporterPlugin>,
}

impl View {
    /// An empty view with a number that no other one has.
    #[must_use]
    pub fn new() -> Self {
        static GENERATION: AtomicU64 = AtomicU64::new(1);
        Self { generation: GENERATION.fetch_add(1, Ordering::Relaxed), ..Self::default() }
    }

    /// Differs between any two views: for what is derived from one and kept.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The provider of this short name or id.
    #[must_use]
    pub fn provider(&self, wanted: &str) -> Option<&Active<ProviderPlugin>> {
        self.providers.get(wanted)
    }

    /// The provider that a connection to `wanted` (a short name, a preset's name, an id) goes through, and the preset.
    ///
    /// Only the server's own components give their presets' names away, and those are above a name that another
    /// component chose: what an operator writes for a vendor, key included, reaches no component of somebody else's.
    #[must_use]
    pub fn vendor(&self, wanted: &str) -> Option<(&Active<ProviderPlugin>, Option<&str>)> {
        let named = self.providers.by_name.get(wanted).filter(|active| active.embedded);
        if named.is_none()
            && let Some((preset, component)) = self.presets.get_key_value(wanted)
            && let Some(active) = self.providers.by_name.get(component)
        {
            return Some((active, Some(preset)));
        }
        named.or_else(|| self.providers.get(wanted)).map(|active| (active, None))
    }

    /// Every provider, in no order.
    pub fn providers(&self) -> impl Iterator<Item = &Active<ProviderPlugin>> {
        self.providers.by_name.values()
    }

    /// The routing policy of this short name or id.
    #[must_use]
    pub fn policy(&self, wanted: &str) -> Option<&Active<PolicyPlugin>> {
        self.policies.get(wanted)
    }

    /// Every routing policy, in no order.
    pub fn policies(&self) -> impl Iterator<Item = &Active<PolicyPlugin>> {
        self.policies.by_name.values()
    }

    /// The guardrail of this short name or id.
    #[must_use]
    pub fn guardrail(&self, wanted: &str) -> Option<&Active<GuardrailPlugin>> {
        self.guardrails.get(wanted)
    }

    /// Every guardrail, in no order.
    pub fn guardrails(&self) -> impl Iterator<Item = &Active<GuardrailPlugin>> {
        self.guardrails.by_name.values()
    }

    /// The dialect of this short name or id.
    #[must_use]
    pub fn dialect(&self, wanted: &str) -> Option<&Active<DialectPlugin>> {
        self.dialects.get(wanted)
    }

    /// The exporter of this short name or id.
    #[must_use]
    pub fn exporter(&self, wanted: &str) -> Option<&Active<ExporterPlugin>> {
        self.exporters.get(wanted)
    }

    /// Adds an exporter; one whose short name is taken is left out.
    pub fn add_exporter(&mut self, active: Active<ExporterPlugin>) {
        let plugin = Arc::clone(&active.plugin);
        self.exporters.add(&plugin.manifest().id, &plugin.manifest().name, active);
    }

    /// Adds a dialect; one whose short name is taken is left out.
    pub fn add_dialect(&mut self, active: Active<DialectPlugin>) {
        let plugin = Arc::clone(&active.plugin);
        self.dialects.add(&plugin.manifest().id, &plugin.manifest().name, active);
    }

    /// Adds a guardrail; one whose short name is taken is left out.
    pub fn add_guardrail(&mut self, active: Active<GuardrailPlugin>) {
        let plugin = Arc::clone(&active.plugin);
        self.guardrails.add(&plugin.manifest().id, &plugin.manifest().name, active);
    }

    /// Adds a provider; one whose short name is taken is left out.
    pub fn add_provider(&mut self, active: Active<ProviderPlugin>) {
        let plugin = Arc::clone(&active.plugin);
        let name = &plugin.manifest().name;
        if active.embedded && !self.providers.by_name.contains_key(name.as_str()) {
            for preset in plugin.connection().presets.keys() {
                self.presets.entry(preset.as_str().into()).or_insert_with(|| name.as_str().into());
            }
        }
        self.providers.add(&plugin.manifest().id, name, active);
    }

    /// Adds a routing policy; one whose short name is taken is left out.
    pub fn add_policy(&mut self, active: Active<PolicyPlugin>) {
        let plugin = Arc::clone(&active.plugin);
        self.policies.add(&plugin.manifest().id, &plugin.manifest().name, active);
    }
}

/// What serves, in every scope.
#[derive(Debug, Default)]
pub struct Snapshot {
    instance: Arc<View>,
    organizations: HashMap<OrganizationId, Arc<View>>,
    projects: HashMap<ProjectId, Arc<View>>,
}

impl Snapshot {
    /// A snapshot in which everybody sees the same.
    #[must_use]
    pub fn new(instance: View) -> Self {
        Self { instance: Arc::new(instance), ..Self::default() }
    }

    /// Gives an organization a view of its own.
    pub fn set_organization(&mut self, organization: OrganizationId, view: View) {
        self.organizations.insert(organization, Arc::new(view));
    }

    /// Gives a project a view of its own.
    pub fn set_project(&mut self, project: ProjectId, view: View) {
        self.projects.insert(project, Arc::new(view));
    }

    /// What those see who say nothing of their own.
    #[must_use]
    pub fn instance(&self) -> &Arc<View> {
        &self.instance
    }

    /// What a tenant sees.
    #[must_use]
    pub fn of(&self, tenant: Tenant) -> &Arc<View> {
        let own = self.projects.get(&tenant.project);
        own.or_else(|| self.organizations.get(&tenant.organization)).unwrap_or(&self.instance)
    }
}

/// The current snapshot.
#[derive(Debug, Default)]
pub struct Snapshots(ArcSwap<Snapshot>);

impl Snapshots {
    /// Begins with this one.
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        Self(ArcSwap::from_pointee(first))
    }

    /// What serves now. For a call to take once, and to keep.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.0.load_full()
    }

    /// Puts another one in its place.
    pub fn store(&self, next: Snapshot) {
        self.0.store(Arc::new(next));
    }
}
