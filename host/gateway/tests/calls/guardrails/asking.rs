//! Guardrails that ask somebody else: through the host, at the host that the operator named, with its secret.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Capture;
use brokle_gateway::Operation;
use brokle_gateway::egress::Egress;
use brokle_gateway::guardrails::{Guardrail, NewGuardrail, OnFailure};
use brokle_plugins::{Active, Snapshot, View};
use brokle_runtime::GuardrailPlugin;
use brokle_runtime::capabilities::clock::ManualMonotonic;
use brokle_runtime::capabilities::{PluginCapabilities, Services};
use brokle_runtime::grants::Grants;
use brokle_testkit::mocks::{FixedSecrets, MockHost, RecordedSpans};
use serde_json::{Value, json};

use super::scripted::{Scripted, completion, stream};
use super::{chat, echo, guardrail, noted, rulings};
use crate::harness::{To, World, chrono_now, component, world};

/// Puts a guardrail into a world, granted what it needs to ask the one at this address.
async fn ask(world: &World, name: &str, upstream: &str, secret: &str, at: &Scripted, new: NewGuardrail) {
    let plugin =
        GuardrailPlugin::load(&world.runtime, &component(&format!("guardrail_{name}"))).await.unwrap();
    let secrets = FixedSecrets::default();
    secrets.put(secret, "s3cret-value");
    let services = Services {
        kv: Arc::new(brokle_runtime::capabilities::kv::MemoryKv::default()),
        http: Arc::new(Egress::new(false, Duration::from_secs(2), 0)),
        secrets: Arc::new(secrets),
        spans: Arc::new(RecordedSpans::default()),
        denials: Arc::new(brokle_runtime::capabilities::NoDenials),
        clock: Arc::new(SystemClock),
        monotonic: Arc::new(ManualMonotonic::default()),
        random: Arc::new(SystemRandom),
    };
    let host = at.base_url().trim_end_matches("/v1").to_owned();
    let grants = json!({"http": {"upstreams": {upstream: {"hosts": [host]}}}, "secrets": {secret: format!("test:{secret}")}});
    let grants = Grants::from_value(&grants).unwrap();
    let granted = PluginCapabilities::configure(plugin.manifest(), &grants, &services).unwrap();
    let snapshot = world.plugins.load();
    let mut view = View::new();
    snapshot.instance().providers().for_each(|provider| view.add_provider(provider.clone()));
    view.add_guardrail(Active { capabilities: Some(granted), ..Active::plain(Arc::new(plugin)) });
    let made = Guardrail::new(&view, new).await.unwrap();
    world.plugins.store(Snapshot::new(view));
    world.guardrails.replace(vec![made]);
}

fn answer(json: &Value) -> (&'static str, String) {
    ("application/json", json.to_string())
}

#[tokio::test]
async fn a_moderation_model_is_asked_and_its_scores_are_noted() {
    let verdict = |flagged: bool, score: f64| json!({"flagged": flagged, "categories": {"violence": flagged}, "category_scores": {"violence": score}});
    let fine = answer(&json!({"results": [verdict(false, 0.1)]}));
    let bad = answer(&json!({"results": [verdict(true, 0.9)]}));
    let model = Scripted::start(vec![fine.clone(), fine, bad]).await;
    let world = world(vec![echo()]).await;
    let new = guardrail("moderation", json!({"model": "m-1"}));
    ask(&world, "moderation", "moderation", "api-key", &model, new).await;
    assert_eq!(world.call(Operation::ChatCompletions, &chat("hello", "")).await.status(), 200);
    let trace = world.only_trace().await;
    assert_eq!(noted(rulings(&trace)[0], "moderation.scores"), &json!({"violence": 0.1}));
    let refused = world.call(Operation::ChatCompletions, &chat("fight", "")).await;
    assert_eq!(
        (refused.status(), refused.json().await["error"]["category"].take()),
        (400, "violence".into())
    );
    let asked = model.asked();
    assert_eq!(asked[0], json!({"model": "m-1", "input": ["hello"]}));
    assert_eq!(model.heads()[0].1.as_deref(), Some("Bearer s3cret-value"));
    assert!(model.heads()[0].0.starts_with("POST /v1/moderations"), "{:?}", model.heads());
}

#[tokio::test]
async fn a_stream_is_moderated_on_its_way() {
    let fine = answer(
        &json!({"results": [{"categories": {"violence": false}, "category_scores": {"violence": 0.0}}]}),
    );
    let bad = answer(
        &json!({"results": [{"categories": {"violence": true}, "category_scores": {"violence": 0.8}}]}),
    );
    let model = Scripted::start(vec![fine, bad]).await;
    let deltas: Vec<Value> = (0..40).map(|_| json!({"content": "sixteen letters "})).collect();
    let provider = Scripted::start(vec![stream(&deltas)]).await;
    let to = To {
        name: "main",
        plugin: "provider_openai",
        url: provider.base_url(),
        priority: 0,
        models: Vec::new(),
    };
    let world = world(vec![to]).await;
    let mut new = guardrail("moderation", json!({"stream_every_bytes": 256}));
    new.stages = vec!["response".into()];
    ask(&world, "moderation", "moderation", "api-key", &model, new).await;
    let body = r#"{"model":"openai/m","stream":true,"messages":[{"role":"user","content":"go"}]}"#;
    let events = world.call(Operation::ChatCompletions, body).await.events().await;
    assert_eq!(events.last().unwrap()["error"]["category"], "violence");
    let lengths: Vec<usize> =
        model.asked().iter().map(|asked| asked["input"][0].as_str().unwrap().len()).collect();
    assert_eq!(lengths, [256, 512]);
}

