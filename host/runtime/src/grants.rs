//! Grants: what an operator lets a plugin have of what its manifest asks for.
//!
//! A grant is a JSON object of the same form as the manifest's `capabilities`, beside `limits`:
//!
//! ```json
//! {
//!   "kv": { "max_keys": 500 },
//!   "http": { "upstreams": { "checker": { "hosts": ["check.example.com"], "timeout_ms": 800 } } },
//!   "secrets": { "token": "env:CHECKER_TOKEN" },
//!   "crypto": {}, "telemetry": {}, "clock": {}, "random": {},
//!   "limits": { "memory_mib": 128 }
//! }
//! ```
//!
//! The effective grant is the intersection. A member of a grant that the plugin doesn't ask for is an error with its
//! JSON pointer, as is one that nobody knows: a grant that does nothing is a misunderstanding, and the operator should
//! hear of it. What is asked for and not granted is no error: the plugin's calls answer `denied`. Where the manifest
//! leaves hosts open (`*`), the grant must name them.

mod effective;
mod parse;

use std::collections::BTreeMap;

use serde::Serialize;

pub use effective::{
    EffectiveGrants, HttpGrant, KvGrant, SecretGrant, TelemetryGrant, UpstreamGrant, effective,
};

use crate::capabilities::{HostPattern, KvRequest, LimitsRequest, Plain};

/// An operator's grant to one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Grants {
    /// Keys and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvRequest>,
    /// Upstreams.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpGrants>,
    /// What stands behind each name: a reference (`env:NAME`), never a value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, SecretReference>,
    /// Keys may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto: Option<Plain>,
    /// Spans and metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryGrants>,
    /// The time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Plain>,
    /// Random bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<Plain>,
    /// Memory, time and log beyond the role's defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsRequest>,
}

/// The upstreams that an operator lets a plugin ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpGrants {
    /// By the manifest's names.
    pub upstreams: BTreeMap<String, UpstreamGrants>,
    /// Requests of the plugin under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u64>,
    /// Those of one tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight_per_tenant: Option<u64>,
}

/// One upstream; what isn't there is as the manifest asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamGrants {
    /// Where it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hosts: Option<Vec<HostPattern>>,
    /// Methods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub methods: Option<Vec<String>>,
    /// Secrets that may go there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// The largest body sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_request_bytes: Option<u64>,
    /// The largest body taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_response_bytes: Option<u64>,
    /// From the request to the last byte of its answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<u64>,
}

/// Bounds on what a plugin records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryGrants {
    /// Combinations of label values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_series: Option<u64>,
    /// Spans of one instance's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_spans: Option<u64>,
}

/// Where a secret is kept: `scheme:rest`, for instance `env:CHECKER_TOKEN`. Which schemes there are is up to the
/// host that resolves them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretReference {
    text: String,
    colon: usize,
}

/// A text that is no reference. It isn't in the message: it may be the secret itself, put in the wrong place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no reference to a secret: `scheme:name`, for instance `env:CHECKER_TOKEN`; never the secret itself")]
pub struct BadReference;

impl SecretReference {
    /// `env`
    pub fn scheme(&self) -> &str {
        self.text.get(..self.colon).unwrap_or_default()
    }

    /// `CHECKER_TOKEN`
    pub fn name(&self) -> &str {
        self.text.get(self.colon + 1..).unwrap_or_default()
    }
}

impl TryFrom<String> for SecretReference {
    type Error = BadReference;

    fn try_from(text: String) -> Result<Self, BadReference> {
        let colon = text.find(':').ok_or(BadReference)?;
        let (scheme, name) = text.split_at(colon);
        let good = (2..=16).contains(&scheme.len())
            && scheme.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')
            && (2..=256).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_graphic());
        if good { Ok(Self { text, colon }) } else { Err(BadReference) }
    }
}

impl From<SecretReference> for String {
    fn from(reference: SecretReference) -> Self {
        reference.text
    }
}

/// One thing wrong in a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrantProblem {
    /// RFC 6901 pointer to the member at fault.
    pub pointer: String,
    /// What is wrong and what would be right.
    pub message: String,
}

impl std::fmt::Display for GrantProblem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.pointer, self.message)
    }
}

/// The pointer to a member.
pub(crate) fn below(pointer: &str, member: &str) -> String {
    format!("{pointer}/{}", member.replace('~', "~0").replace('/', "~1"))
}

#[cfg(test)]
mod tests;
