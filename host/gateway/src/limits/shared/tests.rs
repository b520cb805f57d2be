use brokle_core::random::SystemRandom;
use brokle_test_services::Redis;
use tokio::task::JoinSet;

use super::super::{Amounts, Limits};
use super::*;
use crate::who::By;
use crate::who::tests::{by, principal};

/// A server of its own: its limits, and what it counts.
fn server(url: &str, rules: &[Limit], tasks: &mut JoinSet<()>) -> (Arc<Limits>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let shared = connect(url, metrics.clone());
    let settling = shared.clone();
    tasks.spawn(async move { settling.settle(std::future::pending()).await });
    (Arc::new(Limits::new(rules.to_vec(), Some(shared))), metrics)
}

fn connect(url: &str, metrics: Arc<Metrics>) -> Arc<SharedLimits> {
    let (client, random) = (Client::open(url).unwrap(), Arc::new(SystemRandom));
    let mut shared = SharedLimits::connect(client, Duration::from_secs(60), metrics, random).unwrap();
    // A busy machine isn't the point.
    Arc::get_mut(&mut shared).unwrap().patience = Duration::from_secs(10);
    shared
}

fn rule(amounts: Amounts) -> Vec<Limit> {
    vec![Limit { name: "rule".into(), who: by(&[By::Project]), amounts }]
}

/// Waits for what is settled off a call's way.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_take_exactly_what_there_is() {
    let Some(redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let mut tasks = JoinSet::new();
    // A day's, of which nothing to speak of comes back while this runs.
    let rules = rule(Amounts { requests_per_day: Some(97), ..Amounts::default() });
    let principal = Arc::new(principal());
    let mut calls = JoinSet::new();
    let servers: Vec<_> = (0..3).map(|_| server(&redis.url(), &rules, &mut tasks)).collect();
    for (limits, _) in &servers {
        for _ in 0..50 {
            let (limits, principal) = (limits.clone(), principal.clone());
            calls.spawn(async move {
                let caller = Caller { principal: &principal, user: "", model: None };
                limits.admit(&caller, 0).await.is_ok()
            });
        }
    }
    let passed = calls.join_all().await.into_iter().filter(|passed| *passed).count();
    let fallbacks: u64 = servers.iter().map(|(_, metrics)| metrics.limit_fallbacks.get()).sum();
    assert_eq!((passed, fallbacks), (97, 0));
    let caller = Caller { principal: &principal, user: "", model: None };
    let exceeded = servers[0].0.admit(&caller, 0).await.unwrap_err();
    assert!(exceeded.refusal.message.contains("97 per day for this project (limit 'rule')"));
    let wait = exceeded.refusal.retry_after.unwrap().as_secs();
    assert!((1..=891).contains(&wait), "86,400 s / 97: {wait}");
    // A key's own limit is shared too.
    for (limits, _) in &servers[..2] {
        assert_eq!(limits.take_key(&principal, Some(2)).await.unwrap().limit, 2);
    }
    assert!(servers[2].0.take_key(&principal, Some(2)).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_call_used_is_settled_for_all_servers() {
    let Some(redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let mut tasks = JoinSet::new();
    let amounts = Amounts { tokens_per_day: Some(1_000), concurrent_requests: Some(1), ..Amounts::default() };
    let rules = rule(amounts);
    let ((one, _), (two, _)) =
        (server(&redis.url(), &rules, &mut tasks), server(&redis.url(), &rules, &mut tasks));
    let principal = principal();
    let caller = Caller { principal: &principal, user: "", model: None };
    let (mut call, standing) = one.admit(&caller, 900).await.unwrap();
    assert_eq!(standing.tokens.unwrap().remaining, 100);
    let exceeded = two.admit(&caller, 50).await.unwrap_err();
    assert!(exceeded.refusal.message.contains("1 at once"), "{}", exceeded.refusal);
    call.settle(300);
    until("the other server sees what is left", async || two.admit(&caller, 700).await.is_ok()).await;
    // That one was dropped without having used anything.
    until("and again", async || one.admit(&caller, 700).await.is_ok()).await;
    let exceeded = one.admit(&caller, 1_001).await;
    until("too large", async || {
        one.admit(&caller, 1_001)
            .await
            .is_err_and(|refused| refused.refusal.message.starts_with("Request too large"))
    })
    .await;
    drop(exceeded);
}

/// A server that was killed gives nothing back. What its calls had comes back when they can't be under way any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_places_of_a_server_that_died_come_back_with_their_lease() {
    let Some(redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let rules = rule(Amounts { concurrent_requests: Some(1), ..Amounts::default() });
    let (mut dies, mut lives) = (JoinSet::new(), JoinSet::new());
    let mut shared = connect(&redis.url(), Arc::new(Metrics::new()));
    Arc::get_mut(&mut shared).unwrap().lease = Duration::from_secs(3);
    let settling = shared.clone();
    dies.spawn(async move { settling.settle(std::future::pending()).await });
    let (one, (two, metrics)) =
        (Limits::new(rules.clone(), Some(shared)), server(&redis.url(), &rules, &mut lives));
    let principal = principal();
    let caller = Caller { principal: &principal, user: "", model: None };
    let (call, _) = one.admit(&caller, 0).await.unwrap();
    std::mem::forget(call);
    dies.shutdown().await;
    let exceeded = two.admit(&caller, 0).await.unwrap_err();
    assert!(exceeded.refusal.message.contains("1 at once"), "{}", exceeded.refusal);
    until("its place comes back", async || two.admit(&caller, 0).await.is_ok()).await;
    assert_eq!(metrics.limit_fallbacks.get(), 0, "it was Redis that said so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_each_server_counts_for_itself_and_shares_again_when_it_is_back() {
    let Some(mut redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let mut tasks = JoinSet::new();
    let rules = rule(Amounts { requests_per_day: Some(5), ..Amounts::default() });
    let ((one, metrics), (two, _)) =
        (server(&redis.url(), &rules, &mut tasks), server(&redis.url(), &rules, &mut tasks));
    let (first, second) = (principal(), principal());
    let taken = async |limits: &Limits, principal| {
        let caller = Caller { principal, user: "", model: None };
        let mut taken = 0;
        while limits.admit(&caller, 0).await.is_ok() {
            taken += 1;
        }
        taken
    };
    assert_eq!(taken(&one, &first).await, 5);
    redis.stop();
    let begun = Instant::now();
    assert_eq!(taken(&one, &second).await, 5, "the same limit, by its own count");
    assert_eq!(taken(&two, &second).await, 5, "each server");
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits for what is gone");
    assert!(metrics.limit_fallbacks.get() >= 6);
    redis.start_again().unwrap();
    // Redis is empty, and has what the local count no longer gives.
    let caller = Caller { principal: &second, user: "", model: None };
    until("it is asked again", async || one.admit(&caller, 0).await.is_ok()).await;
    let fallbacks = metrics.limit_fallbacks.get();
    assert_eq!(taken(&one, &second).await, 4);
    assert_eq!(metrics.limit_fallbacks.get(), fallbacks);
}
