use brokle_core::clock::{Clock, SystemClock};
use brokle_core::random::{Random, SeededRandom};
use brokle_storage::observations::clickhouse::{ClickHouse as Database, Migrator};
use brokle_storage::vectors::{ClickHouseVectors, VectorFile};
use brokle_test_services::ClickHouse;
use chrono::TimeDelta;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

use super::*;
use crate::who::tests::principal;

fn key(number: u32) -> Key {
    format!("{number:064x}").parse().unwrap()
}

fn vector(numbers: &[f32]) -> Vector {
    Vector::of(numbers).unwrap()
}

/// What is expected of any store. What is put may be there only by and by.
async fn conforms(store: &dyn Vectors) {
    let (project, other) = (principal().tenant.project, principal().tenant.project);
    let (now, later) = (SystemClock.now(), SystemClock.now() + TimeDelta::hours(1));
    let put = |project, space, one, numbers: &[f32], until| {
        store.put(Place { project, space: key(space), key: key(one) }, vector(numbers), until);
    };
    put(project, 1, 11, &[1.0, 0.0], later);
    put(project, 1, 12, &[3.0, 3.0], later);
    put(project, 2, 21, &[0.0, 1.0], later);
    put(project, 1, 13, &[0.0, 1.0, 0.0], later);
    put(project, 1, 14, &[0.0, 1.0], now - TimeDelta::seconds(1));
    put(other, 5, 51, &[0.0, 1.0], later);
    let near = async |space, numbers: &[f32]| {
        store.nearest(project, key(space), &vector(numbers), SystemClock.now()).await
    };
    let all = [11, 12, 13, 21].map(key);
    let count = async |keys: &[Key]| store.count(project, keys, SystemClock.now()).await;
    until("all are there", async || count(&all).await == 4).await;
    let (found, score) = near(1, &[0.2, 1.0]).await.unwrap();
    assert_eq!(found, key(12), "neither another space's, nor one that is over, nor one of other dimensions");
    assert!((score - 0.832).abs() < 1e-3, "{score}");
    assert_eq!(near(3, &[1.0, 0.0]).await, None);
    // The same answer's, kept anew, leads there from where it is now.
    put(project, 1, 12, &[1.0, -1.0], later);
    until("it is anew", async || near(1, &[1.0, -1.0]).await.is_some_and(|(_, score)| score > 0.999)).await;
    assert_eq!(near(1, &[0.2, 1.0]).await.unwrap().0, key(11));
    store.remove(project, &[key(11), key(21)]);
    until("they are gone", async || count(&all).await == 2).await;
    assert_eq!(near(1, &[1.0, -0.9]).await.unwrap().0, key(12));
    assert_eq!(near(2, &[0.0, 1.0]).await, None);
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        tokio::task::yield_now().await;
    }
}

fn running(store: Arc<dyn Vectors>, tasks: &mut JoinSet<()>) {
    tasks.spawn(async move { store.run(Box::pin(std::future::pending())).await });
}

#[tokio::test]
async fn memory_conforms() {
    conforms(&InMemory::new(100, 1 << 20)).await;
}

fn on_disk(folder: &std::path::Path) -> Arc<OnDisk> {
    let file = VectorFile::open(&folder.join("vectors.db"), 100).unwrap();
    Arc::new(OnDisk::load(InMemory::new(100, 1 << 20), file, Arc::new(SystemClock)).unwrap())
}

#[tokio::test]
async fn a_file_conforms_and_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let mut tasks = JoinSet::new();
    let store = on_disk(folder.path());
    running(store.clone(), &mut tasks);
    conforms(&*store).await;
    drop((store, tasks));

    let folder = tempfile::tempdir().unwrap();
    let store = on_disk(folder.path());
    let (project, later) = (principal().tenant.project, SystemClock.now() + TimeDelta::hours(1));
    let place = |one| Place { project, space: key(1), key: key(one) };
    store.put(place(1), vector(&[1.0, 0.0]), later);
    store.put(place(2), vector(&[0.0, 1.0]), later);
    store.remove(project, &[key(2)]);
    // What waits when the server ends is written yet.
    store.run(Box::pin(std::future::ready(()))).await;
    drop(store);
    let store = on_disk(folder.path());
    let (found, score) =
        store.nearest(project, key(1), &vector(&[0.1, 1.0]), SystemClock.now()).await.unwrap();
    assert_eq!(found, key(1));
    assert!((score - 0.0995).abs() < 1e-3, "{score}");
}

