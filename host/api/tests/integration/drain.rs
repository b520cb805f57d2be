//! How a server ends.

use std::time::Duration;

use brokle_api::body::BodyLimits;
use brokle_api::server::{Ended, Limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Answer, PATIENCE, Server, request, until};

async fn stream_in_flight(server: &Server) -> TcpStream {
    let mut stream = server.connect().await;
    stream.write_all(request("GET /test/stream", "").as_bytes()).await.unwrap();
    server.chunks.send("first ").await.unwrap();
    stream.read_exact(&mut [0; 12]).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_in_flight_is_finished_and_nothing_new_is_taken() {
    let server = Server::default().await;
    let mut idle = server.connect().await;
    idle.write_all(request("GET /health/live", "").as_bytes()).await.unwrap();
    idle.read_exact(&mut [0; 12]).await.unwrap();
    let mut stream = stream_in_flight(&server).await;

    server.stop.soon();
    // The idle connection ends, and the port is closed.
    timeout(PATIENCE, idle.read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    assert!(TcpStream::connect(server.address).await.is_err());

    server.chunks.send("last").await.unwrap();
    let Server { chunks, ended, .. } = server;
    drop(chunks);
    let rest = Answer::read(&mut stream).await;
    assert!(rest.body.contains("first ") && rest.body.ends_with("4\r\nlast\r\n0\r\n\r\n"), "{rest:?}");
    assert_eq!(timeout(PATIENCE, ended).await.unwrap().unwrap(), Ended::Drained);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lame_duck_is_not_ready_and_still_serves() {
    let server = Server::default().await;
    assert_eq!(server.send("GET /health/ready").await.status, 200);
    server.stop.gently();
    until(|| !server.lifecycle.is_ready()).await;
    let ready = server.send("GET /health/ready").await;
    assert_eq!((ready.status, ready.json()["status"].as_str()), (503, Some("draining")));
    assert_eq!(server.send("GET /health/live").await.status, 200);
    assert_eq!(server.send("GET /health").await.json()["status"], "draining");
    server.stop.abort();
    assert_eq!(timeout(PATIENCE, server.ended).await.unwrap().unwrap(), Ended::Aborted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_end_in_time_is_told_and_cut() {
    let limits = Limits { drain_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(limits, BodyLimits::default()).await;
    let mut stream = stream_in_flight(&server).await;
    server.stop.soon();
    timeout(PATIENCE, server.lifecycle.cutting().cancelled()).await.unwrap();
    let mut rest = Vec::new();
    // Cut: the end of the chunked body never comes.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.unwrap();
    assert!(!rest.ends_with(b"0\r\n\r\n"));
    assert_eq!(timeout(PATIENCE, server.ended).await.unwrap().unwrap(), Ended::Cut(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_wish_ends_it_at_once() {
    let server = Server::default().await;
    let mut stream = stream_in_flight(&server).await;
    server.stop.soon();
    timeout(PATIENCE, server.lifecycle.draining().cancelled()).await.unwrap();
    server.stop.abort();
    assert_eq!(timeout(Duration::from_secs(5), server.ended).await.unwrap().unwrap(), Ended::Aborted);
    let _ = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await.unwrap();
}
