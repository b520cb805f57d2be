//! Capabilities: what a component may reach in the host beside its arguments.
//!
//! # Two keys
//! A manifest asks ([`Capabilities`]), an operator grants ([`Grants`](crate::grants::Grants)), and the instance gets
//! what both name ([`effective`](crate::grants::effective)). What was asked for and not granted is linked and answers
//! `denied`; what wasn't asked for isn't linked at all, and a component that imports it is refused when it is loaded.
//!
//! # Numbers
//! A number in the manifest is what the plugin asks for; without one the default below stands. A grant without numbers
//! gives what is asked for; a grant's number can only lower it. No manifest can ask for more than the ceiling.
//!
//! | member | default | ceiling |
//! |---|---|---|
//! | `kv.max_keys` | 1,000 a tenant | 1,000,000 |
//! | `kv.max_bytes` | 1 MiB a tenant, keys and values | 1 GiB |
//! | `kv.max_value_bytes` | 64 KiB | 1 MiB |
//! | `http.max_in_flight` | 32 requests a plugin | 1,024 |
//! | `http.max_in_flight_per_tenant` | 8 | 256 |
//! | `http.upstreams.*.max_request_bytes` | 64 KiB | 8 MiB |
//! | `http.upstreams.*.max_response_bytes` | 256 KiB | 8 MiB |
//! | `http.upstreams.*.timeout_ms` | 2,000 | 30,000 |
//! | `telemetry.max_series` | 200 a plugin | 2,000 |
//! | `telemetry.max_spans` | 32 an instance | 256 |

pub mod clock;
mod crypto;
pub mod host_pattern;
pub mod http;
pub mod kv;
mod prepare;
mod random;
mod redact;
pub mod secrets;
pub mod telemetry;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use host_pattern::HostPattern;
pub use prepare::{CallCapabilities, DenialSink, Denials, NoDenials, PluginCapabilities, Services};
pub(crate) use prepare::{Instance, link};

use crate::manifest::Kind;

/// The manifest's `capabilities` section: what the plugin asks for. Members that aren't there aren't asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Capabilities {
    /// `brokle:host/kv`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv: Option<KvRequest>,
    /// `brokle:host/http`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpRequest>,
    /// `brokle:host/secrets`: the names by which the plugin opens them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// `brokle:host/crypto`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub crypto: Option<Plain>,
    /// `brokle:host/telemetry`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telemetry: Option<TelemetryRequest>,
    /// `brokle:host/clock`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clock: Option<Plain>,
    /// `brokle:host/random`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random: Option<Plain>,
}

/// A capability without numbers: `{}`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plain {}

/// How much a plugin wants to keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct KvRequest {
    /// Keys of one tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_keys: Option<u64>,
    /// Bytes of one tenant, keys and values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// Bytes of one value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_value_bytes: Option<u64>,
}

/// Whom a plugin wants to ask.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpRequest {
    /// By the name that the plugin calls them by.
    pub upstreams: BTreeMap<String, UpstreamRequest>,
    /// Requests of the plugin under way at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight: Option<u64>,
    /// Those of one tenant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_in_flight_per_tenant: Option<u64>,
}

/// One upstream of a plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct UpstreamRequest {
    /// Where it may be. A pattern with `*` leaves the choice to the operator, whose grant must then name hosts.
    pub hosts: Vec<HostPattern>,
    /// Methods; `GET` and `POST` when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<String>,
    /// Secrets (of `capabilities.secrets`) that may be put into its requests.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
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

/// What a plugin wants to record.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryRequest {
    /// Its metrics by name. One that isn't declared can't be recorded.
    pub metrics: BTreeMap<String, MetricRequest>,
    /// Combinations of label values, all metrics together. What is over goes to the series `_other`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_series: Option<u64>,
    /// Spans of one instance's life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_spans: Option<u64>,
}

/// One metric.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MetricRequest {
    /// What it counts like.
    pub kind: MetricKind,
    /// The labels it has, all of them on each record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<String>,
}

/// How a metric adds up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// A distribution.
    Histogram,
}

