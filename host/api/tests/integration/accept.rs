//! What a client may hold, and for how long.

use std::time::Duration;

use brokle_api::body::BodyLimits;
use brokle_api::server::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::harness::{Answer, PATIENCE, Server, request, until};

const SHORT: Duration = Duration::from_millis(300);

/// Sends a byte every 20 ms until the server closes the connection.
async fn trickle(server: &Server, first: &[u8]) -> Duration {
    // Before connecting: the server's clock runs from its accepting on.
    let begun = Instant::now();
    let mut stream = server.connect().await;
    stream.write_all(first).await.unwrap();
    let (mut reader, mut writer) = stream.split();
    let writing = async {
        while writer.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        std::future::pending::<()>().await;
    };
    let reading = async {
        let mut answer = Vec::new();
        let _ = reader.read_to_end(&mut answer).await;
    };
    tokio::select! {
        () = writing => {}
        read = tokio::time::timeout(PATIENCE, reading) => read.unwrap(),
    }
    begun.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_trickles_in_is_cut_off() {
    // The idle time is long: it is the head's own time that ends this.
    let server =
        Server::start(Limits { head_timeout: SHORT, ..Limits::default() }, BodyLimits::default()).await;
    let took = trickle(&server, b"GET /health/live HTTP/1.1\r\nx-slow: ").await;
    assert!(took >= SHORT && took < Duration::from_secs(8), "{took:?}");
    let took = trickle(&server, b"").await;
    assert!(took >= SHORT && took < Duration::from_secs(8), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_connection_is_kept_longer_than_a_head_may_take() {
    let limits =
        Limits { head_timeout: SHORT, idle_timeout: Duration::from_millis(1_500), ..Limits::default() };
    let server = Server::start(limits, BodyLimits::default()).await;
    let mut stream = server.connect().await;
    let ask = request("GET /health/live", "");
    for _ in 0..2 {
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4_096];
        let length = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.unwrap().unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
        tokio::time::sleep(SHORT * 2).await;
    }
    let begun = Instant::now();
    assert_eq!(tokio::time::timeout(PATIENCE, stream.read(&mut [0; 64])).await.unwrap().unwrap(), 0);
    assert!(begun.elapsed() < Duration::from_secs(8));
}

/// Everything up to the end of the connection.
async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
    read.await.unwrap().unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_whether_its_connection_is_kept() {
    let server = Server::default().await;
    let ask = |more: &str| request("POST /api/v1/keys", &format!("content-type: application/json\n{more}"));
    // A body that was refused before it came: nobody may take the connection for another request.
    for more in
        ["content-length: 100000", "transfer-encoding: chunked", "content-length: 5\nexpect: 100-continue"]
    {
        let mut stream = server.connect().await;
        stream.write_all(ask(more).as_bytes()).await.unwrap();
        let answer = rest(&mut stream).await;
        assert!(
            answer.starts_with("HTTP/1.1 401 ") && answer.contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
    }
    // One that came with its head isn't in the way.
    for (more, body) in
        [("content-length: 5", "hello"), ("transfer-encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
    {
        let mut stream = server.connect().await;
        let first = ask(more) + body;
        stream.write_all(first.as_bytes()).await.unwrap();
        stream.write_all(request("GET /health/live", "connection: close").as_bytes()).await.unwrap();
        let answers = rest(&mut stream).await;
        let (refusal, live) = answers.split_once("HTTP/1.1 200 ").expect("a second answer");
        assert!(refusal.starts_with("HTTP/1.1 401 ") && !refusal.contains("connection: close"), "{answers}");
        assert!(live.contains("connection: close"), "{answers}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_too_many_is_told_so() {
    let server =
        Server::start(Limits { max_connections: 2, ..Limits::default() }, BodyLimits::default()).await;
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = server.connect().await;
        stream.write_all(request("GET /health/live", "").as_bytes()).await.unwrap();
        stream.read_exact(&mut [0; 12]).await.unwrap();
        held.push(stream);
    }
    let mut third = server.connect().await;
    let refused = Answer::read(&mut third).await;
    assert_eq!((refused.status, refused.header("connection")), (503, Some("close")));
    assert_eq!(refused.header("content-length"), Some(refused.body.len().to_string().as_str()));
    assert_eq!(refused.json()["error"]["code"], "overloaded");
    drop(held);
    let mut tries = 0;
    while server.send("GET /health/live").await.status != 200 {
        tries += 1;
        assert!(tries < 1_000, "the slots never came back");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_may_be_as_large_as_allowed() {
    let body = BodyLimits { max_bytes: 1_000, ..BodyLimits::default() };
    let server = Server::start(Limits::default(), body).await;
    for (length, status) in [(0, 200), (1_000, 200), (1_001, 413)] {
        let mut stream = server.connect().await;
        let head = format!("POST /v1/test/echo\ncontent-length: {length}");
        stream.write_all(request(&head, "connection: close").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; length]).await.unwrap();
        let answer = Answer::read(&mut stream).await;
        assert_eq!(answer.status, status, "{length}: {answer:?}");
        if status == 200 {
            assert_eq!(answer.body.len(), length);
        } else {
            assert_eq!(answer.json()["error"]["code"], "request_too_large");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_length_beyond_the_cap_is_refused_before_the_body_comes() {
    let server = Server::default().await;
    let mut stream = server.connect().await;
    let head = request("POST /v1/test/echo\ncontent-length: 10000000000", "");
    stream.write_all(head.as_bytes()).await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_goes_on_sending_still_gets_its_refusal() {
    let body = BodyLimits { max_bytes: 1_000, ..BodyLimits::default() };
    let server = Server::start(Limits::default(), body).await;
    let mut stream = server.connect().await;
    let head = request("POST /v1/test/echo\ntransfer-encoding: chunked", "");
    stream.write_all(head.as_bytes()).await.unwrap();
    for _ in 0..512 {
        stream.write_all(b"2000\r\n").await.unwrap();
        stream.write_all(&[b'x'; 0x2000]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(Answer::read(&mut stream).await.status, 413);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_that_stops_coming_is_given_up() {
    let server = Server::start(Limits::default(), BodyLimits { grace: SHORT, ..BodyLimits::default() }).await;
    let mut stream = server.connect().await;
    stream.write_all(request("POST /v1/test/echo\ncontent-length: 10", "").as_bytes()).await.unwrap();
    stream.write_all(b"x").await.unwrap();
    let answer = Answer::read(&mut stream).await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (408, Some("request_timeout")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_does_not_read_is_cut_off() {
    let limits = Limits { write_stall: SHORT, max_connections: 1, ..Limits::default() };
    let server = Server::start(limits, BodyLimits::default()).await;
    let mut stream = server.connect().await;
    stream.write_all(request("GET /test/big", "").as_bytes()).await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    // The one slot comes back although the client holds on to its connection.
    let begun = Instant::now();
    while server.send("GET /health/live").await.status != 200 {
        assert!(begun.elapsed() < PATIENCE, "the slot never came back");
    }
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_head_that_is_too_large_is_refused() {
    let server = Server::default().await;
    let answer = server.send(&format!("GET /health/live\nx-large: {}", "x".repeat(70_000))).await;
    assert_eq!(answer.status, 431);
    until(|| server.lifecycle.is_ready()).await;
}
