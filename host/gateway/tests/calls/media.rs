//! Operations beside chat: what the vendor gets, byte for byte, and what the caller gets.

use brokle_gateway::Operation;
use http::{HeaderMap, HeaderValue};

use crate::harness::{Answer, To, World, world};
use crate::vendor::{Vendor, reply};

const AUDIO: &[u8] = &[0, 255, 13, 10, 45, 45];

/// A picture's stream: a first draft of 3 MB, and what came of it.
fn pictures() -> String {
    let draft = "A".repeat(3 << 20);
    let usage = serde_json::json!({"input_tokens": 50, "output_tokens": 272, "total_tokens": 322});
    let event = |kind: &str, more: serde_json::Value| {
        let mut event = serde_json::json!({"type": kind, "size": "1024x1024"});
        event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        format!("event: {kind}\ndata: {event}\n\n")
    };
    let partial = serde_json::json!({"b64_json": draft, "partial_image_index": 0});
    let completed = serde_json::json!({"b64_json": "aGVsbG8=", "usage": usage});
    [event("image_generation.partial_image", partial), event("image_generation.completed", completed)]
        .concat()
}

const DELTA: &str = "data: {\"type\":\"transcript.text.delta\",\"delta\":\"What was\"}\n\n";
const SAID: &str = "data: {\"type\":\"transcript.text.done\",\"text\":\"What was said.\",\"usage\":{\"type\":\"tokens\",\"input_tokens\":14,\"output_tokens\":45,\"total_tokens\":59}}\n\n";

/// A form with a recording; its file is as binary as they come.
fn form(model: &str, format: &str) -> Vec<u8> {
    let field = |name: &str, value: &str| {
        format!("--cut-here\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n")
    };
    let file = "--cut-here\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\n\r\n";
    let head = [field("model", model), field("response_format", format), file.to_owned()].concat();
    [head.as_bytes(), AUDIO, b"\r\n--cut-here--\r\n"].concat()
}

/// The same, whose transcript is wanted as a stream.
fn with_stream(model: &str) -> Vec<u8> {
    let stream = b"--cut-here\r\nContent-Disposition: form-data; name=\"stream\"\r\n\r\ntrue\r\n";
    [&stream[..], &form(model, "json")].concat()
}

async fn to(vendor: &Vendor) -> World {
    let url = format!("{}/v1", vendor.origin());
    world(vec![To { name: "mine", plugin: "provider_openai", url, priority: 0, models: Vec::new() }]).await
}

async fn transcribe(world: &World, body: Vec<u8>) -> Answer {
    let kind = HeaderValue::from_static("multipart/form-data; boundary=cut-here");
    let headers = HeaderMap::from_iter([(http::header::CONTENT_TYPE, kind)]);
    world.serve(Some(&world.key), Operation::Transcriptions, &headers, body.into()).await
}

#[tokio::test]
async fn a_recording_goes_out_as_it_came_but_for_the_models_name() {
    let vendor = Vendor::start(|_| {
        let usage = serde_json::json!({"type": "tokens", "input_tokens": 14, "output_tokens": 45, "total_tokens": 59});
        reply(200, &serde_json::json!({"text": "What was said.", "usage": usage}))
    })
    .await;
    let world = to(&vendor).await;
    let answer = transcribe(&world, form("openai/gpt-4o-transcribe", "json")).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.json().await["text"], "What was said.");
    let sent = vendor.seen("/v1/audio/transcriptions").pop().unwrap();
    assert_eq!(&sent.body[..], form("gpt-4o-transcribe", "json"));
    assert_eq!(sent.header("content-type"), "multipart/form-data; boundary=cut-here");

    let kept = world.only_trace().await;
    assert_eq!((&kept["type"], &kept["usage"]["input"]), (&"audio".into(), &14.into()));
    // Everything is captured in this world, and yet no recording is.
    assert!(kept["input"].is_null(), "{kept}");
    assert!(kept["output"].to_string().contains("What was said."), "{kept}");
}

#[tokio::test]
async fn subtitles_and_speech_are_passed_as_they_come() {
    let vendor = Vendor::start(|seen| match seen.path.as_str() {
        "/v1/audio/speech" => (200, "audio/mpeg", AUDIO.into()),
        _ => (200, "text/plain", "1\n00:00:00,000 --> 00:00:01,000\nHello".into()),
    })
    .await;
    let world = to(&vendor).await;
    let answer = transcribe(&world, form("openai/whisper-1", "srt")).await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("text/plain")));
    assert!(answer.text().await.contains("00:00:01,000"));
    let speech = r#"{"model":"openai/tts-1","voice":"alloy","input":"Hello"}"#;
    let answer = world.call(Operation::Speech, speech).await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("audio/mpeg")));
    assert_eq!(answer.bytes().await, AUDIO);
}

