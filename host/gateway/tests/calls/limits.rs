//! Rules beside a key's own limit: they hold, they are told, and what isn't used is given back.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_gateway::Operation;
use brokle_gateway::limits::{Amounts, Limit};
use brokle_gateway::who::{By, Filter, Who};
use brokle_test_upstream::Upstream;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;

use crate::harness::{Answer, Extra, To, World, openai, world_extra};

fn rule(by: By, amounts: Amounts) -> Limit {
    let who = Who { by: vec![by], only: Filter::default() };
    Limit { name: "the-rule".into(), who, amounts }
}

async fn limited(connections: Vec<To>, limit: Limit) -> World {
    let extra = Extra { limits: vec![limit], ..Extra::default() };
    world_extra(connections, Arc::new(SystemClock), extra).await
}

fn number(answer: &Answer, header: &str) -> u64 {
    answer.header(header).unwrap_or_else(|| panic!("{header} is missing")).parse().unwrap()
}

async fn as_user(world: &World, user: &'static str) -> Answer {
    let headers = HeaderMap::from_iter([("x-brokle-user".parse().unwrap(), HeaderValue::from_static(user))]);
    let body = r#"{"model":"openai/gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;
    world.call_with(Operation::ChatCompletions, body, headers).await
}

#[tokio::test]
async fn each_user_has_an_allowance_and_nobody_has_more_without_a_name() {
    let upstream = Upstream::start().await.unwrap();
    let amounts = Amounts { requests_per_day: Some(1), ..Amounts::default() };
    let world = limited(vec![openai("a", &upstream, 0)], rule(By::User, amounts)).await;
    assert_eq!(as_user(&world, "ann").await.status(), 200);
    assert_eq!(as_user(&world, "bob").await.status(), 200);
    let refused = as_user(&world, "ann").await;
    assert_eq!(refused.status(), 429);
    assert_eq!(number(&refused, "x-ratelimit-limit-requests"), 1);
    assert_eq!(number(&refused, "x-ratelimit-remaining-requests"), 0);
    assert!(number(&refused, "retry-after") > 80_000, "until a day later");
    let error = refused.json().await["error"].take();
    assert_eq!((&error["code"], &error["type"]), (&"rate_limit_exceeded".into(), &"rate_limit_error".into()));
    assert!(
        error["message"].as_str().unwrap().contains("1 per day for this user (limit 'the-rule')"),
        "{error}"
    );
    let statuses = [
        world.chat("openai/gpt-4o-mini", "").await.status(),
        world.chat("openai/gpt-4o-mini", "").await.status(),
    ];
    assert_eq!(statuses, [200, 429]);
    assert_eq!(upstream.requests().len(), 3);
}

