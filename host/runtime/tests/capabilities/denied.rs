//! What is asked for and not granted answers `denied`, is counted, and is no trap.

use brokle_runtime::CallContext;
use serde_json::json;

use crate::harness::{Fixture, tell};

const CALLS: [(&str, &str); 20] = [
    ("kv", "kv get a"),
    ("kv", "kv set a b"),
    ("kv", "kv cas a none b"),
    ("kv", "kv delete a"),
    ("kv", "kv list a none 1"),
    ("http", "http GET checker none / none none -"),
    ("http", "http GET elsewhere none / none none -"),
    ("secrets", "secret token"),
    ("secrets", "secret another"),
    ("crypto", "digest sha-256 00"),
    ("crypto", "verify ed25519 00 00 00"),
    ("crypto", "equal a b"),
    ("crypto", "crypto-random 8"),
    ("telemetry", "span a b c none"),
    ("telemetry", "add calls 1 outcome good"),
    ("telemetry", "observe seconds 1"),
    ("clock", "clock"),
    ("random", "random 8"),
    ("random", "number"),
    ("random", "random 99999999"),
];

#[tokio::test]
async fn everything_is_denied_and_counted() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&json!({}));
    for (interface, words) in CALLS {
        let before = granted.denials.counts().get(interface).copied().unwrap_or_default();
        let came = fixture.tell(&granted, words).await;
        assert!(came.contains("Denied"), "{words}: {came}");
        let after = granted.denials.counts().get(interface).copied().unwrap_or_default();
        assert!(after > before, "{words} is counted");
    }
    assert_eq!(granted.grants.denied.len(), 10, "{:?}", granted.grants.denied);
    assert!(fixture.host.http.sent().is_empty());
}

/// As when a component is tested at its load, before anything is configured.
#[tokio::test]
async fn an_instance_without_a_context_has_nothing() {
    let fixture = Fixture::new().await;
    for (_, words) in CALLS {
        let came = tell(&fixture.plugin, CallContext::default(), &[words]).await.unwrap().remove(0);
        assert!(came.contains("Denied"), "{words}: {came}");
    }
}

#[tokio::test]
async fn a_key_without_crypto_is_of_no_use() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&json!({ "secrets": { "token": "test:token" } }));
    assert_eq!(fixture.tell(&granted, "secret token").await, "Ok(())");
    assert!(fixture.tell(&granted, "hmac sha-256 token 00").await.contains("Denied"));
}
