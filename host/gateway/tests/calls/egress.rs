//! Where calls may go.

use std::time::Duration;

use brokle_gateway::Timeouts;
use brokle_test_upstream::Upstream;

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
