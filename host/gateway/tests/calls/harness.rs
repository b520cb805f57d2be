//! A gateway with one tenant, and what its tests ask of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_core::catalogue::Catalogue;
use brokle_core::clock::{Clock, SystemClock};
use brokle_core::ids::{EnvironmentId, ProjectId, RequestId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::{Capture, Tenant};
use brokle_gateway::account::Books;
use brokle_gateway::budgets::{Budget, Budgets};
use brokle_gateway::cache::{Cache, Settings, semantic};
use brokle_gateway::connections::{Directory, NewConnection, Template};
use brokle_gateway::egress::Egress;
use brokle_gateway::gate::Gate;
use brokle_gateway::guardrails::{Guardrails, Masking};
use brokle_gateway::limits::Limit;
use brokle_gateway::resilience::Resilience;
use brokle_gateway::routing::routes::Routing;
use brokle_gateway::routing::scores::{self, Scores};
use brokle_gateway::{AnswerBody, Asking, Dialect, Gateway, Operation, Parts, RealtimeLimits, Timeouts};
use brokle_identity::bootstrap::bootstrap;
use brokle_identity::keys::NewKey;
use brokle_identity::{AuthError, KeyService, Principal, Secret};
use brokle_plugins::{Active, Snapshot, Snapshots, View};
use brokle_runtime::{DialectPlugin, PolicyPlugin, ProviderPlugin, Runtime, RuntimeConfig, inspect};
use brokle_storage::observations::SqliteObservations;
use brokle_storage::observations::query::QueryStore;
use brokle_storage::sql::api_keys::Restrictions;
use brokle_storage::sql::migrate::Migrator;
use brokle_storage::sql::{ConnectOptions, Database};
use brokle_telemetry::metrics::Metrics;
use brokle_telemetry::{Options, Recorder};
use brokle_test_upstream::Upstream;
use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body_util::BodyExt;
use serde_json::Value;

/// A whole gateway.
pub struct World {
    pub gateway: Arc<Gateway>,
    pub plugins: Arc<Snapshots>,
    pub guardrails: Guardrails,
    pub keys: Arc<KeyService>,
    pub tenant: Tenant,
    pub key: String,
    pub recorder: Arc<Recorder>,
    pub store: Arc<dyn QueryStore>,
    pub metrics: Arc<Metrics>,
    pub runtime: Runtime,
    pub database: Database,
    /// Where its database is, `brokle.db`.
    pub folder: tempfile::TempDir,
}

/// One connection of a world.
pub struct To {
    pub name: &'static str,
    /// The component's file; with a preset `file:preset`.
    pub plugin: &'static str,
    pub url: String,
    pub priority: i32,
    pub models: Vec<String>,
}

/// To a provider by OpenAI's API.
pub fn openai(name: &'static str, upstream: &Upstream, priority: i32) -> To {
    To { name, plugin: "provider_openai", url: upstream.base_url(), priority, models: Vec::new() }
}

pub fn component(name: &str) -> Vec<u8> {
    let profile = match name {
        "capable" | "dictated" | "hostile" | "misrouting" | "misruling" => "guest-test",
        "pii_redaction" => "guest-ee",
        _ => "guest",
    };
    let exe = std::env::current_exe().unwrap();
    let found: Option<PathBuf> = exe
        .ancestors()
        .map(|folder| folder.join(format!("wasm32-wasip2/{profile}/{name}.wasm")))
        .find(|path| path.exists());
    std::fs::read(found.unwrap_or_else(|| panic!("{name}.wasm isn't built: run `make plugins`"))).unwrap()
}

pub async fn world(connections: Vec<To>) -> World {
    let timeouts = Timeouts {
        first_byte: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        total: Duration::from_secs(30),
        ..Timeouts::default()
    };
    world_with(connections, timeouts, false).await
}

pub async fn world_with(connections: Vec<To>, timeouts: Timeouts, distrust: bool) -> World {
    world_of(connections.into_iter().map(made).collect(), timeouts, distrust, Arc::new(SystemClock)).await
}

/// With connections of any kind, each with its plugin, and any clock.
pub async fn world_of(
    connections: Vec<(&'static str, NewConnection)>,
    timeouts: Timeouts,
    distrust: bool,
    clock: Arc<dyn Clock>,
) -> World {
    world_routed(connections, timeouts, distrust, clock, Routing::default(), &[]).await
}

/// With routes, and policies beside `priority`.
pub async fn world_routed(
    connections: Vec<(&'static str, NewConnection)>,
    timeouts: Timeouts,
    distrust: bool,
    clock: Arc<dyn Clock>,
    routing: Routing,
    policies: &[&str],
) -> World {
    world_made(connections, timeouts, distrust, clock, routing, policies, Extra::default()).await
}

/// What most worlds go without.
#[derive(Default)]
pub struct Extra {
    pub limits: Vec<Limit>,
    pub budgets: Vec<Budget>,
    pub routing: Routing,
    /// Policies beside `priority`.
    pub policies: &'static [&'static str],
    pub scores: scores::Settings,
    pub cache: Option<Settings>,
    pub semantic: Option<semantic::Settings>,
    /// Models of openai's that cost what gpt-4o-mini does.
    pub priced: Vec<&'static str>,
    pub resilience: Resilience,
    /// Of each connection.
    pub gate: Option<Arc<Gate>>,
    pub timeouts: Option<Timeouts>,
    pub realtime: RealtimeLimits,
}

/// A world with something extra, and connections of the usual kind.
pub async fn world_extra(connections: Vec<To>, clock: Arc<dyn Clock>, mut extra: Extra) -> World {
    let timeouts = Timeouts {
        first_byte: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        total: Duration::from_secs(30),
        ..Timeouts::default()
    };
    let gate = extra.gate.clone();
    let gated = |(plugin, new)| (plugin, NewConnection { gate: gate.clone(), ..new });
    let connections = connections.into_iter().map(made).map(gated).collect();
    let timeouts = extra.timeouts.unwrap_or(timeouts);
    let routing = std::mem::take(&mut extra.routing);
    world_made(connections, timeouts, false, clock, routing, &[], extra).await
}

fn made(to: To) -> (&'static str, NewConnection) {
    let new = NewConnection {
        name: to.name.into(),
        base_url: (!to.url.is_empty()).then_some(to.url),
        secrets: vec![Secret::new("sk-very-secret".into())],
        priority: to.priority,
        weight: 1,
        models: to.models,
        ..NewConnection::default()
    };
    (to.plugin, new)
}

/// With everything that can be chosen.
async fn world_made(
    connections: Vec<(&'static str, NewConnection)>,
    timeouts: Timeouts,
    distrust: bool,
    clock: Arc<dyn Clock>,
    routing: Routing,
    policies: &[&str],
    extra: Extra,
) -> World {
    let folder = tempfile::tempdir().unwrap();
    let random = Arc::new(SystemRandom);
    let url = format!("sqlite:{}", folder.path().join("brokle.db").display());
    let database = Database::connect(&url, ConnectOptions::default()).await.unwrap();
    Migrator::new(&database).up(None, false, |_| {}).await.unwrap();
    let key = format!("bk_{}", "K".repeat(40));
    let tenant = bootstrap(&database, &*clock, &*random, Some(&key)).await.unwrap().tenant;
    database
        .projects()
        .set_capture(tenant.organization, tenant.project, Capture::Full, chrono_now())
        .await
        .unwrap();
    let keys = Arc::new(KeyService::new(database.clone(), clock.clone(), random.clone()));

    // Compiled components are kept from one test to the next.
    let compiled = std::path::Path::new(env!("CARGO_TARGET_TMPDIR"));
    let runtime = Runtime::start(RuntimeConfig::default(), compiled, [1; 32]).unwrap();
    let mut view = View::new();
    for policy in ["policy_priority"].iter().chain(policies).chain(extra.policies) {
        let policy = Arc::new(PolicyPlugin::load(&runtime, &component(policy)).await.unwrap());
        view.add_policy(Active::plain(policy));
    }
    // Compiled by the first call that needs them.
    for dialect in ["dialect_anthropic", "dialect_openai_responses", "dialect_gemini"] {
        let bytes = component(dialect);
        let inspection = inspect(&bytes).unwrap();
        let dialect = DialectPlugin::later(&runtime, bytes.into(), inspection).unwrap();
        view.add_dialect(Active::plain(Arc::new(dialect)));
    }
    let egress = Egress::new(false, Duration::from_secs(2), 0);
    let mut fixed = Vec::new();
    for (plugin, new) in connections {
        let (file, preset) = plugin.split_once(':').map_or((plugin, None), |(f, p)| (f, Some(p)));
        let plugin = Arc::new(ProviderPlugin::load(&runtime, &component(file)).await.unwrap());
        let provider = preset.unwrap_or(&plugin.manifest().name).to_owned();
        view.add_provider(Active::plain(plugin));
        fixed.push(Template { provider, new, trusted: !distrust });
    }
    let store: Arc<dyn QueryStore> =
        Arc::new(SqliteObservations::open(folder.path().join("telemetry")).unwrap());
    let options = Options::new(folder.path().join("telemetry"));
    let recorder = Arc::new(Recorder::start(&options, store.clone(), clock.clone()).unwrap());
    let metrics = Arc::new(Metrics::new());
    let plugins = Arc::new(Snapshots::new(Snapshot::new(view)));
    let guardrails = Guardrails::default();
    let priced = extra.priced.iter().map(|name| {
        let prices = serde_json::json!({"input": "0.15", "output": "0.60"});
        let row = serde_json::json!({"provider": "openai", "name": name, "prices": prices});
        serde_json::from_value(row).unwrap()
    });
    let catalogue = Catalogue::builtin().unwrap().with_overrides(priced.collect()).unwrap();
    let cached = |settings| Cache::new(settings, clock.clone(), metrics.clone());
    let cache = extra.cache.map(cached).map(|cache| match extra.semantic {
        Some(semantic) => Arc::new(cache.with_semantic(semantic)),
        None => Arc::new(cache),
    });
    let spent = Some(database.budgets());
    let budgets = Arc::new(Budgets::new(extra.budgets, clock.clone(), metrics.clone(), spent));
    let told = (!extra.scores.names.is_empty()).then_some(extra.scores);
    let scores = told.map(|settings| Arc::new(Scores::new(settings, store.clone(), clock.clone())));
    let gateway = Gateway::new(Parts {
        clock,
        random,
        books: Books {
            recorder: recorder.clone(),
            recording: Arc::default(),
            masking: Arc::new(Masking::new(
                guardrails.clone(),
                plugins.clone(),
                Arc::default(),
                recorder.clone(),
            )),
            metrics: metrics.clone(),
            catalogue: Arc::new(catalogue),
        },
        connections: Directory::new(fixed, None, egress.clone()),
        plugins: plugins.clone(),
        routing,
        stored_routes: Some(database.clone()),
        scores,
        guardrails: guardrails.clone(),
        egress,
        timeouts,
        realtime: extra.realtime,
        resilience: extra.resilience,
        limits: extra.limits,
        shared_limits: None,
        cache,
        budgets,
    });
    World {
        gateway,
        plugins,
        guardrails,
        keys,
        tenant,
        key,
        recorder,
        store,
        metrics,
        runtime,
        database,
        folder,
    }
}

pub fn chrono_now() -> chrono::DateTime<chrono::Utc> {
    SystemClock.now()
}

impl World {
    /// A chat call with this model and these other members.
    pub async fn chat(&self, model: &str, more: &str) -> Answer {
        let body = format!(
            r#"{{"model":"{model}","messages":[{{"role":"user","content":"say something"}}]{more}}}"#
        );
        self.call(Operation::ChatCompletions, &body).await
    }

    /// Any call.
    pub async fn call(&self, operation: Operation, body: &str) -> Answer {
        self.call_with(operation, body, HeaderMap::new()).await
    }

    /// Any call with headers.
    pub async fn call_with(&self, operation: Operation, body: &str, headers: HeaderMap) -> Answer {
        let body = body.to_owned().into();
        self.serve(Some(&self.key), operation, &headers, body).await
    }

    /// Any call with any key, or none.
    pub async fn serve(
        &self,
        key: Option<&str>,
        operation: Operation,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Answer {
        let caller = match key {
            Some(key) => self.keys.authenticate(key).await,
            None => Err(AuthError::Missing),
        };
        Answer(self.gateway.serve(operation, caller, headers, body, request_id()).await)
    }

    /// A call in a dialect.
    pub async fn call_in(&self, asking: &Asking, body: &str, headers: HeaderMap) -> Answer {
        let caller = self.keys.authenticate(&self.key).await;
        let operation = match asking.endpoint.ends_with("count-tokens") {
            true => Operation::CountTokens,
            false => Operation::ChatCompletions,
        };
        let body = body.to_owned().into();
        let answer = self.gateway.serve_in(Some(asking), operation, caller, &headers, body, request_id());
        Answer(answer.await)
    }

    /// A key of the same tenant with this limit.
    pub async fn limited_key(&self, per_minute: u32) -> String {
        let new = NewKey {
            name: "limited".into(),
            scopes: vec!["gateway".into()],
            requests_per_minute: Some(per_minute),
            ..NewKey::default()
        };
        self.keys.create(self.tenant, new).await.unwrap().1.expose().to_owned()
    }

    /// A key of another project of the same organization.
    pub async fn strangers_key(&self) -> String {
        let (clock, random) = (&SystemClock, &SystemRandom);
        let stranger = Tenant {
            organization: self.tenant.organization,
            project: ProjectId::generate(clock, random),
            environment: EnvironmentId::generate(clock, random),
        };
        let (organization, now) = (stranger.organization, clock.now());
        self.database.projects().create(organization, stranger.project, "other", now).await.unwrap();
        self.database.environments().create(stranger, "production", now).await.unwrap();
        let new = NewKey { name: "stranger".into(), scopes: vec!["gateway".into()], ..NewKey::default() };
        self.keys.create(stranger, new).await.unwrap().1.expose().to_owned()
    }

    /// The holder of the world's key.
    pub async fn caller(&self) -> Arc<Principal> {
        self.keys.authenticate(&self.key).await.unwrap()
    }

    /// A key of the same tenant with these restrictions.
    pub async fn restricted_key(&self, restrictions: Restrictions) -> String {
        let new = NewKey {
            name: "restricted".into(),
            scopes: vec!["gateway".into()],
            restrictions,
            ..NewKey::default()
        };
        self.keys.create(self.tenant, new).await.unwrap().1.expose().to_owned()
    }

    /// The one trace that there is by now, whole.
    pub async fn only_trace(&self) -> Value {
        let traces = self.traces().await;
        assert_eq!(traces.len(), 1, "{traces:#?}");
        let id = traces[0]["trace_id"].as_str().unwrap().parse().unwrap();
        let trace = self.store.trace(self.tenant.project, id).await.unwrap().unwrap();
        let observations = serde_json::to_value(trace).unwrap()["observations"].take();
        assert_eq!(observations.as_array().unwrap().len(), 1);
        observations[0].clone()
    }

    /// All calls, newest first.
    pub async fn traces(&self) -> Vec<Value> {
        tokio::time::timeout(Duration::from_secs(20), self.recorder.flush()).await.unwrap();
        let page = self.store.list(self.tenant.project, Default::default(), 100, None).await.unwrap();
        serde_json::to_value(page).unwrap()["data"].as_array().unwrap().clone()
    }
}

/// Waits until this holds; `what` isn't there after 20 s.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn request_id() -> RequestId {
    RequestId::generate(&SystemClock, &SystemRandom)
}

/// An answer.
#[derive(Debug)]
pub struct Answer(pub Response<AnswerBody>);

impl Answer {
    pub fn status(&self) -> u16 {
        self.0.status().as_u16()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.headers().get(name).map(|value| value.to_str().unwrap())
    }

    /// The whole body.
    pub async fn bytes(self) -> Bytes {
        self.0.into_body().collect().await.unwrap().to_bytes()
    }

    pub async fn text(self) -> String {
        let bytes = self.0.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    /// The whole body, which is JSON.
    pub async fn json(self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// The stream's data: each is JSON or `[DONE]`, and `[DONE]` is the last.
    pub async fn events(self) -> Vec<Value> {
        let text = self.text().await;
        let mut data: Vec<&str> = Vec::new();
        for line in text.split(['\n', '\r']) {
            let line = line.trim_start_matches('\u{feff}');
            if let Some(value) = line.strip_prefix("data:") {
                data.push(value.trim());
            }
        }
        assert_eq!(data.pop(), Some("[DONE]"), "a stream ends with a verdict: {text}");
        data.iter()
            .map(|json| serde_json::from_str(json).unwrap_or_else(|_| panic!("half an event: {json}")))
            .collect()
    }
}

/// An endpoint of a dialect's whose body names the model.
pub fn asking(dialect: Dialect, endpoint: &'static str) -> Asking {
    Asking { dialect, endpoint, model: String::new(), streaming: false, query: Vec::new() }
}

/// The text that a stream's chunks amount to.
pub fn content(events: &[Value]) -> String {
    events.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect()
}
