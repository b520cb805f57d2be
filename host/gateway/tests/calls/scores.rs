//! Scores as facts: what is thought of a model decides who is asked.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::{Clock, ManualClock, SystemClock};
use brokle_gateway::routing::routes::{ChosenPolicy, Route, RouteCandidate, Routing, Target};
use brokle_gateway::routing::scores::Settings;
use brokle_storage::observations::{Score, ScoreValue, Source};
use brokle_test_upstream::Upstream;
use chrono::TimeDelta;
use http::HeaderMap;
use serde_json::{Map, Value, json};

use crate::harness::{Extra, World, openai, world_extra};

async fn world(upstreams: [&Upstream; 2]) -> (World, Arc<ManualClock>) {
    let [a, b] = upstreams;
    let candidate = |name: &str| RouteCandidate {
        target: Target::Connection(name.into()),
        model: "gpt-4o".into(),
        when: None,
        priority: 0,
        weight: 1,
    };
    let config = json!({ "score": "helpful", "explore": 0, "min_scores": 3 }).to_string();
    let policy = ChosenPolicy { name: "quality".into(), config: Some(config.into_bytes().into()) };
    let candidates = vec![candidate("a"), candidate("b")];
    let best = Route { name: "best".into(), policy, candidates, ..Route::default() };
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let extra = Extra {
        routing: Routing { routes: vec![best], ..Routing::default() },
        policies: &["policy_quality"],
        scores: Settings { names: vec!["helpful".into(), "other".into()], ..Settings::default() },
        ..Extra::default()
    };
    let connections = vec![openai("a", a, 0), openai("b", b, 1)];
    (world_extra(connections, clock.clone(), extra).await, clock)
}

/// What somebody thinks of a call.
fn score(world: &World, clock: &ManualClock, trace: &Value, name: &str, value: f64) -> Score {
    let now = clock.now();
    let value = ScoreValue::Numeric(value);
    Score {
        id: format!("{name}-{}", trace["trace_id"]),
        name: name.into(),
        data_type: value.data_type(),
        value,
        source: Source::Api,
        trace_id: Some(trace["trace_id"].as_str().unwrap().parse().unwrap()),
        span_id: None,
        session: None,
        comment: None,
        metadata: Map::new(),
        environment_id: world.tenant.environment,
        timestamp: now,
        created_at: now,
        updated_at: now,
    }
}

async fn explain(world: &World, key: &str) -> Value {
    let caller = world.keys.authenticate(key).await.unwrap();
    let body = r#"{"model":"best","messages":[{"role":"user","content":"hi"}]}"#;
    let told = world.gateway.explain(&caller, &HeaderMap::new(), body.into()).await.unwrap();
    serde_json::to_value(told).unwrap()
}

#[tokio::test]
async fn what_a_project_thinks_of_a_model_decides_its_own_calls_only() {
    let (a, b) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let (world, clock) = world([&a, &b]).await;
    for model in ["a/gpt-4o", "b/gpt-4o-2024-08-06", "b/gpt-4o-mini"] {
        for _ in 0..4 {
            assert_eq!(world.chat(model, "").await.status(), 200);
        }
    }
    let mut scores = Vec::new();
    for trace in world.traces().await {
        let model = trace["model_served"].as_str().or(trace["model"].as_str()).unwrap_or_default();
        let value = match (trace["connection_id"].as_str().unwrap(), model) {
            ("a", _) => 0.2,
            (_, "gpt-4o-mini") => 0.1,
            _ => 0.8,
        };
        scores.push(score(&world, &clock, &trace, "helpful", value));
    }
    assert_eq!(scores.len(), 12);
    world.store.put_scores(world.tenant.project, scores).await.unwrap();

    let before = explain(&world, &world.key).await;
    assert_eq!(
        before["candidates"][1]["attributes"],
        json!({}),
        "no decision waits for the store: {before:#}"
    );
    assert_eq!(before["reason"], "none has enough scores: by weight");
    let known = world.gateway.scores().unwrap();
    clock.advance(TimeDelta::seconds(1));
    known.refresh().await;
    let told = explain(&world, &world.key).await;
    let expected = [
        json!({ "brokle.score.helpful": "0.2", "brokle.scores.helpful": "4" }),
        json!({ "brokle.score.helpful": "0.8", "brokle.scores.helpful": "4" }),
    ];
    for (candidate, expected) in told["candidates"].as_array().unwrap().iter().zip(expected) {
        assert_eq!(candidate["attributes"], expected, "{told:#}");
    }
    let asked = b.requests().len();
    for _ in 0..5 {
        assert_eq!(world.chat("best", "").await.status(), 200);
    }
    assert_eq!(b.requests().len(), asked + 5, "the better one");
    let newest = world.traces().await.remove(0);
    let id = newest["trace_id"].as_str().unwrap().parse().unwrap();
    let trace = world.store.trace(world.tenant.project, id).await.unwrap().unwrap();
    let call = serde_json::to_value(trace).unwrap()["observations"][0].take();
    let step = call["children"].as_array().unwrap().iter().find(|step| step["type"] == "plugin").unwrap();
    assert_eq!(step["attributes"]["brokle.routing.facts"][1]["brokle.score.helpful"], "0.8", "{step:#}");

    let stranger = world.strangers_key().await;
    for _ in 0..2 {
        let told = explain(&world, &stranger).await;
        assert_eq!(told["candidates"][1]["attributes"], json!({}), "{told:#}");
        clock.advance(TimeDelta::minutes(1));
        known.refresh().await;
    }
}

