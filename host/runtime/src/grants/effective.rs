//! The intersection of what is asked for and what is granted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{GrantProblem, Grants, HttpGrants, SecretReference, UpstreamGrants, below};
use crate::capabilities::{
    Capabilities, HostPattern, HttpRequest, MetricRequest, UpstreamRequest, ceiling, default,
};

/// What an instance really has. `None`, `false` and missing names: denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EffectiveGrants {
    /// Keys and values.
    pub kv: Option<KvGrant>,
    /// Upstreams.
    pub http: Option<HttpGrant>,
    /// By the plugin's names.
    pub secrets: BTreeMap<String, SecretGrant>,
    /// Keys may be used, digests made.
    pub crypto: bool,
    /// Spans and metrics.
    pub telemetry: Option<TelemetryGrant>,
    /// The time.
    pub clock: bool,
    /// Random bytes.
    pub random: bool,
    /// Asked for, and not granted: short interface names (`http`), upstreams (`http.checker`), secrets
    /// (`secrets.token`). For `plugin inspect` and the catalogue.
    pub denied: Vec<String>,
}

/// Quotas of one tenant in one plugin's store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvGrant {
    /// Keys.
    pub max_keys: u64,
    /// Bytes, keys and values.
    pub max_bytes: u64,
    /// Bytes of one value.
    pub max_value_bytes: u64,
}

/// The upstreams, and how many requests may be under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpGrant {
    /// By the plugin's names.
    pub upstreams: BTreeMap<String, UpstreamGrant>,
    /// Of the plugin.
    pub max_in_flight: usize,
    /// Of one tenant.
    pub max_in_flight_per_tenant: usize,
}

/// One upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamGrant {
    /// Where it may be; never empty. Open patterns are there only if the operator wrote them.
    pub hosts: Vec<HostPattern>,
    /// Upper case.
    pub methods: BTreeSet<String>,
    /// Secrets that may be put into its requests.
    pub secrets: BTreeSet<String>,
    /// The largest body sent.
    pub max_request_bytes: usize,
    /// The largest body taken.
    pub max_response_bytes: usize,
    /// From the request to the last byte of its answer.
    pub timeout: Duration,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretGrant {
    /// The operator's reference.
    pub reference: SecretReference,
}

/// What may be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryGrant {
    /// The declared metrics.
    pub metrics: BTreeMap<String, MetricRequest>,
    /// Series of the plugin.
    pub max_series: usize,
    /// Spans of an instance.
    pub max_spans: u32,
}

/// Intersects.
///
/// # Errors
/// Each member of the grant that the manifest doesn't ask for, or that can't be given.
pub fn effective(manifest: &Capabilities, operator: &Grants) -> Result<EffectiveGrants, Vec<GrantProblem>> {
    let mut merge = Merge::default();
    let grants = EffectiveGrants {
        kv: merge.both("kv", manifest.kv, operator.kv).map(|(asked, given)| KvGrant {
            max_keys: least(asked.max_keys, given.max_keys, default::KV_KEYS, ceiling::KV_KEYS),
            max_bytes: least(asked.max_bytes, given.max_bytes, default::KV_BYTES, ceiling::KV_BYTES),
            max_value_bytes: least(
                asked.max_value_bytes,
                given.max_value_bytes,
                default::KV_VALUE,
                ceiling::KV_VALUE,
            ),
        }),
        http: merge
            .both("http", manifest.http.as_ref(), operator.http.as_ref())
            .map(|(asked, given)| merge.http(asked, given)),
        secrets: merge.secrets(&manifest.secrets, &operator.secrets),
        crypto: merge.both("crypto", manifest.crypto, operator.crypto).is_some(),
        telemetry: merge.both("telemetry", manifest.telemetry.as_ref(), operator.telemetry).map(
            |(asked, given)| TelemetryGrant {
                metrics: asked.metrics.clone(),
                max_series: size(least(asked.max_series, given.max_series, default::SERIES, ceiling::SERIES)),
                max_spans: u32::try_from(least(
                    asked.max_spans,
                    given.max_spans,
                    default::SPANS,
                    ceiling::SPANS,
                ))
                .unwrap_or(u32::MAX),
            },
        ),
        clock: merge.both("clock", manifest.clock, operator.clock).is_some(),
        random: merge.both("random", manifest.random, operator.random).is_some(),
        denied: Vec::new(),
    };
    if merge.problems.is_empty() {
        Ok(EffectiveGrants { denied: merge.denied, ..grants })
    } else {
        Err(merge.problems)
    }
}

impl EffectiveGrants {
    /// All that a manifest asks for, as if the operator had granted it without a number. For tests, and for built-in
    /// components, whose manifests are the operator's own.
    ///
    /// # Errors
    /// The manifest leaves hosts or secrets to the operator.
    pub fn all(manifest: &Capabilities) -> Result<Self, Vec<GrantProblem>> {
        let operator = Grants {
            kv: manifest.kv.map(|_| Default::default()),
            http: manifest.http.as_ref().map(|http| HttpGrants {
                upstreams: http.upstreams.keys().map(|name| (name.clone(), Default::default())).collect(),
                ..HttpGrants::default()
            }),
            crypto: manifest.crypto,
            telemetry: manifest.telemetry.as_ref().map(|_| Default::default()),
            clock: manifest.clock,
            random: manifest.random,
            ..Grants::default()
        };
        effective(manifest, &operator)
    }
}

