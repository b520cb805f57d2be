//! Upstreams that fail: another is tried while nothing reached the caller, and every stream ends with a verdict.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::ManualClock;
use brokle_gateway::Timeouts;
use brokle_gateway::connections::NewConnection;
use brokle_identity::Secret;
use brokle_test_upstream::{Fault, Upstream};

use crate::harness::{To, openai, world, world_of, world_with};
use crate::vendor::Vendor;

fn short() -> Timeouts {
    Timeouts {
        first_byte: Duration::from_millis(400),
        idle: Duration::from_millis(400),
        total: Duration::from_secs(20),
        ..Timeouts::default()
    }
}

#[tokio::test]
async fn the_next_candidate_is_tried() {
    let (first, second) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let world = world_with(vec![openai("a", &first, 0), openai("b", &second, 1)], short(), false).await;
    // A model each, since one that has failed cools down.
    for (index, fault) in
        ["status=429", "status=500", "status=503", "refuse", "hang-head", "reset-at=60", "truncated-json"]
            .into_iter()
            .enumerate()
    {
        first.script([fault.parse::<Fault>().unwrap()]);
        let answer = world.chat(&format!("openai/model-{index}"), "").await;
        assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("2")), "{fault}");
    }
    for trace in world.traces().await {
        assert_eq!((&trace["status"], &trace["connection_id"]), (&"ok".into(), &"b".into()));
    }
    // A caller's own mistake is nobody else's to serve.
    first.script(["status=400".parse::<Fault>().unwrap()]);
    let answer = world.chat("gpt-4o-mini", "").await;
    assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (400, Some("1")));
}

#[tokio::test]
async fn one_that_cools_down_is_asked_last() {
    let (first, second) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let start = "2026-03-01T10:00:00Z".parse().unwrap();
    let clock = Arc::new(ManualClock::new(start));
    let connection = |name: &str, upstream: &Upstream, priority| {
        let base_url = Some(upstream.base_url());
        let secrets = vec![Secret::new("sk-very-secret".into())];
        (
            "provider_openai",
            NewConnection { name: name.into(), base_url, secrets, priority, ..NewConnection::default() },
        )
    };
    let connections = vec![connection("a", &first, 0), connection("b", &second, 1)];
    let world = world_of(connections, short(), false, clock.clone()).await;
    first.script(["status=429;retry-after=30".parse::<Fault>().unwrap()]);
    let asked = async || {
        let answer = world.chat("gpt-4o-mini", "").await;
        assert_eq!(answer.status(), 200);
        (first.requests().len(), second.requests().len())
    };
    assert_eq!(asked().await, (1, 1));
    assert_eq!(asked().await, (1, 2), "it said when to come back");
    // Another of its models is another matter.
    assert_eq!(world.chat("gpt-4o", "").await.header("x-brokle-attempts"), Some("1"));
    assert_eq!(first.requests().len(), 2);
    // While all cool down, one is asked rather than none.
    second.script(["status=429;retry-after=40".parse::<Fault>().unwrap()]);
    assert_eq!(asked().await, (3, 3));
    assert_eq!(asked().await, (4, 3));
    clock.advance(chrono::TimeDelta::seconds(31));
    assert_eq!(asked().await, (5, 3), "and it came back");
}

#[tokio::test]
async fn a_connection_with_models_serves_only_those() {
    let (first, second) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let mut own = openai("own", &first, 0);
    own.models = vec!["my-llama".into()];
    let world = world(vec![own, openai("main", &second, 1)]).await;
    assert_eq!(world.chat("my-llama", "").await.status(), 200);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 0));
    assert_eq!(world.chat("gpt-4o-mini", "").await.status(), 200);
    assert_eq!(world.chat("openai/gpt-4o", "").await.status(), 200);
    assert_eq!((first.requests().len(), second.requests().len()), (1, 2));
}

