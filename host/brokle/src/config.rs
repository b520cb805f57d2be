//! What the operator decides: defaults, then a TOML file, then the environment; the later one wins.
//!
//! - The file is the one that `--config` names, or `./brokle.toml` if it is there. A key that nobody knows is an error.
//! - The environment's names are a fixed list ([`environment`]); other variables are nobody's business.
//! - Secrets come from the environment, or from a file that is named; never from a value in the TOML file, and nothing
//!   here prints one.
//!
//! `brokle.example.toml` shows each key with its default and is their documentation; a test compares the two.

mod batches;
mod blobs;
mod budgets;
mod cache;
mod environment;
mod exporters;
mod gateway;
mod guardrails;
mod limits;
mod plugins;
mod recording;
mod sections;
mod warnings;

use std::path::{Path, PathBuf};

use brokle_core::catalogue::ModelOverride;
use brokle_gateway::routing::definition::Definition;
use brokle_gateway::routing::routes::{ChosenPolicy, DEFAULT_POLICY, Routing};
use brokle_storage::observations::clickhouse::ClickHouse;
use brokle_telemetry::SharedQueue;
use figment::Figment;
use figment::providers::{Format, Serialized, Toml};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::batches::{Batches, Files};
pub(crate) use self::blobs::Blobs;
pub(crate) use self::budgets::Budget;
pub(crate) use self::cache::{Cache, Store as CacheStore, VectorStore};
pub(crate) use self::environment::Secrets;
pub(crate) use self::exporters::Exporter;
pub(crate) use self::gateway::{Connection, Gateway};
pub(crate) use self::guardrails::Guardrail;
pub(crate) use self::limits::Limit;
pub(crate) use self::plugins::Plugins;
pub(crate) use self::recording::{Recording, rules};
pub(crate) use self::sections::{LogFormat, Logs, QueueKind, Runtime, Server, Storage, Telemetry};

/// The file that is read if no other one is named.
pub(crate) const DEFAULT_FILE: &str = "brokle.toml";

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// The HTTP server.
    pub(crate) server: Server,
    /// Databases and files.
    pub(crate) storage: Storage,
    /// Observations.
    pub(crate) telemetry: Telemetry,
    /// Calls to providers.
    pub(crate) gateway: Gateway,
    /// Where what is too large for a row is kept.
    pub(crate) blobs: Blobs,
    /// Files that projects upload, and that batches make.
    pub(crate) files: Files,
    /// Batches of calls.
    pub(crate) batches: Batches,
    /// The sandbox.
    pub(crate) runtime: Runtime,
    /// The catalogue of plugins.
    pub(crate) plugins: Plugins,
    /// Answers that are given again.
    pub(crate) cache: Cache,
    /// Guardrails, in the order in which they rule.
    pub(crate) guardrails: Vec<Guardrail>,
    /// What is stored of whose calls and spans.
    pub(crate) recording: Vec<Recording>,
    /// Where observations go besides.
    pub(crate) exporters: Vec<Exporter>,
    /// Names with candidates of their own.
    pub(crate) routes: Vec<Definition>,
    /// How much callers may.
    pub(crate) limits: Vec<Limit>,
    /// How much callers may spend.
    pub(crate) budgets: Vec<Budget>,
    /// The log.
    pub(crate) logs: Logs,
    /// Models that the built-in catalogue doesn't know, or whose prices differ.
    pub(crate) models: Vec<ModelOverride>,
}

/// Why there is no configuration: one line per problem, with the key and where its value comes from.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file that was asked for isn't there.
    #[error("{}: there is no such file", .0.display())]
    NoFile(PathBuf),
    /// A key is unknown or has a value that can't be.
    #[error("{0}")]
    Invalid(String),
}

/// Reads the configuration.
///
/// # Errors
/// When the named file isn't there, or a key or value is wrong.
pub(crate) fn load(file: Option<&Path>) -> Result<Config, ConfigError> {
    load_with(file, |name| std::env::var(name).ok())
}

/// The same with any environment.
pub(crate) fn load_with(
    file: Option<&Path>,
    environment: impl Fn(&str) -> Option<String>,
) -> Result<Config, ConfigError> {
    let mut figment = Figment::from(Serialized::defaults(Config::default()));
    let default = Path::new(DEFAULT_FILE);
    match file {
        Some(path) if !path.is_file() => return Err(ConfigError::NoFile(path.to_owned())),
        Some(path) => figment = figment.merge(Toml::file_exact(path)),
        None if default.is_file() => figment = figment.merge(Toml::file_exact(default)),
        None => {}
    }
    let figment = figment.merge(environment::Provider::new(environment));
    let config: Config = figment.extract().map_err(describe)?;
    config.check().map_err(ConfigError::Invalid)?;
    Ok(config)
}

/// Reads a configuration's text, without the environment.
///
/// # Errors
/// When a key or value is wrong.
pub(crate) fn parse(text: &str) -> Result<Config, ConfigError> {
    let figment = Figment::from(Serialized::defaults(Config::default())).merge(Toml::string(text));
    let config: Config = figment.extract().map_err(describe)?;
    config.check().map_err(ConfigError::Invalid)?;
    Ok(config)
}

