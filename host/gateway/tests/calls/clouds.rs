//! The providers of the clouds through a whole gateway, against vendors that check what came and answer with what the
//! components' own fixtures hold: signatures, tokens, binary event streams, polls.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_gateway::connections::NewConnection;
use brokle_gateway::{Dialect, Timeouts};
use brokle_identity::Secret;
use bytes::Bytes;
use http::HeaderMap;
use serde_json::{Value, json};

use crate::dialects::named;
use crate::harness::{World, asking, content, world_of};
use crate::signing::{SECRET, verify};
use crate::vendor::{Vendor, reply};

const PEM: &str = include_str!("../../../runtime/tests/capabilities/keys/rsa-2048.pem");

/// A file of a component's fixtures.
fn fixture(path: &str) -> Bytes {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    std::fs::read(folder.join(path)).unwrap().into()
}

/// A world with one connection, `cloud`.
async fn cloud(plugin: &'static str, origin: String, secret: &str, options: Value) -> World {
    let new = NewConnection {
        name: "cloud".into(),
        base_url: Some(origin),
        secrets: vec![Secret::new(secret.into())],
        options: options.as_object().cloned().unwrap_or_default(),
        weight: 1,
        ..NewConnection::default()
    };
    let seconds = Duration::from_secs;
    let timeouts =
        Timeouts { first_byte: seconds(5), idle: seconds(5), first_token: None, total: seconds(30) };
    world_of(vec![(plugin, new)], timeouts, false, Arc::new(SystemClock)).await
}

