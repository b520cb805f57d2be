//! Where calls may go.

use std::time::Duration;

use brokle_gateway::Timeouts;
use brokle_test_upstream::Upstream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{To, world_with};

async fn refused(url: String) -> (u16, String) {
    let to = To { name: "a", plugin: "provider_openai", url, priority: 0, models: Vec::new() };
    let world =
        world_with(vec![to], Timeouts { first_byte: Duration::from_secs(5), ..Timeouts::default() }, true)
            .await;
    let answer = world.chat("openai/gpt-4o-mini", "").await;
    let status = answer.status();
    (status, answer.json().await["error"]["code"].as_str().unwrap().to_owned())
}

/// A connection that no operator configured can't reach this machine or the cloud's metadata, by any spelling.
#[tokio::test]
async fn private_addresses_are_not_dialed() {
    let canary = Upstream::start().await.unwrap();
    let port = canary.addr().port();
    for host in ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "127.1.2.3", "169.254.169.254"] {
        let (status, code) = refused(format!("http://{host}:{port}/v1")).await;
        assert_eq!((status, code.as_str()), (502, "upstream_address_refused"), "{host}");
    }
    // A name is judged by what it resolves to.
    let (status, code) = refused(format!("http://localhost:{port}/v1")).await;
    assert_eq!((status, code.as_str()), (502, "upstream_address_refused"));
    assert!(canary.requests().is_empty());
}

/// Who is asked is who was configured: its word on where else to ask isn't followed, and the caller doesn't hear it.
#[tokio::test]
async fn redirects_are_not_followed() {
    let canary = Upstream::start().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let elsewhere = canary.base_url();
    let mut vendor = tokio::task::JoinSet::new();
    vendor.spawn(async move {
        for status in ["301 Moved Permanently", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let answer = format!(
                "HTTP/1.1 {status}\r\nlocation: {elsewhere}/chat/completions\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let to = To { name: "a", plugin: "provider_openai", url, priority: 0, models: Vec::new() };
    let world =
        world_with(vec![to], Timeouts { first_byte: Duration::from_secs(5), ..Timeouts::default() }, false)
            .await;
    for _ in 0..4 {
        let answer = world.chat("openai/gpt-4o-mini", "").await;
        assert_eq!((answer.status(), answer.header("location")), (502, None));
        assert_eq!(answer.json().await["error"]["code"], "upstream_error");
    }
    assert!(vendor.join_next().await.unwrap().is_ok(), "each was asked for");
    assert!(canary.requests().is_empty(), "{:?}", canary.requests());
}
