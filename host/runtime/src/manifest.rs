//! What a component says of itself, in custom sections that are read before anything is compiled.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::capabilities::{Capabilities, LimitsRequest, is_plain};
use crate::error::LoadError;

/// The `brokle:manifest` section: the plugin's `plugin.json`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Globally unique, dotted, lower case: `brokle.provider-openai`.
    pub id: String,
    /// SemVer; the crate's own version.
    pub version: semver::Version,
    /// The role.
    pub kind: Kind,
    /// The contract: `brokle:provider@0.1.0`.
    pub wit: String,
    /// The short name by which requests and configuration call it: `openai`.
    pub name: String,
    /// For people.
    #[serde(default)]
    pub title: String,
    /// One sentence for people.
    #[serde(default)]
    pub description: String,
    /// SPDX expression.
    #[serde(default)]
    pub license: String,
    /// What a license must have for it to run: `pii.redaction`.
    #[serde(default)]
    pub entitlements: Vec<String>,
    /// For providers.
    #[serde(default)]
    pub provider: Option<ProviderManifest>,
    /// For routing policies.
    #[serde(default)]
    pub policy: PolicyManifest,
    /// JSON Schema of a connection's options.
    #[serde(default)]
    pub options: Option<serde_json::Value>,
    /// JSON Schema of the plugin's configuration.
    #[serde(default)]
    pub config: Option<serde_json::Value>,
    /// What it wants of the host beside `log` and `config`.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// What an instance wants of memory, time and log.
    #[serde(default)]
    pub limits: LimitsRequest,
    /// The license entitlement without which it isn't loaded: `pii.redaction`.
    #[serde(default)]
    pub entitlement: Option<String>,
}

/// The role of a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// `brokle:provider/provider`
    Provider,
    /// `brokle:routing/routing-policy`
    RoutingPolicy,
    /// `brokle:guardrail/guardrail`
    Guardrail,
    /// `brokle:dialect/dialect`
    Dialect,
    /// `brokle:exporter/exporter`
    Exporter,
}

impl Kind {
    /// The package whose world this role implements.
    pub fn package(self) -> &'static str {
        match self {
            Self::Provider => "brokle:provider",
            Self::RoutingPolicy => "brokle:routing",
            Self::Guardrail => "brokle:guardrail",
            Self::Dialect => "brokle:dialect",
            Self::Exporter => "brokle:exporter",
        }
    }

    /// The world's name, as people read it.
    pub fn world(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::RoutingPolicy => "routing-policy",
            Self::Guardrail => "guardrail",
            Self::Dialect => "dialect",
            Self::Exporter => "exporter",
        }
    }
}

/// What the host has to know of a routing policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyManifest {
    /// Its choice is one between answers (variants of an experiment, conditions), rather than between those who would give the same:
    /// the cache keeps what its choices answered apart.
    #[serde(default)]
    pub chooses_answers: bool,
}

/// What a provider needs to be connected.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ProviderManifest {
    /// Where the vendor is; connections may say otherwise.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The environment variable that makes a default connection.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The environment variable that points the default connection elsewhere.
    #[serde(default)]
    pub base_url_env: Option<String>,
    /// The provider's name in the model catalogue, when it isn't the plugin's.
    #[serde(default)]
    pub catalogue: Option<String>,
    /// Answers without a vendor: needs no base URL and no credential.
    #[serde(default)]
    pub offline: bool,
    /// Works without a credential: `base_url_env` alone makes a default connection.
    #[serde(default)]
    pub keyless: bool,
    /// Which headers of the vendor's answers say what is left of its limits, where they aren't OpenAI's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_limits: Option<RateLimitHeaders>,
    /// Vendors that this component serves as well as its own, by name: a connection picks one by its option `preset`,
    /// and names one of the server's own components as its provider.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub presets: BTreeMap<String, Preset>,
}

