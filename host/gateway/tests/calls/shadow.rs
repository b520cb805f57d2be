//! Shadow calls: made once more beside the caller, compared, and never answered.

use std::borrow::Borrow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_core::clock::{Clock, SystemClock};
use brokle_core::money::Usd;
use brokle_gateway::budgets::{Budget, OnExceeded, Period, Unit, UnknownPrice};
use brokle_gateway::resilience::Resilience;
use brokle_gateway::who::{By, Filter, Who};
use brokle_identity::Principal;
use brokle_storage::sql::api_keys::Restrictions;
use brokle_storage::sql::budgets::SpendKey;
use brokle_test_upstream::Fault;
use chrono::DateTime;
use http::HeaderMap;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::choosing::{call, chat, two, world};
use crate::guardrails::{guard, guardrail};
use crate::harness::{Extra, World, until};

/// `smart` is `a`'s gpt-4o, whose shadow is `b`'s gpt-4o-mini.
fn smart(shadow: impl Borrow<Value>) -> Value {
    let mut whom = json!({ "connection": "b", "model": "gpt-4o-mini", "share": 1.0 });
    whom.as_object_mut().unwrap().extend(shadow.borrow().as_object().unwrap().clone());
    json!({ "name": "smart", "candidates": [{ "connection": "a", "model": "gpt-4o" }],
        "set": { "temperature": 0 }, "shadow": whom })
}

/// What the server runs.
fn run(world: &World) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    let gateway = Arc::clone(&world.gateway);
    tasks.spawn(async move { gateway.run_shadows(std::future::pending()).await });
    tasks
}

/// The originals and the shadows, whole, once there are so many.
async fn pairs(world: &World, shadows: usize) -> (Vec<Value>, Vec<Value>) {
    let is_shadow = |trace: &Value| trace["tags"] == json!(["shadow"]);
    until("the shadows", async || {
        world.traces().await.iter().filter(|one| is_shadow(one)).count() == shadows
    })
    .await;
    let mut whole = Vec::new();
    for trace in world.traces().await {
        let id = trace["trace_id"].as_str().unwrap().parse().unwrap();
        let trace = world.store.trace(world.tenant.project, id).await.unwrap().unwrap();
        whole.push(serde_json::to_value(trace).unwrap()["observations"][0].take());
    }
    whole.into_iter().partition(|one| !is_shadow(one))
}

fn count(world: &World, outcome: &str) -> u32 {
    let text = world.metrics.encode().unwrap();
    let start = format!("brokle_shadows_total{{outcome=\"{outcome}\"}} ");
    text.lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn the_shadow_is_compared_and_the_caller_hears_the_original() {
    let [a, b] = two().await;
    for (more, streaming) in [(json!({}), false), (json!({ "stream": true }), true)] {
        let world = world([&a, &b], &[smart(json!({}))], Extra::default()).await;
        let _running = run(&world);
        let answer = call(&world, &chat("smart", more), &[("x-brokle-session", "s")]).await;
        assert_eq!((answer.status(), answer.header("x-brokle-model")), (200, Some("gpt-4o")));
        let cost = answer.header("x-brokle-cost").map(str::to_owned);
        answer.bytes().await;
        let (originals, shadows) = pairs(&world, 1).await;
        let ([original], [shadow]) = (&originals[..], &shadows[..]) else { panic!("{originals:#?}") };
        let sent: Value = serde_json::from_slice(&b.requests().last().unwrap().body).unwrap();
        assert_eq!(
            (&sent["model"], &sent["temperature"]),
            (&json!("gpt-4o-mini"), &json!(0)),
            "the route's too"
        );

        assert_eq!(original["attributes"]["brokle.shadow.trace_id"], shadow["trace_id"]);
        assert_ne!(original["trace_id"], shadow["trace_id"]);
        let told = &shadow["attributes"];
        assert_eq!(told["brokle.shadow.of"], original["trace_id"], "{shadow:#}");
        assert_eq!(told["brokle.shadow.original_model"], original["model_served"]);
        assert_eq!(told["brokle.shadow.original_status"], 200);
        assert_eq!(
            (&told["brokle.shadow.same_status"], &told["brokle.shadow.same_text"]),
            (&json!(true), &json!(true))
        );
        assert!(told["brokle.shadow.duration_delta_ms"].is_number(), "{shadow:#}");
        assert!(told["brokle.shadow.first_token_delta_ms"].is_number());
        assert_eq!(told["brokle.shadow.output_tokens_delta"], 0);
        if !streaming {
            assert_eq!(told["brokle.shadow.original_cost"].as_str(), cost.as_deref());
        }
        let (dear, cheap): (Usd, Usd) = (
            original["cost"].as_str().unwrap().parse().unwrap(),
            shadow["cost"].as_str().unwrap().parse().unwrap(),
        );
        assert!(cheap > Usd::ZERO && cheap < dear, "its own price: {cheap} {dear}");
        assert_eq!((&shadow["key_id"], &shadow["session"]), (&Value::Null, &Value::Null));
        assert_eq!(
            shadow["children"].as_array().unwrap().iter().filter(|one| one["type"] == "attempt").count(),
            1
        );
        // One call was made.
        let calls = world.metrics.encode().unwrap();
        let total: u32 = calls
            .lines()
            .filter(|line| line.starts_with("brokle_requests_total{"))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<u32>().unwrap())
            .sum();
        assert_eq!((total, count(&world, "made")), (1, 1), "{calls}");
    }
}

