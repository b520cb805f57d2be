//! Connections: a provider plugin, where it goes, and the credential that goes with it.
//!
//! Some are fixed (from the environment and the configuration file, for every tenant); others belong to an
//! organization or a project and are in the database, read once and kept until the `revisions` row moves.
//!
//! What is kept is what somebody wrote; bound to the plugins that serve (a [`View`] of the catalogue's snapshot) it is
//! what a call uses. Another view binds it anew, from memory. A connection whose plugin doesn't serve isn't there until it
//! does; a call that began keeps the connections, and so the versions, that it began with.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use brokle_core::tenancy::Tenant;
use brokle_identity::Secret;
use brokle_identity::connections::{ConnectionService, ResolvedConnection};
use brokle_plugins::Snapshot;
use brokle_plugins::configuration::check_options;
use brokle_plugins::snapshot::{Active, View};
use brokle_runtime::{CallContext, Preset, ProviderManifest, ProviderPlugin};
use http::header::{HeaderName, HeaderValue};
use moka::sync::Cache;
use parking_lot::Mutex;

use crate::egress::{Egress, Origin, fill};
use crate::gate::Gate;
use crate::keys::Keys;
use crate::refusal::Refusal;
use crate::single::Single;

/// A way to a provider.
#[derive(Debug)]
pub struct Connection {
    /// Its id; a fixed connection's is its name.
    pub id: Arc<str>,
    /// What operators call it.
    pub name: String,
    /// The adapter.
    pub plugin: Arc<ProviderPlugin>,
    /// What the adapter's instances are told.
    pub context: CallContext,
    /// The plugin's short name, `openai`, or that of the preset which it goes by, `groq`.
    pub provider: Arc<str>,
    /// The provider's name in the model catalogue.
    pub catalogue: String,
    /// Where to; none for a plugin that needs no vendor.
    pub origin: Option<Origin>,
    /// The credentials, which calls take turns with.
    pub keys: Keys,
    /// The plugin's options, a JSON object.
    pub options: Vec<u8>,
    /// What else the plugin is told: `base_path`, the path of the base URL; `credential`, `none` where there is none.
    pub attributes: Vec<(String, String)>,
    /// Sent with every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// An operator configured it: its base URL may name a private address.
    pub trusted: bool,
    /// Lower comes first.
    pub priority: i32,
    /// The share of the traffic among equals.
    pub weight: u32,
    /// The models that it serves; none named means all that the catalogue lists for its provider.
    pub models: Vec<String>,
    /// How many calls it takes at once; none: as many as come.
    pub gate: Option<Arc<Gate>>,
    /// Whether calls may be relayed as they come.
    pub raw: bool,
    /// How often it is asked whether it is there; none: never.
    pub health_check: Option<Duration>,
}

/// What makes a connection.
#[derive(Clone, Debug, Default)]
pub struct NewConnection {
    /// None: the name.
    pub id: Option<String>,
    /// What operators call it.
    pub name: String,
    /// None: the plugin's own. What stands in braces is filled from the options ([`fill`]).
    pub base_url: Option<String>,
    /// The credentials, which calls take turns with.
    pub secrets: Vec<Secret>,
    /// The plugin's options.
    pub options: serde_json::Map<String, serde_json::Value>,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// Lower comes first.
    pub priority: i32,
    /// The share of the traffic among equals.
    pub weight: u32,
    /// The models that it serves; none named means all that the catalogue lists for its provider.
    pub models: Vec<String>,
    /// How many calls it takes at once, whatever view it is bound in; none: as many as come.
    pub gate: Option<Arc<Gate>>,
    /// Whether calls may be relayed as they come.
    pub raw: bool,
    /// How often it is asked whether it is there; none: never.
    pub health_check: Option<Duration>,
}

