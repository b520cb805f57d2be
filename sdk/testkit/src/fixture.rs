//! Fixtures of one file, in YAML or JSON: what routing policies and guardrails have.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use brokle_runtime::capabilities::PluginCapabilities;
use brokle_runtime::capabilities::http::TransportError;
use brokle_runtime::{CallContext, ConfigProblem, Manifest, Observer};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use crate::diff::diff;
use crate::mocks::{MockHost, Reply, Sent, answer};
use crate::{Error, case};

/// `host`: what stands around the plugin.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Surroundings {
    /// The plugin's configuration.
    pub(crate) config: Value,
    /// The operator's grants; without them all that the manifest asks for.
    grants: Option<Value>,
    /// The secrets' values, by the manifest's names.
    secrets: BTreeMap<String, String>,
    /// The requests that the plugin must make, in order, and what answers them.
    http: Vec<Exchange>,
    /// Whose call it is: the same tenant for the same number.
    tenant: u8,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { config: json!({}), grants: None, secrets: BTreeMap::new(), http: Vec::new(), tenant: 1 }
    }
}

/// One expected request.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exchange {
    /// `POST https://check.example.com/v1/check`
    call: String,
    #[serde(default = "ok")]
    status: u16,
    #[serde(default)]
    body: Value,
    /// The answer's.
    #[serde(default)]
    headers: BTreeMap<String, String>,
    /// Instead of an answer.
    #[serde(default)]
    fails: Option<Failing>,
    #[serde(default)]
    sends: Sends,
}

/// What must be in a request; what isn't written isn't looked at.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sends {
    headers: BTreeMap<String, String>,
    body: Option<Value>,
}

impl Sends {
    fn differences(&self, call: &str, sent: &Sent) -> Vec<String> {
        let headers = self.headers.iter().filter_map(|(name, value)| {
            let came =
                sent.headers.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name)).map(|(_, value)| value);
            let came = came.map_or_else(|| "nothing came".to_owned(), |came| format!("came {came:?}"));
            (came != format!("came {value:?}"))
                .then(|| format!("http: {call}: header {name}: expected {value:?}, {came}"))
        });
        let mut differences: Vec<String> = headers.collect();
        if let Some(expected) = &self.body {
            let text = String::from_utf8_lossy(&sent.body);
            let came = match expected {
                Value::String(_) => text.into_owned().into(),
                _ => serde_json::from_str(&text).unwrap_or_else(|_| text.into_owned().into()),
            };
            differences
                .extend(diff(expected, &came).into_iter().map(|line| format!("http: {call}: body {line}")));
        }
        differences
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Failing {
    Unreachable,
    TooLarge,
    /// It never answers: the deadline ends it.
    Hangs,
}

fn ok() -> u16 {
    200
}

/// A host with these surroundings, for one playing.
pub(crate) struct Stage {
    host: MockHost,
    expected: Vec<Exchange>,
    capabilities: Arc<PluginCapabilities>,
    pub(crate) context: CallContext,
}

