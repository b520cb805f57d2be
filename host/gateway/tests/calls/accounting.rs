//! Nothing a client does is lost.

use std::time::Duration;

use brokle_gateway::Operation;
use brokle_test_upstream::Upstream;
use http::{HeaderMap, HeaderValue};
use http_body_util::BodyExt;

use crate::harness::{openai, world};

#[tokio::test]
async fn a_client_that_leaves_before_the_head_is_accounted_for() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("a", &upstream, 0)]).await;
    let call = world.chat("openai/gpt-4o-mini!hang-head", "");
    tokio::select! {
        _ = call => panic!("it answered"),
        seen = upstream.wait_for(|seen| seen.path.ends_with("/chat/completions")) => { seen.unwrap(); }
    }
    // The future is gone, as when hyper drops a handler.
    let trace = world.only_trace().await;
    assert_eq!((&trace["status"], &trace["status_code"]), (&"aborted".into(), &499.into()));
    upstream.wait_for(|seen| seen.client_left()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_cancels_the_upstream() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("a", &upstream, 0)]).await;
    let answer = world.chat("openai/gpt-4o-mini!events=1000;delay=20", r#","stream":true"#).await;
    let mut body = answer.0.into_body();
    for _ in 0..3 {
        body.frame().await.unwrap().unwrap();
    }
    drop(body);
    let left =
        tokio::time::timeout(Duration::from_secs(1), upstream.wait_for(|seen| seen.client_left())).await;
    left.expect("canceled within a second").unwrap();
    let trace = world.only_trace().await;
    assert_eq!((&trace["status"], &trace["status_code"]), (&"aborted".into(), &499.into()));
    assert!(trace["time_to_first_token_ms"].is_number());
    assert!(trace["output"].to_string().contains("delta"), "what came before is kept: {trace:#}");
    assert_eq!(world.runtime.instances(), 0);
}

#[tokio::test]
async fn an_account_says_who_asked_for_what() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("a", &upstream, 0)]).await;
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("x-brokle-session", "chat-7"),
        ("x-brokle-tags", "beta, eu"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let body = r#"{"model":"gpt-4o-mini","user":"ann","messages":[{"role":"user","content":"hi"}]}"#;
    let answer = world.call_with(Operation::ChatCompletions, body, headers).await;
    assert_eq!(answer.header("x-brokle-trace-id"), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    answer.text().await;
    let trace = world.only_trace().await;
    assert_eq!(trace["parent_span_id"], "00f067aa0ba902b7");
    assert_eq!((&trace["user"], &trace["session"]), (&"ann".into(), &"chat-7".into()));
    assert_eq!(trace["tags"], serde_json::json!(["beta", "eu"]));
    assert_eq!((&trace["model"], &trace["provider"]), (&"gpt-4o-mini".into(), &"openai".into()));
    assert_eq!(trace["finish_reason"], "stop");
    assert!(
        trace["input"].to_string().contains("messages") && trace["output"].to_string().contains("choices")
    );
    // gpt-4o-mini costs 0.15 in and 0.60 out for a million tokens.
    let tokens = |kind: &str| trace["usage"][kind].as_u64().unwrap() as f64;
    let cost: f64 = trace["cost"].as_str().unwrap().parse().unwrap();
    let expected = (tokens("input") * 0.15 + tokens("output") * 0.60) / 1e6;
    assert!((cost - expected).abs() < 1e-12, "{cost} for {expected}");
}

#[tokio::test]
async fn an_unknown_price_is_no_price_and_no_failure() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("a", &upstream, 0)]).await;
    let answer = world.chat("openai/my-own-model", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-cost")), (200, None));
    let trace = world.only_trace().await;
    assert!(trace["cost"].is_null() && trace["usage"]["input"].as_u64() > Some(0));
}

#[tokio::test]
async fn a_key_has_its_rate() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("a", &upstream, 0)]).await;
    let key = world.limited_key(2).await;
    let body = r#"{"model":"gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;
    let headers = HeaderMap::new();
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let answer = world.serve(Some(&key), Operation::ChatCompletions, &headers, body.into()).await;
        statuses.push(answer.status());
        if answer.status() == 429 {
            assert!(answer.header("retry-after").is_some());
            assert_eq!(answer.header("x-ratelimit-limit-requests"), Some("2"));
        }
    }
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(upstream.requests().len(), 2);
    assert!(
        world
            .metrics
            .encode()
            .unwrap()
            .contains(r#"brokle_requests_total{operation="chat",status="success"} 2"#)
    );
}
