//! What the upstream remembers, and the scripts that it follows.

use crate::client::{ask, chat, fault, post, raw};
use brokle_test_upstream::{Fault, Outcome, Upstream};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{io::AsyncWriteExt, net::TcpStream};

const CHAT: &str = "/v1/chat/completions";

async fn status(upstream: &Upstream, headers: &str, model: &str) -> u16 {
    let headers = format!("{headers}connection: close\r\n");
    raw(upstream.addr(), &post(CHAT, &chat(model, false), &headers)).await.status()
}

#[tokio::test]
async fn a_request_is_recorded_as_it_came() {
    let upstream = Upstream::start().await.unwrap();
    let body = chat("gpt-4o-mini", false);
    let request =
        post(&format!("{CHAT}?api-version=1"), &body, "X-Twice: a\r\nx-twice: b\r\nConnection: close\r\n");
    let reply = raw(upstream.addr(), &request).await;
    let seen = upstream.wait_for(|seen| seen.end.is_some()).await.unwrap();
    assert_eq!(
        (&seen.method[..], &seen.path[..], seen.route()),
        ("POST", "/v1/chat/completions?api-version=1", CHAT)
    );
    assert_eq!(seen.json(), Some(body));
    let twice: Vec<&str> =
        seen.headers.iter().filter(|(name, _)| name == "x-twice").map(|(_, value)| &value[..]).collect();
    assert_eq!(twice, ["a", "b"]);
    let end = seen.end.unwrap();
    assert_eq!((end.outcome, end.bytes_sent), (Outcome::Answered, reply.raw.len()));
    assert_eq!(reply.header("x-request-id"), Some(format!("req_test_{:06}", seen.id)));
}