impl Connection {
    /// Makes a connection. `trusted` says that an operator configured it: its base URL may name a private address.
    ///
    /// # Errors
    /// What is wrong with it, naming the connection.
    pub fn new(
        provider: &Active<ProviderPlugin>,
        new: NewConnection,
        egress: &Egress,
        trusted: bool,
    ) -> Result<Self, String> {
        let fault = |what: String| format!("connection '{}': {what}", new.name);
        let Active { plugin, context, .. } = provider.clone();
        let manifest = plugin.connection();
        let preset = preset_of(manifest, &new.options).map_err(fault)?;
        let mut options = preset.map(|(_, preset)| preset.options.clone()).unwrap_or_default();
        options.extend(new.options);
        if let Some(problem) = check_options(plugin.manifest().options.as_ref(), &options).first() {
            return Err(fault(format!("options{}: {}", problem.pointer, problem.message)));
        }
        let usual = preset.map_or(&manifest.base_url, |(_, preset)| &preset.base_url);
        let base_url = new.base_url.clone().or_else(|| usual.clone());
        let origin = match base_url.as_deref() {
            Some(url) => {
                let url = fill(url, &options).map_err(fault)?;
                Some(Origin::parse(&url).map_err(fault)?)
            }
            None if manifest.offline => None,
            None => return Err(fault("it has no base URL, and its plugin has none either".into())),
        };
        if let (true, Some(origin)) = (trusted, &origin) {
            egress.allow(origin.host());
        }
        let mut headers = Vec::new();
        for (name, value) in &new.headers {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) if !crate::egress::is_reserved(&name) => headers.push((name, value)),
                _ => return Err(fault(format!("header '{name}' can't be sent"))),
            }
        }
        let provider: Arc<str> = preset.map_or(plugin.manifest().name.as_str(), |(name, _)| name).into();
        let catalogue = preset.map_or(&manifest.catalogue, |(_, preset)| &preset.catalogue).clone();
        let mut attributes = Vec::new();
        attributes.extend(origin.iter().map(|origin| ("base_path".to_owned(), origin.path().to_owned())));
        if new.secrets.is_empty() {
            attributes.push(("credential".to_owned(), "none".to_owned()));
        }
        let id: Arc<str> = new.id.unwrap_or_else(|| new.name.clone()).into();
        Ok(Self {
            keys: Keys::new(&id, new.secrets),
            id,
            catalogue: catalogue.unwrap_or_else(|| provider.to_string()),
            attributes,
            provider,
            plugin,
            context,
            origin,
            options: serde_json::Value::Object(options).to_string().into_bytes(),
            headers,
            trusted,
            priority: new.priority,
            weight: new.weight,
            models: new.models,
            gate: new.gate,
            raw: new.raw,
            health_check: new.health_check,
            name: new.name,
        })
    }

    /// The credential can't be used as the plugin asks. `reason` has nothing of it.
    pub(crate) fn unusable(&self, reason: &str) -> Refusal {
        let message = format!("The credential of connection '{}' can't be used: {reason}.", self.name);
        Refusal::upstream(502, "connection_credential_unusable", message)
    }

    /// Whether the model is among those that it is for.
    pub(crate) fn may_serve(&self, model: &str) -> bool {
        self.models.is_empty() || self.models.iter().any(|listed| listed == model)
    }

    /// The plugin's short name.
    pub fn provider_name(&self) -> &str {
        &self.provider
    }
}

/// The preset that a connection's option `preset` names, where the provider has presets at all.
fn preset_of<'a>(
    manifest: &'a ProviderManifest,
    options: &serde_json::Map<String, serde_json::Value>,
) -> Result<Option<(&'a str, &'a Preset)>, String> {
    match options.get("preset").and_then(serde_json::Value::as_str) {
        Some(wanted) if !manifest.presets.is_empty() => match manifest.presets.get_key_value(wanted) {
            Some((name, preset)) => Ok(Some((name, preset))),
            None => Err(format!("options/preset: there is no preset '{}'", wanted.escape_debug())),
        },
        _ => Ok(None),
    }
}

/// What somebody wrote of a connection, to be bound to whatever serves as its provider.
#[derive(Clone, Debug)]
pub struct Template {
    /// The plugin's short name or id, or a preset's name.
    pub provider: String,
    /// The rest.
    pub new: NewConnection,
    /// An operator configured it: its base URL may name a private address.
    pub trusted: bool,
}

