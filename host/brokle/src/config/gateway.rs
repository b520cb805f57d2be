//! Calls to providers.

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use brokle_gateway::gate::Gate;
use brokle_gateway::resilience::{self, Resilience, Retries};
use brokle_gateway::routing::scores;
use brokle_gateway::{RealtimeLimits, Timeouts};
use brokle_storage::observations::MAX_NAME as MAX_SCORE_NAME;
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
    /// Calls at once; the next one is answered 503 with `Retry-After` before its body is read. 0: as many as come.
    pub(crate) max_in_flight: usize,
    /// Sessions of `/v1/realtime`.
    pub(crate) realtime: Realtime,
    /// Calls of a route with `shadow` that are made once more at once; further ones are left out. 0: none are made.
    pub(crate) max_shadows: usize,
    /// How often candidates that have failed are asked again, 0 to 5 times.
    pub(crate) retries: u32,
    /// The longest wait before that, in milliseconds; a vendor's `Retry-After` beyond it isn't waited for.
    pub(crate) retry_wait_ms: u64,
    /// When a candidate that fails is left alone.
    pub(crate) breaker: Breaker,
    /// Scores that routing policies are told.
    pub(crate) scores: Scores,
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
            max_in_flight: Resilience::default().max_in_flight,
            realtime: Realtime::default(),
            max_shadows: Resilience::default().max_shadows,
            retries: Retries::default().rounds,
            retry_wait_ms: milliseconds(Retries::default().longest_wait),
            breaker: Breaker::default(),
            scores: Scores::default(),
            connections: Vec::new(),
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Sessions of `/v1/realtime`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Realtime {
    /// How long one may last, in milliseconds.
    pub(crate) total_ms: u64,
    /// How long no message may pass, in milliseconds.
    pub(crate) idle_ms: u64,
    /// Bytes of a message, either way.
    pub(crate) max_message_bytes: usize,
}

impl Default for Realtime {
    fn default() -> Self {
        let limits = RealtimeLimits::default();
        Self {
            total_ms: milliseconds(limits.total),
            idle_ms: milliseconds(limits.idle),
            max_message_bytes: limits.max_message_bytes,
        }
    }
}

impl Realtime {
    /// What a session may take.
    pub(crate) fn limits(&self) -> RealtimeLimits {
        RealtimeLimits {
            total: Duration::from_millis(self.total_ms),
            idle: Duration::from_millis(self.idle_ms),
            max_message_bytes: self.max_message_bytes,
        }
    }
}

/// The circuit of each model at each connection.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Breaker {
    /// Whether there are circuits at all.
    pub(crate) enabled: bool,
    /// The calls that a share is taken of, in milliseconds.
    pub(crate) window_ms: u64,
    /// How many of them there must be.
    pub(crate) min_calls: u32,
    /// How many of them must have failed, in percent.
    pub(crate) percent: u32,
    /// Failures in a row that suffice.
    pub(crate) in_a_row: u32,
    /// How long a circuit is open the first time, in milliseconds; doubled each time.
    pub(crate) open_ms: u64,
    /// The longest that it is open, in milliseconds.
    pub(crate) max_open_ms: u64,
    /// Calls that may try at once whether it works again.
    pub(crate) probes: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        let settings = resilience::Breaker::default();
        Self {
            enabled: settings.enabled,
            window_ms: milliseconds(settings.window),
            min_calls: settings.min_calls,
            percent: settings.percent,
            in_a_row: settings.in_a_row,
            open_ms: milliseconds(settings.open),
            max_open_ms: milliseconds(settings.longest),
            probes: settings.probes,
        }
    }
}

impl Breaker {
    fn check(&self) -> Result<(), String> {
        for (key, value) in [
            ("window_ms", self.window_ms),
            ("min_calls", self.min_calls.into()),
            ("in_a_row", self.in_a_row.into()),
            ("open_ms", self.open_ms),
            ("probes", self.probes.into()),
        ] {
            if value == 0 {
                return Err(format!("gateway.breaker.{key}: at least 1 is expected"));
            }
        }
        if !(1..=100).contains(&self.percent) {
            return Err("gateway.breaker.percent: 1 to 100 is expected".to_owned());
        }
        if self.max_open_ms < self.open_ms {
            return Err("gateway.breaker.max_open_ms: open_ms or more is expected".to_owned());
        }
        Ok(())
    }
}

/// Scores that routing policies are told of each candidate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Scores {
    /// Their names, 8 at most; none: policies are told of no score.
    pub(crate) names: Vec<String>,
    /// Averages are over the calls of so many hours.
    pub(crate) window_hours: u64,
    /// How often they are read, in seconds.
    pub(crate) refresh_seconds: u64,
}

impl Default for Scores {
    fn default() -> Self {
        let settings = scores::Settings::default();
        Self {
            names: settings.names,
            window_hours: settings.window.as_secs() / HOUR,
            refresh_seconds: settings.refresh.as_secs(),
        }
    }
}

/// Seconds.
const HOUR: u64 = 3_600;

impl Scores {
    /// As the gateway takes them; none if policies are told of no score.
    pub(crate) fn settings(&self) -> Option<scores::Settings> {
        (!self.names.is_empty()).then(|| scores::Settings {
            names: self.names.clone(),
            window: Duration::from_secs(self.window_hours * HOUR),
            refresh: Duration::from_secs(self.refresh_seconds),
        })
    }