#[tokio::test]
async fn a_webhook_changes_blocks_and_fails_as_it_answers() {
    let check = Scripted::start(vec![
        answer(
            &json!({"verdict": "change", "texts": [{"pointer": "/messages/0/content", "text": "softly"}]}),
        ),
        answer(&json!({"verdict": "block", "category": "legal", "reason": "Not with them."})),
        answer(&json!({"verdict": "perhaps"})),
    ])
    .await;
    let provider = Scripted::start(vec![completion(&json!({"role": "assistant", "content": "ok"}))]).await;
    let to = To {
        name: "main",
        plugin: "provider_openai",
        url: provider.base_url(),
        priority: 0,
        models: Vec::new(),
    };
    let world = world(vec![to]).await;
    let mut new = guardrail("webhook", json!({"path": "/check"}));
    new.stages = vec!["request".into()];
    ask(&world, "webhook", "check", "token", &check, new.clone()).await;
    let body = r#"{"model":"openai/m","messages":[{"role":"user","content":"loudly"}]}"#;
    assert_eq!(world.call(Operation::ChatCompletions, body).await.status(), 200);
    assert_eq!(provider.asked()[0]["messages"][0]["content"], "softly");
    let asked = check.asked().remove(0);
    assert_eq!((&asked["stage"], &asked["texts"][0]["text"]), (&"request".into(), &"loudly".into()));
    let error = world.call(Operation::ChatCompletions, body).await.json().await["error"].take();
    assert_eq!((&error["category"], &error["message"]), (&"legal".into(), &"Not with them.".into()));
    assert_eq!(world.call(Operation::ChatCompletions, body).await.status(), 502);
    world.guardrails.replace(vec![
        Guardrail::new(world.plugins.load().instance(), NewGuardrail { on_failure: OnFailure::Open, ..new })
            .await
            .unwrap(),
    ]);
    assert_eq!(world.call(Operation::ChatCompletions, body).await.status(), 200);
    assert_eq!(provider.asked().len(), 2);
}

#[tokio::test]
async fn a_webhook_is_asked_about_a_stream_once() {
    let check = Scripted::start(vec![answer(&json!({"verdict": "allow"}))]).await;
    let deltas = [json!({"content": "one "}), json!({"content": "two"})];
    let provider = Scripted::start(vec![stream(&deltas)]).await;
    let to = To {
        name: "main",
        plugin: "provider_openai",
        url: provider.base_url(),
        priority: 0,
        models: Vec::new(),
    };
    let world = world(vec![to]).await;
    let mut new = guardrail("webhook", json!({}));
    new.stages = vec!["response".into()];
    ask(&world, "webhook", "check", "token", &check, new).await;
    let body = r#"{"model":"openai/m","stream":true,"messages":[{"role":"user","content":"go"}]}"#;
    let events = world.call(Operation::ChatCompletions, body).await.events().await;
    assert_eq!(crate::harness::content(&events), "one two");
    let texts: Vec<Value> = check.asked().iter().map(|asked| asked["texts"][0]["text"].clone()).collect();
    assert_eq!(texts, ["one two"]);
}

/// The spans that a plugin had of its own in a call of a project that captures this, each with the call's key.
async fn own_spans(capture: Capture) -> usize {
    let world = world(vec![echo()]).await;
    let (organization, project) = (world.tenant.organization, world.tenant.project);
    world.database.projects().set_capture(organization, project, capture, chrono_now()).await.unwrap();
    let plugin = GuardrailPlugin::load(&world.runtime, &component("capable")).await.unwrap();
    let host = MockHost::default();
    let granted = host.grant(plugin.manifest(), &json!({ "telemetry": {} })).unwrap();
    let snapshot = world.plugins.load();
    let mut view = View::new();
    snapshot.instance().providers().for_each(|provider| view.add_provider(provider.clone()));
    view.add_guardrail(Active { capabilities: Some(granted), ..Active::plain(Arc::new(plugin)) });
    let new = Guardrail::new(&view, guardrail("capable", json!({}))).await.unwrap();
    world.plugins.store(Snapshot::new(view));
    world.guardrails.replace(vec![new]);
    let answer = world.call(Operation::ChatCompletions, &chat("span seen about it none", "")).await;
    assert_eq!(answer.status(), 200);
    let spans = host.spans.all();
    assert!(spans.iter().all(|span| span.parent.key.is_some() && span.tenant == world.tenant), "{spans:?}");
    spans.len()
}

#[tokio::test]
async fn a_plugin_has_no_spans_in_a_project_that_keeps_nothing_of_the_like() {
    assert_eq!(own_spans(Capture::Metadata).await, 1);
    assert_eq!(own_spans(Capture::Off).await, 0);
}
