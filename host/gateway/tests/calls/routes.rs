//! Routes and policies: who is asked, what is told of it, and what happens when a policy fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_core::ids::ProjectId;
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_expression::Expression;
use brokle_gateway::connections::NewConnection;
use brokle_gateway::routing::manage::Stored;
use brokle_gateway::routing::routes::{
    ChosenPolicy, Origin, PolicyFault, Route, RouteCandidate, Routing, Target, choose,
};
use brokle_gateway::{Operation, Timeouts};
use brokle_identity::{Principal, Secret};
use brokle_storage::sql::{Page, StorageError};
use brokle_test_upstream::{Fault, Upstream};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use crate::harness::{World, world_routed};

fn to(connection: &str, model: &str, weight: u32) -> RouteCandidate {
    let target = Target::Connection(connection.into());
    RouteCandidate { target, model: model.into(), priority: 0, weight, when: None }
}

fn route(name: &str, policy: &str, candidates: Vec<RouteCandidate>) -> Route {
    Route { name: name.into(), policy: ChosenPolicy::named(policy), candidates, ..Route::default() }
}

/// Two connections to an OpenAI each, and these routes.
async fn world(upstreams: [&Upstream; 2], routes: Vec<Route>, policies: &[&str]) -> World {
    let connection = |(name, upstream): (&str, &Upstream)| {
        let new = NewConnection {
            name: name.into(),
            base_url: Some(upstream.base_url()),
            secrets: vec![Secret::new("sk-very-secret".into())],
            weight: 1,
            ..NewConnection::default()
        };
        ("provider_openai", new)
    };
    let connections = ["a", "b"].into_iter().zip(upstreams).map(connection).collect();
    let timeouts = Timeouts { first_byte: Duration::from_secs(5), ..Timeouts::default() };
    let routing = Routing { routes, ..Routing::default() };
    routing.check().unwrap();
    world_routed(connections, timeouts, false, Arc::new(SystemClock), routing, policies).await
}

async fn two() -> [Upstream; 2] {
    [Upstream::start().await.unwrap(), Upstream::start().await.unwrap()]
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value))).collect()
}

const CHAT: &str = r#"{"model":"smart","messages":[{"role":"user","content":"hi"}]}"#;

async fn explain(world: &World, body: &str, headers: &HeaderMap) -> Result<Value, (u16, String)> {
    let caller = world.keys.authenticate(&world.key).await.unwrap();
    let told = world.gateway.explain(&caller, headers, body.to_owned().into()).await;
    told.map(|told| serde_json::to_value(told).unwrap())
        .map_err(|refusal| (refusal.status, refusal.code.into_owned()))
}

#[tokio::test]
async fn a_route_is_called_by_its_name_and_each_candidate_gets_its_own_model() {
    let [a, b] = two().await;
    let smart =
        route("smart", "priority", vec![to("b", "large", 1), to("a", "small", 1), to("gone", "x", 1)]);
    let gone = route("gone", "priority", vec![to("gone", "x", 1)]);
    let world = world([&a, &b], vec![smart, gone], &[]).await;
    b.script(["status=500".parse::<Fault>().unwrap()]);
    let answer = world.chat("smart", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("2")));
    assert_eq!(answer.header("x-brokle-model"), Some("small"));
    let sent: Value = serde_json::from_slice(&a.requests()[0].body).unwrap();
    assert_eq!(sent["model"], "small");
    let trace = world.only_trace().await;
    assert_eq!(trace["attributes"]["brokle.route"], "smart");
    let policy =
        trace["children"].as_array().unwrap().iter().find(|child| child["type"] == "plugin").unwrap();
    let told = &policy["attributes"];
    assert_eq!(told["brokle.routing.order"], json!(["b/large", "a/small"]), "{policy:#}");
    assert_eq!(told["brokle.routing.candidates"], json!(["b/large", "a/small"]));
    assert_eq!(
        (&told["brokle.routing.policy"], &told["brokle.routing.reason"]),
        (&json!("priority"), &json!("priority"))
    );

    let caller = world.caller().await;
    let models = world.gateway.models(&caller).await;
    let listed =
        |name: &str| models.iter().find(|model| model.id == name).map(|model| model.owned_by.as_str());
    assert_eq!((listed("smart"), listed("gone"), listed("gpt-4o")), (Some("brokle"), None, Some("openai")));
    let refused = world.chat("gone", "").await;
    assert_eq!(
        (refused.status(), refused.json().await["error"]["code"].take()),
        (404, json!("route_not_found"))
    );
}

