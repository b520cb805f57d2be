//! Faults of streams: what a reader of server-sent events must stand.

use crate::client::{Reply, ask, content, faulty};
use brokle_test_upstream::Upstream;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn expected(fault: &str) -> String {
    brokle_test_upstream::content(&fault.parse().unwrap())
}

async fn messages(fault: &str) -> Reply {
    let upstream = Upstream::start().await.unwrap();
    let body = json!({"model": format!("claude!{fault}"), "max_tokens": 9, "stream": true, "messages": []});
    ask(&upstream, "/v1/messages", &body).await
}

#[tokio::test]
async fn events_are_counted_and_spaced() {
    let asked = Instant::now();
    let data = faulty("events=3;delay=10", true).await.data();
    // Role, three of content, finish, [DONE]: five gaps.
    assert_eq!(data.len(), 6);
    assert!(asked.elapsed() >= Duration::from_millis(50));
    assert_eq!(content(&data), expected("events=3"));
}

#[tokio::test]
async fn an_error_comes_inside_a_stream_that_began_well() {
    let reply = faulty("error-in-stream=3", true).await;
    assert_eq!(reply.status(), 200);
    let data = reply.data();
    assert_eq!(data.len(), 4);
    let error: Value = serde_json::from_str(&data[3]).unwrap();
    assert_eq!(error["error"]["type"], "server_error");
    assert!(reply.chunks().1);

    let reply = messages("error-in-stream").await;
    let text = reply.text();
    assert!(text.starts_with("event: message_start\n"));
    let error = "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n";
    assert!(text.ends_with(error));
    assert_eq!(text.matches("event: ").count(), 2);
}

#[tokio::test]
async fn an_empty_stream_is_a_stream_without_events() {
    let reply = faulty("empty-stream", true).await;
    assert_eq!((reply.status(), reply.wire_body()), (200, &b"0\r\n\r\n"[..]));
    assert_eq!(reply.header("content-type").as_deref(), Some("text/event-stream; charset=utf-8"));
}

#[tokio::test]
async fn a_truncated_stream_stops_inside_its_last_content_event() {
    let reply = faulty("truncated-json;events=2", true).await;
    let data = reply.data();
    assert_eq!(data.len(), 3);
    assert!(serde_json::from_str::<Value>(&data[1]).is_ok());
    assert!(serde_json::from_str::<Value>(&data[2]).is_err());
    assert!(reply.chunks().1);
}

#[tokio::test]
async fn line_ends_and_spaces_change_nothing_else() {
    let plain = faulty("", true).await.text();
    let text = async |kind: &str| faulty(&format!("malformed-sse={kind}"), true).await.text();
    assert_eq!(text("crlf").await, plain.replace('\n', "\r\n"));
    assert_eq!(text("cr").await, plain.replace('\n', "\r"));
    assert_eq!(text("no-space").await, plain.replace("data: ", "data:"));
    assert_eq!(text("missing-blank-line").await, plain.replace("\n\n", "\n"));
    assert_eq!(text("bom").await, format!("\u{feff}{plain}"));
    let flooded = text("comment-flood").await;
    assert_eq!(flooded.matches(": flood\n\n").count(), 10_000);
    assert_eq!(flooded.replace(": flood\n\n", ""), plain);
}

#[tokio::test]
async fn a_huge_line_is_one_line() {
    let reply = faulty("malformed-sse=huge-line", true).await;
    assert!(reply.text().lines().any(|line| line.len() > 2 * 1024 * 1024));
    assert_eq!(content(&reply.data()), expected("malformed-sse=huge-line"));
}

#[tokio::test]
async fn characters_are_split_across_chunks_and_whole_again_together() {
    let reply = faulty("malformed-sse=split-utf8", true).await;
    let (chunks, _) = reply.chunks();
    // é, 漢, 字 and 🙂, each with its first byte at a chunk's end.
    assert_eq!(chunks.iter().filter(|chunk| chunk.last().is_some_and(|byte| *byte >= 0xc0)).count(), 4);
    assert_eq!(content(&reply.data()), expected(""));
}

#[tokio::test]
async fn content_goes_on_after_the_end() {
    let data = faulty("malformed-sse=after-done", true).await.data();
    assert_eq!(data[data.len() - 2], "[DONE]");
    assert!(data[data.len() - 1].contains("Héllo"));
    let text = messages("malformed-sse=after-done").await.text();
    let (_, after) = text.split_once("event: message_stop").unwrap();
    assert!(after.contains("event: content_block_delta"));
}

#[tokio::test]
async fn the_default_content_type_can_be_wrong_in_a_stream_too() {
    let reply = faulty("wrong-content-type", true).await;
    assert_eq!(reply.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(content(&reply.data()), expected(""));
}