async fn in_clickhouse(server: &ClickHouse) -> Arc<InClickHouse> {
    let database = Database::new(&server.database_url()).unwrap();
    Migrator::new(&database).up(None, false, |_| {}).await.unwrap();
    let store = InClickHouse::new(ClickHouseVectors::new(database), Arc::new(SystemClock));
    // A busy machine isn't the point.
    Arc::new(store.patient(Duration::from_secs(20)))
}

#[tokio::test]
async fn clickhouse_conforms() {
    let Some(server) = ClickHouse::shared().unwrap_or_else(|error| panic!("{error}")) else { return };
    let mut tasks = JoinSet::new();
    let store = in_clickhouse(server).await;
    running(store.clone(), &mut tasks);
    conforms(&*store).await;
}

#[tokio::test]
async fn without_clickhouse_nothing_is_found() {
    let database = Database::new("http://127.0.0.1:1/brokle").unwrap();
    let store = InClickHouse::new(ClickHouseVectors::new(database), Arc::new(SystemClock));
    let (project, later) = (principal().tenant.project, SystemClock.now() + TimeDelta::hours(1));
    store.put(Place { project, space: key(1), key: key(1) }, vector(&[1.0]), later);
    store.run(Box::pin(std::future::ready(()))).await;
    for _ in 0..2 {
        assert_eq!(store.nearest(project, key(1), &vector(&[1.0]), SystemClock.now()).await, None);
    }
    assert!(!store.pause.is_over());
    assert_eq!(store.count(project, &[key(1)], SystemClock.now()).await, 0);
}

#[test]
fn what_has_no_direction_is_no_vector() {
    for odd in [&[0.0, 0.0][..], &[f32::NAN], &[f32::INFINITY], &[], &[1.0; 4_097]] {
        assert_eq!(Vector::of(odd), None);
    }
}

#[test]
fn similarity_is_the_cosine_whatever_the_dimensions() {
    let random = SeededRandom::new(7);
    let mut bytes = [0; 2 * 37];
    random.fill(&mut bytes);
    let numbers: Vec<f32> = bytes.iter().map(|byte| f32::from(*byte) - 127.5).collect();
    for size in [1, 7, 8, 9, 37] {
        let (a, b) = (&numbers[..size], &numbers[37..37 + size]);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = dot(a, b) / (dot(a, a).sqrt() * dot(b, b).sqrt());
        let found = vector(a).similarity(&vector(b)).unwrap();
        assert!((f64::from(found) - cosine).abs() < 1e-5, "{found} {cosine}");
    }
}

#[tokio::test]
async fn the_oldest_go_and_nothing_grows() {
    let (project, later) = (principal().tenant.project, SystemClock.now() + TimeDelta::hours(1));
    let at = |space, one| Place { project, space: key(space), key: key(one) };
    let one = vector(&[1.0; 16]).bytes();
    for store in [InMemory::new(3, 1 << 20), InMemory::new(100, 3 * one)] {
        for number in 0..4 {
            // Kept anew, it isn't the oldest any more.
            store.put(at(1, 0), vector(&[1.0; 16]), later);
            store.put(at(1, number), vector(&[1.0; 16]), later);
        }
        for (number, there) in [1, 0, 1, 1].into_iter().enumerate() {
            assert_eq!(store.count(project, &[key(number as u32)], later).await, there);
        }
        for round in 0..1_000 {
            store.put(at(round, 7), vector(&[1.0; 16]), later);
            store.remove(project, &[key(7)]);
        }
        let kept = store.kept.read();
        assert!(kept.order.len() < 200 && kept.bytes <= 3 * one && kept.spaces.len() == 1, "{kept:?}");
    }
    let tiny = InMemory::new(10, 8);
    tiny.put(at(1, 1), vector(&[1.0; 16]), later);
    assert_eq!(tiny.count(project, &[key(1)], later).await, 0);
}
