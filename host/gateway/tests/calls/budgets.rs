//! Budgets hold, are told, and come to the same sum as the traces.

use std::sync::Arc;

use brokle_core::clock::SystemClock;
use brokle_core::money::Usd;
use brokle_gateway::budgets::{Budget, OnExceeded, Period, Unit, UnknownPrice};
use brokle_gateway::routing::routes::{ChosenPolicy, Route, RouteCandidate, Routing, Target};
use brokle_gateway::who::{By, Filter, Who};
use brokle_test_upstream::Upstream;
use http_body_util::BodyExt;

use crate::harness::{Extra, To, World, openai, world_extra};

/// What the upstream is told by a model's name, which has a price nevertheless.
const LONG: &str = "gpt-4o-mini!events=1000;delay=20";
const SLOW: &str = "gpt-4o-mini!slow-head=20";

fn budget(usd: &str) -> Budget {
    Budget {
        name: "team".into(),
        who: Who { by: vec![By::Project], only: Filter::default() },
        per: Period::Month,
        unit: Unit::Usd,
        limit: usd.parse().unwrap(),
        on_exceeded: OnExceeded::Block,
        unknown_price: UnknownPrice::Allow,
        alert_at: vec![80],
    }
}

async fn with(connections: Vec<To>, budget: Budget) -> World {
    let priced = vec![LONG, SLOW];
    let extra = Extra { budgets: vec![budget], priced, ..Extra::default() };
    world_extra(connections, Arc::new(SystemClock), extra).await
}

async fn state(world: &World) -> brokle_gateway::budgets::BudgetState {
    let principal = world.keys.authenticate(&world.key).await.unwrap();
    world.gateway.budgets().seen_by(&principal).remove(0)
}

/// What the traces' costs come to.
async fn ledger(world: &World) -> Usd {
    world.traces().await;
    let (mut sum, mut cursor) = (Usd::ZERO, None);
    loop {
        let page = world.store.list(world.tenant.project, Default::default(), 100, cursor).await.unwrap();
        let page = serde_json::to_value(page).unwrap();
        let costs = page["data"].as_array().unwrap().iter().filter_map(|trace| trace["cost"].as_str());
        sum += costs.map(|cost| cost.parse::<Usd>().unwrap()).sum();
        match page["next_cursor"].as_str() {
            Some(next) => cursor = Some(next.parse().unwrap()),
            None => return sum,
        }
    }
}

