//! Dialects: what reaches a provider that takes them as they are, what is translated for the others, and how calls fail.

mod anthropic;
mod cached;
mod faults;
mod gemini;
mod responses;
mod same;

use brokle_gateway::Dialect;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::Value;

use crate::harness::{Answer, To, World, asking, world};
use crate::vendor::{Reply, Vendor, reply};

/// To a vendor that a test writes, by a component of ours.
pub fn to(name: &'static str, plugin: &'static str, vendor: &Vendor, base: &str) -> To {
    let url = format!("{}{base}", vendor.origin());
    To { name, plugin, url, priority: 0, models: Vec::new() }
}

/// To the provider that answers by itself.
pub fn echo() -> To {
    To { name: "echo", plugin: "provider_echo", url: String::new(), priority: 9, models: Vec::new() }
}

/// A stream of events, as it comes.
pub fn events(bytes: impl Into<Bytes>) -> Reply {
    (200, "text/event-stream", bytes.into())
}

impl World {
    pub async fn messages(&self, body: &str) -> Answer {
        self.call_in(&asking(Dialect::AnthropicMessages, "messages"), body, HeaderMap::new()).await
    }
}

/// A stream's events: name and data. However its lines end: a relayed one is as its vendor writes.
pub fn named(text: &str) -> Vec<(String, Value)> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    let events = text.split("\n\n").filter(|event| event.contains("data:"));
    events
        .map(|event| {
            let line =
                |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("").trim();
            let data = line("data:");
            let json = serde_json::from_str(data).unwrap_or_else(|_| panic!("half an event: {event}"));
            (line("event:").to_owned(), json)
        })
        .collect()
}

#[tokio::test]
async fn an_error_of_the_vendors_own_is_relayed_as_it_is() {
    let body = serde_json::json!({"type": "error", "odd": 1, "error": {"type": "overloaded_error", "message": "Overloaded"}});
    let text = body.to_string();
    let vendor = Vendor::start(move |_| reply(529, &body)).await;
    let world = world(vec![to("main", "provider_anthropic", &vendor, "")]).await;
    let answer = world.messages(
        r#"{"model":"anthropic/claude-x","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}"#,
    );
    let answer = answer.await;
    assert_eq!(answer.status(), 529);
    assert_eq!(answer.header("x-brokle-provider"), Some("anthropic"));
    assert_eq!(answer.text().await, text);
    assert_eq!(world.only_trace().await["error"]["class"], "upstream_overloaded");
}

#[tokio::test]
async fn a_failure_before_the_component_is_asked_has_the_dialects_form() {
    let world = world(vec![echo()]).await;
    for (body, status, word) in [
        ("{", 400, "invalid_request_error"),
        (r#"{"max_tokens":1}"#, 400, "invalid_request_error"),
        (r#"{"model":"nobody/has-this","max_tokens":1,"messages":[]}"#, 404, "not_found_error"),
    ] {
        let answer = world.messages(body).await;
        assert_eq!(answer.status(), status, "{body}");
        assert!(answer.header("request-id").is_some());
        let json = answer.json().await;
        assert_eq!((&json["type"], &json["error"]["type"]), (&"error".into(), &word.into()), "{json}");
        assert!(json["request_id"].is_string());
    }
}