impl Template {
    /// The connection, if its provider serves in this view.
    ///
    /// # Errors
    /// What is wrong with it, naming the connection.
    pub fn bind(&self, view: &View, egress: &Egress) -> Result<Connection, String> {
        let (provider, preset) = view
            .vendor(&self.provider)
            .ok_or_else(|| format!("connection '{}': no plugin '{}'", self.new.name, self.provider))?;
        let mut new = self.new.clone();
        if let Some(preset) = preset {
            new.options.entry("preset").or_insert_with(|| preset.into());
        }
        Connection::new(provider, new, egress, self.trusted)
    }
}

/// Connections of one view, the operator's order.
#[derive(Debug)]
struct Bound {
    generation: u64,
    connections: Arc<[Arc<Connection>]>,
}

/// What a tenant has, and what that is in the view that it was last asked in.
#[derive(Debug)]
struct Opened {
    templates: Vec<Template>,
    bound: ArcSwapOption<Bound>,
}

/// All connections that there are.
#[derive(Debug)]
pub struct Directory {
    fixed: Vec<Template>,
    /// The fixed ones by view: most tenants share one.
    shared: Cache<u64, Arc<[Arc<Connection>]>>,
    stored: Option<Arc<ConnectionService>>,
    opened: Cache<Tenant, Arc<Opened>>,
    /// Reading them, as of a revision.
    reading: Single<(Tenant, i64), Option<Arc<Opened>>>,
    egress: Egress,
    revision: AtomicI64,
    /// Whose connections are checked.
    watched: Mutex<HashSet<Tenant>>,
}

/// How many tenants' connections are checked at most.
const WATCHED: usize = 1_000;

