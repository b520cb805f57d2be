//! What a caller sees of an upstream that fails, in each dialect's own form: before the first byte, in the middle of a
//! stream, whole or relayed. The table is in `docs/failure-modes.md`.

use std::time::Duration;

use brokle_gateway::{Dialect, Timeouts};
use brokle_test_upstream::{Fault, Upstream};
use http::HeaderMap;
use serde_json::Value;

use super::same::request;
use super::{anthropic, events, gemini, named, responses, to};
use crate::harness::{Answer, To, World, openai, world, world_with};
use crate::vendor::Vendor;

/// How a caller asks.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Chat,
    Messages,
    Responses,
    GeminiEvents,
    GeminiArray,
}

const WAYS: [Way; 5] = [Way::Chat, Way::Messages, Way::Responses, Way::GeminiEvents, Way::GeminiArray];

impl Way {
    async fn ask(self, world: &World, model: &str, streaming: bool) -> Answer {
        let dialect = match self {
            Self::Chat => {
                let more = if streaming { r#","stream":true"# } else { "" };
                return world.chat(model, more).await;
            }
            Self::Messages => Dialect::AnthropicMessages,
            Self::Responses => Dialect::OpenAiResponses,
            Self::GeminiEvents | Self::GeminiArray => Dialect::GeminiGenerateContent,
        };
        let (mut asking, body) = request(dialect, model, streaming, "one two");
        if self == Self::GeminiEvents {
            asking.query = vec![("alt".to_owned(), "sse".to_owned())];
        }
        world.call_in(&asking, &body, HeaderMap::new()).await
    }

    /// A refusal has this dialect's form. Gives the status.
    async fn refusal(self, answer: Answer) -> u16 {
        let status = answer.status();
        assert_eq!(answer.header("content-type"), Some("application/json"), "{self:?}");
        assert!(answer.header("x-brokle-trace-id").is_some());
        let json = answer.json().await;
        assert!(json["error"]["message"].is_string(), "{self:?}: {json}");
        match self {
            Self::Chat | Self::Responses => {
                assert!(json["error"]["type"].is_string() && json["error"].get("code").is_some(), "{json}");
            }
            Self::Messages => {
                assert_eq!(json["type"], "error");
                assert!(json["error"]["type"].is_string(), "{json}");
            }
            Self::GeminiEvents | Self::GeminiArray => {
                assert_eq!(json["error"]["code"], status);
                assert!(json["error"]["status"].is_string(), "{json}");
            }
        }
        status
    }

    /// Reads a stream to its end, of which nothing may be half. The events before the error, and whether there is one: as
    /// the last word, and in this dialect's form.
    async fn stream(self, answer: Answer) -> (Vec<Value>, bool) {
        let mut events: Vec<Value> = match self {
            Self::Chat => answer.events().await,
            Self::GeminiArray => answer.json().await.as_array().unwrap().clone(),
            Self::Messages | Self::Responses | Self::GeminiEvents => {
                named(&answer.text().await).into_iter().map(|(_, data)| data).collect()
            }
        };
        // A response that is translated has failed; of one that is relayed only the error is told.
        if events.last().is_some_and(|last| last["type"] == "response.failed") {
            let failed = events.pop().unwrap();
            assert_eq!(failed["response"]["status"], "failed");
            assert_eq!(failed["response"]["error"]["code"], events.last().unwrap()["code"]);
        }
        let told = events.pop_if(|last| last["type"] == "error" || last.get("error").is_some());
        let in_form = |error: &Value| match self {
            Self::Chat => error["error"]["message"].is_string() && error["error"]["code"].is_string(),
            Self::Messages => error["error"]["message"].is_string() && error["error"]["type"].is_string(),
            Self::Responses => error["message"].is_string() && error["code"].is_string(),
            Self::GeminiEvents | Self::GeminiArray => {
                error["error"]["status"].is_string() && error["error"]["code"].is_number()
            }
        };
        let ended = |event: &Value| match self {
            Self::Chat => event["choices"][0]["finish_reason"].is_string(),
            Self::Messages => event["type"] == "message_stop",
            Self::Responses => event["type"] == "response.completed",
            Self::GeminiEvents | Self::GeminiArray => event["candidates"][0]["finishReason"].is_string(),
        };
        match &told {
            Some(error) => assert!(in_form(error), "{self:?}: {error}"),
            None => assert!(events.iter().any(ended), "{self:?} neither ended nor failed: {events:#?}"),
        }
        (events, told.is_some())
    }
}

fn claude(upstream: &Upstream) -> To {
    To {
        name: "claude",
        plugin: "provider_anthropic",
        url: upstream.origin(),
        priority: 0,
        models: Vec::new(),
    }
}

/// A vendor by its own preset, so that no dialect is native to it.
fn groq(upstream: &Upstream) -> To {
    let plugin = "provider_openai_compatible:groq";
    To { name: "fast", plugin, url: upstream.base_url(), priority: 0, models: Vec::new() }
}

fn short() -> Timeouts {
    let soon = Duration::from_millis(600);
    Timeouts { first_byte: soon, idle: soon, total: Duration::from_secs(20), ..Timeouts::default() }
}

/// Before the first byte, another candidate serves, in every dialect, streamed and whole.
#[tokio::test]
async fn before_the_first_byte_another_serves() {
    let (first, second) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let world = world_with(vec![openai("a", &first, 0), openai("b", &second, 1)], short(), false).await;
    let faults = ["status=429", "status=503", "refuse", "hang-head", "reset-at=60"];
    // OpenAI's own dialect is native there, and the upstream doesn't have it.
    for way in WAYS.into_iter().filter(|way| *way != Way::Responses) {
        for (index, fault) in faults.into_iter().enumerate() {
            for streaming in [false, true] {
                first.script([fault.parse::<Fault>().unwrap()]);
                // A model each, since one that has failed cools down.
                let model = format!("openai/model-{way:?}-{index}-{streaming}");
                let answer = way.ask(&world, &model, streaming).await;
                let told = (answer.status(), answer.header("x-brokle-attempts"));
                assert_eq!(told, (200, Some("2")), "{way:?} {fault} {streaming}");
                answer.bytes().await;
            }
        }
    }
    let traces = world.traces().await;
    assert!(
        traces.iter().all(|trace| trace["status"] == "ok" && trace["connection_id"] == "b"),
        "{traces:#?}"
    );
}

/// Also where bytes are relayed: what fails before its first event is no answer.
#[tokio::test]
async fn a_relayed_stream_that_fails_at_once_is_tried_elsewhere() {
    let (first, second) = (Upstream::start().await.unwrap(), Upstream::start().await.unwrap());
    let spare = To { name: "spare", priority: 1, ..claude(&second) };
    let world = world_with(vec![claude(&first), spare], short(), false).await;
    for (index, fault) in
        ["status=529", "refuse", "reset-at=150", "close-at=100", "empty-stream", "error-in-stream=0"]
            .into_iter()
            .enumerate()
    {
        first.script([fault.parse::<Fault>().unwrap()]);
        let answer = Way::Messages.ask(&world, &format!("anthropic/model-{index}"), true).await;
        assert_eq!((answer.status(), answer.header("x-brokle-attempts")), (200, Some("2")), "{fault}");
        let (_, failed) = Way::Messages.stream(answer).await;
        assert!(!failed, "{fault}");
    }
}

/// Nobody else is there: the failure is told, in every dialect, streamed and whole.
#[tokio::test]
async fn a_failure_before_the_first_byte_has_the_dialects_form() {
    let upstream = Upstream::start().await.unwrap();
    for way in WAYS {
        // A world each: enough failures open a circuit.
        let world = world_with(vec![groq(&upstream), claude(&upstream)], short(), false).await;
        for (fault, expected) in [
            ("status=400", 400),
            ("status=404", 404),
            ("status=429;retry-after=7", 429),
            ("hang-head", 504),
            ("refuse", 502),
            ("reset-at=60", 502),
        ] {
            for streaming in [false, true] {
                for model in ["groq/gpt-4o-mini", "claude/claude-haiku-4-5"] {
                    let answer = way.ask(&world, &format!("{model}!{fault}"), streaming).await;
                    if expected == 429 {
                        assert_eq!(answer.header("retry-after"), Some("7"), "{way:?} {model}");
                    }
                    let status = way.refusal(answer).await;
                    assert_eq!(status, expected, "{way:?} {model} {fault} {streaming}");
                }
            }
        }
    }
}

/// Cut at many bytes of the answer: nothing is ever half, the error is the last word, and the account says what happened.
#[tokio::test]
async fn a_translated_stream_that_is_cut_anywhere_ends_with_the_dialects_error() {
    let upstream = Upstream::start().await.unwrap();
    for way in WAYS {
        for model in ["groq/gpt-4o-mini", "claude/claude-haiku-4-5"] {
            if way == Way::Messages && model.starts_with("claude") {
                continue; // Native: below.
            }
            let world = world_with(vec![groq(&upstream), claude(&upstream)], short(), false).await;
            let (mut refused, mut broken) = (0, 0);
            for at in (0..2_000).step_by(67) {
                let answer = way.ask(&world, &format!("{model}!reset-at={at}"), true).await;
                if answer.status() != 200 {
                    assert_eq!(way.refusal(answer).await, 502, "{way:?} {model} {at}");
                    refused += 1;
                } else {
                    broken += u32::from(way.stream(answer).await.1);
                }
            }
            assert!(refused > 3 && broken > 3, "{way:?} {model}: {refused} refused, {broken} broken");
            let traces = world.traces().await;
            let cut = |trace: &&Value| trace["error"]["class"] == "upstream_disconnected";
            assert_eq!(traces.iter().filter(cut).count(), refused + broken as usize, "{way:?} {model}");
        }
    }
}

/// The other ways in which a stream goes wrong.
#[tokio::test]
async fn silence_and_what_cant_be_read_end_in_the_dialects_form() {
    let upstream = Upstream::start().await.unwrap();
    let world = world_with(vec![groq(&upstream)], short(), false).await;
    for way in WAYS {
        for (fault, class, begun) in [
            ("stall-after=4", "upstream_timeout", true),
            ("error-in-stream=4", "upstream_error", true),
            ("malformed-sse=huge-line;events=2", "upstream_error", false),
            ("empty-stream", "upstream_error", false),
            ("truncated-json;events=4", "upstream_error", true),
        ] {
            let answer = way.ask(&world, &format!("groq/gpt-4o-mini!{fault}"), true).await;
            assert_eq!(answer.status() == 200, begun, "{way:?} {fault}");
            if begun {
                let (before, failed) = way.stream(answer).await;
                assert!(failed && !before.is_empty(), "{way:?} {fault}");
            } else {
                assert_eq!(way.refusal(answer).await, 502, "{way:?} {fault}");
            }
            let newest = world.traces().await.remove(0);
            assert_eq!(newest["error"]["class"], class, "{way:?} {fault}");
        }
    }
}

/// Bytes that are relayed as they are, cut at many places: what came whole is there byte for byte, then the error.
#[tokio::test]
async fn a_native_stream_that_is_cut_anywhere_ends_with_the_dialects_error() {
    for (way, model, plugin, base, stream) in [
        (Way::Messages, "anthropic/m", "provider_anthropic", "", anthropic::STREAM),
        (Way::Responses, "openai/m", "provider_openai", "/v1", responses::STREAM),
        (Way::GeminiEvents, "gemini/m", "provider_gemini", "", gemini::EVENTS),
        (Way::GeminiArray, "gemini/m", "provider_gemini", "", gemini::ARRAY),
    ] {
        let cut = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let at = cut.clone();
        let vendor = Vendor::start(move |_| {
            let bytes = stream.as_bytes()[..at.load(std::sync::atomic::Ordering::Relaxed)].to_vec();
            match way {
                Way::GeminiArray => (200, "application/json", bytes.into()),
                _ => events(bytes),
            }
        })
        .await;
        let (mut broken, mut ended) = (0, 0);
        let all: Vec<usize> = (0..stream.len()).step_by(11).chain([stream.len()]).collect();
        // A world for some of them: enough failures open a circuit.
        for some in all.chunks(3) {
            let world = world(vec![to("main", plugin, &vendor, base)]).await;
            for end in some {
                cut.store(*end, std::sync::atomic::Ordering::Relaxed);
                let answer = way.ask(&world, model, true).await;
                if answer.status() != 200 {
                    assert_eq!(way.refusal(answer).await, 502, "{way:?} {end}");
                    continue;
                }
                let (_, failed) = way.stream(answer).await;
                if failed { broken += 1 } else { ended += 1 }
            }
        }
        assert!(broken > 3 && ended > 0, "{way:?}: {broken} broken, {ended} ended");
    }
}
