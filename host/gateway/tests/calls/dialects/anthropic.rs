//! Anthropic's Messages.

use brokle_gateway::Dialect;
use brokle_test_upstream::{Fault, Upstream, content as expected};
use http::{HeaderMap, HeaderValue};
use serde_json::{Value, json};

use super::{echo, events, named, to};
use crate::guardrails::{guard, guardrail};
use crate::harness::{To, asking, openai, world};
use crate::vendor::{Vendor, reply};

/// As Anthropic sends it: odd spacing, fields that nobody here knows, a signature that sees every byte.
pub(super) const STREAM: &str = "event: message_start\ndata: {\"type\": \"message_start\", \"message\": {\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude-x\",\"content\":[],\"stop_reason\":null,\"usage\":{\"input_tokens\":7,\"cache_read_input_tokens\":5,\"output_tokens\":1}}}\n\n: keep-alive\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,\"content_block\":{\"type\":\"thinking\",\"thinking\":\"\",\"signature\":\"\"}}\n\nevent: ping\ndata: {\"type\":\"ping\"}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"signature_delta\",\"signature\":\"Eq\\u002b==\"}}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\nevent: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":1,\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\nevent: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":1,\"delta\":{\"type\":\"text_delta\",\"text\":\"hé\"},\"new\":1e0}\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":1}\n\nevent: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"tool_use\"},\"usage\":{\"output_tokens\":9}}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

const BODY: &str = r#"{ "max_tokens" : 50, "model":"anthropic/claude-x","thinking":{"type":"enabled","budget_tokens":1024},
    "system":[{"type":"text","text":"S","cache_control":{"type":"ephemeral"}}], "odd":[1e0 ,2],
    "messages":[{"role":"user","content":"hé"},{"role":"assistant","content":[{"type":"thinking","thinking":"t","signature":"Eq\u002b=="},{"type":"text","text":"x"}]},{"role":"user","content":[{"type":"text","text":"go","cache_control":{"type":"ephemeral"}}]}]STREAM}"#;

#[tokio::test]
async fn native_bytes_pass_untouched_both_ways() {
    let whole = r#"{ "id":"msg_1", "type":"message","model":"claude-x","content":[{"type":"text","text":"h\u00e9"}],"stop_reason":"end_turn","usage":{"input_tokens":7,"cache_creation_input_tokens":2,"output_tokens":9}, "x":1e0 }"#;
    let vendor = Vendor::start(move |seen| match seen.text().contains("\"stream\":true") {
        true => events(STREAM),
        false => (200, "application/json", whole.into()),
    })
    .await;
    let world = world(vec![to("main", "provider_anthropic", &vendor, "")]).await;
    let mut headers = HeaderMap::new();
    headers.insert("anthropic-beta", HeaderValue::from_static("one-2025-01-01,two"));
    headers.insert("anthropic-version", HeaderValue::from_static("2023-01-01"));
    headers.insert("x-api-key", HeaderValue::from_static("bk_stolen"));
    for (more, back) in [(r#", "stream":true"#, STREAM), ("", whole)] {
        let body = BODY.replace("STREAM", more);
        let asked = asking(Dialect::AnthropicMessages, "messages");
        let answer = world.call_in(&asked, &body, headers.clone()).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.header("x-brokle-model"), Some("claude-x"));
        assert_eq!(answer.text().await, back);
        let seen = vendor.seen("/").pop().unwrap();
        assert_eq!(seen.path, "/v1/messages");
        assert_eq!(seen.text(), body.replace("anthropic/claude-x", "claude-x"));
        assert_eq!(seen.header("anthropic-beta"), "one-2025-01-01,two");
        assert_eq!(seen.header("anthropic-version"), "2023-01-01");
        assert_eq!(seen.header("x-api-key"), "sk-very-secret");
        assert_eq!(seen.headers.get_all("x-api-key").iter().count(), 1);
    }
    let traces = world.traces().await;
    let usage = |trace: &Value| {
        ["input", "output", "cached_read", "cache_write"].map(|kind| trace["usage"][kind].as_u64())
    };
    assert_eq!(usage(&traces[0]), [Some(9), Some(9), Some(0), Some(2)], "{}", traces[0]);
    assert_eq!(usage(&traces[1]), [Some(12), Some(9), Some(5), Some(0)], "{}", traces[1]);
    assert!(
        traces.iter().all(|trace| trace["status"] == "ok" && trace["model_served"] == "claude-x"),
        "{traces:#?}"
    );
    assert_eq!(traces[1]["finish_reason"], "tool_calls");
}