#[tokio::test]
async fn each_attempt_is_on_the_trace() {
    let (first, second) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let world = world(vec![openai("a", &first, 0), openai("b", &second, 1)]).await;
    first.script(["status=429;retry-after=2".parse::<Fault>().unwrap()]);
    assert_eq!(world.chat("gpt-4o-mini", "").await.status(), 200);
    let trace = world.only_trace().await;
    let children = trace["children"].as_array().unwrap();
    let attempts: Vec<_> = children.iter().filter(|child| child["type"] == "attempt").collect();
    assert_eq!(attempts.len(), 2, "{trace:#}");
    assert_eq!((&attempts[0]["status"], &attempts[0]["status_code"]), (&"error".into(), &429.into()));
    assert_eq!(attempts[1]["status"], "ok");
    assert!(
        children.iter().any(|child| child["type"] == "plugin"),
        "the policy's time is its own: {trace:#}"
    );
    assert!(attempts[1]["children"][0]["type"] == "plugin", "and so is the provider's: {trace:#}");
}

#[tokio::test]
async fn the_last_failure_is_told_as_the_vendor_told_it() {
    let upstream = Upstream::start().await.unwrap();
    let world = world_with(vec![openai("a", &upstream, 0)], short(), false).await;
    let answer = world.chat("openai/gpt-4o-mini!status=429;retry-after=7", "").await;
    assert_eq!((answer.status(), answer.header("retry-after")), (429, Some("7")));
    assert!(answer.json().await["error"]["message"].is_string());
    let told = async |fault: &str| {
        let answer = world.chat(&format!("openai/gpt-4o-mini!{fault}"), "").await;
        let status = answer.status();
        (status, answer.json().await["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(told("hang-head").await, (504, "upstream_timeout".into()));
    assert_eq!(told("refuse").await, (502, "upstream_disconnected".into()));
    assert_eq!(told("truncated-json").await, (502, "upstream_error".into()));
    assert_eq!(told("status=500").await.0, 500);
}

/// Cut at every fiftieth byte of the answer: nothing is ever half, and the account says what happened.
#[tokio::test]
async fn a_stream_that_breaks_ends_with_an_error_and_a_clean_end() {
    let upstream = Upstream::start().await.unwrap();
    let world = world_with(vec![openai("a", &upstream, 0)], short(), false).await;
    let mut broken = 0;
    for at in (0..2_000).step_by(50) {
        let answer = world.chat(&format!("openai/gpt-4o-mini!reset-at={at}"), r#","stream":true"#).await;
        if answer.status() != 200 {
            assert_eq!(answer.status(), 502, "no head came");
            continue;
        }
        let events = answer.events().await;
        match events.iter().position(|event| event.get("error").is_some()) {
            Some(position) => {
                assert_eq!(position, events.len() - 1, "the error is the last event");
                broken += 1;
            }
            None => {
                assert!(events.iter().any(|event| event["choices"][0]["finish_reason"] == "stop"), "at {at}")
            }
        }
    }
    assert!(broken > 10, "{broken} streams broke");
    let traces = world.traces().await;
    assert_eq!(traces.len(), 40);
    assert!(
        traces.iter().filter(|trace| trace["error"]["class"] == "upstream_disconnected").count() >= broken
    );
}

/// However lively the provider is: a call has an end, whole and streamed.
#[tokio::test]
async fn the_whole_call_has_an_end() {
    let upstream = Upstream::start().await.unwrap();
    let total = Timeouts { total: Duration::from_millis(400), ..short() };
    let total = Timeouts { first_byte: Duration::from_secs(20), idle: Duration::from_secs(20), ..total };
    let world = world_with(vec![openai("a", &upstream, 0)], total, false).await;
    let answer = world.chat("openai/gpt-4o-mini!hang-head", "").await;
    assert_eq!(answer.status(), 504);
    assert_eq!(answer.json().await["error"]["code"], "upstream_timeout");
    let answer = world.chat("openai/gpt-4o-mini!stall-after=2", r#","stream":true"#).await;
    assert_eq!(answer.status(), 200);
    let events = answer.events().await;
    assert_eq!(events.last().unwrap()["error"]["code"], "upstream_timeout", "{events:?}");
    let traces = world.traces().await;
    assert_eq!(traces.iter().filter(|trace| trace["status"] == "timeout").count(), 2, "{traces:#?}");
}

#[tokio::test]
async fn silence_malformed_and_empty_streams_end_too() {
    let upstream = Upstream::start().await.unwrap();
    let world = world_with(vec![openai("a", &upstream, 0)], short(), false).await;
    for (fault, class, before_a_token) in [
        ("stall-after=2", "upstream_timeout", false),
        ("empty-stream", "upstream_disconnected", true),
        ("close-at=300", "upstream_disconnected", true),
        ("error-in-stream=2", "upstream_error", false),
        ("malformed-sse=huge-line", "upstream_error", false),
        ("malformed-sse=missing-blank-line", "upstream_disconnected", true),
    ] {
        let answer = world.chat(&format!("openai/gpt-4o-mini!{fault}"), r#","stream":true"#).await;
        // What fails before the first token isn't begun.
        let status = answer.status();
        match status {
            200 => {
                let events = answer.events().await;
                assert!(events.last().unwrap()["error"]["message"].is_string(), "{fault}: {events:?}");
            }
            _ => assert!(answer.json().await["error"]["message"].is_string(), "{fault}"),
        }
        assert_eq!(status == 200, !before_a_token, "{fault}");
        let newest = world.traces().await.remove(0);
        assert_eq!(
            (&newest["error"]["class"], &newest["status_code"]),
            (&class.into(), &status.into()),
            "{fault}"
        );
    }
}

/// What a component finds in its vendor's stream: an error, or an end that isn't one.
#[tokio::test]
async fn a_decoded_answer_that_fails_is_an_error_too() {
    let upstream = Upstream::start().await.unwrap();
    let claude =
        To { plugin: "provider_anthropic", url: upstream.origin(), ..openai("claude", &upstream, 0) };
    let world = world_with(vec![claude], short(), false).await;
    let asked = async |fault: &str, more: &str| {
        world.chat(&format!("anthropic/claude-haiku-4-5!{fault}"), more).await
    };
    for (fault, message) in [("error-in-stream=6", "Overloaded"), ("close-at=1000", "connection broke")] {
        let answer = asked(fault, r#","stream":true"#).await;
        assert_eq!(answer.status(), 200, "{fault}");
        let mut events = answer.events().await;
        let last = events.pop().unwrap();
        assert!(last["error"]["message"].as_str().unwrap().contains(message), "{fault}: {last}");
        assert!(!events.is_empty() && events.iter().all(|event| event.get("error").is_none()), "{events:?}");
        let newest = world.traces().await.remove(0);
        assert_eq!(newest["status"], "error", "{fault}: {newest:#}");
    }
    let answer = asked("truncated-json", "").await;
    assert_eq!(answer.status(), 502);
    assert_eq!(answer.json().await["error"]["code"], "upstream_error");
}

/// The connection says that this is all, the vendor's protocol that it isn't.
#[tokio::test]
async fn a_decoded_stream_without_its_last_event_is_cut_short() {
    let vendor = Vendor::start(|_| {
        let events = [
            r#"{"type":"message_start","message":{"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"usage":{"input_tokens":1,"output_tokens":1}}}"#,
            r#"{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"half"}}"#,
        ];
        (200, "text/event-stream", events.map(|event| format!("data: {event}\n\n")).concat().into())
    })
    .await;
    let upstream = Upstream::start().await.unwrap();
    let claude = To { plugin: "provider_anthropic", url: vendor.origin(), ..openai("claude", &upstream, 0) };
    let world = world_with(vec![claude], short(), false).await;
    let mut events = world.chat("anthropic/claude-haiku-4-5", r#","stream":true"#).await.events().await;
    let last = events.pop().unwrap();
    assert!(last["error"]["message"].is_string(), "{last}");
    assert!(events.iter().any(|event| event["choices"][0]["delta"]["content"] == "half"), "{events:?}");
    assert_eq!(world.traces().await.remove(0)["status"], "error");
}