/// The manifest's `limits` section: what an instance wants of memory, time and log. A number above the role's default
/// takes effect as far as the operator's `limits` grant goes; one below takes effect at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsRequest {
    /// Linear memory, MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mib: Option<u64>,
    /// Time on a thread for each call, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<u64>,
    /// Time from a call's start to its end, milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// Log lines of an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_lines: Option<u64>,
    /// Bytes of log of an instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_bytes: Option<u64>,
}

/// Upper bounds, whoever asks and whoever grants.
pub(crate) mod ceiling {
    pub(crate) const KV_KEYS: u64 = 1_000_000;
    pub(crate) const KV_BYTES: u64 = 1 << 30;
    pub(crate) const KV_VALUE: u64 = 1 << 20;
    pub(crate) const HTTP_IN_FLIGHT: u64 = 1_024;
    pub(crate) const HTTP_TENANT: u64 = 256;
    pub(crate) const HTTP_BODY: u64 = 8 << 20;
    pub(crate) const HTTP_TIMEOUT_MS: u64 = 30_000;
    pub(crate) const SERIES: u64 = 2_000;
    pub(crate) const SPANS: u64 = 256;
    pub(crate) const UPSTREAMS: usize = 16;
    pub(crate) const SECRETS: usize = 32;
    pub(crate) const METRICS: usize = 64;
    pub(crate) const LABELS: usize = 8;
}

/// What stands when the manifest gives no number.
pub(crate) mod default {
    pub(crate) const KV_KEYS: u64 = 1_000;
    pub(crate) const KV_BYTES: u64 = 1 << 20;
    pub(crate) const KV_VALUE: u64 = 64 << 10;
    pub(crate) const HTTP_IN_FLIGHT: u64 = 32;
    pub(crate) const HTTP_TENANT: u64 = 8;
    pub(crate) const HTTP_REQUEST: u64 = 64 << 10;
    pub(crate) const HTTP_RESPONSE: u64 = 256 << 10;
    pub(crate) const HTTP_TIMEOUT_MS: u64 = 2_000;
    pub(crate) const SERIES: u64 = 200;
    pub(crate) const SPANS: u64 = 32;
    pub(crate) const METHODS: [&str; 2] = ["GET", "POST"];
}

/// Methods that an upstream may be asked with.
pub(crate) const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

/// The interfaces beyond `log` and `config` that a component of this role may import, if its manifest asks for them.
pub fn allowed(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Provider | Kind::Dialect => &[],
        Kind::RoutingPolicy => &["clock", "kv", "random"],
        Kind::Guardrail | Kind::Exporter => {
            &["clock", "crypto", "http", "kv", "random", "secrets", "telemetry"]
        }
    }
}

