//! Connections: a provider plugin, where it goes, and the credential that goes with it.
//!
//! Some are fixed (from the environment and the configuration file, for every tenant); others belong to an
//! organization or a project and are in the database, opened once and kept until the `revisions` row moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use brokle_core::tenancy::Tenant;
use brokle_identity::Secret;
use brokle_identity::connections::ConnectionService;
use brokle_runtime::ProviderPlugin;
use http::header::{HeaderName, HeaderValue};
use moka::sync::Cache;

use crate::egress::{Egress, Origin};

/// A way to a provider.
#[derive(Debug)]
pub struct Connection {
    /// Its id; a fixed connection's is its name.
    pub id: Arc<str>,
    /// What operators call it.
    pub name: String,
    /// The adapter.
    pub plugin: Arc<ProviderPlugin>,
    /// The plugin's short name: `openai`.
    pub provider: Arc<str>,
    /// The provider's name in the model catalogue.
    pub catalogue: String,
    /// Where to; none for a plugin that needs no vendor.
    pub origin: Option<Origin>,
    /// The credential.
    pub secret: Option<Secret>,
    /// `Bearer …`, ready to be sent.
    pub bearer: Option<HeaderValue>,
    /// The plugin's options, a JSON object.
    pub options: Vec<u8>,
    /// What else the plugin is told: `base_path`, the path of the base URL.
    pub attributes: Vec<(String, String)>,
    /// Sent with every request.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Lower comes first.
    pub priority: i32,
    /// The share of the traffic among equals.
    pub weight: u32,
    /// The models that it serves; none named means all that the catalogue lists for its provider.
    pub models: Vec<String>,
}

/// What makes a connection.
#[derive(Debug, Default)]
pub struct NewConnection {
    /// None: the name.
    pub id: Option<String>,
    /// What operators call it.
    pub name: String,
    /// None: the plugin's own.
    pub base_url: Option<String>,
    /// The credential.
    pub secret: Option<Secret>,
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
}

impl Connection {
    /// Makes a connection. `trusted` says that an operator configured it: its base URL may name a private address.
    ///
    /// # Errors
    /// What is wrong with it, naming the connection.
    pub fn new(
        plugin: Arc<ProviderPlugin>,
        new: NewConnection,
        egress: &Egress,
        trusted: bool,
    ) -> Result<Self, String> {
        let fault = |what: String| format!("connection '{}': {what}", new.name);
        let manifest = plugin.connection();
        let base_url = new.base_url.clone().or(manifest.base_url);
        let origin = match base_url.as_deref() {
            Some(url) => Some(Origin::parse(url).map_err(fault)?),
            None if manifest.offline => None,
            None => return Err(fault("it has no base URL, and its plugin has none either".into())),
        };
        if let (true, Some(origin)) = (trusted, &origin) {
            egress.allow(origin.host());
        }
        let bearer = match &new.secret {
            Some(secret) => {
                let value = HeaderValue::from_str(&format!("Bearer {}", secret.expose()));
                let mut value = value
                    .map_err(|_| fault("its credential has characters that no header can hold".into()))?;
                value.set_sensitive(true);
                Some(value)
            }
            None => None,
        };
        let mut headers = Vec::new();
        for (name, value) in &new.headers {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(value)) {
                (Ok(name), Ok(value)) if !crate::egress::is_reserved(&name) => headers.push((name, value)),
                _ => return Err(fault(format!("header '{name}' can't be sent"))),
            }
        }
        let provider: Arc<str> = plugin.manifest().name.as_str().into();
        Ok(Self {
            id: new.id.unwrap_or_else(|| new.name.clone()).into(),
            catalogue: manifest.catalogue.unwrap_or_else(|| provider.to_string()),
            attributes: origin
                .iter()
                .map(|origin| ("base_path".to_owned(), origin.path().to_owned()))
                .collect(),
            provider,
            plugin,
            origin,
            secret: new.secret,
            bearer,
            options: serde_json::Value::Object(new.options).to_string().into_bytes(),
            headers,
            priority: new.priority,
            weight: new.weight,
            models: new.models,
            name: new.name,
        })
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

/// All connections that there are.
#[derive(Debug)]
pub struct Directory {
    fixed: Arc<[Arc<Connection>]>,
    plugins: Vec<Arc<ProviderPlugin>>,
    stored: Option<Arc<ConnectionService>>,
    opened: Cache<Tenant, Arc<[Arc<Connection>]>>,
    egress: Egress,
    revision: AtomicI64,
}

impl Directory {
    /// Those that are fixed, and the service for those in the database.
    pub fn new(
        fixed: Vec<Connection>,
        plugins: Vec<Arc<ProviderPlugin>>,
        stored: Option<Arc<ConnectionService>>,
        egress: Egress,
    ) -> Self {
        Self {
            fixed: fixed.into_iter().map(Arc::new).collect(),
            plugins,
            stored,
            opened: Cache::builder().max_capacity(10_000).time_to_live(Duration::from_secs(60)).build(),
            egress,
            revision: AtomicI64::new(-1),
        }
    }

    /// The tenant's own and the fixed ones. While the database is away, a tenant that isn't in memory has the fixed
    /// ones.
    pub async fn of(&self, tenant: Tenant) -> Arc<[Arc<Connection>]> {
        let Some(stored) = &self.stored else { return self.fixed.clone() };
        if let Some(connections) = self.opened.get(&tenant) {
            return connections;
        }
        let resolved = match stored.resolve(tenant).await {
            Ok(resolved) => resolved,
            Err(error) => {
                tracing::warn!(%error, project = %tenant.project, "the tenant's connections can't be read");
                return self.fixed.clone();
            }
        };
        let mut connections = Vec::new();
        for one in resolved {
            match self.open(one) {
                Ok(connection) => connections.push(Arc::new(connection)),
                Err(error) => tracing::warn!(error, project = %tenant.project, "a connection can't be used"),
            }
        }
        connections.extend(self.fixed.iter().cloned());
        let connections: Arc<[Arc<Connection>]> = connections.into();
        self.opened.insert(tenant, connections.clone());
        connections
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

    fn open(&self, one: brokle_identity::connections::ResolvedConnection) -> Result<Connection, String> {
        let stored = one.connection;
        let wanted = stored.provider.as_str();
        let plugin = self.plugins.iter().find(|p| p.manifest().name == wanted || p.manifest().id == wanted);
        let plugin = plugin.ok_or_else(|| format!("connection '{}': no plugin '{wanted}'", stored.name))?;
        let new = NewConnection {
            id: Some(stored.id.to_string()),
            secret: one.secret.map_err(|error| format!("connection '{}': {error}", stored.name))?,
            base_url: stored.base_url,
            options: stored.options,
            headers: stored.headers.into_iter().collect(),
            priority: stored.priority,
            weight: u32::try_from(stored.weight).unwrap_or(0),
            models: Vec::new(),
            name: stored.name,
        };
        Connection::new(plugin.clone(), new, &self.egress, false)
    }
}