#[tokio::test]
async fn the_header_chooses_among_the_routes_that_there_are() {
    let [a, b] = two().await;
    let world = world([&a, &b], vec![route("smart", "priority", vec![to("b", "large", 1)])], &[]).await;
    let body = CHAT.replace("smart", "gpt-4o");
    let call = async |route: &'static str| {
        world.call_with(Operation::ChatCompletions, &body, headers(&[("x-brokle-route", route)])).await
    };
    let answer = call("smart").await;
    assert_eq!((answer.status(), answer.header("x-brokle-model")), (200, Some("large")));
    for absent in ["other", "", "gpt-4o", "openai/gpt-4o"] {
        let refused = call(absent).await;
        assert_eq!(
            (refused.status(), refused.json().await["error"]["code"].take()),
            (404, json!("route_not_found"))
        );
    }
    assert_eq!((a.requests().len(), b.requests().len()), (0, 1));
    assert!(!b.requests()[0].headers.iter().any(|(name, _)| name.to_string().starts_with("x-brokle")));
}

#[tokio::test]
async fn a_policy_that_fails_leaves_the_built_in_order_and_is_counted() {
    let [a, b] = two().await;
    let names = ["panic", "spin", "misconfigured", "stray"];
    let candidates = || vec![to("a", "m", 1), to("b", "m", 1)];
    let mut routes: Vec<Route> = names.map(|name| route(name, "misrouting", candidates())).into();
    routes.push(route("empty", "misrouting", candidates()));
    routes.push(route("twice", "misrouting", candidates()));
    routes.push(route("absent", "nobody", candidates()));
    let world = world([&a, &b], routes, &["misrouting"]).await;
    for name in names {
        let answer = world.chat(name, "").await;
        assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("1")), "{name}");
        let newest = world.traces().await.remove(0);
        assert_eq!(newest["connection_id"], "a", "{name}");
    }
    let failures = |policy: &str| {
        let text = world.metrics.encode().unwrap();
        let start = format!("brokle_policy_failures_total{{plugin=\"{policy}\"}} ");
        text.lines().find_map(|line| line.strip_prefix(&start)?.parse::<u32>().ok())
    };
    assert_eq!(failures("test.misrouting"), Some(4));
    assert!(
        world.metrics.encode().unwrap().contains(r#"brokle_plugin_traps_total{plugin="test.misrouting"} 2"#)
    );
    // The built-in order has what cools down last.
    a.script(["status=429;retry-after=60".parse::<Fault>().unwrap()]);
    assert_eq!(world.chat("panic", "").await.header("x-brokle-attempts"), Some("2"));
    assert_eq!(world.chat("panic", "").await.header("x-brokle-attempts"), Some("1"));
    let told = explain(&world, &CHAT.replace("smart", "panic"), &HeaderMap::new()).await.unwrap();
    assert_eq!(told["order"][0]["connection"], "b");
    assert!(told["fallback"].as_str().unwrap().contains("trapped"), "{told:#}");
    // One that refuses hasn't failed, and one that names a candidate twice has it tried once.
    let refused = world.chat("empty", "").await;
    assert_eq!(
        (refused.status(), refused.json().await["error"]["code"].take()),
        (503, json!("no_candidate"))
    );
    assert_eq!(world.chat("twice", "").await.header("x-brokle-attempts"), Some("1"));
    let before = failures("test.misrouting");
    assert_eq!(world.chat("absent", "").await.status(), 200);
    assert_eq!((failures("nobody"), failures("test.misrouting")), (Some(1), before));
}