impl Surroundings {
    /// Sets the stage anew, so that no playing sees what another has left.
    pub(crate) fn stage(&self, manifest: &Manifest, observer: &Arc<dyn Observer>) -> Result<Stage, String> {
        let host = MockHost::default();
        for name in &manifest.capabilities.secrets {
            let value = self.secrets.get(name).map_or("a-secret-of-the-testkit", String::as_str);
            host.secrets.put(name, value);
        }
        for exchange in &self.http {
            let (method, url) = exchange.call.split_once(' ').ok_or_else(|| {
                format!(
                    "host/http: '{}' should be a method and a URL, with a space between them",
                    exchange.call
                )
            })?;
            let body = match &exchange.body {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                json => json.to_string(),
            };
            let reply = match exchange.fails {
                None => with_headers(answer(exchange.status, &body), &exchange.headers)?,
                Some(Failing::Unreachable) => Reply::Failure(TransportError::Unreachable),
                Some(Failing::TooLarge) => Reply::Failure(TransportError::TooLarge),
                Some(Failing::Hangs) => Reply::Hang,
            };
            host.http.expect(method, url, reply);
        }
        let grants = self.grants.clone().unwrap_or_else(|| everything(manifest));
        let capabilities = host.grant(manifest, &grants).map_err(|problems| {
            let told = problems.iter().map(|problem| format!("{}: {}", problem.pointer, problem.message));
            format!(
                "the grants can't be given; write host/grants as an operator would:\n  {}",
                told.collect::<Vec<_>>().join("\n  ")
            )
        })?;
        let context = CallContext {
            config: self.config.to_string().into_bytes().into(),
            observer: Some(observer.clone()),
            capabilities: Some(capabilities.prepare(MockHost::tenant(self.tenant), None)),
        };
        Ok(Stage { host, expected: self.http.clone(), capabilities, context })
    }
}

impl Stage {
    /// Adds to an outcome what was denied, and gives the requests that came otherwise than expected.
    pub(crate) fn close(&self, outcome: &mut Map<String, Value>) -> Vec<String> {
        let denied = self.capabilities.denials.counts();
        if !denied.is_empty() {
            outcome.insert("denied".into(), json!(denied));
        }
        let unmet = self.host.http.unmet();
        let sent = self.host.http.sent();
        // Only where what came is what was expected do the two lists go together.
        let matched = self.expected.iter().zip(&sent).filter(|_| unmet.is_empty());
        let inside = matched.flat_map(|(exchange, sent)| exchange.sends.differences(&exchange.call, sent));
        unmet.iter().map(|unmet| format!("http: {unmet}")).chain(inside).collect()
    }
}

fn with_headers(mut reply: Reply, headers: &BTreeMap<String, String>) -> Result<Reply, String> {
    let wrong = |name: &str| format!("host/http: '{name}' is no header, or has no value that one can have");
    if let Reply::Response(response) = &mut reply {
        for (name, value) in headers {
            let (key, value) = (name.parse::<http::HeaderName>(), value.parse::<http::HeaderValue>());
            let (Ok(key), Ok(value)) = (key, value) else { return Err(wrong(name)) };
            response.headers_mut().append(key, value);
        }
    }
    Ok(reply)
}

/// What a plugin says against a configuration, as an outcome; none when it is good.
pub(crate) fn config_problems(problems: &[ConfigProblem]) -> Option<Value> {
    let told = problems.iter().map(|problem| json!({"pointer": problem.pointer, "message": problem.message}));
    let told: Vec<Value> = told.collect();
    (!told.is_empty()).then(|| json!({ "config": told }))
}

/// A grant of all that a manifest asks for.
fn everything(manifest: &Manifest) -> Value {
    let asked = &manifest.capabilities;
    let mut grants: Map<String, Value> =
        asked.interfaces().into_iter().map(|name| (name.to_owned(), json!({}))).collect();
    if let Some(http) = &asked.http {
        let upstreams: Map<String, Value> =
            http.upstreams.keys().map(|name| (name.clone(), json!({}))).collect();
        grants.insert("http".into(), json!({ "upstreams": upstreams }));
    }
    if !asked.secrets.is_empty() {
        let secrets: Map<String, Value> =
            asked.secrets.iter().map(|name| (name.clone(), format!("test:{name}").into())).collect();
        grants.insert("secrets".into(), secrets.into());
    }
    grants.into()
}

/// The fixtures in a folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable =
        |error: std::io::Error| Error::File { path: folder.to_owned(), detail: error.to_string() };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().and_then(|extension| extension.to_str());
        if matches!(extension, Some("yaml" | "yml" | "json")) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads one. JSON is YAML too.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, Error> {
    serde_yaml_ng::from_slice(&case::bytes(path)?)
        .map_err(|error| Error::File { path: path.to_owned(), detail: error.to_string() })
}
