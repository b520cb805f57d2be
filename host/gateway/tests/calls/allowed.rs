//! Keys that are restricted to models and routes: by the model that the provider is asked for, whatever the caller calls it.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_gateway::cache::Settings;
use brokle_gateway::connections::NewConnection;
use brokle_gateway::routing::routes::{
    ChosenPolicy, Fallbacks, Route, RouteCandidate, Routing, Rules, Target,
};
use brokle_gateway::{Operation, Timeouts};
use brokle_identity::Secret;
use brokle_storage::sql::api_keys::Restrictions;
use brokle_test_upstream::Upstream;
use http::HeaderMap;

use crate::harness::{Answer, Extra, World, openai, world_extra, world_routed};

fn to(model: &str) -> RouteCandidate {
    let target = Target::Provider("openai".into());
    RouteCandidate { target, model: model.into(), priority: 0, weight: 1, when: None }
}

/// `smart` is gpt-4o, then gpt-4o-mini, then as a fallback gpt-4.1; `cheap` is gpt-4o-mini, also as `mini*`.
async fn world(upstream: &Upstream) -> World {
    let connection = NewConnection {
        name: "a".into(),
        base_url: Some(upstream.base_url()),
        secrets: vec![Secret::new("sk-very-secret".into())],
        weight: 1,
        ..NewConnection::default()
    };
    let fallbacks = Fallbacks { general: vec![to("gpt-4.1")], ..Fallbacks::default() };
    let policy = || ChosenPolicy::named("priority");
    let smart = Route {
        name: "smart".into(),
        policy: policy(),
        candidates: vec![to("gpt-4o"), to("gpt-4o-mini!status=500")],
        rules: Some(Arc::new(Rules { fallbacks, ..Rules::default() })),
        ..Route::default()
    };
    let cheap = Route {
        name: "cheap".into(),
        policy: policy(),
        candidates: vec![to("gpt-4o-mini")],
        aliases: vec!["mini*".into()],
        ..Route::default()
    };
    let routing = Routing { routes: vec![smart, cheap], ..Routing::default() };
    routing.check().unwrap();
    let timeouts = Timeouts { first_byte: Duration::from_secs(5), ..Timeouts::default() };
    let connections = vec![("provider_openai", connection)];
    world_routed(connections, timeouts, false, Arc::new(SystemClock), routing, &["policy_priority"]).await
}

fn list(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn models(names: &[&str]) -> Restrictions {
    Restrictions { models: list(names), ..Restrictions::default() }
}

async fn ask(world: &World, key: &str, model: &str) -> Answer {
    let body = format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hi"}}]}}"#);
    world.serve(Some(key), Operation::ChatCompletions, &HeaderMap::new(), body.into()).await
}

async fn refused(answer: Answer) {
    assert_eq!(answer.status(), 403, "{answer:?}");
    let error = answer.json().await["error"].take();
    assert_eq!((&error["code"], &error["param"]), (&"model_not_allowed".into(), &"model".into()));
    assert_eq!(error["type"], "permission_error");
}

#[tokio::test]
async fn a_model_goes_by_what_the_provider_is_asked_for() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(&upstream).await;
    let key = world.restricted_key(models(&["gpt-4o-mini*"])).await;
    for allowed in ["gpt-4o-mini", "openai/gpt-4o-mini", "a/gpt-4o-mini", "cheap", "mini-me"] {
        assert_eq!(ask(&world, &key, allowed).await.status(), 200, "{allowed}");
    }
    let before = upstream.requests().len();
    for forbidden in ["gpt-4o", "openai/gpt-4o", "gpt-4.1"] {
        refused(ask(&world, &key, forbidden).await).await;
    }
    assert_eq!(upstream.requests().len(), before, "nobody is asked");
    // Of a route it has the candidates that it may use, and no fallback beyond them.
    let answer = ask(&world, &key, "smart").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (500, Some("1")));
    let caller = world.keys.authenticate(&key).await.unwrap();
    let body = r#"{"model":"gpt-4o","messages":[{"role":"user","content":"hi"}]}"#;
    let told = world.gateway.explain(&caller, &HeaderMap::new(), body.into()).await.unwrap_err();
    assert_eq!((told.status, &*told.code), (403, "model_not_allowed"));
    // Another provider of that name isn't meant.
    let other = world.restricted_key(models(&["azure-openai/*"])).await;
    refused(ask(&world, &other, "gpt-4o-mini").await).await;
}

#[tokio::test]
async fn a_route_brings_its_candidates() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(&upstream).await;
    let routes = Restrictions { routes: list(&["sm*"]), ..Restrictions::default() };
    let key = world.restricted_key(routes).await;
    assert_eq!(ask(&world, &key, "smart").await.header("x-brokle-model"), Some("gpt-4o"));
    for forbidden in ["gpt-4o", "cheap", "mini-me"] {
        refused(ask(&world, &key, forbidden).await).await;
    }
    let both = Restrictions { models: list(&["gpt-4.1"]), ..models(&[]) };
    let both = Restrictions { routes: list(&["cheap"]), ..both };
    let key = world.restricted_key(both).await;
    for (model, status) in [("cheap", 200), ("gpt-4.1", 200), ("smart", 403), ("gpt-4o", 403)] {
        assert_eq!(ask(&world, &key, model).await.status(), status, "{model}");
    }
}

#[tokio::test]
async fn models_are_listed_that_the_key_may_use() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(&upstream).await;
    let ids = async |restrictions| {
        let key = world.restricted_key(restrictions).await;
        let caller = world.keys.authenticate(&key).await.unwrap();
        let models = world.gateway.models(&caller).await;
        models.into_iter().map(|model| model.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(models(&["openai/gpt-4o-mini"])).await, ["cheap", "gpt-4o-mini"]);
    let routes = Restrictions { routes: list(&["smart"]), ..Restrictions::default() };
    assert_eq!(ids(routes).await, ["smart"]);
    assert!(ids(Restrictions::default()).await.len() > 20);
}

#[tokio::test]
async fn an_answer_that_is_kept_is_for_keys_with_the_same_restrictions() {
    let upstream = Upstream::start().await.unwrap();
    let extra = Extra { cache: Some(Settings::default()), ..Extra::default() };
    let world = world_extra(vec![openai("a", &upstream, 0)], Arc::new(SystemClock), extra).await;
    let outcome = async |key: &str| {
        let answer = ask(&world, key, "gpt-4o-mini").await;
        let outcome = answer.header("x-brokle-cache").map(str::to_owned);
        (answer.status(), outcome.unwrap_or_default())
    };
    assert_eq!(outcome(&world.key).await, (200, "miss".into()));
    let forbidden = world.restricted_key(models(&["gpt-4o"])).await;
    assert_eq!(outcome(&forbidden).await.0, 403);
    let one = world.restricted_key(models(&["gpt-4o*"])).await;
    let two = world.restricted_key(models(&["gpt-4o*"])).await;
    assert_eq!(outcome(&one).await, (200, "miss".into()));
    assert_eq!(outcome(&two).await, (200, "hit".into()));
}
