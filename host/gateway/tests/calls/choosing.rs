//! What a route says of its calls, and what callers say of who may serve.

use std::borrow::Borrow;
use std::sync::Arc;

use brokle_core::clock::SystemClock;
use brokle_gateway::Operation;
use brokle_gateway::cache::Settings;
use brokle_gateway::routing::routes::Origin;
use brokle_test_upstream::{Fault, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use crate::guardrails::{guard, guardrail};
use crate::harness::{Answer, Extra, To, World, openai, world_extra};

/// Connections `a` and `b` to an OpenAI each, at which two models have a price, and these routes of the project's.
pub async fn world(upstreams: [&Upstream; 2], routes: &[Value], extra: Extra) -> World {
    let [a, b] = upstreams;
    let world = world_extra(vec![openai("a", a, 0), openai("b", b, 1)], Arc::new(SystemClock), extra).await;
    for route in routes {
        make(&world, route).await;
    }
    world
}

async fn make(world: &World, route: &Value) {
    let caller = world.keys.authenticate(&world.key).await.unwrap();
    let route = route.as_object().unwrap().clone();
    world.gateway.create_route(&caller, Origin::Project, route).await.unwrap();
}

pub async fn two() -> [Upstream; 2] {
    [Upstream::start().await.unwrap(), Upstream::start().await.unwrap()]
}

pub fn chat(model: &str, more: impl Borrow<Value>) -> String {
    let mut body = json!({ "model": model, "messages": [{ "role": "user", "content": "hi" }] });
    body.as_object_mut().unwrap().extend(more.borrow().as_object().unwrap().clone());
    body.to_string()
}

pub async fn call(world: &World, body: &str, headers: &[(&'static str, &'static str)]) -> Answer {
    let headers =
        headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    world.call_with(Operation::ChatCompletions, body, headers.collect()).await
}

/// The model that serves, or the error's code.
async fn served(world: &World, body: &str, headers: &[(&'static str, &'static str)]) -> String {
    let answer = call(world, body, headers).await;
    match answer.header("x-brokle-model") {
        Some(model) if answer.status() == 200 => model.to_owned(),
        _ => answer.json().await["error"]["code"].as_str().unwrap().to_owned(),
    }
}

async fn explain(world: &World, body: &str) -> Value {
    let caller = world.keys.authenticate(&world.key).await.unwrap();
    let told = world.gateway.explain(&caller, &HeaderMap::new(), body.to_owned().into()).await.unwrap();
    serde_json::to_value(told).unwrap()
}

fn sent(upstream: &Upstream) -> Value {
    serde_json::from_slice(&upstream.requests().last().unwrap().body).unwrap()
}

#[tokio::test]
async fn a_candidate_is_one_for_the_calls_that_its_condition_is_for() {
    let [a, b] = two().await;
    let route = json!({ "name": "smart", "candidates": [
        { "connection": "a", "model": "tooled", "when": "tools" },
        { "connection": "a", "model": "gold", "when": "metadata.tier == 'gold' and not stream" },
        { "connection": "a", "model": "ann", "when": "user == 'ann' or tags contains 'vip'" },
        { "connection": "b", "model": "usual", "when": "input_tokens < 1000" },
    ], "fallbacks": { "general": [{ "connection": "b", "model": "spare", "when": "user == 'bob'" }] } });
    let world = world([&a, &b], &[route], Extra::default()).await;
    for (more, headers, expected) in [
        (json!({}), &[][..], "usual"),
        (json!({ "tools": [{}] }), &[], "tooled"),
        (json!({ "metadata": { "tier": "gold" } }), &[], "gold"),
        (json!({ "metadata": { "tier": "tin" } }), &[], "usual"),
        (json!({ "user": "ann" }), &[], "ann"),
        (json!({ "user": "ann" }), &[("x-brokle-user", "bob")], "usual"),
        (json!({}), &[("x-brokle-tags", "a, vip")], "ann"),
        (json!({ "pad": "x".repeat(5_000) }), &[], "no_candidate_matches"),
    ] {
        assert_eq!(served(&world, &chat("smart", &more), headers).await, expected, "{more}");
    }
    let told = explain(&world, &chat("smart", json!({ "user": "ann" }))).await;
    let excluded = json!([
        { "connection": "a", "model": "tooled", "because": "tools" },
        { "connection": "a", "model": "gold", "because": "metadata.tier == 'gold' and not stream" },
    ]);
    assert_eq!(
        (&told["excluded"], &told["scope"], &told["version"]),
        (&excluded, &json!("project"), &json!(1))
    );

    b.script(["status=500".parse::<Fault>().unwrap()]);
    assert_eq!(served(&world, &chat("smart", json!({ "user": "bob" })), &[]).await, "spare");
    b.script(["status=500".parse::<Fault>().unwrap()]);
    assert_eq!(call(&world, &chat("smart", json!({})), &[]).await.status(), 500);
}

#[tokio::test]
async fn the_trace_says_what_was_known_and_who_was_left_out() {
    let [a, b] = two().await;
    let route = json!({ "name": "smart", "candidates": [
        { "connection": "a", "model": "tooled", "when": "tools" },
        { "connection": "a", "model": "gpt-4o" },
        { "connection": "b", "model": "gpt-4o-mini" },
    ] });
    let world = world([&a, &b], &[route], Extra::default()).await;
    assert_eq!(served(&world, &chat("smart", json!({})), &[]).await, "gpt-4o");
    let trace = world.only_trace().await;
    assert_eq!(trace["attributes"]["brokle.route.version"], 1);
    let steps = trace["children"].as_array().unwrap();
    let told = &steps.iter().find(|step| step["type"] == "plugin").unwrap()["attributes"];
    assert_eq!(told["brokle.routing.excluded"], json!(["a/tooled: tools"]));
    let facts = told["brokle.routing.facts"].as_array().unwrap();
    assert_eq!((facts.len(), &facts[0]["in_flight"]), (2, &json!(0)), "{told:#}");
    assert!(
        facts[1]["input_price"].as_f64().unwrap() < facts[0]["input_price"].as_f64().unwrap(),
        "{told:#}"
    );
}

#[tokio::test]
async fn aliases_and_patterns_lead_to_the_narrowest_and_best_spelled_route() {
    let [a, b] = two().await;
    let to = |model: &str| json!([{ "connection": "a", "model": model }]);
    let routes = [
        json!({ "name": "any", "aliases": ["*"], "candidates": to("anything") }),
        json!({ "name": "four", "aliases": ["gpt-4*", "old-name"], "candidates": to("*") }),
        json!({ "name": "mini", "aliases": ["gpt-4*-mini"], "candidates": to("small") }),
        json!({ "name": "gpt-4-turbo", "candidates": to("named") }),
    ];
    let world = world([&a, &b], &routes, Extra::default()).await;
    for (model, expected) in [
        ("gpt-4o", "gpt-4o"),
        ("gpt-4.1-mini", "small"),
        ("gpt-4-turbo", "named"),
        ("old-name", "old-name"),
        ("claude", "anything"),
        // As the caller wrote it would be the route's own name, which is no model.
        ("four", "route_not_found"),
    ] {
        assert_eq!(served(&world, &chat(model, json!({})), &[]).await, expected, "{model}");
    }
    assert_eq!(served(&world, &chat("x", json!({})), &[("x-brokle-route", "four")]).await, "x");
    let none = served(&world, &chat("x", json!({})), &[("x-brokle-route", "gpt-4o")]).await;
    assert_eq!(none, "route_not_found", "the header takes names only");
    let caller = world.caller().await;
    let models = world.gateway.models(&caller).await;
    let listed = |name: &str| models.iter().any(|model| model.id == name && model.owned_by == "brokle");
    assert!(listed("four") && listed("old-name") && !listed("gpt-4*") && !listed("*"));
}

#[tokio::test]
async fn parameters_are_set_defaulted_and_taken_out() {
    let [a, b] = two().await;
    let route = json!({ "name": "smart", "candidates": [{ "connection": "a", "model": "m" }],
        "set": { "temperature": 0, "provider": { "zdr": true } }, "defaults": { "top_p": 0.5, "seed": 7 }, "remove": ["logit_bias", "absent"] });
    let world = world([&a, &b], &[route], Extra::default()).await;
    let body = chat(
        "smart",
        json!({ "provider": { "sort": "price" }, "temperature": 1, "seed": 1, "logit_bias": {}, "user": "ann" }),
    );
    assert_eq!(served(&world, &body, &[]).await, "m");
    let sent = sent(&a);
    assert_eq!((&sent["temperature"], &sent["seed"], &sent["top_p"]), (&json!(0), &json!(1), &json!(0.5)));
    assert_eq!((sent.get("logit_bias"), &sent["user"]), (None, &json!("ann")));
    assert_eq!(sent["provider"], json!({ "zdr": true }), "the route's, not the caller's");
}

#[tokio::test]
async fn a_route_has_its_say_on_the_cache_and_a_new_version_has_an_empty_one() {
    let [a, b] = two().await;
    let to = json!([{ "connection": "a", "model": "m" }]);
    let routes = [
        json!({ "name": "kept", "candidates": to }),
        json!({ "name": "never", "candidates": to, "cache": { "enabled": false } }),
    ];
    let world =
        world([&a, &b], &routes, Extra { cache: Some(Settings::default()), ..Extra::default() }).await;
    let cached = async |name: &str| {
        let answer = call(&world, &chat(name, json!({})), &[]).await;
        let told = answer.header("x-brokle-cache").unwrap().to_owned();
        answer.bytes().await;
        told
    };
    assert_eq!((cached("kept").await, cached("kept").await), ("miss".into(), "hit".into()));
    assert_eq!((cached("never").await, cached("never").await), ("bypass".into(), "bypass".into()));
    let caller = world.keys.authenticate(&world.key).await.unwrap();
    let found = world.gateway.stored_route(world.tenant, "kept").await.unwrap();
    let change = json!({ "candidates": [{ "connection": "b", "model": "n" }] });
    world.gateway.change_route(&caller, found, change.as_object().unwrap().clone()).await.unwrap();
    assert_eq!(cached("kept").await, "miss");
}

#[tokio::test]
async fn a_route_keeps_less_than_its_project_never_more() {
    let [a, b] = two().await;
    let to = json!([{ "connection": "a", "model": "m" }]);
    let routes = [
        json!({ "name": "kept", "candidates": to }),
        json!({ "name": "secret", "candidates": to, "capture": "metadata" }),
    ];
    let world = world([&a, &b], &routes, Extra::default()).await;
    call(&world, &chat("secret", json!({ "user": "hidden" })), &[]).await.bytes().await;
    call(&world, &chat("kept", json!({})), &[]).await.bytes().await;
    // Refused before its route was known.
    call(&world, r#"{"model":"secret","messages":"#, &[]).await.bytes().await;
    let traces = world.traces().await;
    let mut kept = Vec::new();
    for trace in &traces {
        let id = trace["trace_id"].as_str().unwrap().parse().unwrap();
        let whole = world.store.trace(world.tenant.project, id).await.unwrap().unwrap();
        let whole = serde_json::to_value(whole).unwrap();
        let call = &whole["observations"][0];
        kept.push((!call["input"].is_null(), !call["output"].is_null()));
    }
    assert_eq!(kept, [(false, false), (true, true), (false, false)], "{traces:#?}");
}

#[tokio::test]
async fn a_guardrail_rules_where_a_route_names_it() {
    let [a, b] = two().await;
    let to = json!([{ "connection": "a", "model": "m" }]);
    let routes = [json!({ "name": "open", "candidates": to })];
    let world = world([&a, &b], &routes, Extra::default()).await;
    let rules = json!({ "deny": [{ "pattern": "hi" }] });
    let mut by_route = guardrail("regex", rules);
    by_route.scope.by_route = true;
    let name = by_route.name.clone();
    guard(&world, vec![by_route]).await;
    make(&world, &json!({ "name": "guarded", "candidates": to, "guardrails": [name] })).await;
    assert_eq!(served(&world, &chat("open", json!({})), &[]).await, "m");
    assert_eq!(served(&world, &chat("guarded", json!({})), &[]).await, "content_policy_violation");
    let caller = world.keys.authenticate(&world.key).await.unwrap();
    let unknown = json!({ "name": "x", "candidates": to, "guardrails": ["nobody"] });
    let refused =
        world.gateway.create_route(&caller, Origin::Project, unknown.as_object().unwrap().clone()).await;
    assert!(refused.unwrap_err().to_string().starts_with("guardrails.0: there is no such guardrail"));
    // One that is gone since doesn't let calls through.
    world.guardrails.replace(Vec::new());
    assert_eq!(served(&world, &chat("guarded", json!({})), &[]).await, "guardrail_failed");
    let inputs: Vec<Value> = world.traces().await.into_iter().map(|mut one| one["input"].take()).collect();
    assert_eq!(inputs.iter().filter(|input| !input.is_null()).count(), 0, "{inputs:?}");
    assert_eq!(a.requests().len(), 1);
}

#[tokio::test]
async fn a_callers_preferences_choose_among_the_candidates_and_dont_go_upstream() {
    let [a, b] = two().await;
    let route = json!({ "name": "smart", "candidates": [
        { "connection": "a", "model": "gpt-4o" },
        { "connection": "b", "model": "gpt-4o-mini" },
        { "connection": "b", "model": "unpriced" },
    ] });
    let world = world([&a, &b], &[route], Extra::default()).await;
    let order = async |preferences: Value| -> Vec<String> {
        let told = explain(&world, &chat("smart", json!({ "provider": preferences }))).await;
        told["order"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["model"].as_str().unwrap().to_owned())
            .collect()
    };
    for (preferences, expected) in [
        (json!({}), &["gpt-4o", "gpt-4o-mini", "unpriced"][..]),
        (json!({ "order": ["B"] }), &["gpt-4o-mini", "unpriced", "gpt-4o"]),
        (json!({ "order": ["b"], "allow_fallbacks": false }), &["gpt-4o-mini", "unpriced"]),
        (json!({ "allow_fallbacks": false }), &["gpt-4o"]),
        (json!({ "only": ["a"] }), &["gpt-4o"]),
        (json!({ "only": ["openai"] }), &["gpt-4o", "gpt-4o-mini", "unpriced"]),
        (json!({ "ignore": ["a"], "data_collection": "allow" }), &["gpt-4o-mini", "unpriced"]),
        (json!({ "sort": "price" }), &["gpt-4o-mini", "gpt-4o", "unpriced"]),
        (json!({ "max_price": { "prompt": 1 } }), &["gpt-4o-mini"]),
        (json!({ "max_price": { "completion": 1000 } }), &["gpt-4o", "gpt-4o-mini"]),
    ] {
        assert_eq!(order(preferences.clone()).await, expected, "{preferences}");
    }
    let tools = json!({ "provider": { "require_parameters": true }, "tools": [{}] });
    let told = explain(&world, &chat("smart", tools)).await;
    assert_eq!(told["excluded"][0]["because"], "provider.require_parameters", "{told:#}");
    assert_eq!(told["order"].as_array().unwrap().len(), 2);

    let body = chat("smart", json!({ "provider": { "order": ["b"] }, "user": "ann" }));
    assert_eq!(served(&world, &body, &[]).await, "gpt-4o-mini");
    let sent = sent(&b);
    assert_eq!((sent.get("provider"), &sent["user"]), (None, &json!("ann")));
    let trace = world.only_trace().await;
    let steps = trace["children"].as_array().unwrap();
    let told = &steps.iter().find(|step| step["type"] == "plugin").unwrap()["attributes"];
    assert_eq!(told["brokle.routing.reason"], "provider.order");
    let plain = chat("openai/gpt-4o", json!({ "provider": { "only": ["b"] } }));
    call(&world, &plain, &[]).await.bytes().await;
    assert_eq!((a.requests().len(), b.requests().len()), (0, 2), "so it is where no route is");
}

#[tokio::test]
async fn without_fallbacks_nobody_else_is_asked() {
    let [a, b] = two().await;
    let route = json!({ "name": "smart", "candidates": [
        { "connection": "a", "model": "m" }, { "connection": "b", "model": "n" },
    ], "fallbacks": { "general": [{ "connection": "b", "model": "spare" }] } });
    let world = world([&a, &b], &[route], Extra::default()).await;
    a.script(["status=500".parse::<Fault>().unwrap()]);
    let body = chat("smart", json!({ "provider": { "allow_fallbacks": false } }));
    assert_eq!(call(&world, &body, &[]).await.status(), 500);
    assert_eq!(b.requests().len(), 0);
}

#[tokio::test]
async fn a_preference_that_cant_be_fulfilled_is_refused_by_its_name() {
    let [a, b] = two().await;
    let world = world([&a, &b], &[], Extra::default()).await;
    for (preferences, param) in [
        (json!({ "zdr": true }), "provider.zdr"),
        (json!({ "quantizations": ["fp8"] }), "provider.quantizations"),
        (json!({ "sort": "throughput" }), "provider.sort"),
        (json!({ "order": "openai" }), "provider.order"),
        (json!({ "order": [1] }), "provider.order[0]"),
        (json!({ "max_price": { "image": 1 } }), "provider.max_price.image"),
        (json!({ "data_collection": "deny" }), "provider.data_collection"),
        (json!({ "ignore": vec!["a"; 65] }), "provider.ignore"),
    ] {
        let answer = call(&world, &chat("gpt-4o", json!({ "provider": preferences })), &[]).await;
        let status = answer.status();
        let error = answer.json().await["error"].take();
        assert_eq!((status, error["param"].as_str()), (400, Some(param)), "{error}");
        assert!(!error["message"].as_str().unwrap().contains("line"), "{error}");
    }
    let nobody = chat("gpt-4o", json!({ "provider": { "only": ["nobody"] } }));
    let answer = call(&world, &nobody, &[]).await;
    assert_eq!(answer.status(), 404);
    let message = answer.json().await["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!(message, "No candidate is for such a request: provider.only.");
    // Another meaning than OpenRouter's is the vendor's business.
    assert_eq!(call(&world, &chat("gpt-4o", json!({ "provider": "x" })), &[]).await.status(), 200);
    assert_eq!((a.requests().len(), b.requests().len()), (1, 0));
    assert_eq!(sent(&a)["provider"], "x");
}

/// What a policy chooses between is kept apart; a choice among equals isn't.
#[tokio::test]
async fn answers_of_a_policys_choices_are_kept_apart() {
    let [a, b] = two().await;
    let to = json!([{ "connection": "a", "model": "m" }, { "connection": "b", "model": "n" }]);
    let rules = json!({ "rules": [{ "when": "user == 'ann'", "use": ["b"] }], "otherwise": ["a"] });
    let variants = json!({ "variants": [{ "name": "one", "use": ["a"] }, { "name": "two", "use": ["b"] }] });
    let routes = [
        json!({ "name": "by-user", "candidates": to, "policy": "conditional", "config": rules }),
        json!({ "name": "trial", "candidates": to, "policy": "ab", "config": variants }),
        json!({ "name": "turns", "candidates": to, "policy": "round-robin" }),
    ];
    let extra = Extra {
        cache: Some(Settings::default()),
        policies: &["policy_conditional", "policy_ab", "policy_round_robin"],
        ..Extra::default()
    };
    let world = world([&a, &b], &routes, extra).await;
    let ask = async |route: &str, user: &str| {
        let answer = call(&world, &chat(route, json!({ "user": user })), &[]).await;
        let told = |name: &str| answer.header(name).unwrap_or_default().to_owned();
        let told = (told("x-brokle-model"), told("x-brokle-cache"));
        answer.bytes().await;
        told
    };
    let is = |model: &str, outcome: &str| (model.to_owned(), outcome.to_owned());
    assert_eq!(ask("by-user", "ann").await, is("n", "miss"));
    assert_eq!(ask("by-user", "bob").await, is("m", "miss"), "what ann was answered isn't for bob");
    assert_eq!(ask("by-user", "eve").await, is("m", "hit"));
    assert_eq!(ask("by-user", "ann").await, is("n", "hit"));

    // Whoever is in a variant meets its answers, and no others.
    let mut seen = std::collections::HashMap::new();
    for user in 0..20 {
        let (model, outcome) = ask("trial", &user.to_string()).await;
        let before = seen.insert(model, ());
        assert_eq!(outcome, if before.is_some() { "hit" } else { "miss" });
    }
    assert_eq!(seen.len(), 2, "both variants are met");
    // On the trace of a hit it says which variant it is.
    let traces = world.traces().await;
    let hit = traces.iter().find(|trace| trace["cost"] == "0").unwrap();
    let id = hit["trace_id"].as_str().unwrap().parse().unwrap();
    let whole = world.store.trace(world.tenant.project, id).await.unwrap().unwrap();
    let whole = serde_json::to_string(&whole).unwrap();
    assert!(whole.contains("brokle.routing.reason") && !whole.contains("\"attempt\""), "{whole}");

    assert_eq!(ask("turns", "ann").await.1, "miss");
    assert_eq!(ask("turns", "ann").await.1, "hit", "whoever's turn it is");

    // What another one answered in the place of the chosen one isn't the chosen one's answer.
    a.script(["status=500".parse::<Fault>().unwrap()]);
    let other = chat("by-user", json!({ "seed": 1 }));
    let fell = call(&world, &other, &[]).await;
    assert_eq!((fell.header("x-brokle-model"), fell.header("x-brokle-cache")), (Some("n"), Some("miss")));
    let after = call(&world, &other, &[]).await;
    assert_eq!((after.header("x-brokle-model"), after.header("x-brokle-cache")), (Some("m"), Some("miss")));
}

/// Each vendor says it in headers of its own.
#[tokio::test]
async fn calls_go_where_the_vendors_headers_leave_room() {
    let [a, b] = two().await;
    let short = json!({ "connection": "a", "model": "m!tokens-left=300" });
    let ample = json!({ "connection": "b", "model": "claude!tokens-left=900000" });
    let route = json!({ "name": "roomy", "candidates": [short, ample], "policy": "usage" });
    let extra = Extra { policies: &["policy_usage"], ..Extra::default() };
    let claude = To { plugin: "provider_anthropic", ..openai("b", &b, 0) };
    let world = world_extra(vec![openai("a", &a, 0), claude], Arc::new(SystemClock), extra).await;
    make(&world, &route).await;
    // Until both have said something, who has said nothing counts as having room.
    for _ in 0..64 {
        if !a.requests().is_empty() && !b.requests().is_empty() {
            break;
        }
        assert_eq!(call(&world, &chat("roomy", json!({})), &[]).await.status(), 200);
    }
    let told = explain(&world, &chat("roomy", json!({}))).await;
    let left: Vec<_> =
        told["candidates"].as_array().unwrap().iter().map(|c| &c["remaining_tokens"]).collect();
    assert_eq!(left, [300, 900_000], "{told}");

    // A call of 512 tokens has no room at the one, whatever the shares are.
    let before = a.requests().len();
    for _ in 0..24 {
        assert_eq!(call(&world, &chat("roomy", json!({})), &[]).await.status(), 200);
    }
    assert_eq!(a.requests().len(), before);
}