#[tokio::test]
async fn bedrock_is_signed_and_its_event_stream_decoded() {
    let vendor = Vendor::start(|seen| match verify(seen) {
        Err(reason) => reply(403, &json!({"message": reason})),
        Ok(_) if seen.path.ends_with("/converse-stream") => {
            let body = fixture("provider-bedrock/fixtures/text-stream/response.eventstream");
            (200, "application/vnd.amazon.eventstream", body)
        }
        Ok(_) => (200, "application/json", fixture("provider-bedrock/fixtures/text/response.json")),
    })
    .await;
    let secret = format!("AKIDEXAMPLE:{SECRET}");
    let options = json!({"region": "eu-central-1"});
    let world = cloud("provider_bedrock", vendor.origin(), &secret, options).await;
    let model = "cloud/eu.anthropic.claude-sonnet-4-5-20250929-v1:0";
    let whole = world.chat(model, "").await;
    assert_eq!(whole.status(), 200);
    let whole = whole.json().await;
    assert_eq!(whole["choices"][0]["message"]["content"], "Hello! How can I help?");
    let events = world.chat(model, r#","stream":true"#).await.events().await;
    assert_eq!(content(&events), "Hello! How can I help?");
    let paths: Vec<_> = vendor.seen("/").into_iter().map(|seen| seen.path).collect();
    let path = "/model/eu.anthropic.claude-sonnet-4-5-20250929-v1%3A0";
    assert_eq!(paths, [format!("{path}/converse"), format!("{path}/converse-stream")]);
    for trace in world.traces().await {
        assert_eq!((&trace["usage"]["input"], &trace["usage"]["output"]), (&12.into(), &7.into()));
    }
}

#[tokio::test]
async fn vertex_is_asked_with_a_token_that_a_service_account_bought() {
    let vendor = Vendor::start(|seen| match seen.path.as_str() {
        "/token" => {
            reply(200, &json!({"access_token": "bought", "token_type": "Bearer", "expires_in": 3_600}))
        }
        _ if seen.header("authorization") != "Bearer bought" => {
            reply(401, &json!({"error": {"code": 401, "message": "no token", "status": "UNAUTHENTICATED"}}))
        }
        path if path.contains(":streamRawPredict") => {
            let body = fixture("provider-vertex/fixtures/claude-text-stream/response.sse");
            (200, "text/event-stream", body)
        }
        path if path.contains(":streamGenerateContent?alt=sse") => {
            let body = fixture("provider-vertex/fixtures/gemini-text-stream/response.sse");
            (200, "text/event-stream", body)
        }
        path => reply(404, &json!({"error": {"code": 404, "message": path, "status": "NOT_FOUND"}})),
    })
    .await;
    let key = json!({
        "type": "service_account", "client_email": "a@b.iam.gserviceaccount.com", "private_key_id": "k",
        "private_key": PEM, "token_uri": format!("{}/token", vendor.origin()),
    });
    let options = json!({"project": "my-project", "location": "europe-west1"});
    let world = cloud("provider_vertex", vendor.origin(), &key.to_string(), options).await;
    for model in ["gemini-2.5-flash", "claude-sonnet-4-5@20250929"] {
        let answer = world.chat(&format!("cloud/{model}"), r#","stream":true"#).await;
        assert_eq!(answer.status(), 200, "{model}");
        assert_eq!(content(&answer.events().await), "Hello there.", "{model}");
    }
    let place = "/v1/projects/my-project/locations/europe-west1/publishers";
    assert_eq!(vendor.seen(place).len(), 2);
    assert_eq!(vendor.seen("/token").len(), 1);
}

#[tokio::test]
async fn a_prediction_is_asked_for_until_it_is_there() {
    let polls = AtomicUsize::new(0);
    let vendor = Vendor::start(move |seen| {
        let file = match (seen.method.as_str(), polls.load(Ordering::SeqCst)) {
            ("POST", _) => "response.json",
            (_, 0) => "response-2.json",
            _ => "response-5.json",
        };
        if seen.method == "GET" {
            polls.fetch_add(1, Ordering::SeqCst);
        }
        (200, "application/json", fixture(&format!("provider-replicate/fixtures/text-stream/{file}")))
    })
    .await;
    let world = cloud("provider_replicate", vendor.origin(), "r8_key", json!({})).await;
    let answer = world.chat("cloud/meta/meta-llama-3-70b-instruct", r#","stream":true"#).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(content(&answer.events().await), "Hello there, friend.");
    let asked: Vec<_> = vendor.seen("/").into_iter().map(|seen| (seen.method, seen.path)).collect();
    let poll = ("GET".to_owned(), "/v1/predictions/gm3qorzdhgbfurvjtvhg6dckhu".to_owned());
    let first = ("POST".to_owned(), "/v1/models/meta/meta-llama-3-70b-instruct/predictions".to_owned());
    assert_eq!(asked, [first, poll.clone(), poll]);
    assert_eq!(world.only_trace().await["usage"]["output"], 5);
}

/// A stream as Azure sends it with asynchronous content filters, in the order and with the members that its documentation shows:
/// notes on the prompt and on what was said come between the pieces, without a model, an id or a `delta`, and after the end.
fn noted_stream() -> String {
    let note = r#""content_filter_results":{"hate":{"filtered":false,"severity":"safe"}}"#;
    let about = |choices: &str, more: &str| {
        format!(r#"{{"id":"","object":"","created":0,"model":"",{more}"choices":[{choices}],"usage":null}}"#)
    };
    let noted = |to: u32| {
        format!(
            r#"{{"index":0,"finish_reason":null,{note},"content_filter_offsets":{{"check_offset":44,"start_offset":44,"end_offset":{to}}}}}"#
        )
    };
    let said = |delta: &str, reason: &str| {
        format!(
            r#"{{"id":"chatcmpl-7rCN","object":"chat.completion.chunk","created":1692913344,"model":"gpt-4o-2024-08-06","choices":[{{"index":0,"finish_reason":{reason},"delta":{delta}}}],"usage":null}}"#
        )
    };
    let prompt = format!(r#""prompt_filter_results":[{{"prompt_index":0,{note}}}],"#);
    let usage = r#"{"id":"chatcmpl-7rCN","object":"chat.completion.chunk","created":1692913344,"model":"gpt-4o-2024-08-06","choices":[],"usage":{"prompt_tokens":10,"completion_tokens":2,"total_tokens":12}}"#;
    let events = [
        about("", &prompt),
        said(r#"{"role":"assistant"}"#, "null"),
        said(r#"{"content":"Color"}"#, "null"),
        said(r#"{"content":" is"}"#, "null"),
        about(&noted(198), ""),
        said("{}", r#""stop""#),
        about(&noted(571), ""),
        usage.to_owned(),
        "[DONE]".to_owned(),
    ];
    events.map(|event| format!("data: {event}\n\n")).concat()
}

#[tokio::test]
async fn azures_notes_on_a_stream_pass_and_say_nothing_of_the_answer() {
    let stream = noted_stream();
    let told = stream.clone();
    let vendor = Vendor::start(move |_| (200, "text/event-stream", told.clone().into())).await;
    let world = cloud("provider_azure_openai", vendor.origin(), "key", json!({})).await;
    // A deployment's name, of which nobody knows the price.
    let asked = r#","stream":true,"stream_options":{"include_usage":true}"#;
    let answer = world.chat("cloud/ours", asked).await;
    assert_eq!(answer.text().await, stream, "byte for byte");
    let trace = world.only_trace().await;
    assert_eq!(trace["model_served"], "gpt-4o-2024-08-06", "{trace:#}");
    // 2.50 and 10.00 dollars a million.
    assert_eq!((&trace["cost"], &trace["finish_reason"]), (&json!("0.000045"), &json!("stop")), "{trace:#}");

    for (dialect, endpoint, model) in [
        (Dialect::AnthropicMessages, "messages", "/message/model"),
        (Dialect::OpenAiResponses, "responses", "/response/model"),
    ] {
        let body = match dialect {
            Dialect::AnthropicMessages => {
                r#"{"model":"cloud/ours","max_tokens":9,"stream":true,"messages":[{"role":"user","content":"hi"}]}"#
            }
            _ => r#"{"model":"cloud/ours","stream":true,"store":false,"input":"hi"}"#,
        };
        let answer = world.call_in(&asking(dialect, endpoint), body, HeaderMap::new()).await;
        let text = answer.text().await;
        let events = named(&text);
        let model = events[0].1.pointer(model);
        assert_eq!(model, Some(&json!("gpt-4o-2024-08-06")), "{text}");
        assert!(text.contains("Color") && !text.contains("content_filter"), "{text}");
        let last = events.last().unwrap().0.as_str();
        assert!(matches!(last, "message_stop" | "response.completed"), "{text}");
    }
}