#[tokio::test]
async fn a_native_stream_that_breaks_off_says_so() {
    let upstream = Upstream::start().await.unwrap();
    let to = To {
        name: "claude",
        plugin: "provider_anthropic",
        url: upstream.origin(),
        priority: 0,
        models: Vec::new(),
    };
    let world = world(vec![to]).await;
    let ask = async |fault: &str| {
        let body = format!(
            r#"{{"model":"anthropic/claude-sonnet-4-5!{fault}","max_tokens":9,"stream":true,"messages":[{{"role":"user","content":"hi"}}]}}"#
        );
        world.messages(&body).await.text().await
    };
    let whole = ask("chunk=9999").await;
    for fault in [
        "chunk=1",
        "chunk=7",
        "chunk=64",
        "malformed-sse=crlf",
        "malformed-sse=cr",
        "malformed-sse=no-space",
        "malformed-sse=bom",
        "malformed-sse=comment-flood",
        "malformed-sse=split-utf8",
    ] {
        let kinds = |text: &str| text.matches("\"type\":\"content_block_delta\"").count();
        assert_eq!(kinds(&ask(fault).await), kinds(&whole), "{fault}");
    }
    for fault in ["close-at=900", "reset-at=900"] {
        let text = ask(fault).await;
        let last = named(&text).pop().unwrap();
        assert_eq!(
            (last.0.as_str(), &last.1["error"]["type"]),
            ("error", &"api_error".into()),
            "{fault}: {text}"
        );
    }
    // Its own error is the last word.
    let text = ask("error-in-stream=1").await;
    assert_eq!(named(&text).pop().unwrap().1["error"]["type"], "overloaded_error");
    let failed = world.traces().await.iter().filter(|trace| trace["status"] == "error").count();
    assert_eq!(failed, 3);
}

#[tokio::test]
async fn any_provider_is_reached() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0), echo()]).await;
    for (model, text) in
        [("openai/gpt-4o-mini", expected(&Fault::default())), ("echo/echo-1", "one two".to_owned())]
    {
        let body = |more: &str| {
            format!(
                r#"{{"model":"{model}","max_tokens":50,"system":"be","messages":[{{"role":"user","content":"one two"}}]{more}}}"#
            )
        };
        let answer = world.messages(&body("")).await;
        assert_eq!((answer.status(), answer.header("content-type")), (200, Some("application/json")));
        let whole = answer.json().await;
        assert_eq!(whole["content"], json!([{"type": "text", "text": text}]), "{whole}");
        assert_eq!((&whole["stop_reason"], &whole["type"]), (&"end_turn".into(), &"message".into()));
        assert!(whole["usage"]["output_tokens"].as_u64() > Some(0));

        let answer = world.messages(&body(r#","stream":true"#)).await;
        assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
        assert!(answer.header("x-brokle-trace-id").is_some() && answer.header("request-id").is_some());
        let streamed = named(&answer.text().await);
        let kinds: Vec<&str> = streamed.iter().map(|(name, _)| name.as_str()).collect();
        assert!(streamed.iter().all(|(name, data)| data["type"] == name.as_str()));
        assert_eq!(kinds[..3], ["message_start", "ping", "content_block_start"]);
        assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
        let said: String = streamed.iter().filter_map(|(_, data)| data["delta"]["text"].as_str()).collect();
        assert_eq!(said, text);
        let last = &streamed[streamed.len() - 2].1;
        assert_eq!((&last["delta"]["stop_reason"], &last["usage"]), (&whole["stop_reason"], &whole["usage"]));
    }
    assert!(
        world
            .traces()
            .await
            .iter()
            .all(|trace| trace["status"] == "ok" && trace["usage"]["output"].as_u64() > Some(0))
    );
}

#[tokio::test]
async fn a_translated_stream_that_fails_ends_with_an_error() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let body = r#"{"model":"openai/gpt-4o-mini!events=3;error-in-stream=2","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"x"}]}"#;
    let streamed = named(&world.messages(body).await.text().await);
    let (name, data) = streamed.last().unwrap();
    assert_eq!((name.as_str(), &data["type"]), ("error", &"error".into()), "{streamed:#?}");
    assert_eq!(streamed.iter().filter(|(name, _)| name == "content_block_delta").count(), 1);
    assert_eq!(world.only_trace().await["status"], "error");
}

