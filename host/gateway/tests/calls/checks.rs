//! Active health checks: what isn't there is known before a call finds out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_gateway::connections::NewConnection;
use brokle_gateway::{CheckHealth, CheckStatus, Timeouts};
use brokle_identity::Secret;
use serde_json::json;
use tokio::task::JoinSet;

use crate::harness::{World, until, world_of};
use crate::vendor::{Vendor, completion, reply};

fn to(name: &str, vendor: &Vendor, priority: i32, every: Option<u64>) -> (&'static str, NewConnection) {
    let new = NewConnection {
        name: name.into(),
        base_url: Some(format!("{}/v1", vendor.origin())),
        secrets: vec![Secret::new("sk-very-secret".into())],
        priority,
        weight: 1,
        health_check: every.map(Duration::from_millis),
        ..NewConnection::default()
    };
    ("provider_openai", new)
}

async fn world(connections: Vec<(&'static str, NewConnection)>) -> (World, JoinSet<()>) {
    let world = world_of(connections, Timeouts::default(), false, Arc::new(SystemClock)).await;
    let mut tasks = JoinSet::new();
    let gateway = Arc::clone(&world.gateway);
    tasks.spawn(async move { gateway.run_health_checks(std::future::pending()).await });
    (world, tasks)
}

/// Answers chats, and requests for its models with this status.
async fn vendor(status: &Arc<AtomicU16>) -> Vendor {
    let status = Arc::clone(status);
    Vendor::start(move |seen| match seen.path.ends_with("/models") {
        true => reply(status.load(Ordering::SeqCst), &json!({ "object": "list", "data": [] })),
        false => completion(),
    })
    .await
}

fn check(world: &World, name: &str) -> Option<CheckHealth> {
    let health = world.gateway.provider_health();
    health.into_iter().find(|one| one.connection == name).unwrap().check
}

fn healthy(world: &World, name: &str) -> bool {
    world.gateway.provider_health().iter().find(|one| one.connection == name).unwrap().healthy
}

async fn served(world: &World) -> Option<String> {
    let answer = world.chat("gpt-4o", "").await;
    if answer.status() != 200 {
        return answer.json().await["error"]["code"].as_str().map(str::to_owned);
    }
    let newest = world.traces().await.remove(0);
    newest["connection_id"].as_str().map(str::to_owned)
}

#[tokio::test]
async fn a_connection_that_isnt_there_is_left_alone_until_it_is_back() {
    let status = Arc::new(AtomicU16::new(200));
    let (a, b) = (vendor(&status).await, vendor(&Arc::new(AtomicU16::new(500))).await);
    let (world, _checking) = world(vec![to("a", &a, 0, Some(50)), to("b", &b, 1, None)]).await;
    until("a first check", async || check(&world, "a").unwrap().status == CheckStatus::Ok).await;
    assert_eq!(check(&world, "b"), None, "nobody asks");
    assert!(check(&world, "a").unwrap().latency_ms.is_some_and(|latency| latency > 0.0));
    assert_eq!(served(&world).await.as_deref(), Some("a"));
    assert!(a.seen("/v1/models").iter().all(|seen| seen.header("authorization") == "Bearer sk-very-secret"));

    status.store(503, Ordering::SeqCst);
    until("it is down", async || check(&world, "a").unwrap().failed_in_a_row >= 2).await;
    let chats = a.seen("/v1/chat").len();
    assert_eq!(served(&world).await.as_deref(), Some("b"), "without a failed call");
    assert_eq!((a.seen("/v1/chat").len(), healthy(&world, "a"), healthy(&world, "b")), (chats, false, true));
    assert!(check(&world, "a").unwrap().error.is_some());
    let metrics = world.metrics.encode().unwrap();
    assert!(metrics.contains(r#"brokle_circuit_opens_total{provider="openai"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"brokle_health_check_failures_total{provider="openai"}"#));

    status.store(200, Ordering::SeqCst);
    until("it is back", async || healthy(&world, "a")).await;
    assert_eq!(served(&world).await.as_deref(), Some("a"));
    // One that refuses is there.
    let checks = a.seen("/v1/models").len();
    status.store(403, Ordering::SeqCst);
    until("more checks", async || a.seen("/v1/models").len() > checks + 4).await;
    assert_eq!((check(&world, "a").unwrap().status, healthy(&world, "a")), (CheckStatus::Ok, true));
    assert_eq!(served(&world).await.as_deref(), Some("a"));
}

#[tokio::test]
async fn one_that_hangs_is_asked_by_one_and_keeps_nobody_from_being_asked() {
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counts = (Arc::clone(&open), Arc::clone(&most));
    let hanging = Vendor::slow(move |_| {
        let (open, most) = (Arc::clone(&counts.0), Arc::clone(&counts.1));
        Box::pin(async move {
            /// Counts down when the request is given up, too.
            struct Open(Arc<AtomicUsize>);
            impl Drop for Open {
                fn drop(&mut self) {
                    self.0.fetch_sub(1, Ordering::SeqCst);
                }
            }
            most.fetch_max(open.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _open = Open(open);
            std::future::pending().await
        })
    })
    .await;
    let well = vendor(&Arc::new(AtomicU16::new(200))).await;
    let (world, _checking) = world(vec![to("a", &hanging, 0, Some(400)), to("b", &well, 1, Some(50))]).await;
    until("it is down", async || check(&world, "a").unwrap().failed_in_a_row >= 2).await;
    assert_eq!(check(&world, "a").unwrap().error.as_deref(), Some("upstream_timeout"));
    assert_eq!(most.load(Ordering::SeqCst), 1);
    assert!(well.seen("/v1/models").len() > hanging.seen("/v1/models").len());
    assert_eq!(served(&world).await.as_deref(), Some("b"));
    let alone = world.chat("a/gpt-4o", "").await;
    let retry_after = alone.header("retry-after").is_some();
    assert_eq!((alone.status(), retry_after), (503, true));
    assert_eq!(alone.json().await["error"]["code"], "circuit_open");
}

#[tokio::test]
async fn a_provider_that_has_nothing_to_be_asked_for_goes_on() {
    let new = NewConnection {
        name: "echo".into(),
        weight: 1,
        health_check: Some(Duration::from_millis(20)),
        ..NewConnection::default()
    };
    let (world, _checking) = world(vec![("provider_echo", new)]).await;
    until("a check", async || check(&world, "echo").unwrap().status == CheckStatus::Untested).await;
    assert_eq!(world.chat("echo/echo-1", "").await.status(), 200);
    assert!(healthy(&world, "echo"));
}