    fn check(&self) -> Result<(), String> {
        let most = scores::MAX_NAMES;
        let is_name = |name: &String| !name.is_empty() && name.len() <= MAX_SCORE_NAME;
        if self.names.len() > most || !self.names.iter().all(is_name) {
            return Err(format!(
                "gateway.scores.names: {most} names of up to {MAX_SCORE_NAME} bytes are the most"
            ));
        }
        if !(1..=24 * 366).contains(&self.window_hours) {
            return Err("gateway.scores.window_hours: 1 to 8784 is expected".to_owned());
        }
        if !(1..=86_400).contains(&self.refresh_seconds) {
            return Err("gateway.scores.refresh_seconds: 1 to 86400 is expected".to_owned());
        }
        Ok(())
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
    /// Environment variables that each hold a key: calls take turns with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) api_keys_env: Vec<String>,
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
    /// Whether keys with the scope `providers:relay` may call the provider's own API through it, as they like.
    #[serde(default)]
    pub(crate) raw: bool,
    /// How often it is asked whether it is there, in seconds: the vendor's list of models. None: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) health_check_seconds: Option<u64>,
    /// Calls at once; the next one goes to another candidate, or waits. None: as many as come.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_in_flight: Option<usize>,
    /// How many wait for a place at most.
    #[serde(default = "queue")]
    pub(crate) max_queued: usize,
    /// How long each of them waits at most, in milliseconds.
    #[serde(default = "second")]
    pub(crate) queue_ms: u64,
}

fn queue() -> usize {
    64
}

fn second() -> u64 {
    1_000
}

fn one() -> u32 {
    1
}

impl Default for Connection {
    fn default() -> Self {
        Self {
            name: String::new(),
            provider: String::new(),
            base_url: None,
            api_key_env: None,
            api_keys_env: Vec::new(),
            api_key_file: None,
            priority: 0,
            weight: one(),
            options: BTreeMap::new(),
            headers: BTreeMap::new(),
            models: Vec::new(),
            raw: false,
            health_check_seconds: None,
            max_in_flight: None,
            max_queued: queue(),
            queue_ms: second(),
        }
    }
}

impl Connection {
    /// How many calls it takes at once.
    pub(crate) fn gate(&self) -> Option<Arc<Gate>> {
        let wait = Duration::from_millis(self.queue_ms);
        self.max_in_flight.map(|most| Arc::new(Gate::new(most, self.max_queued, wait)))
    }
}

impl Gateway {
    /// What is done about failures and overload.
    pub(crate) fn resilience(&self) -> Resilience {
        let breaker = &self.breaker;
        Resilience {
            breaker: resilience::Breaker {
                enabled: breaker.enabled,
                window: Duration::from_millis(breaker.window_ms),
                min_calls: breaker.min_calls,
                percent: breaker.percent,
                in_a_row: breaker.in_a_row,
                open: Duration::from_millis(breaker.open_ms),
                longest: Duration::from_millis(breaker.max_open_ms),
                probes: breaker.probes,
            },
            retries: Retries {
                rounds: self.retries,
                longest_wait: Duration::from_millis(self.retry_wait_ms),
            },
            max_in_flight: self.max_in_flight,
            max_shadows: self.max_shadows,
        }
    }

    /// How long a provider may take.
    pub(crate) fn timeouts(&self) -> Timeouts {
        Timeouts {
            first_byte: Duration::from_millis(self.first_byte_ms),
            first_token: None,
            idle: Duration::from_millis(self.idle_ms),
            total: Duration::from_millis(self.total_ms),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        for (key, value) in [
            ("connect_ms", self.connect_ms),
            ("first_byte_ms", self.first_byte_ms),
            ("idle_ms", self.idle_ms),
            ("total_ms", self.total_ms),
            ("realtime.total_ms", self.realtime.total_ms),
            ("realtime.idle_ms", self.realtime.idle_ms),
            ("realtime.max_message_bytes", self.realtime.max_message_bytes as u64),
        ] {
            if value == 0 {
                return Err(format!("gateway.{key}: 0 would fail every call"));
            }
        }
        if self.retries > 5 {
            return Err("gateway.retries: 0 to 5 is expected".to_owned());
        }
        self.breaker.check()?;
        self.scores.check()?;
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
            if !connection.api_keys_env.is_empty()
                && (connection.api_key_env.is_some() || connection.api_key_file.is_some())
            {
                return refuse("api_keys_env", "the key comes from elsewhere already");
            }
            if let Some(url) = &connection.base_url
                && !(url.starts_with("http://") || url.starts_with("https://"))
            {
                return refuse("base_url", "http:// or https:// is expected");
            }
            if connection.max_in_flight == Some(0) {
                return refuse("max_in_flight", "0 would refuse every call; leave it out to let all through");
            }
            if connection.health_check_seconds.is_some_and(|every| !(1..=86_400).contains(&every)) {
                return refuse(
                    "health_check_seconds",
                    "1 to 86400 is expected; leave it out to check nothing",
                );
            }
            if connection.weight == 0 {
                return refuse("weight", "at least 1 is expected");
            }
        }
        Ok(())
    }
}
