//! A host without a world outside: a stand-in for each capability, for tests of one plugin alone.
//!
//! Nothing here dials, waits for the clock, or differs from one run to the next.
//!
//! | capability | stand-in |
//! |---|---|
//! | `kv` | [`MemoryKv`], the real rules and quotas, in memory |
//! | `http` | [`ScriptedHttp`]: the calls that are expected, in order, and what answers them |
//! | `secrets` | [`FixedSecrets`]: `test:NAME` references |
//! | `telemetry` | [`RecordedSpans`]; metrics are in [`PluginCapabilities::metrics`] |
//! | `clock` | [`ManualClock`] and [`ManualMonotonic`], which stand still until they are moved |
//! | `random`, `crypto` | [`SeededRandom`] |
//!
//! ```
//! use brokle_testkit::mocks::{MockHost, answer};
//!
//! let host = MockHost::default();
//! host.secrets.put("token", "s3cret-value");
//! host.http.expect("POST", "https://check.example.com/v1/check", answer(200, r#"{"ok":true}"#));
//! // … grant, prepare, call the plugin …
//! # let _ = host.http.unmet();
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;

use brokle_core::clock::ManualClock;
use brokle_core::random::SeededRandom;
use brokle_core::tenancy::Tenant;
use brokle_runtime::Manifest;
use brokle_runtime::capabilities::clock::ManualMonotonic;
use brokle_runtime::capabilities::http::{HttpTransport, Outbound, TransportError};
use brokle_runtime::capabilities::kv::MemoryKv;
use brokle_runtime::capabilities::secrets::{SecretError, SecretSource, SecretValue};
use brokle_runtime::capabilities::telemetry::{PluginSpan, SpanSink};
use brokle_runtime::capabilities::{NoDenials, PluginCapabilities, Services};
use brokle_runtime::grants::{GrantProblem, Grants, SecretReference};
use bytes::Bytes;
use http::Response;
use parking_lot::Mutex;

/// One of each.
#[derive(Debug, Clone)]
pub struct MockHost {
    /// Keys and values.
    pub kv: Arc<MemoryKv>,
    /// Requests.
    pub http: Arc<ScriptedHttp>,
    /// Secrets.
    pub secrets: Arc<FixedSecrets>,
    /// Spans that ended.
    pub spans: Arc<RecordedSpans>,
    /// 2026-01-01T00:00:00Z at first.
    pub clock: Arc<ManualClock>,
    /// 0 at first.
    pub monotonic: Arc<ManualMonotonic>,
    /// Seed 1.
    pub random: Arc<SeededRandom>,
}

impl Default for MockHost {
    fn default() -> Self {
        let start = chrono::DateTime::from_timestamp(1_767_225_600, 0).unwrap_or_default();
        Self {
            kv: Arc::default(),
            http: Arc::default(),
            secrets: Arc::default(),
            spans: Arc::default(),
            clock: Arc::new(ManualClock::new(start)),
            monotonic: Arc::default(),
            random: Arc::new(SeededRandom::new(1)),
        }
    }
}

impl MockHost {
    /// What a plugin is configured with.
    pub fn services(&self) -> Services {
        Services {
            kv: self.kv.clone(),
            http: self.http.clone(),
            secrets: self.secrets.clone(),
            spans: self.spans.clone(),
            denials: Arc::new(NoDenials),
            clock: self.clock.clone(),
            monotonic: self.monotonic.clone(),
            random: self.random.clone(),
        }
    }

    /// Grants a plugin what `grants` says.
    ///
    /// # Errors
    /// As an operator would see them.
    pub fn grant(
        &self,
        manifest: &Manifest,
        grants: &serde_json::Value,
    ) -> Result<Arc<PluginCapabilities>, Vec<GrantProblem>> {
        PluginCapabilities::configure(manifest, &Grants::from_value(grants)?, &self.services())
    }

    /// A tenant; the same for the same number.
    pub fn tenant(number: u8) -> Tenant {
        use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
        let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
        let random = SeededRandom::new(u64::from(number));
        Tenant {
            organization: OrganizationId::generate(&clock, &random),
            project: ProjectId::generate(&clock, &random),
            environment: EnvironmentId::generate(&clock, &random),
        }
    }
}