#[tokio::test]
async fn pictures_and_transcripts_are_streamed_as_they_come() {
    let vendor = Vendor::start(|seen| match seen.path.as_str() {
        "/v1/images/generations" => (200, "text/event-stream", pictures().into()),
        _ => (200, "text/event-stream", [DELTA, SAID].concat().into()),
    })
    .await;
    let world = to(&vendor).await;
    let wanted = r#"{"model":"openai/gpt-image-1","prompt":"a dot","stream":true,"partial_images":1}"#;
    let answer = world.call(Operation::ImageGenerations, wanted).await;
    assert_eq!(answer.status(), 200);
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    // Byte for byte: no `[DONE]` is added to what has none.
    assert!(answer.text().await == pictures());
    let kept = world.only_trace().await;
    assert_eq!(
        (&kept["status"], &kept["usage"]["input"], &kept["usage"]["output"]),
        (&"ok".into(), &50.into(), &272.into())
    );

    let answer = transcribe(&world, with_stream("openai/gpt-4o-transcribe")).await;
    assert_eq!(answer.text().await, [DELTA, SAID].concat());
    let traces = world.traces().await;
    let kept = traces.iter().find(|trace| trace["type"] == "audio").unwrap();
    assert_eq!((&kept["usage"]["input"], &kept["usage"]["output"]), (&14.into(), &45.into()), "{kept}");
}