impl Capabilities {
    /// The short names of the interfaces asked for, in alphabetical order: `["http", "kv"]`.
    pub fn interfaces(&self) -> Vec<&'static str> {
        let asked = [
            ("clock", self.clock.is_some()),
            ("crypto", self.crypto.is_some()),
            ("http", self.http.is_some()),
            ("kv", self.kv.is_some()),
            ("random", self.random.is_some()),
            ("secrets", !self.secrets.is_empty()),
            ("telemetry", self.telemetry.is_some()),
        ];
        asked.into_iter().filter_map(|(name, asked)| asked.then_some(name)).collect()
    }

    /// The interfaces that a component which asks for this may import: those asked for, and `secrets` beside `crypto`,
    /// whose keys are handles of it.
    pub(crate) fn imports(&self) -> Vec<&'static str> {
        let mut imports = self.interfaces();
        if self.crypto.is_some() && self.secrets.is_empty() {
            imports.push("secrets");
        }
        imports
    }

    /// Checks what the types can't say: names, ceilings, and what the role may have.
    ///
    /// # Errors
    /// The first thing that is wrong, with its place.
    pub(crate) fn check(&self, kind: Kind) -> Result<(), String> {
        let allowed = allowed(kind);
        if let Some(name) = self.interfaces().into_iter().find(|name| !allowed.contains(name)) {
            let offered = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
            return Err(format!("capabilities/{name}: not for a {}; on offer: {offered}", kind.world()));
        }
        within("capabilities/secrets", self.secrets.len(), ceiling::SECRETS)?;
        for secret in &self.secrets {
            plain("capabilities/secrets", secret)?;
        }
        if let Some(kv) = &self.kv {
            at_most("capabilities/kv/max_keys", kv.max_keys, ceiling::KV_KEYS)?;
            at_most("capabilities/kv/max_bytes", kv.max_bytes, ceiling::KV_BYTES)?;
            at_most("capabilities/kv/max_value_bytes", kv.max_value_bytes, ceiling::KV_VALUE)?;
        }
        if let Some(http) = &self.http {
            self.check_http(http)?;
        }
        match &self.telemetry {
            Some(telemetry) => check_telemetry(telemetry),
            None => Ok(()),
        }
    }

    fn check_http(&self, http: &HttpRequest) -> Result<(), String> {
        within("capabilities/http/upstreams", http.upstreams.len(), ceiling::UPSTREAMS)?;
        at_most("capabilities/http/max_in_flight", http.max_in_flight, ceiling::HTTP_IN_FLIGHT)?;
        at_most(
            "capabilities/http/max_in_flight_per_tenant",
            http.max_in_flight_per_tenant,
            ceiling::HTTP_TENANT,
        )?;
        for (name, upstream) in &http.upstreams {
            plain("capabilities/http/upstreams", name)?;
            let at = |member: &str| format!("capabilities/http/upstreams/{name}/{member}");
            if upstream.hosts.is_empty() {
                return Err(format!("{}: at least one; `*` leaves them to the operator", at("hosts")));
            }
            if let Some(method) = upstream.methods.iter().find(|method| !METHODS.contains(&method.as_str())) {
                return Err(format!("{}: '{}' is none of {}", at("methods"), method, METHODS.join(", ")));
            }
            if let Some(secret) = upstream.secrets.iter().find(|secret| !self.secrets.contains(secret)) {
                return Err(format!("{}: '{secret}' isn't in capabilities/secrets", at("secrets")));
            }
            at_most(&at("max_request_bytes"), upstream.max_request_bytes, ceiling::HTTP_BODY)?;
            at_most(&at("max_response_bytes"), upstream.max_response_bytes, ceiling::HTTP_BODY)?;
            at_most(&at("timeout_ms"), upstream.timeout_ms, ceiling::HTTP_TIMEOUT_MS)?;
        }
        Ok(())
    }
}

fn check_telemetry(telemetry: &TelemetryRequest) -> Result<(), String> {
    within("capabilities/telemetry/metrics", telemetry.metrics.len(), ceiling::METRICS)?;
    at_most("capabilities/telemetry/max_series", telemetry.max_series, ceiling::SERIES)?;
    at_most("capabilities/telemetry/max_spans", telemetry.max_spans, ceiling::SPANS)?;
    for (name, metric) in &telemetry.metrics {
        plain("capabilities/telemetry/metrics", name)?;
        let at = format!("capabilities/telemetry/metrics/{name}/labels");
        within(&at, metric.labels.len(), ceiling::LABELS)?;
        for (index, label) in metric.labels.iter().enumerate() {
            plain(&at, label)?;
            if metric.labels.iter().take(index).any(|earlier| earlier == label) {
                return Err(format!("{at}: '{label}' is there twice"));
            }
        }
    }
    Ok(())
}

/// A guest's text with its plugin's secrets, and what looks like a credential, masked.
pub(crate) fn masked(text: &str, plugin: Option<&PluginCapabilities>) -> String {
    plugin.map_or_else(|| redact::text(text, &[]), |plugin| plugin.redact(text))
}

/// Names that plugins give to things: lower case, so that they fit metrics, logs and JSON pointers as they are.
pub(crate) fn is_plain(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
}

fn plain(at: &str, name: &str) -> Result<(), String> {
    if is_plain(name) {
        return Ok(());
    }
    Err(format!("{at}: '{}' is no name: 1 to 64 of a-z, 0-9, '.', '-' and '_'", name.escape_debug()))
}

fn within(at: &str, count: usize, most: usize) -> Result<(), String> {
    if count <= most { Ok(()) } else { Err(format!("{at}: {count} entries; {most} are the most")) }
}

fn at_most(at: &str, asked: Option<u64>, most: u64) -> Result<(), String> {
    match asked {
        Some(0) => Err(format!("{at}: 0 is nothing; leave the capability out")),
        Some(asked) if asked > most => Err(format!("{at}: {asked}; {most} is the most")),
        _ => Ok(()),
    }
}
