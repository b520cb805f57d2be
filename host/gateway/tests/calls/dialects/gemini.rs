//! Gemini's `generateContent`.

use brokle_gateway::{Asking, Dialect};
use brokle_test_upstream::Upstream;
use http::HeaderMap;
use serde_json::{Value, json};

use super::{echo, events, to};
use crate::harness::{asking, openai, world};
use crate::vendor::Vendor;

pub(super) const EVENTS: &str = "data: {\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"h\\u00e9\",\"thoughtSignature\":\"a+b==\"}],\"role\": \"model\"}}],\"modelVersion\": \"gemini-x\"}\r\n\r\ndata: {\"candidates\": [{\"finishReason\": \"MAX_TOKENS\"}],\"usageMetadata\": {\"promptTokenCount\": 8,\"candidatesTokenCount\": 2,\"thoughtsTokenCount\": 3},\"modelVersion\": \"gemini-x\"}\r\n\r\n";
pub(super) const ARRAY: &str = "[{\"candidates\": [{\"content\": {\"parts\": [{\"text\": \"h\"}]}}]}\n,\r\n{\"candidates\": [{\"finishReason\": \"STOP\"}],\"usageMetadata\": {\"promptTokenCount\": 8,\"candidatesTokenCount\": 5}}\n]";

pub(super) fn generate(model: &str, streaming: bool, sse: bool) -> Asking {
    let query = if sse { vec![("alt".to_owned(), "sse".to_owned())] } else { Vec::new() };
    let known = asking(Dialect::GeminiGenerateContent, "generate-content");
    Asking { model: model.into(), streaming, query, ..known }
}

#[tokio::test]
async fn native_bytes_pass_untouched_both_ways() {
    let whole = r#"{ "candidates": [ {"content":{"parts":[{"text":"hé"}]},"finishReason":"STOP"} ],"usageMetadata":{"promptTokenCount":8,"candidatesTokenCount":5}, "x":1e0 }"#;
    let vendor = Vendor::start(move |seen| match seen.path.as_str() {
        path if path.ends_with(":streamGenerateContent?alt=sse") => events(EVENTS),
        path if path.ends_with(":streamGenerateContent") => (200, "application/json", ARRAY.into()),
        _ => (200, "application/json", whole.into()),
    })
    .await;
    let world = world(vec![to("main", "provider_gemini", &vendor, "")]).await;
    let body = r#"{ "contents":[{"parts":[{"text":"h\u00e9","thoughtSignature":"a+b=="}]}],"tools":[{"googleSearch":{}}], "odd":1e0 }"#;
    for (asked, back) in [
        (generate("gemini/gemini-x", true, true), EVENTS),
        (generate("gemini/gemini-x", true, false), ARRAY),
        (generate("gemini/gemini-x", false, false), whole),
    ] {
        let answer = world.call_in(&asked, body, HeaderMap::new()).await;
        assert_eq!((answer.status(), answer.text().await.as_str()), (200, back));
        let seen = vendor.seen("/v1beta/models/gemini-x:").pop().unwrap();
        assert_eq!((seen.text(), seen.header("x-goog-api-key")), (body, "sk-very-secret"));
    }
    let traces = world.traces().await;
    assert!(
        traces.iter().all(|trace| trace["status"] == "ok" && trace["usage"]["output"] == 5),
        "{traces:#?}"
    );
    assert_eq!(
        (&traces[2]["usage"]["reasoning"], &traces[2]["finish_reason"]),
        (&3.into(), &"length".into())
    );
}

#[tokio::test]
async fn any_provider_is_reached_by_events_and_by_an_array() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0), echo()]).await;
    let body = json!({"contents": [{"role": "user", "parts": [{"text": "call add {\"a\":1}"}]}],
        "tools": [{"functionDeclarations": [{"name": "add", "parameters": {"type": "OBJECT", "properties": {"a": {"type": "INTEGER", "nullable": true}}}}]}]});
    let parts = |answer: &Value| answer["candidates"][0]["content"]["parts"].clone();
    let whole =
        world.call_in(&generate("echo/echo-1", false, false), &body.to_string(), HeaderMap::new()).await;
    let whole = whole.json().await;
    assert_eq!(
        (&parts(&whole)[0]["functionCall"]["name"], &parts(&whole)[0]["functionCall"]["args"]),
        (&"add".into(), &json!({"a": 1})),
        "{whole}"
    );
    assert_eq!(whole["candidates"][0]["finishReason"], "STOP");
    let array =
        world.call_in(&generate("echo/echo-1", true, false), &body.to_string(), HeaderMap::new()).await;
    assert!(array.header("content-type").unwrap().starts_with("application/json"));
    let array = array.json().await;
    let last = array.as_array().unwrap().last().unwrap();
    assert_eq!(
        (parts(last)[0]["functionCall"]["args"].clone(), &last["usageMetadata"]),
        (json!({"a": 1}), &whole["usageMetadata"])
    );

    let text = json!({"contents": [{"parts": [{"text": "hello"}]}]}).to_string();
    let events = world.call_in(&generate("openai/gpt-4o-mini", true, true), &text, HeaderMap::new()).await;
    let events = events.text().await;
    let data: Vec<Value> = events
        .split("\r\n\r\n")
        .filter(|event| !event.is_empty())
        .map(|event| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap())
        .collect();
    let said: String = data
        .iter()
        .filter_map(|data| data["candidates"][0]["content"]["parts"][0]["text"].as_str())
        .collect();
    let whole = world
        .call_in(&generate("openai/gpt-4o-mini", false, false), &text, HeaderMap::new())
        .await
        .json()
        .await;
    assert_eq!(said, parts(&whole)[0]["text"].as_str().unwrap());
    assert_eq!(data.last().unwrap()["usageMetadata"], whole["usageMetadata"]);
    let asked = upstream.requests();
    assert_eq!(asked[0].json().unwrap()["messages"][0]["content"], "hello");
}

#[tokio::test]
async fn a_stream_that_fails_stays_in_its_framing() {
    let upstream = Upstream::start().await.unwrap();
    let world = world(vec![openai("main", &upstream, 0)]).await;
    let text = json!({"contents": [{"parts": [{"text": "hello"}]}]}).to_string();
    let asked = generate("openai/gpt-4o-mini!events=3;error-in-stream=2", true, false);
    let array = world.call_in(&asked, &text, HeaderMap::new()).await.json().await;
    let last = array.as_array().unwrap().last().unwrap().clone();
    assert!(last["error"]["status"].is_string(), "{array}");
    let refused = world.call_in(&generate("nobody/x", true, true), &text, HeaderMap::new()).await;
    assert_eq!(refused.status(), 404);
    assert_eq!(refused.json().await["error"]["status"], "NOT_FOUND");
}