#[tokio::test]
async fn what_differs_is_told() {
    let [a, b] = two().await;
    let world = world([&a, &b], &[smart(json!({}))], Extra::default()).await;
    let _running = run(&world);
    b.script(["status=500".parse::<Fault>().unwrap()]);
    assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 200);
    let (_, shadows) = pairs(&world, 1).await;
    let told = &shadows[0]["attributes"];
    assert_eq!(
        (&told["brokle.shadow.same_status"], &told["brokle.shadow.same_text"]),
        (&json!(false), &Value::Null)
    );
    assert_eq!(
        (&shadows[0]["status_code"], &told["brokle.shadow.original_status"]),
        (&json!(500), &json!(200))
    );
    assert_eq!(b.requests().len(), 1, "one attempt");
    // So is an original that failed.
    a.script(["status=400".parse::<Fault>().unwrap()]);
    assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 400);
    let (_, shadows) = pairs(&world, 2).await;
    assert!(shadows.iter().any(|one| one["attributes"]["brokle.shadow.original_status"] == 400));
}

#[tokio::test]
async fn a_shadow_that_hangs_holds_nobody_and_what_is_too_much_is_left_out() {
    let [a, b] = two().await;
    let resilience = Resilience { max_shadows: 1, ..Resilience::default() };
    let world = world([&a, &b], &[smart(json!({}))], Extra { resilience, ..Extra::default() }).await;
    let _running = run(&world);
    b.script(std::iter::repeat_n("hang-head".parse::<Fault>().unwrap(), 2));
    for _ in 0..5 {
        let begun = Instant::now();
        assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 200);
        assert!(begun.elapsed() < Duration::from_secs(4), "the upstream hangs for longer");
        until("the first is under way", async || !b.requests().is_empty()).await;
    }
    // One is under way, one waits.
    assert_eq!((count(&world, "made"), count(&world, "busy")), (2, 3));
    assert_eq!((a.requests().len(), b.requests().len()), (5, 1));
    let linked = world.traces().await.len();
    assert_eq!(linked, 5, "shadows that hang have no trace yet");
}

#[tokio::test]
async fn a_days_money_is_spent_once_and_never_the_callers() {
    let [a, b] = two().await;
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
    let extra = Extra { budgets: vec![budget], ..Extra::default() };
    let world = world([&a, &b], &[smart(json!({ "usd_per_day": "0.000000001" }))], extra).await;
    let _running = run(&world);
    assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 200);
    let (originals, shadows) = pairs(&world, 1).await;
    let caller: Arc<Principal> = world.caller().await;
    let spent = world.gateway.budgets().seen_by(&caller).remove(0).spent;
    assert_eq!(Some(spent.to_string().as_str()), originals[0]["cost"].as_str(), "the original's only");
    assert!(shadows[0]["cost"].as_str().is_some());
    assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 200);
    assert_eq!((count(&world, "made"), count(&world, "budget")), (1, 1));
    assert_eq!(b.requests().len(), 1);
    // It is written beside budgets, so that neither a restart forgets it nor another server spends it again.
    let written = async || {
        let epoch = DateTime::UNIX_EPOCH;
        let all = world.database.budgets().changed(epoch, epoch).await.unwrap();
        all.into_iter()
            .find(|one| one.budget.contains("smart"))
            .map(|one| (one.subject, one.spent.to_string()))
    };
    let cost = shadows[0]["cost"].as_str().unwrap().to_owned();
    let expected = Some((world.tenant.project.to_string(), cost));
    crate::harness::until("it is written", async || written().await == expected).await;
}

