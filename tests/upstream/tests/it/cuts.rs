//! Faults of the response as a whole: statuses, waits, and connections that end too early.

use crate::client::{ask, chat, content, faulty, open, read_until};
use brokle_test_upstream::{Outcome, Upstream};
use serde_json::json;
use std::{
    io::{ErrorKind, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tokio::io::AsyncReadExt;

#[tokio::test]
async fn statuses_come_with_the_apis_own_errors() {
    let reply = faulty("status=429;retry-after=2", true).await;
    assert_eq!((reply.status(), reply.header("retry-after").as_deref()), (429, Some("2")));
    assert_eq!(reply.json()["error"]["code"], "rate_limit_exceeded");
    assert_eq!(faulty("status=500", false).await.json()["error"]["type"], "server_error");
    assert_eq!(faulty("status=401", false).await.json()["error"]["code"], "invalid_api_key");
    assert_eq!(faulty("status=202", false).await.status(), 202);

    let upstream = Upstream::start().await.unwrap();
    for (status, kind) in
        [(529, "overloaded_error"), (429, "rate_limit_error"), (401, "authentication_error")]
    {
        let body = json!({"model": format!("claude!status={status}"), "max_tokens": 1});
        let reply = ask(&upstream, "/v1/messages", &body).await;
        assert_eq!(reply.status(), status);
        assert_eq!((&reply.json()["type"], &reply.json()["error"]["type"]), (&json!("error"), &json!(kind)));
    }
}

#[tokio::test]
async fn a_fault_that_cannot_be_is_refused_loudly() {
    for (fault, said) in [
        ("statsu=500", "there is no fault \"statsu\""),
        ("stall-after=1;status=500", "the fault \"stall-after\" needs a streamed answer"),
        ("refuse;delay=1", "the fault \"delay\" needs a streamed answer"),
    ] {
        let reply = faulty(fault, false).await;
        assert_eq!(reply.status(), 400);
        let error = &reply.json()["error"];
        assert_eq!((&error["message"], &error["type"]), (&json!(said), &json!("test_fault_error")));
    }
}

#[tokio::test]
async fn a_slow_head_is_late_and_whole() {
    let asked = Instant::now();
    let reply = faulty("slow-head=80", true).await;
    assert!(asked.elapsed() >= Duration::from_millis(80));
    assert_eq!(content(&reply.data()), brokle_test_upstream::content(&"".parse().unwrap()));
}

#[tokio::test]
async fn a_hanging_head_sends_nothing_until_the_client_leaves() {
    let upstream = Upstream::start().await.unwrap();
    let connection = open(&upstream, "slow-head=1;hang-head", false).await;
    upstream.wait_for(|seen| seen.method == "POST").await.unwrap();
    drop(connection);
    let seen = upstream.wait_for(|seen| seen.end.is_some()).await.unwrap();
    assert!(seen.client_left());
    assert_eq!(seen.end.unwrap().bytes_sent, 0);
}

#[tokio::test]
async fn a_refusal_closes_before_any_byte() {
    let reply = faulty("refuse", true).await;
    assert_eq!((reply.raw.len(), reply.end), (0, Ok(())));
}

#[tokio::test]
async fn a_reset_comes_after_exactly_that_many_bytes() {
    let upstream = Upstream::start().await.unwrap();
    for stream in [false, true] {
        let whole = ask(&upstream, "/v1/chat/completions", &chat("gpt-4o-mini!events=2", stream)).await;
        for at in
            (0..whole.raw.len()).step_by(23).chain([1, whole.head_length(), whole.raw.len() - 1, 1_000_000])
        {
            let body = chat(&format!("gpt-4o-mini!events=2;reset-at={at}"), stream);
            let reply = ask(&upstream, "/v1/chat/completions", &body).await;
            assert_eq!(reply.raw.len(), at.min(whole.raw.len()));
            assert_eq!(reply.end, Err(ErrorKind::ConnectionReset), "at {at}");
        }
    }
    let seen = upstream.wait_until(|seen| seen.iter().all(|seen| seen.end.is_some())).await.unwrap();
    assert!(seen.len() > 50);
    for seen in seen {
        let expected = if seen.fault.reset_at.is_some() { Outcome::Reset } else { Outcome::Answered };
        assert_eq!(seen.end.unwrap().outcome, expected);
    }
}

#[tokio::test]
async fn a_reset_beyond_the_window_loses_nothing() {
    let reply = faulty("large-body=8000000;reset-at=7654321", false).await;
    assert_eq!((reply.raw.len(), reply.end), (7_654_321, Err(ErrorKind::ConnectionReset)));
}

#[tokio::test]
async fn a_close_comes_after_exactly_that_many_bytes_of_the_body() {
    for stream in [false, true] {
        for at in [0, 1, 150, 350] {
            let reply = faulty(&format!("close-at={at}"), stream).await;
            assert_eq!((reply.wire_body().len(), reply.end), (at, Ok(())));
        }
    }
    let reply = faulty("close-at=20", false).await;
    assert!(reply.header("content-length").unwrap().parse::<usize>().unwrap() > 20);
}

#[tokio::test]
async fn a_stall_is_silent_after_its_events_until_the_client_leaves() {
    let upstream = Upstream::start().await.unwrap();
    let mut connection = open(&upstream, "stall-after=3", true).await;
    let read = read_until(&mut connection, "data: ", 3).await;
    drop(connection);
    let seen = upstream.wait_for(|seen| seen.end.is_some()).await.unwrap();
    assert!(seen.client_left());
    assert!(!String::from_utf8(read).unwrap().contains("[DONE]"));

    // All that was sent was three events: a client that stays sees no more.
    let mut connection = open(&upstream, "stall-after=3", true).await;
    let read = read_until(&mut connection, "\n\n\r\n", 3).await;
    assert_eq!(connection.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::WouldBlock);
    drop(connection);
    let seen = upstream.wait_for(|seen| seen.id == 2 && seen.end.is_some()).await.unwrap();
    assert_eq!(seen.end.unwrap().bytes_sent, read.len());
}

#[tokio::test]
async fn a_client_that_leaves_a_stream_is_noticed() {
    let upstream = Upstream::start().await.unwrap();
    let mut connection = open(&upstream, "events=1000;delay=20", true).await;
    read_until(&mut connection, "data: ", 2).await;
    assert!(upstream.disconnects().is_empty());
    drop(connection);
    let left = Instant::now();
    let seen = upstream.wait_for(|seen| seen.client_left()).await.unwrap();
    assert!(left.elapsed() < Duration::from_secs(1));
    assert!(seen.end.unwrap().at > seen.received_at);
    assert_eq!(upstream.disconnects().len(), 1);
}

#[tokio::test]
async fn a_body_comes_in_pieces_of_the_size_that_was_asked_for() {
    let whole = faulty("events=3", false).await;
    let pieces = faulty("events=3;chunk=1", false).await;
    assert_eq!(pieces.body(), whole.body());

    let whole = faulty("events=3", true).await;
    let pieces = faulty("events=3;chunk=5", true).await;
    assert_eq!(pieces.body(), whole.body());
    let (chunks, ended) = pieces.chunks();
    assert!(ended && chunks.iter().all(|chunk| chunk.len() <= 5));
    assert!(chunks.iter().filter(|chunk| chunk.len() == 5).count() > 100);
}

#[tokio::test]
async fn bodies_are_truncated_mislabelled_and_large() {
    let truncated = faulty("truncated-json", false).await;
    assert!(serde_json::from_slice::<serde_json::Value>(&truncated.body()).is_err());
    assert!(truncated.text().starts_with(r#"{"id":"chatcmpl-test""#));

    let reply = faulty("wrong-content-type", false).await;
    assert_eq!(reply.header("content-type").as_deref(), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.json()["object"], "chat.completion");

    let large = faulty("large-body=3000000", false).await;
    assert_eq!(large.json()["choices"][0]["message"]["content"].as_str().unwrap().len(), 3_000_000);
    let large = faulty("large-body=3000000", true).await;
    assert_eq!(content(&large.data()).len(), 3_000_000);
}

#[tokio::test]
async fn gzip_inflates_to_the_same_bytes() {
    for stream in [false, true] {
        let plain = faulty("", stream).await;
        let reply = faulty("gzip", stream).await;
        assert_eq!(reply.header("content-encoding").as_deref(), Some("gzip"));
        let mut child =
            Command::new("gzip").arg("-dc").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&reply.body()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, plain.body());
    }
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another_and_all_of_it_ends_on_drop() {
    let upstream = Upstream::start().await.unwrap();
    let mut connection = open(&upstream, "", true).await;
    read_until(&mut connection, "\r\n0\r\n\r\n", 1).await;
    let again = crate::client::post("/v1/chat/completions", &chat("gpt-4o-mini", false), "");
    tokio::io::AsyncWriteExt::write_all(&mut connection, &again).await.unwrap();
    read_until(&mut connection, r#""system_fingerprint":"fp_test"}"#, 1).await;
    let seen =
        upstream.wait_until(|seen| seen.iter().filter(|seen| seen.end.is_some()).count() == 2).await.unwrap();
    assert_eq!(seen[0].connection, seen[1].connection);

    let addr = upstream.addr();
    upstream.stop().await;
    assert!(matches!(connection.read(&mut [0; 16]).await, Ok(0) | Err(_)));
    assert_eq!(tokio::net::TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}