/// A response without headers.
pub fn answer(status: u16, body: &str) -> Reply {
    let mut response = Response::new(Bytes::copy_from_slice(body.as_bytes()));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap_or_default();
    Reply::Response(response)
}

/// What comes of an expected call.
#[derive(Debug)]
pub enum Reply {
    /// A response.
    Response(Response<Bytes>),
    /// None.
    Failure(TransportError),
    /// Nothing, for ever: until the caller gives up.
    Hang,
}

/// A call that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// `POST`
    pub method: String,
    /// Scheme, host, path and query.
    pub url: String,
    /// Names and values, secrets too: what the upstream sees.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Whether the operator named this very host.
    pub named: bool,
}

/// Calls that are expected, in order. One that isn't fails, and is remembered.
#[derive(Debug, Default)]
pub struct ScriptedHttp {
    script: Mutex<VecDeque<(String, String, Reply)>>,
    sent: Mutex<Vec<Sent>>,
    unexpected: Mutex<Vec<String>>,
}

impl ScriptedHttp {
    /// The next call is this one, and this comes of it.
    pub fn expect(&self, method: &str, url: &str, reply: Reply) {
        self.script.lock().push_back((method.to_owned(), url.to_owned(), reply));
    }

    /// The calls that were made.
    pub fn sent(&self) -> Vec<Sent> {
        self.sent.lock().clone()
    }

    /// What was expected and didn't come, and what came and wasn't expected.
    pub fn unmet(&self) -> Vec<String> {
        let missing =
            self.script.lock().iter().map(|(method, url, _)| format!("missing: {method} {url}")).collect();
        let mut unmet: Vec<String> = missing;
        unmet.extend(self.unexpected.lock().iter().cloned());
        unmet
    }
}

impl HttpTransport for ScriptedHttp {
    fn fetch(
        &self,
        outbound: Outbound,
    ) -> Pin<Box<dyn Future<Output = Result<Response<Bytes>, TransportError>> + Send + '_>> {
        let request = outbound.request;
        let (method, url) = (request.method().to_string(), request.uri().to_string());
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        self.sent.lock().push(Sent {
            method: method.clone(),
            url: url.clone(),
            headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
            body: request.body().clone(),
            named: outbound.named,
        });
        let mut script = self.script.lock();
        let expected = script.front().is_some_and(|(m, u, _)| *m == method && *u == url);
        let reply = if expected { script.pop_front().map(|(_, _, reply)| reply) } else { None };
        if reply.is_none() {
            self.unexpected.lock().push(format!("unexpected: {method} {url}"));
        }
        Box::pin(async move {
            match reply {
                Some(Reply::Response(response)) if response.body().len() > outbound.max_response_bytes => {
                    Err(TransportError::TooLarge)
                }
                Some(Reply::Response(response)) => Ok(response),
                Some(Reply::Failure(error)) => Err(error),
                Some(Reply::Hang) => std::future::pending().await,
                None => Err(TransportError::Unreachable),
            }
        })
    }
}

/// Secrets behind references of the scheme `test`.
#[derive(Debug, Default)]
pub struct FixedSecrets(Mutex<BTreeMap<String, SecretValue>>);

impl FixedSecrets {
    /// `test:NAME` leads to this.
    pub fn put(&self, name: &str, value: &str) {
        self.0.lock().insert(name.to_owned(), SecretValue::new(value.as_bytes()));
    }
}

impl SecretSource for FixedSecrets {
    fn resolve(&self, reference: &SecretReference) -> Result<SecretValue, SecretError> {
        if reference.scheme() != "test" {
            return Err(SecretError::UnknownScheme(reference.scheme().to_owned()));
        }
        self.0.lock().get(reference.name()).cloned().ok_or(SecretError::Missing)
    }
}

/// Spans that ended.
#[derive(Debug, Default)]
pub struct RecordedSpans(Mutex<Vec<PluginSpan>>);

impl RecordedSpans {
    /// In the order of their ends.
    pub fn all(&self) -> Vec<PluginSpan> {
        self.0.lock().clone()
    }
}

impl SpanSink for RecordedSpans {
    fn record(&self, span: PluginSpan) {
        self.0.lock().push(span);
    }
}