/// Where a vendor says what is left of its limits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RateLimitHeaders {
    /// Of requests.
    #[serde(default)]
    pub requests: Option<RemainingHeaders>,
    /// Of tokens.
    #[serde(default)]
    pub tokens: Option<RemainingHeaders>,
}

/// Two headers' names.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RemainingHeaders {
    /// How many are left: a whole number.
    pub remaining: String,
    /// When there are as many as ever: a span (`6m0s`, seconds) or a time (RFC 3339).
    pub reset: String,
}

/// One vendor among those that a component serves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Preset {
    /// For people.
    #[serde(default)]
    pub title: String,
    /// Where the facts are from: the vendor's reference.
    #[serde(default)]
    pub docs: String,
    /// Where the vendor is; none: each connection says so.
    #[serde(default)]
    pub base_url: Option<String>,
    /// The environment variable that makes a default connection.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// The environment variable that points the default connection elsewhere.
    #[serde(default)]
    pub base_url_env: Option<String>,
    /// The vendor's name in the model catalogue, when it isn't the preset's.
    #[serde(default)]
    pub catalogue: Option<String>,
    /// Works without a credential: `base_url_env` alone makes a default connection.
    #[serde(default)]
    pub keyless: bool,
    /// Options under those of the connection.
    #[serde(default)]
    pub options: serde_json::Map<String, serde_json::Value>,
    /// Environment variables without which there is no default connection, by the option that each becomes.
    #[serde(default)]
    pub options_env: BTreeMap<String, String>,
}

/// The `brokle:abi` section: the SDK's stamp.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Abi {
    /// `brokle-plugin/0.1.0`
    pub sdk: String,
    /// The crate that was built.
    pub package: String,
    /// Its version.
    pub version: semver::Version,
}

impl Manifest {
    /// `id version`, as errors and logs name it.
    pub fn label(&self) -> String {
        format!("{} {}", self.id, self.version)
    }

    /// Reads a `plugin.json`.
    ///
    /// # Errors
    /// What is wrong in it.
    pub fn parse(json: &[u8]) -> Result<Self, LoadError> {
        let manifest: Self =
            serde_json::from_slice(json).map_err(|error| LoadError::Manifest(error.to_string()))?;
        let plain = |text: &str, extra: &str| {
            (1..=128).contains(&text.len())
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || extra.as_bytes().contains(&b))
        };
        if !plain(&manifest.id, ".-_") {
            return Err(LoadError::Manifest(format!(
                "'{}' is no id: a-z, 0-9, '.', '-' and '_'",
                manifest.id
            )));
        }
        if !plain(&manifest.name, "-_") {
            return Err(LoadError::Manifest(format!(
                "'{}' is no name: a-z, 0-9, '-' and '_'",
                manifest.name
            )));
        }
        let presets = manifest.provider.iter().flat_map(|provider| provider.presets.keys());
        if let Some(preset) = presets.into_iter().find(|name| !plain(name, "-_") || **name == manifest.name) {
            return Err(LoadError::Manifest(format!("'{}' is no preset's name", preset.escape_debug())));
        }
        if let Some(entitlement) = manifest.entitlement.as_deref().filter(|name| !is_plain(name)) {
            return Err(LoadError::Manifest(format!("'{}' is no entitlement", entitlement.escape_debug())));
        }
        manifest.capabilities.check(manifest.kind).map_err(LoadError::Manifest)?;
        Ok(manifest)
    }

    /// Whether the contract is one that this host speaks: 0.1.
    pub(crate) fn check_contract(&self) -> Result<(), LoadError> {
        let supported = self
            .wit
            .split_once('@')
            .filter(|(package, _)| *package == self.kind.package())
            .and_then(|(_, version)| semver::Version::parse(version).ok())
            .is_some_and(|version| (version.major, version.minor) == (0, 1) && version.pre.is_empty());
        if supported {
            return Ok(());
        }
        Err(LoadError::Abi {
            plugin: self.label(),
            wants: self.wit.clone(),
            offers: format!("{}@0.1.x", self.kind.package()),
        })
    }
}