/// One line per problem: `server.listen: invalid type … (in brokle.toml)`.
fn describe(errors: figment::Error) -> ConfigError {
    let lines: Vec<String> = errors
        .into_iter()
        .map(|error| {
            let place = error.metadata.as_ref().map(|metadata| {
                let source = metadata.source.as_ref().map(ToString::to_string);
                source.unwrap_or_else(|| metadata.name.to_string())
            });
            let key =
                if error.path.is_empty() { String::new() } else { format!("{}: ", error.path.join(".")) };
            let place = place.map(|place| format!(" (in {place})")).unwrap_or_default();
            format!("{key}{}{place}", error.kind)
        })
        .collect();
    ConfigError::Invalid(lines.join("\n"))
}

impl Config {
    /// Finds values that no type can refuse.
    fn check(&self) -> Result<(), String> {
        self.server.check()?;
        self.storage.check()?;
        self.clickhouse()?;
        self.redis()?;
        self.telemetry.check()?;
        self.shared_queue()?;
        self.gateway.check()?;
        self.blobs.check()?;
        self.files.check()?;
        self.batches.check()?;
        self.runtime.check()?;
        self.plugins.check()?;
        guardrails::check(&self.guardrails)?;
        exporters::check(&self.exporters)?;
        rules(&self.recording)?;
        self.cache.check(&self.storage)?;
        limits::check(&self.limits)?;
        budgets::check(&self.budgets)?;
        let mut routing = Routing::default();
        for (index, route) in self.routes.iter().enumerate() {
            // Which policies there are is found out when the components are there.
            let known = |name: &String| self.guardrails.iter().any(|one| one.name() == name);
            if let Some(at) = route.guardrails.iter().position(|name| !known(name)) {
                return Err(format!("routes.{index}.guardrails.{at}: there is no such guardrail"));
            }
            let route = route.to_route(ChosenPolicy::named(DEFAULT_POLICY), self.gateway.timeouts());
            routing.routes.push(route.map_err(|fault| format!("routes.{index}.{fault}"))?);
        }
        routing.check()
    }

    /// What an operator should know although nothing is wrong, one sentence each.
    pub(crate) fn warnings(&self) -> Vec<String> {
        warnings::of(self)
    }

    /// The ClickHouse database that keeps observations, if there is one.
    pub(crate) fn clickhouse(&self) -> Result<Option<ClickHouse>, String> {
        let named = self.storage.clickhouse_url.as_deref().map(ClickHouse::new).transpose();
        named.map_err(|error| format!("storage.clickhouse_url: {error}"))
    }

    /// Redis, if it is configured. Nobody connects yet.
    pub(crate) fn redis(&self) -> Result<Option<redis::Client>, String> {
        let Some(url) = self.storage.redis_url.as_deref() else { return Ok(None) };
        // An error may repeat the URL, which may hold a password.
        let wrong = |_| "storage.redis_url: redis[s]://[USER:PASSWORD@]HOST:PORT is expected".to_owned();
        let Some(path) = &self.storage.redis_ca_file else {
            return redis::Client::open(url).map(Some).map_err(wrong);
        };
        if !url.starts_with("rediss://") {
            return Err("storage.redis_ca_file: it needs a redis_url with rediss://".to_owned());
        }
        let unreadable =
            |error: &dyn std::fmt::Display| format!("storage.redis_ca_file: {}: {error}", path.display());
        let root_cert = std::fs::read(path).map_err(|error| unreadable(&error))?;
        if !String::from_utf8_lossy(&root_cert).contains("-----BEGIN CERTIFICATE-----") {
            return Err(unreadable(&"it has no certificate"));
        }
        let certificates = redis::TlsCertificates { client_tls: None, root_cert: Some(root_cert) };
        redis::Client::build_with_tls(url, certificates).map(Some).map_err(|error| match error.kind() {
            redis::ErrorKind::InvalidClientConfig => wrong(error),
            _ => unreadable(&"it has no certificate"),
        })
    }

    /// The queue that processes share, if that is where observations wait.
    pub(crate) fn shared_queue(&self) -> Result<Option<SharedQueue>, String> {
        let storage = &self.storage;
        let is_shared = match self.telemetry.queue {
            Some(kind) => kind == QueueKind::Redis,
            None => storage.redis_url.is_some() && storage.clickhouse_url.is_some(),
        };
        if !is_shared {
            return Ok(None);
        }
        let client = self.redis()?.ok_or("telemetry.queue: redis needs storage.redis_url")?;
        Ok(Some(SharedQueue::new(client)))
    }

    /// The database's URL: the configured one, or a file in the data directory.
    pub(crate) fn database_url(&self) -> String {
        self.storage
            .database_url
            .clone()
            .unwrap_or_else(|| format!("sqlite:{}", self.storage.data_dir.join("brokle.db").display()))
    }
}

/// The JSON schema of the file.
pub(crate) fn schema() -> schemars::Schema {
    schemars::schema_for!(Config)
}

#[cfg(test)]
mod tests;
