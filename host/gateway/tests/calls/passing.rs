//! Calls that go well: what reaches the provider, and what comes back.

use brokle_gateway::Operation;
use brokle_test_upstream::{Fault, Upstream, content as expected};
use http::{HeaderMap, HeaderValue};

use crate::harness::{To, content, openai, world};

#[tokio::test]
async fn bytes_that_neednt_change_dont() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let body = r#"{ "messages":[{"role":"user",  "content":"hé"}],
        "model" : "openai/gpt-4o-mini", "unknown":{"x":1e0},"seed":7 }"#;
    let mut headers = HeaderMap::new();
    headers.insert("openai-beta", HeaderValue::from_static("something=v2"));
    for (name, value) in [
        ("authorization", "Bearer stolen"),
        ("cookie", "a=b"),
        ("x-forwarded-for", "1.2.3.4"),
        ("x-brokle-session", "s1"),
        ("connection", "close"),
        ("x-api-key", "k"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let answer = world.call_with(Operation::ChatCompletions, body, headers).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.header("x-brokle-provider"), Some("openai"));
    assert_eq!(answer.header("x-brokle-model"), Some("gpt-4o-mini"));
    assert_eq!(answer.header("x-brokle-attempts"), Some("1"));
    assert!(answer.header("x-brokle-cost").unwrap().starts_with("0.0"));
    assert!(answer.header("x-ratelimit-remaining-requests").is_some());
    assert_eq!(answer.json().await["choices"][0]["finish_reason"], "stop");

    let seen = upstream.requests().pop().unwrap();
    assert_eq!(seen.body, body.replace("openai/gpt-4o-mini", "gpt-4o-mini").as_bytes());
    assert_eq!(seen.header("authorization"), Some("Bearer sk-very-secret"));
    assert_eq!(seen.header("openai-beta"), Some("something=v2"));
    for absent in ["cookie", "x-forwarded-for", "x-api-key", "x-brokle-session"] {
        assert_eq!(seen.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn a_streams_usage_is_counted_and_shown_only_when_asked_for() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let quiet = world.chat("gpt-4o-mini", r#","stream":true"#).await;
    assert_eq!(quiet.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let quiet = quiet.events().await;
    assert_eq!(content(&quiet), expected(&Fault::default()));
    assert!(quiet.iter().all(|event| event["usage"].is_null()), "the caller didn't ask");
    let told = world.chat("gpt-4o-mini", r#","stream":true,"stream_options":{"include_usage":true}"#).await;
    let told = told.events().await;
    assert_eq!(told.last().unwrap()["usage"]["completion_tokens"], 8);
    let asked = upstream.requests();
    assert!(asked.iter().all(|seen| seen.json().unwrap()["stream_options"]["include_usage"] == true));
    for trace in world.traces().await {
        assert_eq!((&trace["usage"]["output"], &trace["status"]), (&8.into(), &"ok".into()));
        assert!(trace["cost"].is_string() && trace["time_to_first_token_ms"].is_number());
    }
}

/// However the upstream cuts its bytes, the caller gets the same events.
#[tokio::test]
async fn any_chunking_of_a_stream_gives_the_same_events() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let whole = world.chat("openai/gpt-4o-mini", r#","stream":true"#).await.events().await;
    for fault in [
        "chunk=1",
        "chunk=2",
        "chunk=7",
        "chunk=64",
        "chunk=333",
        "malformed-sse=crlf",
        "malformed-sse=cr",
        "malformed-sse=no-space",
        "malformed-sse=bom",
        "malformed-sse=comment-flood",
        "malformed-sse=split-utf8",
        "malformed-sse=after-done",
    ] {
        let cut =
            world.chat(&format!("openai/gpt-4o-mini!{fault}"), r#","stream":true"#).await.events().await;
        let contents = |events: &[serde_json::Value]| -> Vec<String> {
            events.iter().map(|event| event["choices"].to_string()).collect()
        };
        assert_eq!(contents(&cut), contents(&whole), "{fault}");
    }
}

#[tokio::test]
async fn embeddings_and_completions_pass_too() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let body = r#"{"model":"text-embedding-3-small","input":["a","b"],"encoding_format":"base64"}"#;
    let answer = world.call(Operation::Embeddings, body).await;
    assert_eq!(answer.status(), 200);
    let json = answer.json().await;
    assert_eq!(json["data"].as_array().unwrap().len(), 2);
    assert!(json["data"][0]["embedding"].is_string());
    let body = r#"{"model":"openai/gpt-3.5-turbo-instruct","prompt":"x"}"#;
    assert_eq!(world.call(Operation::Completions, body).await.status(), 200);
    let kinds: Vec<_> = world.traces().await.iter().map(|trace| trace["type"].clone()).collect();
    assert_eq!(kinds, ["generation", "embedding"]);
}

#[tokio::test]
async fn anthropic_is_translated_both_ways() {
    let upstream = Upstream::start().await.unwrap();
    let to = To {
        name: "claude",
        plugin: "provider_anthropic",
        url: upstream.origin(),
        priority: 0,
        models: Vec::new(),
    };
    let world = world(vec![to]).await;
    let answer = world.chat("anthropic/claude-sonnet-4-5", "").await;
    assert_eq!(answer.status(), 200);
    let whole = answer.json().await;
    let text = whole["choices"][0]["message"]["content"].as_str().unwrap().to_owned();
    assert!(!text.is_empty());
    assert!(whole["usage"]["prompt_tokens"].as_u64().unwrap() > 0);
    let seen = upstream.requests().pop().unwrap();
    assert_eq!(seen.path, "/v1/messages");
    assert_eq!(seen.header("x-api-key"), Some("sk-very-secret"));
    assert_eq!(seen.header("authorization"), None);
    for fault in ["", "!chunk=1", "!chunk=9", "!malformed-sse=crlf"] {
        let model = format!("anthropic/claude-sonnet-4-5{fault}");
        let events = world.chat(&model, r#","stream":true"#).await.events().await;
        assert_eq!(content(&events), text, "{fault}");
        assert!(events.iter().all(|event| event["usage"].is_null()));
    }
    let traces = world.traces().await;
    assert!(traces.iter().all(|trace| trace["usage"]["output"].as_u64() > Some(0)), "{traces:#?}");
}

#[tokio::test]
async fn a_large_answer_is_relayed_whole() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let answer = world.chat("openai/gpt-4o-mini!large-body=5000000", "").await;
    assert_eq!(answer.status(), 200);
    assert!(answer.json().await["choices"][0]["message"]["content"].as_str().unwrap().len() >= 5_000_000);
}