impl Directory {
    /// Those that are fixed, and the service for those in the database.
    pub fn new(fixed: Vec<Template>, stored: Option<Arc<ConnectionService>>, egress: Egress) -> Self {
        Self {
            fixed,
            shared: Cache::new(64),
            stored,
            opened: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(60)).build(),
            egress,
            reading: Single::default(),
            revision: AtomicI64::new(-1),
            watched: Mutex::default(),
        }
    }

    /// Those that are to be checked: the fixed ones, and those of tenants that have called.
    pub(crate) async fn checked(&self, snapshot: &Snapshot) -> Vec<Arc<Connection>> {
        let is_checked = |connection: &&Arc<Connection>| connection.health_check.is_some();
        let mut checked: Vec<_> =
            self.fixed(snapshot.instance()).iter().filter(is_checked).map(Arc::clone).collect();
        let tenants: Vec<Tenant> = self.watched.lock().iter().copied().collect();
        for tenant in tenants {
            let connections = self.of(tenant, snapshot.of(tenant)).await;
            let own = connections.iter().filter(is_checked).filter(|one| !one.trusted);
            let before = checked.len();
            checked.extend(own.map(Arc::clone));
            if checked.len() == before {
                self.watched.lock().remove(&tenant);
            }
        }
        checked
    }

    /// The tenant's own and the fixed ones. While the database is away, a tenant that isn't in memory has the fixed
    /// ones.
    pub async fn of(&self, tenant: Tenant, view: &View) -> Arc<[Arc<Connection>]> {
        let Some(stored) = &self.stored else { return self.fixed(view) };
        let opened = match self.opened.get(&tenant) {
            Some(opened) => opened,
            // In a box, as all that is rare: a query's future is 15 KB.
            None => {
                let revision = self.revision.load(Ordering::SeqCst);
                let read = || self.open(stored, tenant, revision);
                match Box::pin(self.reading.run((tenant, revision), read)).await {
                    Some(opened) => opened,
                    None => return self.fixed(view),
                }
            }
        };
        let bound = opened.bound.load();
        if let Some(bound) = bound.as_ref().filter(|bound| bound.generation == view.generation()) {
            return bound.connections.clone();
        }
        let fixed = self.fixed(view);
        let connections: Arc<[Arc<Connection>]> = if opened.templates.is_empty() {
            fixed
        } else {
            self.bind(&opened.templates, view).into_iter().chain(fixed.iter().cloned()).collect()
        };
        let bound = Bound { generation: view.generation(), connections: connections.clone() };
        opened.bound.store(Some(Arc::new(bound)));
        connections
    }

    /// Reads the tenant's own; none: the database is away.
    async fn open(&self, stored: &ConnectionService, tenant: Tenant, revision: i64) -> Option<Arc<Opened>> {
        let resolved = match stored.resolve(tenant).await {
            Ok(resolved) => resolved,
            Err(error) => {
                tracing::warn!(%error, project = %tenant.project, "the tenant's connections can't be read");
                return None;
            }
        };
        let templates: Vec<_> = resolved.into_iter().filter_map(|one| read(one, tenant)).collect();
        if templates.iter().any(|template| template.new.health_check.is_some()) {
            let mut watched = self.watched.lock();
            if watched.len() < WATCHED {
                watched.insert(tenant);
            }
        }
        let opened = Arc::new(Opened { templates, bound: ArcSwapOption::empty() });
        // One of them may have been changed meanwhile: then this is for those who wait, and the next one reads anew.
        if self.revision.load(Ordering::SeqCst) == revision {
            self.opened.insert(tenant, Arc::clone(&opened));
        }
        Some(opened)
    }

    /// The fixed ones, and one for each provider that needs no vendor and isn't mentioned.
    pub(crate) fn fixed(&self, view: &View) -> Arc<[Arc<Connection>]> {
        self.shared.get_with(view.generation(), || {
            let mut templates = self.fixed.clone();
            for provider in view.providers().filter(|provider| provider.plugin.connection().offline) {
                let manifest = provider.plugin.manifest();
                if !templates.iter().any(|t| t.provider == manifest.name || t.provider == manifest.id) {
                    templates.push(Template {
                        provider: manifest.name.clone(),
                        new: NewConnection {
                            name: manifest.name.clone(),
                            priority: 100,
                            weight: 1,
                            ..NewConnection::default()
                        },
                        trusted: false,
                    });
                }
            }
            self.bind(&templates, view).into()
        })
    }

    fn bind(&self, templates: &[Template], view: &View) -> Vec<Arc<Connection>> {
        let bind = |template: &Template| match template.bind(view, &self.egress) {
            Ok(connection) => Some(Arc::new(connection)),
            Err(error) => {
                tracing::warn!(error, "a connection can't be used");
                None
            }
        };
        templates.iter().filter_map(bind).collect()
    }

    /// Asks whether a stored connection was changed, and forgets what was opened if so. While the database is away,
    /// what is open stays.
    pub async fn poll_revision(&self) {
        let Some(stored) = &self.stored else { return };
        match stored.revision().await {
            Ok(revision) => {
                if self.revision.swap(revision, Ordering::SeqCst) != revision {
                    self.opened.invalidate_all();
                }
            }
            Err(error) => tracing::debug!(%error, "the connections' revision can't be read"),
        }
    }
}

/// A stored connection; none if its secret can't be opened.
fn read(one: ResolvedConnection, tenant: Tenant) -> Option<Template> {
    let stored = one.connection;
    let secrets = match one.secrets {
        Ok(secrets) => secrets,
        Err(error) => {
            tracing::warn!(%error, connection = stored.name, project = %tenant.project, "a connection can't be used");
            return None;
        }
    };
    let new = NewConnection {
        id: Some(stored.id.to_string()),
        secrets,
        base_url: stored.base_url,
        options: stored.options,
        headers: stored.headers.into_iter().collect(),
        priority: stored.priority,
        weight: u32::try_from(stored.weight).unwrap_or(0),
        models: Vec::new(),
        gate: None,
        // Its credential is the tenant's own.
        raw: true,
        health_check: stored
            .health_check_seconds
            .and_then(|every| Some(Duration::from_secs(u64::try_from(every).ok()?))),
        name: stored.name,
    };
    Some(Template { provider: stored.provider, new, trusted: false })
}
