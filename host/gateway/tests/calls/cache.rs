//! The same request has the same answer, and costs once.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::{Clock, ManualClock, SystemClock};
use brokle_gateway::Operation;
use brokle_gateway::cache::{Selection, Settings};
use brokle_test_upstream::Upstream;
use chrono::TimeDelta;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::harness::{Answer, Extra, World, content, openai, world_extra};

async fn world(upstream: &Upstream, settings: Settings) -> (World, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let extra = Extra { cache: Some(settings), ..Extra::default() };
    (world_extra(vec![openai("a", upstream, 0)], clock.clone(), extra).await, clock)
}

fn body(more: &str) -> String {
    format!(r#"{{"model":"openai/gpt-4o-mini","messages":[{{"role":"user","content":"hi"}}]{more}}}"#)
}

async fn ask(world: &World, more: &str, headers: &[(&'static str, &'static str)]) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    world.call_with(Operation::ChatCompletions, &body(more), headers).await
}

fn outcome(answer: &Answer) -> &str {
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.header("x-brokle-cache").unwrap()
}

#[tokio::test]
async fn a_document_is_given_again_and_costs_nothing() {
    let upstream = Upstream::start().await.unwrap();
    let (world, clock) = world(&upstream, Settings::default()).await;
    // A client that takes compressed answers, as most do.
    let first = ask(&world, "", &[("accept-encoding", "gzip")]).await;
    assert_eq!(outcome(&first), "miss");
    let cost = first.header("x-brokle-cost").unwrap().to_owned();
    let key = first.header("x-brokle-cache-key").unwrap().to_owned();
    let text = first.text().await;
    clock.advance(TimeDelta::seconds(7));
    let again = ask(&world, r#","user":"ann","metadata":{"a":"b"}"#, &[]).await;
    assert_eq!((outcome(&again), again.header("age")), ("hit", Some("7")));
    assert_eq!(again.header("x-brokle-cache-key"), Some(key.as_str()));
    assert_eq!((again.header("x-brokle-cost"), again.header("x-brokle-attempts")), (Some("0"), Some("0")));
    assert_eq!(again.header("x-brokle-provider"), Some("openai"));
    assert_eq!(again.header("content-type"), Some("application/json"));
    assert_eq!(again.text().await, text);
    assert_eq!(outcome(&ask(&world, r#","temperature":1"#, &[]).await), "miss");
    assert_eq!(upstream.requests().len(), 2);

    let traces = world.traces().await;
    let id = traces.iter().find(|trace| trace["cost"] == "0").expect("one cost nothing")["trace_id"].as_str();
    let trace = world.store.trace(world.tenant.project, id.unwrap().parse().unwrap()).await.unwrap().unwrap();
    let hit = serde_json::to_value(trace).unwrap()["observations"][0].take();
    assert_eq!(hit["attributes"]["brokle.cache.status"], "hit", "{hit:#}");
    assert_eq!(hit["attributes"]["brokle.cache.saved_cost"], cost.as_str());
    assert_eq!(hit["children"].as_array().map_or(0, Vec::len), 0, "no attempt");
    assert!(world.metrics.encode().unwrap().contains(r#"brokle_cache_total{outcome="hit"} 1"#));

    clock.advance(TimeDelta::seconds(3_594));
    assert_eq!(outcome(&ask(&world, "", &[]).await), "miss", "an hour later");
}

#[tokio::test]
async fn a_stream_is_given_again_as_a_stream_once_it_was_complete() {
    let upstream = Upstream::start().await.unwrap();
    let (world, _) = world(&upstream, Settings::default()).await;
    let stream = r#","stream":true"#;
    let first = ask(&world, stream, &[]).await;
    assert_eq!(outcome(&first), "miss");
    let events = first.events().await;
    let again = ask(&world, stream, &[]).await;
    assert_eq!(outcome(&again), "hit");
    assert_eq!(again.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let replayed = again.events().await;
    assert_eq!(replayed, events);
    assert!(!content(&events).is_empty());
    // The usage that the caller of the first didn't ask for was kept for whoever does.
    let with_usage = ask(&world, r#","stream":true,"stream_options":{"include_usage":true}"#, &[]).await;
    assert_eq!(outcome(&with_usage), "hit");
    assert!(with_usage.events().await.last().unwrap()["usage"]["total_tokens"].is_number());
    assert_eq!(outcome(&ask(&world, "", &[]).await), "miss", "a document is another thing");
    assert_eq!(upstream.requests().len(), 2);
}

#[tokio::test]
async fn what_failed_or_broke_off_or_is_too_large_isnt_kept() {
    let upstream = Upstream::start().await.unwrap();
    let settings = Settings { max_entry_bytes: 5_000, ..Settings::default() };
    let (world, _) = world(&upstream, settings).await;
    for model in ["openai/m!status=500", "openai/m!status=400", "openai/m!truncated-json"] {
        for _ in 0..2 {
            let answer = world.chat(model, "").await;
            assert_eq!(
                (answer.status() >= 400, answer.header("x-brokle-cache")),
                (true, Some("miss")),
                "{model}"
            );
        }
    }
    for model in ["openai/m!close-at=600", "openai/m!error-in-stream=2", "openai/m!events=200"] {
        for _ in 0..2 {
            let answer = world.chat(model, r#","stream":true"#).await;
            assert_eq!(outcome(&answer), "miss", "{model}");
            answer.events().await;
        }
    }
    // One that its client left isn't either, and nobody waits for it.
    drop(world.chat("openai/m!events=20;delay=20", r#","stream":true"#).await);
    assert_eq!(outcome(&world.chat("openai/m!events=20;delay=20", r#","stream":true"#).await), "miss");
    assert_eq!(upstream.requests().len(), 14);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_that_ask_the_same_at_once_ask_the_provider_once() {
    let upstream = Upstream::start().await.unwrap();
    let (world, _) = world(&upstream, Settings::default()).await;
    let world = Arc::new(world);
    for (model, more) in
        [("openai/m!slow-head=200", ""), ("openai/m!events=10;delay=20", r#","stream":true"#)]
    {
        let before = upstream.requests().len();
        let mut calls = tokio::task::JoinSet::new();
        for _ in 0..50 {
            let world = world.clone();
            calls.spawn(async move {
                let answer = world.chat(model, more).await;
                (outcome(&answer).to_owned(), answer.text().await)
            });
        }
        let answers = calls.join_all().await;
        assert_eq!(upstream.requests().len() - before, 1);
        assert_eq!(answers.iter().filter(|(outcome, _)| outcome == "hit").count(), 49);
        assert!(!answers[0].1.is_empty());
    }
    // The wait is bounded, and a call that fails keeps nobody.
    let impatient = Settings { wait: Duration::from_millis(50), ..Settings::default() };
    let (world, _) = self::world(&upstream, impatient).await;
    let slow = "openai/m!slow-head=1000";
    let (first, second) = tokio::join!(world.chat(slow, ""), world.chat(slow, ""));
    assert_eq!((outcome(&first), outcome(&second)), ("miss", "miss"));
}

#[tokio::test]
async fn a_request_says_what_it_wants_of_the_cache() {
    let upstream = Upstream::start().await.unwrap();
    let (world, clock) = world(&upstream, Settings::default()).await;
    assert_eq!(outcome(&ask(&world, "", &[("cache-control", "no-store")]).await), "bypass");
    assert_eq!(outcome(&ask(&world, "", &[]).await), "miss", "it wasn't stored");
    assert_eq!(outcome(&ask(&world, "", &[("cache-control", "no-cache")]).await), "miss");
    assert_eq!(outcome(&ask(&world, "", &[]).await), "hit");
    clock.advance(TimeDelta::seconds(10));
    assert_eq!(outcome(&ask(&world, "", &[("cache-control", "max-age=10")]).await), "hit");
    assert_eq!(outcome(&ask(&world, "", &[("cache-control", "max-age=9")]).await), "miss");
    assert_eq!(outcome(&ask(&world, r#","seed":1"#, &[("x-brokle-cache-ttl", "5")]).await), "miss");
    assert_eq!(outcome(&ask(&world, r#","seed":1"#, &[]).await), "hit");
    clock.advance(TimeDelta::seconds(5));
    assert_eq!(outcome(&ask(&world, r#","seed":1"#, &[]).await), "miss");
    let bad = ask(&world, "", &[("x-brokle-cache-ttl", "soon")]).await;
    assert_eq!(
        (bad.status(), bad.json().await["error"]["param"].as_str()),
        (400, Some("x-brokle-cache-ttl"))
    );
}

#[tokio::test]
async fn what_is_invalidated_is_gone_and_counted() {
    let upstream = Upstream::start().await.unwrap();
    let (world, clock) = world(&upstream, Settings::default()).await;
    let cache = world.gateway.cache().unwrap();
    let first = ask(&world, "", &[]).await;
    let key = first.header("x-brokle-cache-key").unwrap().parse().unwrap();
    clock.advance(TimeDelta::seconds(100));
    ask(&world, r#","seed":1"#, &[]).await;
    world.chat("openai/other", "").await;
    let status = cache.status(world.tenant).await;
    assert_eq!((status.entries, status.enabled), (3, true));
    assert!(status.bytes > 1_000 && status.stored_cost > "0.000001".parse().unwrap());
    let stranger = brokle_core::tenancy::Tenant {
        project: brokle_core::ids::ProjectId::generate(&SystemClock, &brokle_core::random::SystemRandom),
        ..world.tenant
    };
    assert_eq!(cache.status(stranger).await.entries, 0);
    let everything = Selection::default();
    let some = |change: fn(&mut Selection)| {
        let mut selection = Selection::default();
        change(&mut selection);
        selection
    };
    assert_eq!(
        cache.invalidate(stranger, &Selection { key: Some(key), ..Selection::default() }).await,
        Ok(0)
    );
    assert_eq!(cache.invalidate(stranger, &everything).await, Ok(0));
    let old = some(|selection| selection.older_than = Some(Duration::from_secs(100)));
    assert_eq!(cache.invalidate(world.tenant, &old).await, Ok(1));
    assert_eq!(outcome(&ask(&world, "", &[]).await), "miss");
    assert_eq!(
        cache.invalidate(world.tenant, &Selection { key: Some(key), ..Selection::default() }).await,
        Ok(1)
    );
    assert_eq!(
        cache.invalidate(world.tenant, &some(|one| one.model = Some("openai/other".into()))).await,
        Ok(1)
    );
    assert_eq!(cache.invalidate(world.tenant, &some(|one| one.route = Some("smart".into()))).await, Ok(0));
    assert_eq!(cache.invalidate(world.tenant, &everything).await, Ok(1));
    assert_eq!(cache.status(world.tenant).await.entries, 0);
    assert_eq!(outcome(&ask(&world, r#","seed":1"#, &[]).await), "miss");
}