#[derive(Default)]
struct Merge {
    problems: Vec<GrantProblem>,
    denied: Vec<String>,
}

impl Merge {
    fn problem(&mut self, pointer: String, message: impl Into<String>) {
        self.problems.push(GrantProblem { pointer, message: message.into() });
    }

    /// Both sides of one capability, if both are there.
    fn both<A, G>(&mut self, name: &str, asked: Option<A>, given: Option<G>) -> Option<(A, G)> {
        match (asked, given) {
            (Some(asked), Some(given)) => return Some((asked, given)),
            (Some(_), None) => self.denied.push(name.to_owned()),
            (None, Some(_)) => self.problem(below("", name), "the plugin doesn't ask for it"),
            (None, None) => {}
        }
        None
    }

    fn secrets(
        &mut self,
        asked: &[String],
        given: &BTreeMap<String, SecretReference>,
    ) -> BTreeMap<String, SecretGrant> {
        for name in given.keys().filter(|name| !asked.contains(name)) {
            self.problem(below("/secrets", name), "the plugin doesn't ask for it");
        }
        let mut secrets = BTreeMap::new();
        for name in asked {
            match given.get(name) {
                Some(reference) => {
                    secrets.insert(name.clone(), SecretGrant { reference: reference.clone() });
                }
                None => self.denied.push(format!("secrets.{name}")),
            }
        }
        secrets
    }

    fn http(&mut self, asked: &HttpRequest, given: &HttpGrants) -> HttpGrant {
        for name in given.upstreams.keys().filter(|name| !asked.upstreams.contains_key(*name)) {
            let known: Vec<&str> = asked.upstreams.keys().map(String::as_str).collect();
            self.problem(
                below("/http/upstreams", name),
                format!("the plugin asks for no such upstream; it asks for {}", known.join(", ")),
            );
        }
        let mut upstreams = BTreeMap::new();
        for (name, upstream) in &asked.upstreams {
            match given.upstreams.get(name) {
                Some(grant) => {
                    let merged = self.upstream(&below("/http/upstreams", name), upstream, grant);
                    upstreams.insert(name.clone(), merged);
                }
                None => self.denied.push(format!("http.{name}")),
            }
        }
        HttpGrant {
            upstreams,
            max_in_flight: size(least(
                asked.max_in_flight,
                given.max_in_flight,
                default::HTTP_IN_FLIGHT,
                ceiling::HTTP_IN_FLIGHT,
            )),
            max_in_flight_per_tenant: size(least(
                asked.max_in_flight_per_tenant,
                given.max_in_flight_per_tenant,
                default::HTTP_TENANT,
                ceiling::HTTP_TENANT,
            )),
        }
    }

    fn upstream(&mut self, at: &str, asked: &UpstreamRequest, given: &UpstreamGrants) -> UpstreamGrant {
        let hosts = match &given.hosts {
            None => {
                if let Some(open) = asked.hosts.iter().find(|host| host.is_open()) {
                    self.problem(
                        below(at, "hosts"),
                        format!("the plugin leaves the hosts to you ({open}): name those that it may ask"),
                    );
                }
                asked.hosts.clone()
            }
            Some(hosts) => {
                if hosts.is_empty() {
                    self.problem(below(at, "hosts"), "no host is named; leave the upstream out to deny it");
                }
                for host in hosts.iter().filter(|host| !asked.hosts.iter().any(|asked| asked.covers(host))) {
                    self.problem(below(at, "hosts"), format!("the plugin doesn't ask for '{host}'"));
                }
                hosts.clone()
            }
        };
        let asked_methods: BTreeSet<String> = if asked.methods.is_empty() {
            default::METHODS.map(str::to_owned).into()
        } else {
            asked.methods.iter().cloned().collect()
        };
        let methods = self.subset(&below(at, "methods"), asked_methods, given.methods.as_deref());
        let asked_secrets = asked.secrets.iter().cloned().collect();
        let secrets = self.subset(&below(at, "secrets"), asked_secrets, given.secrets.as_deref());
        UpstreamGrant {
            hosts,
            methods,
            secrets,
            max_request_bytes: size(least(
                asked.max_request_bytes,
                given.max_request_bytes,
                default::HTTP_REQUEST,
                ceiling::HTTP_BODY,
            )),
            max_response_bytes: size(least(
                asked.max_response_bytes,
                given.max_response_bytes,
                default::HTTP_RESPONSE,
                ceiling::HTTP_BODY,
            )),
            timeout: Duration::from_millis(least(
                asked.timeout_ms,
                given.timeout_ms,
                default::HTTP_TIMEOUT_MS,
                ceiling::HTTP_TIMEOUT_MS,
            )),
        }
    }

    fn subset(&mut self, at: &str, asked: BTreeSet<String>, given: Option<&[String]>) -> BTreeSet<String> {
        let Some(given) = given else { return asked };
        for extra in given.iter().filter(|name| !asked.contains(*name)) {
            self.problem(at.to_owned(), format!("the plugin doesn't ask for '{}'", extra.escape_debug()));
        }
        given.iter().cloned().collect()
    }
}

/// The smaller of what is asked for and what is given.
fn least(asked: Option<u64>, given: Option<u64>, default: u64, ceiling: u64) -> u64 {
    let asked = asked.unwrap_or(default).min(ceiling);
    given.map_or(asked, |given| given.min(asked))
}

fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
