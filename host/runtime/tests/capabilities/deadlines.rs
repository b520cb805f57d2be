//! Each import has its own deadline, and the call's own holds over all of them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use brokle_core::kv::{KvEntry, KvFuture, KvPage, KvScope, KvStore, KvWrite};
use brokle_runtime::Fault;
use brokle_testkit::mocks::{MockHost, Reply, answer};
use chrono::{DateTime, Utc};
use serde_json::json;

use crate::harness::{Fixture, everything};

/// A store that never answers.
#[derive(Debug)]
struct Stuck;

impl KvStore for Stuck {
    fn get<'a>(&'a self, _: &'a KvScope, _: &'a str, _: DateTime<Utc>) -> KvFuture<'a, Option<KvEntry>> {
        Box::pin(std::future::pending())
    }
    fn set<'a>(&'a self, _: &'a KvScope, _: KvWrite<'a>, _: DateTime<Utc>) -> KvFuture<'a, u64> {
        Box::pin(std::future::pending())
    }
    fn delete<'a>(&'a self, _: &'a KvScope, _: &'a str, _: DateTime<Utc>) -> KvFuture<'a, bool> {
        Box::pin(std::future::pending())
    }
    fn list<'a>(
        &'a self,
        _: &'a KvScope,
        _: &'a str,
        _: Option<&'a str>,
        _: u32,
        _: DateTime<Utc>,
    ) -> KvFuture<'a, KvPage> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn a_store_that_hangs_is_left_at_its_deadline() {
    let fixture = Fixture::new().await;
    let services = brokle_runtime::capabilities::Services { kv: Arc::new(Stuck), ..fixture.host.services() };
    let granted = fixture.grant_with(&everything(), &services);
    let started = Instant::now();
    for words in ["kv get a", "kv set a b", "kv delete a", "kv list a none 1"] {
        assert_eq!(fixture.tell(&granted, words).await, "Err(Error::Timeout)", "{words}");
    }
    // Four of 250 ms. None took the call's own two seconds, or it would have been an error of another kind.
    assert!(started.elapsed() >= Duration::from_secs(1), "{:?}", started.elapsed());
}

#[tokio::test]
async fn an_upstream_that_hangs_is_left_at_its_timeout() {
    let fixture = Fixture::new().await;
    let mut grants = everything();
    grants["http"]["upstreams"]["checker"]["timeout_ms"] = json!(50);
    let granted = fixture.grant(&grants);
    fixture.host.http.expect("GET", "https://a.example.com/", Reply::Hang);
    let came = fixture.tell(&granted, "http GET checker a.example.com / none none -").await;
    assert_eq!(came, "Err(Error::Timeout)");
}

#[tokio::test]
async fn the_calls_own_deadline_holds_although_a_host_call_never_returns() {
    let fixture = Fixture::new().await;
    let mut grants = everything();
    grants["limits"] = json!({ "deadline_ms": 200 });
    let granted = fixture.grant(&grants);
    // The upstream alone has 10 s.
    fixture.host.http.expect("GET", "https://a.example.com/", Reply::Hang);
    let words = "http GET checker a.example.com / none none -";
    let error = fixture.try_tell(&granted, MockHost::tenant(1), None, &[words]).await.unwrap_err();
    assert_eq!(error.fault, Fault::Deadline(200));
    assert_eq!(fixture.runtime.instances(), 0);
    // Its permit came back with it: the tenant has one.
    fixture.host.http.expect("GET", "https://a.example.com/", answer(204, ""));
    assert!(fixture.tell(&granted, words).await.starts_with("Ok((204"));
}

#[tokio::test]
async fn handles_that_are_never_given_back_have_an_end() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&everything());
    let error =
        fixture.try_tell(&granted, MockHost::tenant(1), None, &["hoard-secrets token"]).await.unwrap_err();
    assert_eq!(error.fault, Fault::Handles(4_096));
}

#[tokio::test]
async fn an_operator_can_lower_the_cpu_limit() {
    let fixture = Fixture::new().await;
    let granted = fixture.grant(&json!({ "limits": { "cpu_ms": 20 } }));
    let error = fixture.try_tell(&granted, MockHost::tenant(1), None, &["spin"]).await.unwrap_err();
    assert_eq!(error.fault, Fault::Cpu(20));
}