#[tokio::test]
async fn tokens_are_set_aside_and_then_counted() {
    let upstream = Upstream::start().await.unwrap();
    let tokens = Budget { unit: Unit::Tokens, ..budget("2000") };
    let world = with(vec![openai("a", &upstream, 0)], tokens).await;
    // More than there is: nobody is asked.
    let refused = world.chat("openai/gpt-4o-mini", r#","max_tokens":5000"#).await;
    assert_eq!((refused.status(), refused.header("x-should-retry")), (429, Some("false")));
    assert_eq!(refused.json().await["error"]["code"], "budget_exceeded");
    assert!(upstream.requests().is_empty());
    let answer = world.chat("openai/gpt-4o-mini", r#","max_tokens":1500"#).await;
    let used = answer.json().await["usage"]["total_tokens"].as_u64().unwrap();
    let now = state(&world).await;
    assert_eq!((now.spent, now.reserved), (Usd::new(used.into()), Usd::ZERO));
    let failed = world.chat("openai/gpt-4o-mini!status=500", r#","max_tokens":1500"#).await;
    assert_eq!(failed.status(), 500);
    assert_eq!((state(&world).await.spent, state(&world).await.reserved), (now.spent, Usd::ZERO));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_counter_is_the_ledger_whatever_becomes_of_calls() {
    let upstream = Upstream::start().await.unwrap();
    let world = with(vec![openai("a", &upstream, 0)], budget("100")).await;
    assert_eq!(world.chat("openai/gpt-4o-mini", "").await.status(), 200);
    world.chat("openai/gpt-4o-mini", r#","stream":true"#).await.events().await;
    world.chat("openai/gpt-4o-mini!status=500", "").await;
    world.chat("openai/gpt-4o-mini!status=400", "").await;
    let left = world.chat(&format!("openai/{LONG}"), r#","stream":true,"max_tokens":9000"#).await;
    let reserved = state(&world).await.reserved;
    assert!(reserved >= "0.0054".parse().unwrap(), "9,000 tokens at 0.60 a million: {reserved}");
    let mut body = left.0.into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    let state = state(&world).await;
    assert_eq!(state.reserved, Usd::ZERO);
    let ledger = ledger(&world).await;
    assert!(ledger > Usd::ZERO);
    assert_eq!(state.spent, ledger);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_calls_at_the_limit_dont_overspend() {
    let upstream = Upstream::start().await.unwrap();
    // About 600 output tokens may be paid for; each call asks for 100.
    let world = Arc::new(with(vec![openai("a", &upstream, 0)], budget("0.00037")).await);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let world = world.clone();
        calls.spawn(async move {
            let answer = world.chat(&format!("openai/{SLOW}"), r#","max_tokens":100"#).await;
            let status = answer.status();
            if status == 429 {
                assert_eq!(answer.header("x-should-retry"), Some("false"));
                assert!(answer.header("retry-after").is_some());
                let error = answer.json().await["error"].take();
                assert_eq!(error["code"], "budget_exceeded");
                assert!(error["message"].as_str().unwrap().contains("per month"), "{error}");
            }
            status
        });
    }
    let statuses = calls.join_all().await;
    let passed = statuses.iter().filter(|status| **status == 200).count();
    assert!(
        passed >= 1 && statuses.contains(&429),
        "{:?}",
        statuses.iter().collect::<std::collections::BTreeSet<_>>()
    );
    assert_eq!(passed, upstream.requests().len());
    let state = state(&world).await;
    assert!(state.spent <= state.limit, "{} of {}", state.spent, state.limit);
    assert_eq!((state.spent, state.reserved), (ledger(&world).await, Usd::ZERO));
    assert!(world.metrics.encode().unwrap().contains(r#"brokle_budget_refusals_total{budget="team"}"#));
}

#[tokio::test]
async fn a_cheaper_candidate_serves_what_a_budget_refuses_the_first() {
    let upstream = Upstream::start().await.unwrap();
    let candidate = |model: &str, priority| RouteCandidate {
        target: Target::Connection("a".into()),
        model: model.into(),
        priority,
        weight: 1,
        when: None,
    };
    let candidates = vec![candidate("gpt-4o", 0), candidate("gpt-4o-mini", 1), candidate("my-own", 2)];
    let route = Route {
        name: "smart".into(),
        policy: ChosenPolicy::named("priority"),
        candidates,
        ..Route::default()
    };
    let routing = Routing { routes: vec![route], ..Routing::default() };
    // 1,000 tokens of gpt-4o's may cost 0.01, of gpt-4o-mini's 0.0006. What my-own costs nobody knows.
    let budget = Budget { unknown_price: UnknownPrice::Refuse, ..budget("0.001") };
    let extra = Extra { budgets: vec![budget], routing, ..Extra::default() };
    let world = world_extra(vec![openai("a", &upstream, 0)], Arc::new(SystemClock), extra).await;
    let answer = world.chat("smart", r#","max_tokens":1000"#).await;
    assert_eq!((answer.status(), answer.header("x-brokle-model")), (200, Some("gpt-4o-mini")));
    assert_eq!(upstream.requests().len(), 1);
    assert_eq!(world.chat("openai/gpt-4o", r#","max_tokens":1000"#).await.status(), 429);
    let unknown = world.chat("openai/my-own", "").await;
    assert_eq!(
        (unknown.status(), unknown.json().await["error"]["code"].as_str()),
        (403, Some("price_unknown"))
    );
}

#[tokio::test]
async fn an_alert_is_on_the_answer_and_in_the_metrics() {
    let upstream = Upstream::start().await.unwrap();
    let rule = Budget { on_exceeded: OnExceeded::Alert, ..budget("0.0000001") };
    let world = with(vec![openai("a", &upstream, 0)], rule).await;
    let first = world.chat("openai/gpt-4o-mini", "").await;
    assert_eq!((first.status(), first.header("x-brokle-budget")), (200, None));
    drop(first);
    let second = world.chat("openai/gpt-4o-mini", "").await;
    assert_eq!(second.status(), 200);
    assert!(second.header("x-brokle-budget").unwrap().starts_with("team;used="));
    assert!(world.metrics.encode().unwrap().contains(r#"brokle_budget_alerts_total{budget="team"} 2"#));
}
