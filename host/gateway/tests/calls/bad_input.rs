//! Bad input: a clear 4xx in OpenAI's form, and nothing reaches the provider.

use brokle_gateway::Operation;
use brokle_test_upstream::Upstream;
use http::HeaderMap;

use crate::harness::{openai, world};

#[tokio::test]
async fn each_is_a_clear_4xx() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("a", &upstream, 0)]).await;
    let deep = "[".repeat(100_000);
    let message = |content: &str| {
        format!(r#"{{"model":"gpt-4o","messages":[{{"role":"user","content":"{content}"}}]}}"#)
    };
    let members: String = (0..1024).map(|n| format!(r#","x{n}":{n}"#)).collect();
    let many = format!(r#"{{"model":"gpt-4o"{members},"messages":[{{"role":"user"}}]}}"#);
    let bodies = [
        (String::new(), 400, "invalid_json", ""),
        ("{".into(), 400, "invalid_json", ""),
        ("[1]".into(), 400, "invalid_request", ""),
        (deep, 400, "invalid_json", ""),
        (r#"{"messages":[]}"#.into(), 400, "missing_required_parameter", "model"),
        (r#"{"model":"gpt-4o"}"#.into(), 400, "missing_required_parameter", "messages"),
        (message("\\u0000"), 400, "invalid_json", "messages[0].content"),
        (message("\0"), 400, "invalid_json", "messages[0].content"),
        (message("\\ud800"), 400, "invalid_json", "messages[0].content"),
        (r#"{"model":"gpt-5-lantern","messages":[{"role":"user"}]}"#.into(), 404, "model_not_found", "model"),
        (r#"{"model":"nobody/gpt-4o","messages":[{"role":"user"}]}"#.into(), 404, "model_not_found", "model"),
        (many, 400, "too_many_values", ""),
        (message(&format!("x\",\"y\":[{}0],\"z\":\"", "0,".repeat(1 << 20))), 400, "too_many_values", ""),
        // Who decides by one of them while the vendor takes the other would let a forbidden model through.
        (
            r#"{"model":"gpt-4o","messages":[{"role":"user"}],"model":"o3"}"#.into(),
            400,
            "duplicate_member",
            "model",
        ),
        (
            r#"{"model":"gpt-4o","messages":[{"role":"user"}],"\u006dodel":"o3"}"#.into(),
            400,
            "duplicate_member",
            "model",
        ),
        (
            r#"{"model":"gpt-4o","stream":"yes","messages":[{"role":"user"}]}"#.into(),
            400,
            "invalid_type",
            "stream",
        ),
    ];
    let count = bodies.len();
    for (body, status, code, param) in bodies {
        let answer = world.call(Operation::ChatCompletions, &body).await;
        let shown: String = body.chars().take(60).collect();
        assert_eq!(answer.status(), status, "{shown}");
        let error = answer.json().await["error"].take();
        assert_eq!(
            (error["code"].as_str(), error["param"].as_str().unwrap_or("")),
            (Some(code), param),
            "{shown}"
        );
        assert_eq!(error["type"], "invalid_request_error");
        assert!(!error["message"].as_str().unwrap().is_empty());
    }
    assert!(upstream.requests().is_empty());
    assert_eq!(world.traces().await.len(), count, "a refused call is accounted for too");
}

#[tokio::test]
async fn the_nearest_names_are_told() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("a", &upstream, 0)]).await;
    let answer = world.chat("gpt-4o-mnii", "").await;
    assert!(answer.json().await["error"]["message"].as_str().unwrap().contains("gpt-4o-mini"));
    let answer = world.chat("claude-sonnet-4-5", "").await;
    let text = answer.json().await["error"]["message"].to_string();
    assert!(text.contains("anthropic") && text.contains("no connection"), "{text}");
}

#[tokio::test]
async fn keys_that_dont_open() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("a", &upstream, 0)]).await;
    let revoked = world.limited_key(100).await;
    let principal = world.keys.authenticate(&revoked).await.unwrap();
    world.keys.revoke(world.tenant.organization, principal.key_id).await.unwrap();
    let unknown = format!("bk_{}", "z".repeat(40));
    for key in [None, Some("sk-123"), Some(unknown.as_str()), Some(revoked.as_str()), Some("")] {
        let headers = HeaderMap::new();
        let answer = world.serve(key, Operation::ChatCompletions, &headers, "{}".into()).await;
        assert_eq!(answer.status(), 401, "{key:?}");
        let error = answer.json().await["error"].take();
        assert_eq!(
            (&error["code"], &error["type"]),
            (&"invalid_api_key".into(), &"authentication_error".into())
        );
    }
}
