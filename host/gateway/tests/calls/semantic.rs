//! Questions that mean the same have the same answer.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::{Clock, ManualClock, SystemClock};
use brokle_core::money::Usd;
use brokle_gateway::Operation;
use brokle_gateway::budgets::{Budget, OnExceeded, Period, Unit, UnknownPrice};
use brokle_gateway::cache::semantic::Settings;
use brokle_gateway::cache::{Selection, Settings as Exact};
use brokle_gateway::routing::routes::Origin;
use brokle_gateway::who::{By, Filter, Who};
use chrono::TimeDelta;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::guardrails::{guard, guardrail};
use crate::harness::{Answer, Extra, To, World, content, world_extra};
use crate::vendor::{Reply, Seen, Vendor, reply};

/// Which words there are decides what a text means; their order and the filler words don't.
fn embedding(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; 64];
    for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| word.len() > 3) {
        let hash =
            word.to_lowercase().bytes().fold(7_usize, |hash, byte| hash * 31 % 1_009 + usize::from(byte));
        vector[hash % 64] += 1.0;
    }
    vector
}

/// Answers with how many it was asked before, so that no two answers are the same.
fn answer(seen: &Seen, number: usize) -> Reply {
    let body: Value = serde_json::from_slice(&seen.body).unwrap();
    if seen.path.ends_with("/embeddings") {
        let usage = json!({ "prompt_tokens": 1_000, "total_tokens": 1_000 });
        let datum = json!({ "index": 0, "embedding": embedding(body["input"].as_str().unwrap()) });
        return reply(200, &json!({ "data": [datum], "model": body["model"], "usage": usage }));
    }
    let text = format!("answer {number}");
    let usage = json!({ "prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150 });
    if body["stream"] == true {
        let chunk =
            json!({ "choices": [{ "index": 0, "delta": { "content": text }, "finish_reason": null }] });
        let last =
            json!({ "choices": [{ "index": 0, "delta": {}, "finish_reason": "stop" }], "usage": usage });
        let body = format!("data: {chunk}\n\ndata: {last}\n\ndata: [DONE]\n\n");
        return (200, "text/event-stream", body.into());
    }
    let message = json!({ "role": "assistant", "content": text });
    reply(
        200,
        &json!({ "model": body["model"], "usage": usage,
        "choices": [{ "index": 0, "message": message, "finish_reason": "stop" }] }),
    )
}

async fn vendor() -> Vendor {
    let asked = std::sync::atomic::AtomicUsize::new(0);
    Vendor::start(move |seen| answer(seen, asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed))).await
}

async fn world(vendor: &Vendor, change: impl FnOnce(&mut Settings, &mut Extra)) -> (World, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new(SystemClock.now()));
    let mut settings =
        Settings { model: "openai/text-embedding-3-small".into(), threshold: 900_000, ..Settings::default() };
    let mut extra = Extra { cache: Some(Exact::default()), ..Extra::default() };
    change(&mut settings, &mut extra);
    extra.semantic = Some(settings);
    let url = format!("{}/v1", vendor.origin());
    let to = To { name: "a", plugin: "provider_openai", url, priority: 0, models: Vec::new() };
    (world_extra(vec![to], clock.clone(), extra).await, clock)
}

const FAUST: &str = "Which author wrote the tragedy Faust?";
const SAME: &str = "The tragedy Faust: which author wrote it?";

fn body(text: &str, more: &Value) -> String {
    let system = json!({ "role": "system", "content": "Be brief." });
    let mut body =
        json!({ "model": "openai/gpt-4o-mini", "messages": [system, { "role": "user", "content": text }] });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body.to_string()
}

async fn ask(world: &World, text: &str, more: Value, headers: &[(&'static str, &'static str)]) -> Answer {
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .collect();
    world.call_with(Operation::ChatCompletions, &body(text, &more), headers).await
}

fn outcome(answer: &Answer) -> &str {
    assert_eq!(answer.status(), 200, "{answer:?}");
    answer.header("x-brokle-cache").unwrap()
}

fn embeddings(vendor: &Vendor) -> usize {
    vendor.seen("/v1/embeddings").len()
}