#[tokio::test]
async fn scores_are_read_anew_when_they_are_due_and_grow_old() {
    let (a, b) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let (world, clock) = world([&a, &b]).await;
    for _ in 0..3 {
        assert_eq!(world.chat("b/gpt-4o", "").await.status(), 200);
    }
    clock.advance(TimeDelta::seconds(1));
    let known = world.gateway.scores().unwrap();
    let average = async || {
        let told = explain(&world, &world.key).await;
        told["candidates"][1]["attributes"]["brokle.score.helpful"].as_str().map(str::to_owned)
    };
    assert_eq!(average().await, None);
    for (value, shown) in [(0.5, "0.5"), (0.7, "0.7")] {
        let traces = world.traces().await;
        let scores = traces.iter().map(|trace| score(&world, &clock, trace, "helpful", value)).collect();
        world.store.put_scores(world.tenant.project, scores).await.unwrap();
        if value > 0.5 {
            known.refresh().await;
            assert_eq!(average().await.as_deref(), Some("0.5"), "not due yet");
            clock.advance(TimeDelta::seconds(60));
        }
        known.refresh().await;
        assert_eq!(average().await.as_deref(), Some(shown));
    }
    clock.advance(TimeDelta::from_std(Settings::default().window + Duration::from_secs(60)).unwrap());
    known.refresh().await;
    assert_eq!(average().await, None, "of calls a day ago");
}

#[tokio::test]
async fn while_the_store_cannot_be_asked_the_averages_of_before_decide() {
    let (a, b) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let (world, clock) = world([&a, &b]).await;
    for model in ["a/gpt-4o", "b/gpt-4o"] {
        for _ in 0..3 {
            assert_eq!(world.chat(model, "").await.status(), 200);
        }
    }
    let think = async |a: f64, b: f64| {
        let traces = world.traces().await;
        let value = |trace: &Value| if trace["connection_id"] == "a" { a } else { b };
        let scores =
            traces.iter().map(|trace| score(&world, &clock, trace, "helpful", value(trace))).collect();
        world.store.put_scores(world.tenant.project, scores).await.unwrap();
    };
    let known = world.gateway.scores().unwrap();
    let averages = async || {
        clock.advance(TimeDelta::minutes(1));
        known.refresh().await;
        let told = explain(&world, &world.key).await;
        let average = |n: usize| told["candidates"][n]["attributes"]["brokle.score.helpful"].clone();
        [average(0), average(1)]
    };
    think(0.2, 0.8).await;
    averages().await;
    assert_eq!(averages().await, ["0.2", "0.8"]);

    let database = rusqlite::Connection::open(world.folder.path().join("telemetry/scores.db")).unwrap();
    think(0.9, 0.3).await;
    database.execute_batch("ALTER TABLE scores RENAME TO away").unwrap();
    assert_eq!(averages().await, ["0.2", "0.8"]);
    let asked = b.requests().len();
    assert_eq!(world.chat("best", "").await.status(), 200);
    assert_eq!(b.requests().len(), asked + 1, "the better one, as was known");
    database.execute_batch("ALTER TABLE away RENAME TO scores").unwrap();
    assert_eq!(averages().await, ["0.9", "0.3"]);
}