/// Guardrails see the canonical form on both sides: nothing is passed as it is once one rules on answers.
#[tokio::test]
async fn guardrails_rule_on_the_canonical_form() {
    let vendor = Vendor::start(|seen| match seen.text().contains("\"stream\":true") {
        true => events(STREAM),
        false => reply(
            200,
            &json!({"id": "msg_1", "type": "message", "model": "claude-x", "stop_reason": "end_turn",
                "content": [{"type": "text", "text": "the word is swordfish"}], "usage": {"input_tokens": 1, "output_tokens": 1}}),
        ),
    })
    .await;
    let world = world(vec![to("main", "provider_anthropic", &vendor, "")]).await;
    let rules = json!({"replace": [{"pattern": "swordfish", "with": "[word]"}]});
    guard(&world, vec![guardrail("regex", rules)]).await;
    let body = |more: &str| {
        format!(
            r#"{{"model":"anthropic/claude-x","max_tokens":9,"messages":[{{"role":"user","content":"say swordfish"}}]{more}}}"#
        )
    };
    let whole = world.messages(&body("")).await.json().await;
    assert_eq!(whole["content"][0]["text"], "the word is [word]", "{whole}");
    assert!(vendor.seen("/")[0].text().contains("say [word]"));
    let streamed = named(&world.messages(&body(r#","stream":true"#)).await.text().await);
    assert_eq!(streamed.last().unwrap().0, "message_stop", "{streamed:#?}");
}

#[tokio::test]
async fn tokens_are_counted_by_the_vendor_or_estimated() {
    let vendor = Vendor::start(|_| reply(200, &json!({"input_tokens": 4321}))).await;
    let world = world(vec![to("main", "provider_anthropic", &vendor, "/v1"), echo()]).await;
    let asked = asking(Dialect::AnthropicMessages, "messages.count-tokens");
    let body =
        |model: &str| format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"hello"}}]}}"#);
    let counted = world.call_in(&asked, &body("anthropic/claude-x"), HeaderMap::new()).await;
    assert_eq!(counted.header("x-brokle-estimated"), None);
    assert_eq!(counted.json().await["input_tokens"], 4321);
    assert_eq!(vendor.seen("/v1/messages/count_tokens").len(), 1);
    let estimated = world.call_in(&asked, &body("echo/echo-1"), HeaderMap::new()).await;
    assert_eq!(estimated.header("x-brokle-estimated"), Some("true"));
    assert!((1..100).contains(&estimated.json().await["input_tokens"].as_u64().unwrap()));
    assert!(world.traces().await.iter().all(|trace| trace["usage"]["input"].as_u64().unwrap_or(0) == 0));
}

/// Not even natively, where the bytes would pass untouched: the vendor could take the other one.
#[tokio::test]
async fn a_member_that_is_there_twice_is_refused() {
    let vendor = Vendor::start(|_| reply(200, &json!({"type": "message", "content": []}))).await;
    let world = world(vec![to("claude", "provider_anthropic", &vendor, "")]).await;
    let messages = r#""max_tokens":9,"messages":[{"role":"user","content":"x"}]"#;
    for name in ["model", "\\u006dodel"] {
        let body = format!(r#"{{"model":"anthropic/claude-x",{messages},"{name}":"claude-forbidden"}}"#);
        let refused = world.messages(&body).await;
        assert_eq!(refused.status(), 400);
        let error = refused.json().await["error"].take();
        assert_eq!(error["type"], "invalid_request_error");
        assert!(error["message"].as_str().unwrap().contains("'model' is there twice"), "{error}");
    }
    assert!(vendor.seen("/v1/messages").is_empty());
}

#[tokio::test]
async fn what_only_the_vendor_has_is_refused_by_name_or_served_by_the_vendor() {
    let vendor = Vendor::start(|_| reply(200, &json!({"type": "message", "content": []}))).await;
    let mut claude = to("claude", "provider_anthropic", &vendor, "");
    claude.priority = 20;
    claude.models = vec!["either".into()];
    let mut echo = echo();
    echo.models = vec!["either".into(), "echo-1".into()];
    let world = world(vec![claude, echo]).await;
    let body = |model: &str| {
        format!(
            r#"{{"model":"{model}","max_tokens":9,"tools":[{{"type":"web_search_20250305","name":"web_search"}}],"messages":[{{"role":"user","content":"x"}}]}}"#
        )
    };
    let refused = world.messages(&body("echo/echo-1")).await;
    assert_eq!(refused.status(), 400);
    let json = refused.json().await;
    assert!(
        json["error"]["message"].as_str().unwrap().starts_with("tools.0: 'web_search_20250305'"),
        "{json}"
    );
    // The echo comes first, can't be asked, and the vendor serves.
    let served = world.messages(&body("either")).await;
    assert_eq!((served.status(), served.header("x-brokle-attempts")), (200, Some("2")));
    assert!(vendor.seen("/v1/messages")[0].text().contains("web_search_20250305"));
}

/// A body beyond what a sandbox may be given: the vendor whose dialect it is gets it all the same, since nobody reads it
/// whole; translating it fails, and the host says so in the dialect's form.
#[tokio::test]
async fn a_component_that_fails_is_told_in_the_dialects_form() {
    let vendor = Vendor::start(|_| reply(200, &json!({"type": "message", "content": []}))).await;
    let world = world(vec![to("main", "provider_anthropic", &vendor, ""), echo()]).await;
    let large = "x ".repeat(17 << 19);
    let body = |model: &str| {
        format!(r#"{{"model":"{model}","max_tokens":9,"messages":[{{"role":"user","content":"{large}"}}]}}"#)
    };
    let answer = world.messages(&body("echo/echo-1")).await;
    assert_eq!((answer.status(), answer.header("content-type")), (500, Some("application/json")));
    let json = answer.json().await;
    assert_eq!((&json["type"], &json["error"]["type"]), (&"error".into(), &"api_error".into()), "{json}");
    assert!(json["error"]["message"].as_str().unwrap().contains("brokle.dialect-anthropic"), "{json}");
    assert_eq!(world.messages(&body("anthropic/claude-x")).await.status(), 200);
    assert_eq!(vendor.seen("/")[0].body.len(), body("claude-x").len());
}