#[tokio::test]
async fn tokens_are_reserved_and_then_settled() {
    let upstream = Upstream::start().await.unwrap();
    let amounts = Amounts { tokens_per_day: Some(10_000), ..Amounts::default() };
    let world = limited(vec![openai("a", &upstream, 0)], rule(By::Project, amounts)).await;
    let left = async || {
        // Asks for more than there is, and so takes nothing.
        let answer = world.chat("openai/gpt-4o-mini", r#","max_tokens":900000"#).await;
        assert_eq!(answer.status(), 429);
        number(&answer, "x-ratelimit-remaining-tokens")
    };
    assert_eq!(left().await, 10_000);
    let answer = world.chat("openai/gpt-4o-mini", r#","max_tokens":5000"#).await;
    assert!(number(&answer, "x-ratelimit-remaining-tokens") < 5_000, "reserved");
    let usage = answer.json().await["usage"]["total_tokens"].as_u64().unwrap();
    // A day's allowance comes back in pieces of 8.64 s: the counts are exact for as long as this test runs.
    assert_eq!(left().await, 10_000 - usage);

    let failed = world.chat("openai/gpt-4o-mini!status=500", r#","max_tokens":5000"#).await;
    assert!(failed.status() >= 500);
    drop(failed);
    assert_eq!(left().await, 10_000 - usage, "a call that failed used none");
    let two = world.chat("openai/gpt-4o-mini", r#","max_tokens":4000,"n":3"#).await;
    assert_eq!(two.status(), 429, "each choice may have as many");
}

#[tokio::test]
async fn a_stream_that_its_client_leaves_is_charged_by_its_pieces() {
    let upstream = Upstream::start().await.unwrap();
    let amounts = Amounts { tokens_per_day: Some(100_000), ..Amounts::default() };
    let world = limited(vec![openai("a", &upstream, 0)], rule(By::Key, amounts)).await;
    let answer =
        world.chat("openai/gpt-4o-mini!events=1000;delay=20", r#","stream":true,"max_tokens":50000"#).await;
    let mut body = answer.0.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    let trace = world.only_trace().await;
    let used = trace["usage"]["input"].as_u64().unwrap() + trace["usage"]["output"].as_u64().unwrap();
    assert!((4..1_000).contains(&used), "{trace:#}");
    let answer = world.chat("openai/gpt-4o-mini", r#","max_tokens":900000"#).await;
    assert_eq!(number(&answer, "x-ratelimit-remaining-tokens"), 100_000 - used, "as the trace says");
}

#[tokio::test]
async fn a_call_holds_its_place_until_its_stream_ends() {
    let upstream = Upstream::start().await.unwrap();
    let amounts = Amounts { concurrent_requests: Some(1), ..Amounts::default() };
    let world = limited(vec![openai("a", &upstream, 0)], rule(By::Organization, amounts)).await;
    let streaming = world.chat("openai/gpt-4o-mini!events=1000;delay=20", r#","stream":true"#).await;
    assert_eq!(streaming.status(), 200);
    let refused = world.chat("openai/gpt-4o-mini", "").await;
    assert_eq!((refused.status(), refused.header("retry-after")), (429, Some("1")));
    let message = refused.json().await["error"]["message"].to_string();
    assert!(message.contains("concurrent requests: 1 at once for this organization"), "{message}");
    drop(streaming);
    assert_eq!(world.chat("openai/gpt-4o-mini", "").await.status(), 200, "left, and free");
    let hanging = world.chat("openai/gpt-4o-mini!hang-head", "");
    assert!(tokio::time::timeout(Duration::from_millis(200), hanging).await.is_err());
    assert_eq!(world.chat("openai/gpt-4o-mini", "").await.status(), 200, "given up, and free");
}

#[tokio::test]
async fn a_rule_about_a_model_leaves_the_next_candidate() {
    let (first, second) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let amounts = Amounts { requests_per_day: Some(2), ..Amounts::default() };
    let mut rule = rule(By::Organization, amounts);
    rule.who.only.models = vec!["openai/gpt-4o-mini".into()];
    let other = To {
        name: "b",
        plugin: "provider_openai_compatible",
        url: second.base_url(),
        priority: 1,
        models: vec!["gpt-4o-mini".into()],
    };
    let world = limited(vec![openai("a", &first, 0), other], rule).await;
    let mut asked = Vec::new();
    for _ in 0..3 {
        let answer = world.chat("gpt-4o-mini", "").await;
        assert_eq!(answer.status(), 200);
        asked.push((first.requests().len(), second.requests().len()));
    }
    assert_eq!(asked, [(1, 0), (2, 0), (2, 1)]);
    // By this name nobody else can serve it, and writing it otherwise helps nobody.
    assert_eq!(world.chat("openai/gpt-4o-mini", "").await.status(), 429);
}

#[tokio::test]
async fn a_translated_stream_that_its_client_leaves_is_charged_for_what_came() {
    let upstream = Upstream::start().await.unwrap();
    let amounts = Amounts { tokens_per_day: Some(100_000), ..Amounts::default() };
    let to = To { plugin: "provider_anthropic", ..openai("a", &upstream, 0) };
    let world = limited(vec![to], rule(By::Key, amounts)).await;
    let answer = world.chat("anthropic/claude!events=1000;delay=5", r#","stream":true"#).await;
    let mut body = answer.0.into_body();
    for _ in 0..40 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    let trace = world.only_trace().await;
    // This vendor tells what the prompt has at the beginning, and of the answer's tokens the first.
    let usage = &trace["usage"];
    assert!(usage["output"].as_u64().unwrap() >= 30, "{usage}");
    let used = usage["input"].as_u64().unwrap() + usage["output"].as_u64().unwrap();
    let answer = world.chat("anthropic/claude", r#","max_tokens":900000"#).await;
    assert_eq!(number(&answer, "x-ratelimit-remaining-tokens"), 100_000 - used);
}
