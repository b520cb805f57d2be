//! Calls to providers.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Calls to providers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Gateway {
    /// Time to connect to a provider, in milliseconds.
    pub(crate) connect_ms: u64,
    /// Time to an answer's first byte, in milliseconds.
    pub(crate) first_byte_ms: u64,
    /// Time between two pieces of an answer, in milliseconds.
    pub(crate) idle_ms: u64,
    /// Time for a whole call, its retries included, in milliseconds.
    pub(crate) total_ms: u64,
    /// Lets calls go to private and loopback addresses. Without it only those go there whose base URL in this
    /// configuration is a literal address or `localhost`. Also `BROKLE_ALLOW_PRIVATE_UPSTREAMS`.
    pub(crate) allow_private_upstreams: bool,
    /// The routing policy for what no route is for: its short name or id.
    pub(crate) policy: String,
    /// Accesses to providers, besides those that variables such as `OPENAI_API_KEY` make.
    pub(crate) connections: Vec<Connection>,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            connect_ms: 5_000,
            first_byte_ms: 60_000,
            idle_ms: 60_000,
            total_ms: 600_000,
            allow_private_upstreams: false,
            policy: brokle_gateway::routing::routes::DEFAULT_POLICY.to_owned(),
            connections: Vec::new(),
        }
    }
}

/// One access to a provider.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connection {
    /// What people call it; unique.
    pub(crate) name: String,
    /// The provider's name, such as `openai`, or a preset's, such as `groq`.
    pub(crate) provider: String,
    /// Where the provider is, if not where it usually is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) base_url: Option<String>,
    /// The environment variable that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key_env: Option<String>,
    /// The file that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) api_key_file: Option<PathBuf>,
    /// Lower ones are tried first.
    #[serde(default)]
    pub(crate) priority: u32,
    /// The share of calls among connections of the same priority, for policies that look at it.
    #[serde(default = "one")]
    pub(crate) weight: u32,
    /// What the provider's component wants to know, as its manifest says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) options: BTreeMap<String, serde_json::Value>,
    /// Headers that every call gets; no secrets.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) headers: BTreeMap<String, String>,
    /// The models that it serves; none named means all that the catalogue lists for its provider.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<String>,
}

fn one() -> u32 {
    1
}

impl Gateway {
    pub(super) fn check(&self) -> Result<(), String> {
        for (key, value) in [
            ("connect_ms", self.connect_ms),
            ("first_byte_ms", self.first_byte_ms),
            ("idle_ms", self.idle_ms),
            ("total_ms", self.total_ms),
        ] {
            if value == 0 {
                return Err(format!("gateway.{key}: 0 would fail every call"));
            }
        }
        let mut names = HashSet::new();
        for (index, connection) in self.connections.iter().enumerate() {
            let refuse = |key, reason: &str| Err(format!("gateway.connections[{index}].{key}: {reason}"));
            if connection.name.is_empty() || !names.insert(&connection.name) {
                return refuse("name", "a name that no other connection has is expected");
            }
            if connection.provider.is_empty() {
                return refuse("provider", "a provider's id is expected");
            }
            if connection.api_key_env.is_some() && connection.api_key_file.is_some() {
                return refuse("api_key_file", "the key comes from api_key_env already");
            }
            if let Some(url) = &connection.base_url
                && !(url.starts_with("http://") || url.starts_with("https://"))
            {
                return refuse("base_url", "http:// or https:// is expected");
            }
            if connection.weight == 0 {
                return refuse("weight", "at least 1 is expected");
            }
        }
        Ok(())
    }
}