#[tokio::test]
async fn round_robin_takes_turns_and_an_explanation_takes_none() {
    let [a, b] = two().await;
    let turns = route("smart", "round-robin", vec![to("a", "m", 1), to("b", "m", 1)]);
    let world = world([&a, &b], vec![turns], &["policy_round_robin"]).await;
    let mut asked = Vec::new();
    for _ in 0..6 {
        let told = explain(&world, CHAT, &HeaderMap::new()).await.unwrap();
        assert_eq!(told["order"], explain(&world, CHAT, &HeaderMap::new()).await.unwrap()["order"]);
        let before = (a.requests().len(), b.requests().len());
        assert_eq!(world.chat("smart", "").await.status(), 200);
        let called = if a.requests().len() > before.0 { "a" } else { "b" };
        assert_eq!(told["order"][0]["connection"], called);
        asked.push(called);
        // Calls by other names don't take this one's turns.
        assert_eq!(world.chat("gpt-4o", "").await.status(), 200);
    }
    let mut counts = BTreeMap::new();
    for pair in asked.windows(2) {
        assert_ne!(pair[0], pair[1], "{asked:?}");
        *counts.entry(pair[0]).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 2);
}

#[tokio::test]
async fn a_session_stays_where_it_is_and_others_are_elsewhere() {
    let [a, b] = two().await;
    let sticky = route("smart", "sticky", vec![to("a", "m", 1), to("b", "m", 1)]);
    let world = world([&a, &b], vec![sticky], &["policy_sticky"]).await;
    let home = async |headers: &HeaderMap, more: &str| {
        let body = CHAT.replace("}]}", &format!("}}]{more}}}"));
        explain(&world, &body, headers).await.unwrap()["order"][0]["connection"].as_str().unwrap().to_owned()
    };
    let mut homes = BTreeMap::new();
    for number in 0..40 {
        let session: HeaderMap =
            [("x-brokle-session".parse().unwrap(), HeaderValue::from(number))].into_iter().collect();
        let first = home(&session, "").await;
        // Whatever else the call says.
        assert_eq!(home(&session, r#","user":"u""#).await, first);
        *homes.entry(first).or_insert(0) += 1;
        let cached = home(&HeaderMap::new(), &format!(r#","prompt_cache_key":"k{number}""#)).await;
        assert_eq!(
            home(&HeaderMap::new(), &format!(r#","prompt_cache_key":"k{number}","user":"u""#)).await,
            cached
        );
    }
    assert!(homes.len() == 2 && homes.values().all(|count| *count >= 8), "{homes:?}");
}

#[tokio::test]
async fn a_slow_candidate_is_avoided_after_its_first_answer() {
    let [a, b] = two().await;
    let fast = route("smart", "latency", vec![to("a", "m", 1), to("b", "m", 1)]);
    let world = world([&a, &b], vec![fast], &["policy_latency"]).await;
    a.script(std::iter::repeat_n("slow-head=700".parse::<Fault>().unwrap(), 100));
    // Both are measured: an unmeasured one counts as fast as the fastest.
    while a.requests().is_empty() || b.requests().is_empty() {
        assert_eq!(world.chat("smart", "").await.status(), 200);
    }
    let before = a.requests().len();
    for _ in 0..30 {
        assert_eq!(world.chat("smart", "").await.status(), 200);
    }
    assert_eq!(a.requests().len(), before);
    let told = explain(&world, CHAT, &HeaderMap::new()).await.unwrap();
    assert_eq!(told["order"][0]["connection"], "b");
    let latency = |at: usize| told["candidates"][at]["latency_ms"].as_f64().unwrap();
    assert!(latency(0) > latency(1), "{told:#}");
    assert_eq!(told["candidates"][0]["in_flight"], 0);
}

#[tokio::test]
async fn an_explanation_calls_nothing_and_tells_what_policies_are_told() {
    let [a, b] = two().await;
    let cheap = route("smart", "cost", vec![to("a", "gpt-4o", 1), to("b", "gpt-4o-mini", 7)]);
    let world = world([&a, &b], vec![cheap], &["policy_cost"]).await;
    let told = explain(&world, CHAT, &HeaderMap::new()).await.unwrap();
    assert_eq!(
        (&told["route"], &told["policy"], &told["fallback"]),
        (&json!("smart"), &json!("cost"), &Value::Null)
    );
    assert_eq!(told["order"][0], json!({"connection": "b", "provider": "openai", "model": "gpt-4o-mini"}));
    let second = &told["candidates"][1];
    assert_eq!(
        (&second["weight"], &second["available"], &second["latency_ms"]),
        (&json!(7), &json!(true), &Value::Null)
    );
    assert!(
        second["input_price"].as_f64().unwrap() > 0.0 && second["context_window"].as_u64().unwrap() > 1_000
    );
    assert!(second["features"].as_array().unwrap().contains(&json!("tools")));
    let by_model = explain(&world, &CHAT.replace("smart", "gpt-4o"), &HeaderMap::new()).await.unwrap();
    assert_eq!((&by_model["route"], &by_model["policy"]), (&Value::Null, &json!("priority")));
    let embedded = explain(&world, r#"{"model":"smart","input":"x"}"#, &HeaderMap::new()).await.unwrap();
    assert_eq!(embedded["order"].as_array().unwrap().len(), 2);
    let nowhere = headers(&[("x-brokle-route", "other")]);
    assert_eq!(explain(&world, CHAT, &nowhere).await, Err((404, "route_not_found".into())));
    assert_eq!(explain(&world, "{", &HeaderMap::new()).await, Err((400, "invalid_json".into())));
    assert_eq!(
        explain(&world, &CHAT.replace("smart", "nothing"), &HeaderMap::new()).await,
        Err((404, "model_not_found".into()))
    );
    assert!(a.requests().is_empty() && b.requests().is_empty() && world.traces().await.is_empty());
    // It costs a sandbox, so it counts.
    let limited = world.limited_key(1).await;
    let caller = world.keys.authenticate(&limited).await.unwrap();
    let ask = async || world.gateway.explain(&caller, &HeaderMap::new(), CHAT.into()).await;
    assert!(ask().await.is_ok());
    assert_eq!(ask().await.unwrap_err().status, 429);
}

#[tokio::test]
async fn a_policy_is_chosen_by_name_and_configured_by_its_schema() {
    let [a, b] = two().await;
    let world = world([&a, &b], Vec::new(), &["policy_latency", "policy_cost"]).await;
    let plugins = world.plugins.load();
    let view = plugins.instance();
    assert!(choose(view, "latency", None).await.unwrap().config.is_none());
    assert_eq!(choose(view, "brokle.policy-cost", None).await.unwrap().name, "brokle.policy-cost");
    let Err(fault @ PolicyFault::Unknown { .. }) = choose(view, "latancy", None).await else { panic!() };
    let words =
        "there is no routing policy 'latancy' (did you mean latency?); there are cost, latency, priority";
    assert_eq!(fault.to_string(), words);
    assert!(choose(view, "cost", Some(&json!({"output_tokens": 9}))).await.unwrap().config.is_some());
    let wrong = choose(view, "cost", Some(&json!({"output_tokens": "many"}))).await.unwrap_err();
    assert!(wrong.to_string().starts_with("config/output_tokens: "), "{wrong}");
}

/// A definition of a route to `a`.
fn written(name: &str, model: &str) -> serde_json::Map<String, Value> {
    let route = json!({ "name": name, "candidates": [{ "connection": "a", "model": model }] });
    serde_json::from_value(route).unwrap()
}

#[tokio::test]
async fn stored_routes_outlive_the_database() {
    let [a, b] = two().await;
    let world = world([&a, &b], vec![route("fixed", "priority", vec![to("a", "fixed", 1)])], &[]).await;
    let caller = world.keys.authenticate(&world.key).await.unwrap();
    world.gateway.create_route(&caller, Origin::Project, written("mine", "one")).await.unwrap();
    assert_eq!(world.chat("mine", "").await.header("x-brokle-model"), Some("one"));
    // A change that was heard of, but not read before the database went away.
    world.gateway.create_route(&caller, Origin::Project, written("later", "two")).await.unwrap();
    world.database.close().await;
    for _ in 0..2 {
        world.gateway.poll_revision().await;
        assert_eq!(world.chat("mine", "").await.header("x-brokle-model"), Some("one"));
    }
    let stranger = Principal { tenant: another(world.tenant), ..(*caller).clone() };
    let told = |name: &str| {
        let body = CHAT.replace("smart", name).into();
        let (gateway, stranger) = (&world.gateway, &stranger);
        async move { gateway.explain(stranger, &HeaderMap::new(), body).await }
    };
    // Nothing of its project was ever read, neither routes nor connections: what configuration has serves.
    let fixed = serde_json::to_value(told("fixed").await.unwrap()).unwrap();
    assert_eq!(
        (&fixed["route"], &fixed["order"][0]["connection"]),
        (&"fixed".into(), &"a".into()),
        "{fixed:#}"
    );
    assert_eq!(told("mine").await.unwrap_err().code, "model_not_found");
}

/// Another project of the same organization.
fn another(tenant: Tenant) -> Tenant {
    Tenant { project: ProjectId::generate(&SystemClock, &SystemRandom), ..tenant }
}

#[tokio::test]
async fn a_projects_route_is_nobody_elses() {
    let [a, b] = two().await;
    let world = world([&a, &b], Vec::new(), &[]).await;
    let caller = world.keys.authenticate(&world.key).await.unwrap();
    let mine = world.gateway.create_route(&caller, Origin::Project, written("mine", "one")).await.unwrap();
    world.gateway.create_route(&caller, Origin::Organization, written("ours", "two")).await.unwrap();
    let neighbor = another(world.tenant);
    let names = |routes: Vec<Stored>| routes.into_iter().map(|route| route.name).collect::<Vec<_>>();
    let seen = async |tenant| names(world.gateway.list_routes(tenant, Page::first(9)).await.unwrap());
    assert_eq!((seen(world.tenant).await.len(), seen(neighbor).await), (2, vec!["ours".to_owned()]));
    for name in ["mine", &mine.id.to_string()] {
        let found = world.gateway.stored_route(neighbor, name).await;
        assert!(matches!(found, Err(StorageError::NotFound)), "{found:?}");
    }
    let caller = Principal { tenant: neighbor, ..(*world.caller().await).clone() };
    let ids: Vec<String> = world.gateway.models(&caller).await.into_iter().map(|model| model.id).collect();
    assert!(ids.contains(&"ours".to_owned()) && !ids.contains(&"mine".to_owned()), "{ids:?}");
}

#[tokio::test]
async fn what_a_configured_condition_says_isnt_told() {
    let [a, b] = two().await;
    let only = |user: &str| Some(Expression::read(&format!("user == '{user}'")).unwrap());
    let candidates = vec![
        RouteCandidate { when: only("somebody"), ..to("a", "one", 1) },
        RouteCandidate { when: only("ann"), ..to("b", "two", 1) },
    ];
    let world = world([&a, &b], vec![route("smart", "priority", candidates)], &[]).await;
    let told = explain(&world, CHAT, &headers(&[("x-brokle-user", "ann")])).await.unwrap();
    assert_eq!(told["excluded"], json!([{ "connection": "a", "model": "one", "because": "when" }]));
    let refused = world.chat("smart", "").await;
    let error = refused.json().await["error"].take();
    assert_eq!(error["code"], "no_candidate_matches");
    assert_eq!(error["message"], "No candidate is for such a request: the route's conditions.");
}
