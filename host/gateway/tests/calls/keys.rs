//! Several keys of one connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use brokle_core::clock::ManualClock;
use brokle_gateway::Timeouts;
use brokle_gateway::connections::NewConnection;
use brokle_identity::Secret;
use chrono::TimeDelta;
use serde_json::json;

use crate::harness::{World, world_of};
use crate::vendor::{Vendor, completion, reply};

fn new(vendor: &Vendor, keys: &[&str]) -> NewConnection {
    NewConnection {
        name: "vendor".into(),
        base_url: Some(vendor.origin()),
        secrets: keys.iter().map(|key| Secret::new((*key).to_owned())).collect(),
        weight: 1,
        models: vec!["m".into()],
        ..NewConnection::default()
    }
}

/// A vendor that answers the key `b` with this status while it isn't 200, and how to change it.
async fn refusing(status: u16) -> (Vendor, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(status));
    let answer = Arc::clone(&status);
    let vendor = Vendor::start(move |seen| match answer.load(Ordering::SeqCst) {
        status if status != 200 && seen.header("authorization") == "Bearer b" => {
            reply(status, &json!({"error": {"message": "no", "type": "t", "code": null}}))
        }
        _ => completion(),
    });
    (vendor.await, status)
}

async fn world(vendor: &Vendor, keys: &[&str]) -> (World, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::new("2026-03-01T10:00:00Z".parse().unwrap()));
    let world =
        world_of(vec![("provider_openai", new(vendor, keys))], Timeouts::default(), false, clock.clone());
    (world.await, clock)
}

/// The keys that the vendor has seen since.
fn seen(vendor: &Vendor, from: usize) -> Vec<String> {
    let seen = vendor.seen("/");
    seen[from..].iter().map(|seen| seen.header("authorization").replace("Bearer ", "")).collect()
}

async fn ask(world: &World, times: usize) {
    for _ in 0..times {
        assert_eq!(world.chat("vendor/m", "").await.status(), 200);
    }
}

#[tokio::test]
async fn calls_take_turns_with_the_keys() {
    let (vendor, _) = refusing(200).await;
    let (world, _) = world(&vendor, &["a", "b", "c"]).await;
    ask(&world, 6).await;
    assert_eq!(seen(&vendor, 0), ["a", "b", "c", "a", "b", "c"]);
}

#[tokio::test]
async fn a_limited_key_is_passed_over_by_itself_and_comes_back() {
    let (vendor, status) = refusing(429).await;
    let (world, clock) = world(&vendor, &["a", "b"]).await;
    ask(&world, 4).await;
    assert_eq!(seen(&vendor, 0), ["a", "b", "a", "a", "a"], "the second call went on with the other key");
    let trace = &world.traces().await[2];
    assert_eq!(trace["status"], "ok", "{trace:#}");
    status.store(200, Ordering::SeqCst);
    clock.advance(TimeDelta::milliseconds(1_001));
    ask(&world, 2).await;
    assert!(seen(&vendor, 5).contains(&"b".to_owned()), "{:?}", seen(&vendor, 5));
}

#[tokio::test]
async fn a_refused_key_is_passed_over_for_longer() {
    let (vendor, status) = refusing(401).await;
    let (world, clock) = world(&vendor, &["a", "b"]).await;
    ask(&world, 2).await;
    status.store(200, Ordering::SeqCst);
    clock.advance(TimeDelta::seconds(59));
    ask(&world, 2).await;
    assert_eq!(seen(&vendor, 0), ["a", "b", "a", "a", "a"]);
    clock.advance(TimeDelta::seconds(2));
    ask(&world, 2).await;
    assert!(seen(&vendor, 5).contains(&"b".to_owned()));
}

#[tokio::test]
async fn when_no_key_is_left_the_vendors_word_is_the_answer() {
    let (vendor, _) = refusing(401).await;
    let (one, _) = world(&vendor, &["b"]).await;
    assert_eq!(one.chat("vendor/m", "").await.status(), 401);
    let all = Vendor::start(|_| reply(429, &json!({"error": {"message": "slow down"}}))).await;
    let (world, _) = world(&all, &["a", "b", "c"]).await;
    let answer = world.chat("vendor/m", "").await;
    assert_eq!(answer.status(), 429);
    let mut asked = seen(&all, 0);
    asked.sort();
    assert_eq!(asked, ["a", "b", "c"], "each once");
}
