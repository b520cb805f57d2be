//! Plugins that fail: a clean error that names them, and nobody else notices.

use crate::harness::{To, openai, world};
use brokle_test_upstream::Upstream;

fn hostile(url: String) -> To {
    To { name: "hostile", plugin: "hostile", url, priority: 0, models: Vec::new() }
}

#[tokio::test]
async fn the_error_names_plugin_and_limit() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![hostile(upstream.base_url())]).await;
    for (model, code, words) in [
        ("panic", "plugin_trap", "trapped"),
        ("spin", "plugin_cpu_limit", "CPU limit of 200 ms"),
        ("memory", "plugin_memory_limit", "memory limit of 64 MiB"),
        ("stray-header", "plugin_request_refused", "header 'authorization'"),
        ("stray-path", "plugin_request_refused", "is no path"),
    ] {
        let answer = world.chat(&format!("hostile/{model}"), "").await;
        assert_eq!(answer.status(), 502, "{model}");
        let error = answer.json().await["error"].take();
        assert_eq!(error["code"], code, "{model}: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("test.hostile 0.1.0") && message.contains(words), "{message}");
    }
    assert_eq!(world.runtime.instances(), 0);
    assert!(
        world.metrics.encode().unwrap().contains(r#"brokle_plugin_traps_total{plugin="test.hostile"} 3"#)
    );
    assert!(upstream.requests().is_empty());
}

#[tokio::test]
async fn a_plugin_that_fails_before_the_first_token_fails_the_call() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![hostile(upstream.base_url())]).await;
    for model in ["panic-in-stream", "spin-in-stream"] {
        // Before its first token there is no stream that would have to end.
        let answer = world.chat(&format!("hostile/{model}"), r#","stream":true"#).await;
        assert_eq!(answer.status(), 502);
        let error = &answer.json().await["error"];
        assert!(error["message"].as_str().unwrap().contains("test.hostile"), "{error}");
    }
    assert_eq!(world.runtime.instances(), 0);
}

#[tokio::test]
async fn another_candidate_serves_when_a_plugin_fails() {
    let upstream = Upstream::start().await.unwrap();
    let mut first = hostile(upstream.base_url());
    first.name = "shared";
    let mut second = openai("shared", &upstream, 1);
    second.priority = 1;
    let world = world(vec![first, second]).await;
    let answer = world.chat("shared/panic", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("2")));
}