#[tokio::test]
async fn chunked_bodies_and_expectations_are_read() {
    let upstream = Upstream::start().await.unwrap();
    let body = chat("gpt-4o-mini", false).to_string();
    let (first, second) = body.split_at(10);
    let head = format!(
        "POST {CHAT} HTTP/1.1\r\nconnection: close\r\nexpect: 100-continue\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    let chunks =
        format!("a;note=1\r\n{first}\r\n{:x}\r\n{second}\r\n0\r\ntrailer: yes\r\n\r\n", second.len());
    let reply = raw(upstream.addr(), (head + &chunks).as_bytes()).await;
    assert!(reply.raw.starts_with(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n"));
    assert_eq!(upstream.requests()[0].body, body);
}

#[tokio::test]
async fn a_client_that_leaves_while_it_sends_is_recorded() {
    let upstream = Upstream::start().await.unwrap();
    let request = post(CHAT, &chat("gpt-4o-mini", false), "");
    let mut connection = TcpStream::connect(upstream.addr()).await.unwrap();
    connection.write_all(&request[..request.len() - 5]).await.unwrap();
    drop(connection);
    let seen = upstream.wait_for(|seen| seen.client_left()).await.unwrap();
    assert_eq!(seen.end.unwrap().bytes_sent, 0);
    assert!(seen.json().is_none() && seen.body.starts_with(b"{"));
}

#[tokio::test]
async fn a_malformed_request_is_answered_and_closed() {
    let upstream = Upstream::start().await.unwrap();
    for request in ["nonsense\r\n\r\n", "POST / HTTP/1.1\r\ncontent-length: x\r\n\r\n"] {
        let reply = raw(upstream.addr(), request.as_bytes()).await;
        assert_eq!((reply.status(), reply.end), (400, Ok(())));
    }
}

#[tokio::test]
async fn scripts_are_followed_by_key_then_for_all_then_the_model() {
    let upstream = Upstream::start().await.unwrap();
    upstream.script([fault("status=503"), Fault::default()]);
    upstream.script_for("sk-a", [fault("status=429"), fault("status=500")]);
    let a = "authorization: Bearer sk-a\r\n";
    let model = "gpt-4o-mini!status=401";
    assert_eq!(status(&upstream, &format!("{a}x-test-fault: status=418\r\n"), model).await, 418);
    assert_eq!(status(&upstream, a, model).await, 429);
    assert_eq!(status(&upstream, "x-api-key: sk-b\r\n", model).await, 503);
    assert_eq!(status(&upstream, "api-key: sk-a\r\n", model).await, 500);
    let models = raw(upstream.addr(), b"GET /v1/models HTTP/1.1\r\nconnection: close\r\n\r\n").await;
    assert_eq!(models.status(), 200);
    assert_eq!(status(&upstream, a, model).await, 200);
    assert_eq!(status(&upstream, a, model).await, 401);
    let faults: Vec<String> = upstream.requests().iter().map(|seen| seen.fault.to_string()).collect();
    let expected = ["status=418", "status=429", "status=503", "status=500", "", "", "status=401"];
    assert_eq!(faults, expected);
}

#[tokio::test]
async fn counts_can_be_waited_for_and_forgotten() {
    let upstream = Upstream::start().await.unwrap();
    let five = async {
        for _ in 0..5 {
            status(&upstream, "", "gpt-4o-mini").await;
        }
    };
    let (seen, ()) = tokio::join!(upstream.wait_until(|seen| seen.len() == 5), five);
    assert_eq!(seen.unwrap().last().unwrap().id, 5);
    upstream.script([fault("status=500")]);
    upstream.reset();
    assert!(upstream.requests().is_empty());
    assert_eq!(status(&upstream, "", "gpt-4o-mini").await, 200);
    assert_eq!(upstream.requests()[0].id, 6);
}

#[tokio::test]
async fn other_languages_have_the_same_over_http() {
    let upstream = Upstream::start().await.unwrap();
    let script = json!({"faults": ["status=500", ""], "key": "sk-a"});
    let reply = ask(&upstream, "/__script", &script).await;
    assert_eq!((reply.status(), &reply.json()["added"]), (200, &json!(2)));
    let a = "authorization: Bearer sk-a\r\n";
    assert_eq!([status(&upstream, a, "m").await, status(&upstream, a, "m").await], [500, 200]);

    let requests =
        async || raw(upstream.addr(), b"GET /__requests HTTP/1.1\r\nconnection: close\r\n\r\n").await.json();
    upstream.wait_until(|seen| seen.iter().all(|seen| seen.end.is_some())).await.unwrap();
    let seen = requests().await;
    assert_eq!(seen["disconnects"], 0);
    let seen = seen["requests"].as_array().unwrap().clone();
    assert_eq!(seen.len(), 2);
    assert_eq!((&seen[0]["fault"], &seen[0]["end"]["outcome"]), (&json!("status=500"), &json!("answered")));
    assert_eq!(seen[1]["body"]["model"], "m");
    assert!(seen[0]["headers"].as_array().unwrap().contains(&json!(["authorization", "Bearer sk-a"])));
    assert!(seen[1]["received_ms"].as_f64() > seen[0]["received_ms"].as_f64());

    assert_eq!(ask(&upstream, "/__reset", &Value::Null).await.status(), 200);
    assert_eq!(requests().await["requests"], json!([]));
    for wrong in
        [json!({}), json!({"faults": ["nope"]}), json!({"faults": [1]}), json!({"faults": [], "key": 1})]
    {
        assert_eq!(ask(&upstream, "/__script", &wrong).await.status(), 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_burst_of_connections_is_served_without_a_second_try() {
    let upstream = Upstream::start().await.unwrap();
    // Nothing accepts before the first await: all of these wait in the kernel's queue. A client whose connection is
    // dropped there tries again after a second.
    let connect =
        |_| std::net::TcpStream::connect_timeout(&upstream.addr(), Duration::from_millis(900)).unwrap();
    let burst: Vec<_> = (0..500).map(connect).collect();
    for connection in burst {
        connection.set_nonblocking(true).unwrap();
        let mut connection = TcpStream::from_std(connection).unwrap();
        connection
            .write_all(&post(CHAT, &chat("gpt-4o-mini", false), "connection: close\r\n"))
            .await
            .unwrap();
    }
    upstream.wait_until(|seen| seen.len() == 500).await.unwrap();
}
