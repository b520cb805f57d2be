//! What goes well: both APIs, whole and streamed.

use crate::client::{Reply, ask, chat, content, raw};
use base64::{Engine, engine::general_purpose::STANDARD};
use brokle_test_upstream::{Fault, Upstream};
use serde_json::{Value, json};

async fn answer(path: &str, body: Value) -> Reply {
    let upstream = Upstream::start().await.unwrap();
    let reply = ask(&upstream, path, &body).await;
    assert_eq!(reply.end, Ok(()));
    reply
}

fn expected() -> String {
    brokle_test_upstream::content(&Fault::default())
}

#[tokio::test]
async fn a_chat_completion_has_content_and_usage() {
    let reply = answer("/v1/chat/completions", chat("gpt-4o-mini", false)).await;
    assert_eq!(reply.status(), 200);
    assert_eq!(reply.header("content-type").as_deref(), Some("application/json"));
    let json = reply.json();
    assert_eq!(json["model"], "gpt-4o-mini");
    assert_eq!(json["choices"][0]["message"]["content"], expected());
    assert_eq!(json["usage"]["prompt_tokens"], 3);
    assert_eq!(json["usage"]["completion_tokens"], 8);
    assert_eq!(json["usage"]["total_tokens"], 11);
}

#[tokio::test]
async fn a_chat_stream_has_role_content_finish_and_done() {
    let reply = answer("/v1/chat/completions", chat("gpt-4o-mini", true)).await;
    assert_eq!(reply.header("content-type").as_deref(), Some("text/event-stream; charset=utf-8"));
    assert!(reply.chunks().1);
    let data = reply.data();
    assert_eq!(data.len(), 11);
    assert_eq!(content(&data), expected());
    assert!(data[0].contains(r#""role":"assistant""#) && data[9].contains(r#""finish_reason":"stop""#));
    assert_eq!(data[10], "[DONE]");
    assert!(!reply.text().contains("usage"));
}

#[tokio::test]
async fn a_chat_stream_ends_with_its_usage_when_asked() {
    let mut body = chat("gpt-4o-mini", true);
    body["stream_options"] = json!({"include_usage": true});
    let data = answer("/v1/chat/completions", body).await.data();
    let usage: Value = serde_json::from_str(&data[10]).unwrap();
    assert_eq!(usage["choices"], json!([]));
    assert_eq!(usage["usage"]["total_tokens"], 11);
    assert_eq!(data[11], "[DONE]");
    assert!(data[..10].iter().all(|data| data.ends_with(r#""usage":null}"#)));
}

#[tokio::test]
async fn a_legacy_completion_comes_whole_and_streamed() {
    let body = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "say it"});
    let json = answer("/v1/completions", body).await.json();
    assert_eq!(json["choices"][0]["text"], expected());
    assert_eq!(json["usage"]["prompt_tokens"], 2);

    let body = json!({"model": "gpt-3.5-turbo-instruct", "prompt": "say it", "stream": true});
    let data = answer("/v1/completions", body).await.data();
    let texts = data.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
    let text: String = texts.map(|chunk| chunk["choices"][0]["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(text, expected());
    assert_eq!(data.last().unwrap(), "[DONE]");
}

#[tokio::test]
async fn embeddings_are_the_same_as_floats_and_as_base64() {
    let body = |format: &str| json!({"model": "text-embedding-3-small", "input": ["one two", "three"], "dimensions": 16, "encoding_format": format});
    let floats = answer("/v1/embeddings", body("float")).await.json();
    let base64 = answer("/v1/embeddings", body("base64")).await.json();
    assert_eq!(floats["usage"]["prompt_tokens"], 3);
    for index in 0..2 {
        let floats = floats["data"][index]["embedding"].as_array().unwrap();
        let floats: Vec<f32> = floats.iter().map(|value| value.as_f64().unwrap() as f32).collect();
        let bytes = STANDARD.decode(base64["data"][index]["embedding"].as_str().unwrap()).unwrap();
        let decoded: Vec<f32> =
            bytes.chunks(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!(floats.len(), 16);
        assert_eq!(floats, decoded);
        assert!((floats.iter().map(|value| value * value).sum::<f32>() - 1.0).abs() < 1e-5);
    }
}

#[tokio::test]
async fn tokens_are_one_input_and_lists_of_tokens_are_several() {
    let count = async |input: Value| {
        let body = json!({"model": "text-embedding-3-small", "input": input});
        answer("/v1/embeddings", body).await.json()["data"].as_array().unwrap().len()
    };
    assert_eq!(count(json!([1, 2, 3])).await, 1);
    assert_eq!(count(json!([[1, 2], [3]])).await, 2);
    assert_eq!(count(json!("text")).await, 1);
}

#[tokio::test]
async fn models_are_listed() {
    let upstream = Upstream::start().await.unwrap();
    let reply = raw(upstream.addr(), b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    let json = reply.json();
    assert!(json["data"].as_array().unwrap().iter().any(|model| model["id"] == "gpt-4o-mini"));
}

#[tokio::test]
async fn a_message_has_content_and_usage() {
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "system": "be brief",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "one two three"}]}]});
    let json = answer("/v1/messages", body).await.json();
    assert_eq!(json["content"][0]["text"], expected());
    assert_eq!(json["usage"]["input_tokens"], 5);
    assert_eq!(json["usage"]["output_tokens"], 8);
    assert_eq!(json["stop_reason"], "end_turn");
}

#[tokio::test]
async fn a_message_stream_has_anthropics_events_in_order() {
    let body = json!({"model": "claude-sonnet-4-5", "max_tokens": 9, "stream": true,
        "messages": [{"role": "user", "content": "hello"}]});
    let reply = answer("/v1/messages", body).await;
    let text = reply.text();
    let names: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("event: ")).collect();
    let delta = ["content_block_delta"; 8];
    let begin = ["message_start", "content_block_start", "ping"];
    let end = ["content_block_stop", "message_delta", "message_stop"];
    assert_eq!(names, [&begin[..], &delta[..], &end[..]].concat());
    let data: Vec<Value> = reply.data().iter().map(|data| serde_json::from_str(data).unwrap()).collect();
    assert!(data.iter().zip(&names).all(|(data, name)| data["type"] == **name));
    let text: String = data.iter().filter_map(|data| data["delta"]["text"].as_str()).collect();
    assert_eq!(text, expected());
    assert_eq!(data[0]["message"]["usage"]["input_tokens"], 1);
    assert_eq!(data[12]["usage"]["output_tokens"], 8);
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_said_in_the_apis_own_words() {
    for (path, body, status, pointer, value) in [
        ("/v1/nothing", json!({}), 404, "/error/type", "invalid_request_error"),
        ("/v1/chat/completions", json!({}), 400, "/error/param", "model"),
        ("/v1/chat/completions", json!([]), 400, "/error/type", "invalid_request_error"),
        ("/v1/embeddings", json!({"model": "m"}), 400, "/error/param", "input"),
        (
            "/v1/embeddings",
            json!({"model": "m", "input": "x", "dimensions": 0}),
            400,
            "/error/param",
            "dimensions",
        ),
        ("/v1/messages", json!({"model": "m"}), 400, "/error/type", "invalid_request_error"),
    ] {
        let reply = answer(path, body).await;
        assert_eq!((reply.status(), reply.json().pointer(pointer)), (status, Some(&json!(value))), "{path}");
    }
}
