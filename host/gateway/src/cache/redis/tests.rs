use std::time::Instant;

use brokle_core::clock::SystemClock;
use brokle_test_services::Redis;
use chrono::TimeDelta;
use tokio::task::JoinSet;

use super::super::tests::{conforms, entry, numbered};
use super::*;
use crate::who::tests::principal;

/// A server's store of 10,000 bytes.
fn server(service: &Redis, tasks: &mut JoinSet<()>) -> (Arc<InRedis>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new());
    let settings = Settings { max_bytes: 10_000, ..Settings::default() };
    let mut store = InRedis::connect(
        Client::open(service.url()).unwrap(),
        &settings,
        Arc::new(SystemClock),
        metrics.clone(),
    )
    .unwrap();
    // A busy machine isn't the point.
    Arc::get_mut(&mut store).unwrap().patience = Duration::from_secs(10);
    let running = store.clone();
    tasks.spawn(async move { running.run(std::future::pending()).await });
    (store, metrics)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what}");
        tokio::task::yield_now().await;
    }
}

/// How many puts Redis has seen.
async fn seen(redis: &Redis) -> usize {
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let told: String = redis::cmd("INFO").arg("commandstats").query_async(&mut connection).await.unwrap();
    let sets = told.lines().find_map(|line| line.strip_prefix("cmdstat_set:calls="));
    sets.map_or(0, |line| line.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn redis_conforms() {
    let Some(redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let mut tasks = JoinSet::new();
    let (store, _) = server(&redis, &mut tasks);
    conforms(&*store, async |puts| until("it is sent", async || seen(&redis).await >= puts).await).await;
    // Nothing is left behind of what has gone.
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    keys.sort();
    assert_eq!(keys, ["{brokle:cache}:bytes"]);
    let bytes: u64 = redis::cmd("GET").arg(&keys[0]).query_async(&mut connection).await.unwrap();
    assert_eq!(bytes, 0);
}

#[tokio::test]
async fn servers_share_answers_and_their_end() {
    let Some(redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let mut tasks = JoinSet::new();
    let ((one, _), (two, _)) = (server(&redis, &mut tasks), server(&redis, &mut tasks));
    let tenant = principal().tenant;
    let soon = SystemClock.now() + TimeDelta::milliseconds(1_500);
    one.put(numbered(1), entry(tenant, "m", 100, soon), Then::default());
    until("it is there", async || two.get(&numbered(1)).await.is_some()).await;
    until("it is over", async || two.get(&numbered(1)).await.is_none()).await;
    // Its place is cleared with it, so that it isn't counted any more.
    assert!(one.of(tenant).await.unwrap().is_empty());
    assert_eq!(one.remove(tenant, &[numbered(1)], SystemClock.now()).await, Ok(0));
    // An answer that waits when the server ends is sent yet.
    let (late, _) = server(&redis, &mut JoinSet::new());
    let later = SystemClock.now() + TimeDelta::hours(1);
    let waiting = InRedis::connect(
        redis::Client::open(redis.url()).unwrap(),
        &Settings::default(),
        late.clock.clone(),
        late.metrics.clone(),
    );
    let waiting = waiting.unwrap();
    waiting.put(numbered(2), entry(tenant, "m", 100, later), Then::default());
    waiting.run(std::future::ready(())).await;
    assert!(one.get(&numbered(2)).await.is_some());
}

#[tokio::test]
async fn without_redis_nothing_is_found_and_it_comes_back_by_itself() {
    let Some(mut redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let mut tasks = JoinSet::new();
    let (store, metrics) = server(&redis, &mut tasks);
    let (tenant, later) = (principal().tenant, SystemClock.now() + TimeDelta::hours(1));
    store.put(numbered(1), entry(tenant, "m", 100, later), Then::default());
    until("it is there", async || store.get(&numbered(1)).await.is_some()).await;
    redis.stop();
    until("it is away", async || store.get(&numbered(1)).await.is_none()).await;
    let counted = || {
        let labels = CacheLabels { outcome: CacheOutcome::store_error };
        metrics.cache.get_or_create(&labels).get()
    };
    let before = counted();
    assert!(before > 0 && !store.is_there());
    // While nobody asks, a look costs nothing.
    let begun = Instant::now();
    assert!(store.get(&numbered(1)).await.is_none());
    assert!(begun.elapsed() < Duration::from_millis(500) && counted() > before);
    assert_eq!(store.of(tenant).await.unwrap_err(), Gone);
    assert_eq!(store.remove(tenant, &[numbered(1)], SystemClock.now()).await, Err(Gone));
    redis.start_again().unwrap();
    until("it is back, and empty", async || {
        store.put(numbered(2), entry(tenant, "m", 100, later), Then::default());
        store.get(&numbered(2)).await.is_some()
    })
    .await;
    assert!(store.is_there() && store.get(&numbered(1)).await.is_none());
}