#[tokio::test]
async fn what_another_server_or_an_earlier_life_spent_on_shadows_counts() {
    let [a, b] = two().await;
    let world = world([&a, &b], &[smart(json!({ "usd_per_day": "1" }))], Extra::default()).await;
    let now = SystemClock.now();
    let key = SpendKey {
        organization: world.tenant.organization,
        budget: "shadow\u{1f}smart".into(),
        subject: world.tenant.project.to_string(),
        period: "day",
        start: now.date_naive().and_hms_opt(0, 0, 0).unwrap().and_utc(),
    };
    let spent = [(key, "1".parse().unwrap())];
    world.database.budgets().add(world.tenant.organization, &spent, now).await.unwrap();
    let _running = run(&world);
    assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 200);
    crate::harness::until("it is left out", async || count(&world, "budget") == 1).await;
    // From now on it is known here, and not even ordered.
    assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 200);
    crate::harness::until("so is the next", async || count(&world, "budget") == 2).await;
    assert_eq!((count(&world, "made"), b.requests().len()), (1, 0));
}

#[tokio::test]
async fn a_share_of_the_calls_that_it_is_for_has_a_shadow() {
    let [a, b] = two().await;
    let resilience = Resilience { max_shadows: 1_000, ..Resilience::default() };
    let route = smart(json!({ "share": 0.25, "when": "not stream" }));
    let world = world([&a, &b], &[route], Extra { resilience, ..Extra::default() }).await;
    let _running = run(&world);
    for _ in 0..200 {
        assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 200);
    }
    let made = count(&world, "made");
    // 50, and four standard deviations.
    assert!((25..=75).contains(&made), "{made}");
    assert_eq!(count(&world, "busy") + count(&world, "budget"), 0);
    for _ in 0..20 {
        call(&world, &chat("smart", json!({ "stream": true })), &[]).await.bytes().await;
    }
    assert_eq!(count(&world, "made"), made, "the condition");
    until("all are made", async || b.requests().len() == made as usize).await;
}

#[tokio::test]
async fn a_shadow_is_nothing_that_its_caller_mustnt() {
    let [a, b] = two().await;
    let world = world([&a, &b], &[smart(json!({}))], Extra::default()).await;
    let _running = run(&world);
    let only = Restrictions { models: vec!["openai/gpt-4o".into()], ..Restrictions::default() };
    let key = world.restricted_key(only).await;
    let body = chat("smart", json!({})).into();
    let operation = brokle_gateway::Operation::ChatCompletions;
    assert_eq!(world.serve(Some(&key), operation, &HeaderMap::new(), body).await.status(), 200);
    let mine = chat("smart", json!({ "provider": { "only": ["a"] } }));
    assert_eq!(call(&world, &mine, &[]).await.status(), 200, "what goes to nobody else");
    // One whose client leaves isn't made again.
    a.script(["events=50;delay=20".parse::<Fault>().unwrap()]);
    drop(call(&world, &chat("smart", json!({ "stream": true })), &[]).await);
    // What a guardrail refuses isn't sent anywhere, what it changes is sent as changed, and what it hasn't seen isn't kept.
    guard(
        &world,
        vec![guardrail(
            "regex",
            json!({ "deny": [{ "pattern": "forbidden" }], "replace": [{ "pattern": "hi", "with": "hello" }] }),
        )],
    )
    .await;
    let refused = call(&world, &chat("smart", json!({ "user": "forbidden" })), &[]).await;
    assert!(refused.status() >= 400);
    assert!(b.requests().is_empty());
    assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 200);
    let (_, shadows) = pairs(&world, 1).await;
    let sent: Value = serde_json::from_slice(&b.requests()[0].body).unwrap();
    assert_ne!(sent["messages"][0]["content"], "hi", "{sent}");
    assert_eq!((&shadows[0]["input"], &shadows[0]["output"]), (&Value::Null, &Value::Null), "{shadows:#?}");
}