fn counted(world: &World, outcome: &str) -> u32 {
    let text = world.metrics.encode().unwrap();
    let start = format!("brokle_cache_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_question_that_means_the_same_has_the_same_answer_and_says_so() {
    let vendor = vendor().await;
    let (world, clock) = world(&vendor, |_, _| {}).await;
    let first = ask(&world, FAUST, json!({}), &[]).await;
    assert_eq!((outcome(&first), first.header("x-brokle-cache-score")), ("miss", None));
    let cost = first.header("x-brokle-cost").unwrap().to_owned();
    let key = first.header("x-brokle-cache-key").unwrap().to_owned();
    let text = first.text().await;
    clock.advance(TimeDelta::seconds(5));
    let again = ask(&world, SAME, json!({}), &[]).await;
    assert_eq!((outcome(&again), again.header("age")), ("semantic-hit", Some("5")));
    assert_eq!(again.header("x-brokle-cache-key"), Some(key.as_str()));
    let score: f32 = again.header("x-brokle-cache-score").unwrap().parse().unwrap();
    assert!((0.9..=1.001).contains(&score), "{score}");
    assert_eq!((again.header("x-brokle-cost"), again.header("x-brokle-attempts")), (Some("0"), Some("0")));
    let trace = again.header("x-brokle-trace-id").unwrap().to_owned();
    assert_eq!(again.text().await, text);
    let once_more = ask(&world, SAME, json!({}), &[]).await;
    assert_eq!(
        (outcome(&once_more), embeddings(&vendor)),
        ("semantic-hit", 2),
        "what it means is remembered"
    );
    let exact = ask(&world, FAUST, json!({}), &[]).await;
    assert_eq!((outcome(&exact), embeddings(&vendor)), ("hit", 2), "nobody asks what is there already");
    let other = ask(&world, "Which composer wrote the opera Fidelio?", json!({}), &[]).await;
    assert_eq!(outcome(&other), "miss");
    assert_eq!((counted(&world, "semantic_hit"), counted(&world, "hit"), counted(&world, "miss")), (2, 1, 2));

    world.traces().await;
    let whole = world.store.trace(world.tenant.project, trace.parse().unwrap()).await.unwrap().unwrap();
    let whole = serde_json::to_value(whole).unwrap();
    let call = &whole["observations"][0];
    let told = &call["attributes"];
    assert_eq!(
        (&told["brokle.cache.status"], &told["brokle.cache.saved_cost"]),
        (&json!("hit"), &json!(cost))
    );
    assert!((told["brokle.cache.score"].as_f64().unwrap() - f64::from(score)).abs() < 1e-3, "{told:#}");
    // What was spent to find out is in the same trace, without the text.
    let asked = call["children"].as_array().unwrap().iter().find(|one| one["type"] == "embedding").unwrap();
    assert_eq!((&asked["model"], &asked["input"]), (&json!("openai/text-embedding-3-small"), &Value::Null));
    assert!(asked["cost"].as_str().is_some_and(|cost| cost.parse::<Usd>().unwrap() > Usd::ZERO), "{asked:#}");
    assert_eq!(call["cost"], "0");
}

#[tokio::test]
async fn streams_find_streams() {
    let vendor = vendor().await;
    let (world, _) = world(&vendor, |_, _| {}).await;
    let stream = || json!({ "stream": true });
    assert_eq!(outcome(&ask(&world, FAUST, json!({}), &[]).await), "miss");
    let first = ask(&world, FAUST, stream(), &[]).await;
    assert_eq!(outcome(&first), "miss", "a document is another thing");
    let said = content(&first.events().await);
    let again = ask(&world, SAME, stream(), &[]).await;
    assert_eq!(outcome(&again), "semantic-hit");
    assert_eq!(content(&again.events().await), said);
}

#[tokio::test]
async fn it_is_nobody_elses_and_only_for_such_questions() {
    let vendor = vendor().await;
    let (world, _) = world(&vendor, |_, _| {}).await;
    assert_eq!(outcome(&ask(&world, FAUST, json!({}), &[]).await), "miss");
    assert_eq!(
        outcome(&ask(&world, SAME, json!({}), &[("x-brokle-user", "ann")]).await),
        "miss",
        "another user"
    );
    assert_eq!(
        outcome(&ask(&world, "Wrote which author the tragedy Faust?", json!({ "user": "bob" }), &[]).await),
        "miss"
    );
    assert_eq!(outcome(&ask(&world, SAME, json!({ "max_tokens": 5 }), &[]).await), "miss");
    let asked = embeddings(&vendor);
    for (more, headers) in [
        (json!({ "tools": [{ "type": "function", "function": { "name": "f" } }] }), &[][..]),
        (json!({ "temperature": 1.5 }), &[]),
        (json!({ "n": 2 }), &[]),
        (json!({ "seed": 1 }), &[("x-brokle-cache-semantic", "off")]),
    ] {
        assert_eq!(outcome(&ask(&world, SAME, more, headers).await), "miss");
    }
    assert_eq!(embeddings(&vendor), asked, "nobody is asked what they mean");
    let near =
        ask(&world, "Which author wrote Faust?", json!({}), &[("x-brokle-cache-semantic", "0.999")]).await;
    assert_eq!(outcome(&near), "miss", "not near enough for its caller");
    let bad = ask(&world, SAME, json!({}), &[("x-brokle-cache-semantic", "2")]).await;
    assert_eq!(
        (bad.status(), bad.json().await["error"]["param"].as_str()),
        (400, Some("x-brokle-cache-semantic"))
    );

    let stranger = world.strangers_key().await;
    for _ in 0..2 {
        let body = body("FAUST, the tragedy: which author wrote it?", &json!({}));
        let theirs =
            world.serve(Some(&stranger), Operation::ChatCompletions, &HeaderMap::new(), body.into()).await;
        assert_ne!(outcome(&theirs), "semantic-hit", "another project's");
    }
}

#[tokio::test]
async fn a_route_has_its_own_say() {
    let vendor = vendor().await;
    let (world, _) = world(&vendor, |settings, _| settings.per_user = false).await;
    let caller = world.caller().await;
    for (name, cache) in [
        ("never", json!({ "semantic": false })),
        ("near", json!({ "semantic_threshold": 0.9999 })),
        ("far", json!({ "semantic_threshold": 0.5 })),
    ] {
        let candidates = json!([{ "provider": "openai", "model": "gpt-4o-mini" }]);
        let route = json!({ "name": name, "candidates": candidates, "cache": cache });
        let route = route.as_object().unwrap().clone();
        world.gateway.create_route(&caller, Origin::Project, route).await.unwrap();
    }
    let odd = json!({ "name": "odd", "candidates": [{ "provider": "openai", "model": "m" }], "cache": { "semantic_threshold": 1.1 } });
    let refused =
        world.gateway.create_route(&caller, Origin::Project, odd.as_object().unwrap().clone()).await;
    assert!(refused.unwrap_err().to_string().starts_with("cache.semantic_threshold: "));
    let half = "Which author wrote Werther?";
    for (route, expected) in [("never", "miss"), ("near", "miss"), ("far", "semantic-hit")] {
        assert_eq!(outcome(&ask(&world, FAUST, json!({ "model": route, "user": "ann" }), &[]).await), "miss");
        assert_eq!(
            outcome(&ask(&world, half, json!({ "model": route, "user": "bob" }), &[]).await),
            expected,
            "{route}"
        );
    }
}

#[tokio::test]
async fn without_a_meaning_it_is_a_miss_and_counted() {
    let broken = Vendor::start(|seen| match seen.path.ends_with("/embeddings") {
        true => reply(500, &json!({ "error": { "message": "no" } })),
        false => answer(seen, 0),
    })
    .await;
    let odd = Vendor::start(|seen| match seen.path.ends_with("/embeddings") {
        true => reply(200, &json!({ "data": [{ "embedding": [0, 0] }] })),
        false => answer(seen, 0),
    })
    .await;
    let hanging = Vendor::slow(|seen| {
        Box::pin(async move {
            if seen.path.ends_with("/embeddings") {
                std::future::pending::<()>().await;
            }
            answer(&seen, 0)
        })
    })
    .await;
    for vendor in [&broken, &odd, &hanging] {
        let (world, _) = world(vendor, |settings, _| settings.wait = Duration::from_millis(100)).await;
        for text in [FAUST, SAME] {
            assert_eq!(outcome(&ask(&world, text, json!({}), &[]).await), "miss");
        }
        assert_eq!((counted(&world, "semantic_error"), counted(&world, "miss")), (2, 2));
        assert_eq!(outcome(&ask(&world, FAUST, json!({}), &[]).await), "hit", "the exact cache goes on");
        let status = world.gateway.cache().unwrap().status(world.tenant).await;
        assert_eq!((status.entries, status.semantic_entries), (2, Some(0)));
    }
}

#[tokio::test]
async fn what_is_invalidated_or_over_isnt_found_by_meaning_either() {
    let vendor = vendor().await;
    let (world, clock) = world(&vendor, |_, _| {}).await;
    let cache = world.gateway.cache().unwrap();
    let found =
        async || outcome(&ask(&world, SAME, json!({}), &[("cache-control", "max-age=100")]).await).to_owned();
    let first = ask(&world, FAUST, json!({}), &[]).await;
    let key = first.header("x-brokle-cache-key").unwrap().parse().unwrap();
    let status = cache.status(world.tenant).await;
    assert_eq!((status.entries, status.semantic_entries), (1, Some(1)));
    assert_eq!(found().await, "semantic-hit");
    let one = Selection { key: Some(key), ..Selection::default() };
    assert_eq!(cache.invalidate(world.tenant, &one).await, Ok(1));
    assert_eq!(cache.status(world.tenant).await.semantic_entries, Some(0));
    assert_eq!(found().await, "miss");
    // That one is there now; it grows too old for a caller, then for anybody.
    assert_eq!(outcome(&ask(&world, FAUST, json!({}), &[]).await), "semantic-hit");
    clock.advance(TimeDelta::seconds(101));
    assert_eq!(outcome(&ask(&world, FAUST, json!({}), &[("cache-control", "max-age=100")]).await), "miss");
    clock.advance(TimeDelta::hours(2));
    assert_eq!(found().await, "miss");
    assert_eq!(outcome(&ask(&world, FAUST, json!({}), &[("cache-control", "no-cache")]).await), "miss");
    assert_eq!(outcome(&ask(&world, FAUST, json!({}), &[("cache-control", "no-store")]).await), "bypass");
}

#[tokio::test]
async fn what_embeddings_cost_is_in_the_budget_and_they_see_what_guardrails_left() {
    let vendor = vendor().await;
    let budget = Budget {
        name: "team".into(),
        who: Who { by: vec![By::Project], only: Filter::default() },
        per: Period::Month,
        unit: Unit::Usd,
        limit: "10".parse().unwrap(),
        on_exceeded: OnExceeded::Block,
        unknown_price: UnknownPrice::Allow,
        alert_at: vec![],
    };
    let (world, _) = world(&vendor, |_, extra| extra.budgets = vec![budget]).await;
    let rules = json!({ "replace": [{ "pattern": "Goethe", "with": "somebody" }] });
    guard(&world, vec![guardrail("regex", rules)]).await;
    for text in ["Did Goethe write this tragedy?", "This tragedy, did Goethe write it?"] {
        assert_eq!(ask(&world, text, json!({}), &[]).await.status(), 200);
    }
    assert_eq!(counted(&world, "semantic_hit"), 1);
    for seen in vendor.seen("/") {
        assert!(!seen.text().contains("Goethe"), "{}", seen.text());
    }
    let mut ledger = Usd::ZERO;
    let traces = world.traces().await;
    assert_eq!(traces.len(), 4, "two calls, and two embeddings");
    for trace in traces {
        ledger += trace["cost"].as_str().unwrap().parse().unwrap();
    }
    let caller = world.caller().await;
    assert_eq!(world.gateway.budgets().seen_by(&caller).remove(0).spent, ledger);
    assert!(ledger > Usd::ZERO);
}
