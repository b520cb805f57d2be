//! A server that stops: its streams end, and say so.

use brokle_test_upstream::{Fault, Upstream};
use http_body_util::BodyExt;

use crate::harness::{To, openai, world};

#[tokio::test]
async fn a_stream_that_is_cut_ends_with_an_error_and_a_clean_end() {
    let upstream = Upstream::start().await.unwrap();
    let translated =
        To { name: "hostile", plugin: "hostile", url: upstream.base_url(), priority: 1, models: Vec::new() };
    let world = world(vec![openai("openai", &upstream, 0), translated]).await;
    let mut bodies = Vec::new();
    for model in ["openai/gpt-4o-mini", "hostile/m"] {
        upstream.script(["stall-after=2".parse::<Fault>().unwrap()]);
        let answer = world.chat(model, r#","stream":true"#).await;
        assert_eq!(answer.status(), 200);
        let mut body = answer.0.into_body();
        let first = body.frame().await.unwrap().unwrap().into_data().unwrap();
        bodies.push((model, first.to_vec(), body));
    }
    world.gateway.cut();
    for (model, mut text, body) in bodies {
        text.extend(body.collect().await.unwrap().to_bytes());
        let text = String::from_utf8(text).unwrap();
        let mut data: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
        assert_eq!(data.pop(), Some("[DONE]"), "{model}: {text}");
        let error: serde_json::Value = serde_json::from_str(data.pop().unwrap()).unwrap();
        assert_eq!(error["error"]["code"], "server_stopping", "{model}: {text}");
        assert_eq!(error["error"]["type"], "server_error");
        assert!(!data.is_empty() && data.iter().all(|data| !data.contains("server_stopping")), "{text}");
    }
    // The upstream is let go, the accounts are closed, and so is what comes too late.
    upstream.wait_until(|seen| seen.iter().all(|seen| seen.client_left())).await.unwrap();
    upstream.script(["hang-head".parse::<Fault>().unwrap()]);
    let late = world.chat("openai/gpt-4o-mini", r#","stream":true"#).await;
    assert_eq!(late.status(), 503, "there was no head yet");
    assert_eq!(late.json().await["error"]["code"], "server_stopping");
    let traces = world.traces().await;
    assert!(
        traces.len() == 3 && traces.iter().all(|trace| trace["error"]["class"] == "server_stopping"),
        "{traces:#?}"
    );
    assert_eq!(world.runtime.instances(), 0);
}