#[tokio::test]
async fn a_stream_that_breaks_off_or_fails_says_so() {
    let vendor = Vendor::start(|seen| match seen.text().contains("broken") {
        true => (
            200,
            "text/event-stream",
            pictures().split("event: image_generation.completed").next().unwrap().to_owned().into(),
        ),
        false => (
            200,
            "text/event-stream",
            "data: {\"type\":\"error\",\"error\":{\"message\":\"no dots today\"}}\n\n".into(),
        ),
    })
    .await;
    let world = to(&vendor).await;
    let call =
        |prompt: &str| format!(r#"{{"model":"openai/gpt-image-1","prompt":"{prompt}","stream":true}}"#);
    let answer = world.call(Operation::ImageGenerations, &call("broken")).await;
    let text = answer.text().await;
    assert!(text.starts_with("event: image_generation.partial_image") && text.ends_with("data: [DONE]\n\n"));
    assert!(text.contains("upstream_disconnected"));
    let answer = world.call(Operation::ImageGenerations, &call("dots")).await;
    assert_eq!(answer.status(), 502);
    assert!(answer.text().await.contains("no dots today"));
}

#[tokio::test]
async fn a_wish_for_a_stream_is_granted_by_those_who_can() {
    // OpenAI says of some models that they ignore it.
    let vendor = Vendor::start(|_| reply(200, &serde_json::json!({"text": "What was said."}))).await;
    let url = format!("{}/v1", vendor.origin());
    let one = |name, plugin| To { name, plugin, url: url.clone(), priority: 0, models: Vec::new() };
    let world =
        world(vec![one("o", "provider_openai"), one("a", "provider_openai_compatible:together")]).await;
    let answer = transcribe(&world, with_stream("openai/whisper-1")).await;
    assert_eq!(answer.json().await["text"], "What was said.");
    let wanted = r#"{"model":"a/gpt-image-1","prompt":"x","stream":true}"#;
    let answer = world.call(Operation::ImageGenerations, wanted).await;
    let told = (answer.status(), answer.json().await["error"].clone());
    assert_eq!(
        (told.0, &told.1["code"], &told.1["param"]),
        (400, &"unsupported".into(), &"stream".into()),
        "{told:?}"
    );
}

const SOUND: &str = "data: {\"type\":\"speech.audio.delta\",\"audio\":\"AAEC\"}\n\n";
const SPOKEN: &str = "data: {\"type\":\"speech.audio.done\",\"usage\":{\"input_tokens\":14,\"output_tokens\":101,\"total_tokens\":115}}\n\n";

#[tokio::test]
async fn speech_as_events_is_counted_as_sound() {
    let vendor = Vendor::start(|seen| match seen.text().contains("tts-1") {
        // As OpenAI says of these, it knows nothing of events.
        true => (200, "audio/mpeg", AUDIO.into()),
        false => (200, "text/event-stream", [SOUND, SPOKEN].concat().into()),
    })
    .await;
    let url = format!("{}/v1", vendor.origin());
    let one = |name, plugin| To { name, plugin, url: url.clone(), priority: 0, models: Vec::new() };
    let world =
        world(vec![one("o", "provider_openai"), one("a", "provider_openai_compatible:together")]).await;
    let say = |model: &str| {
        format!(r#"{{"model":"{model}","voice":"alloy","input":"Hello","stream_format":"sse"}}"#)
    };
    let answer = world.call(Operation::Speech, &say("openai/gpt-4o-mini-tts")).await;
    assert!(answer.header("content-type").unwrap().starts_with("text/event-stream"));
    assert_eq!(answer.text().await, [SOUND, SPOKEN].concat());
    let kept = world.only_trace().await;
    let usage = &kept["usage"];
    assert_eq!(
        (&usage["input"], &usage["output"], &usage["audio_output"]),
        (&14.into(), &101.into(), &101.into()),
        "{kept:#}"
    );
    // 14 tokens of text at 0.6, 101 of sound at 12 dollars a million.
    assert_eq!(kept["cost"], "0.0012204", "{kept:#}");
    let answer = world.call(Operation::Speech, &say("openai/tts-1")).await;
    assert_eq!((answer.status(), answer.header("content-type")), (200, Some("audio/mpeg")));
    assert_eq!(answer.bytes().await, AUDIO);
    let answer = world.call(Operation::Speech, &say("a/some-voice")).await;
    assert_eq!(answer.status(), 400);
    let error = answer.json().await["error"].clone();
    assert_eq!(
        (&error["code"], &error["param"]),
        (&"unsupported".into(), &"stream_format".into()),
        "{error}"
    );
}

#[tokio::test]
async fn what_is_wrong_is_told_before_anybody_is_asked() {
    let vendor = Vendor::start(|_| reply(500, &serde_json::json!({}))).await;
    let world = to(&vendor).await;
    let body = form("openai/whisper-1", "json");
    let cut = body[..body.len() - 8].to_vec();
    let answer = transcribe(&world, cut).await;
    assert_eq!((answer.status(), answer.json().await["error"]["code"].clone()), (400, "invalid_form".into()));
    let nameless = String::from_utf8_lossy(&body).replace("name=\"model\"", "name=\"modell\"").into_bytes();
    let answer = transcribe(&world, nameless).await;
    assert_eq!(answer.json().await["error"]["param"], "model");
    for (operation, body, param) in [
        (Operation::ImageGenerations, r#"{"model":"m"}"#, "prompt"),
        (Operation::ImageGenerations, r#"{"model":"m","prompt":["x"]}"#, "prompt"),
        (Operation::Speech, r#"{"model":"m"}"#, "input"),
        (Operation::Rerank, r#"{"model":"m","documents":[]}"#, "query"),
        (Operation::Rerank, r#"{"model":"m","query":"q","documents":"d"}"#, "documents"),
        (Operation::Moderations, r#"{"input":5}"#, "input"),
        (Operation::Speech, r#"{"model":"m","input":"x","stream":true}"#, "stream"),
    ] {
        let answer = world.call(operation, body).await;
        assert_eq!(
            (answer.status(), answer.json().await["error"]["param"].clone()),
            (400, param.into()),
            "{body}"
        );
    }
    assert_eq!(vendor.seen("/").len(), 0);
}

#[tokio::test]
async fn documents_are_put_in_order_and_texts_are_classified() {
    let vendor = Vendor::start(|seen| match seen.path.as_str() {
        "/v1/moderations" => reply(200, &serde_json::json!({"id": "m", "results": [{"flagged": true}]})),
        _ => reply(
            200,
            &serde_json::json!({"object": "list", "data": [{"index": 1, "relevance_score": 0.9}],
            "usage": {"total_tokens": 7}, "results": [{"index": 1, "relevance_score": 0.9}]}),
        ),
    })
    .await;
    let url = format!("{}/v1", vendor.origin());
    let one = |name, plugin| To { name, plugin, url: url.clone(), priority: 0, models: Vec::new() };
    let world = world(vec![one("o", "provider_openai"), one("j", "provider_jina")]).await;
    let answer = world.call(Operation::Moderations, r#"{"input":"Hello"}"#).await;
    assert_eq!((answer.status(), answer.json().await["results"][0]["flagged"].clone()), (200, true.into()));
    let sent = vendor.seen("/v1/moderations").pop().unwrap();
    assert!(sent.text().contains(r#""model":"omni-moderation-latest""#), "{}", sent.text());
    let body = r#"{"model":"jina-ai/jina-reranker-v2-base-multilingual","query":"q","documents":["a","b"],"top_n":1}"#;
    let answer = world.call(Operation::Rerank, &body.replace("jina-ai/", "jina/")).await;
    assert_eq!(answer.status(), 200);
    let told = answer.json().await;
    assert_eq!(
        (&told["results"][0]["index"], &told["results"][0]["relevance_score"]),
        (&1.into(), &0.9.into()),
        "{told}"
    );
}
