//! What only the shared queue has: several workers, fairness, a Redis that goes and comes.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

use brokle_core::observation::Observation;
use brokle_telemetry::{LANES, NotDurable};

use crate::harness::{Scene, count, numbers, observation, tenant, until};

const PATIENCE: Duration = Duration::from_secs(20);

fn connection(scene: &Scene) -> redis::Connection {
    redis::Client::open(scene.redis_url()).unwrap().get_connection().unwrap()
}

/// Takes everything, as a worker does that dies then. How many batches that were.
fn taken_by_the_dead(scene: &Scene) -> usize {
    let mut redis = connection(scene);
    let lanes = (0..LANES).map(|lane| format!("{{brokle:telemetry}}:lane:{lane}"));
    lanes
        .map(|lane| {
            let mut read = redis::cmd("XREADGROUP");
            read.arg("GROUP").arg("workers").arg("dead").arg("STREAMS").arg(&lane).arg(">");
            let reply: Option<redis::streams::StreamReadReply> = read.query(&mut redis).unwrap();
            reply.map_or(0, |reply| reply.keys.iter().map(|key| key.ids.len()).sum())
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_worker_had_is_taken_over_and_counts_once() {
    let Some(scene) = Scene::redis() else { return };
    let fixture = &scene.fixture;
    let first = scene.worker(PATIENCE);
    until("the groups are there", async || first.is_well()).await;
    first.shutdown().await;
    let recorder = scene.recorder();
    fixture.record(&recorder, 0..50);
    until("it is in Redis", async || recorder.stats().queued_rows == 50).await;
    let taken = taken_by_the_dead(&scene);
    assert!(taken > 0);
    let workers = [scene.worker(Duration::from_millis(50)), scene.worker(Duration::from_millis(50))];
    recorder.flush().await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(50), 50));
    let claimed: u64 = workers.iter().map(|worker| worker.stats().claimed).sum();
    assert!(claimed >= taken as u64, "{claimed} of {taken}");
    for worker in workers {
        worker.shutdown().await;
    }
    recorder.shutdown().await;
}

/// As many small batches as a worker has in hand: they don't come back by handfuls.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_a_dead_worker_had_is_taken_over_at_once() {
    const BATCHES: u32 = 600;
    let Some(scene) = Scene::redis() else { return };
    let fixture = &scene.fixture;
    let first = scene.worker(PATIENCE);
    until("the groups are there", async || first.is_well()).await;
    first.shutdown().await;
    let recorder = scene.recorder();
    for n in 0..BATCHES {
        let row = vec![fixture.observation(&n.to_string())];
        recorder.record_durably(row, PATIENCE).await.unwrap();
    }
    let taken = taken_by_the_dead(&scene);
    assert!(taken > 500, "{taken}");
    // By eights, each half of this, it would take minutes.
    let worker = scene.worker(Duration::from_secs(4));
    until("all of it is stored", async || fixture.count().await == u64::from(BATCHES)).await;
    assert_eq!(worker.stats().claimed, taken as u64, "each once");
    worker.shutdown().await;
    recorder.shutdown().await;
}

/// Each of a worker's threads is a consumer of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_thread_is_at_work_while_there_is_a_backlog() {
    const ROWS: u64 = 20_500;
    let Some(scene) = Scene::redis() else { return };
    let fixture = &scene.fixture;
    let threads = {
        let (worker, recorder) = (scene.worker(PATIENCE), scene.recorder());
        fixture.record(&recorder, 0..10);
        recorder.flush().await;
        worker.shutdown().await;
        recorder.shutdown().await;
        let lanes = (0..LANES).map(|lane| format!("{{brokle:telemetry}}:lane:{lane}"));
        let mut redis = connection(&scene);
        lanes.map(|lane| pending(&mut redis, &lane).len()).max()
    };
    assert_eq!(threads, Some(1), "one was enough");
    fixture.set_down(true);
    let recorder = scene.recorder_at("again");
    for rows in [10..10_000, 10_000..ROWS] {
        let end = rows.end;
        fixture.record(&recorder, rows);
        until("it is in Redis", async || recorder.stats().queued_rows as u64 == end - 10).await;
    }
    let worker = scene.worker(PATIENCE);
    let mut redis = connection(&scene);
    until("two have something in hand", async || {
        (0..LANES).any(|lane| {
            let hands = pending(&mut redis, &format!("{{brokle:telemetry}}:lane:{lane}"));
            hands.iter().filter(|pending| **pending > 0).count() == 2
        })
    })
    .await;
    fixture.set_down(false);
    until("all of it is stored", async || fixture.count().await == ROWS).await;
    worker.shutdown().await;
    recorder.shutdown().await;
}

/// What each consumer of the lane has in hand.
fn pending(redis: &mut redis::Connection, lane: &str) -> Vec<usize> {
    let mut info = redis::cmd("XINFO");
    let reply: redis::streams::StreamInfoConsumersReply =
        info.arg("CONSUMERS").arg(lane).arg("workers").query(redis).unwrap();
    reply.consumers.iter().map(|consumer| consumer.pending).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_goes_and_comes_back_empty_costs_no_call_and_needs_no_restart() {
    let Some(mut scene) = Scene::redis() else { return };
    let pipeline = scene.start();
    let recorder = &pipeline.recorder;
    scene.fixture.record(recorder, 0..10);
    recorder.flush().await;
    scene.stop_redis();
    scene.fixture.record(recorder, 10..60);
    until("calls are spilled", async || recorder.stats().spilled == 50).await;
    assert_eq!(recorder.has_room(), Err(NotDurable::Failed), "before a body is read");
    let row = vec![scene.fixture.observation("60")];
    assert_eq!(recorder.record_durably(row.clone(), PATIENCE).await, Err(NotDurable::Failed));
    assert_eq!((recorder.stats().dropped, recorder.stats().is_available), (0, false));
    scene.start_redis();
    let fixture = &scene.fixture;
    until("it is taken again", async || recorder.record_durably(row.clone(), PATIENCE).await.is_ok()).await;
    recorder.flush().await;
    until("everything is stored", async || fixture.names().await.len() == 61).await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(61), 61));
    pipeline.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hangs_holds_nobody_up() {
    let Some(scene) = Scene::redis() else { return };
    let (fixture, pipeline) = (&scene.fixture, scene.start());
    let recorder = &pipeline.recorder;
    fixture.record(recorder, 0..10);
    recorder.flush().await;
    redis::cmd("CLIENT").arg("PAUSE").arg(4_000).query::<()>(&mut connection(&scene)).unwrap();
    fixture.record(recorder, 10..20);
    let told = recorder.record_durably(vec![fixture.observation("20")], PATIENCE).await;
    assert_eq!(told, Err(NotDurable::Failed));
    assert_eq!(recorder.stats().dropped, 0);
    until("calls are stored", async || fixture.names().await.len() >= 20).await;
    // What wasn't acknowledged may have arrived all the same, once.
    recorder.flush().await;
    let names: BTreeSet<_> = fixture.names().await.into_iter().collect();
    assert_eq!(fixture.count().await, names.len() as u64);
    assert!(numbers(20).iter().all(|name| names.contains(name)));
    pipeline.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_project_that_floods_does_not_hold_up_the_others() {
    let Some(scene) = Scene::redis() else { return };
    let fixture = &scene.fixture;
    let recorder = scene.recorder();
    fixture.record(&recorder, 0..10_000);
    until("the flood is in Redis", async || recorder.stats().queued_rows == 10_000).await;
    let others: Vec<_> = (0..8).map(|_| tenant()).collect();
    for other in &others {
        recorder.record(observation(*other, "one"));
    }
    until("all is in Redis", async || recorder.stats().queued_rows == 10_008).await;
    let worker = scene.worker(Duration::from_secs(30));
    recorder.flush().await;
    let first = fixture.store.first_batch.lock().unwrap().clone();
    let early = others.iter().filter(|other| first.contains(&other.project)).count();
    // One lane of sixteen is the flood's: half of the others being there too is no accident.
    assert!(early >= 4, "{early} of {} were in the first of many rounds", others.len());
    assert_eq!((fixture.count().await, count(&*fixture.store, others[0].project).await), (10_000, 1));
    worker.shutdown().await;
    recorder.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_workers_and_servers_count_everything_once() {
    let Some(scene) = Scene::redis() else { return };
    let fixture = &scene.fixture;
    let workers: Vec<_> = (0..3).map(|_| scene.worker(Duration::from_millis(20))).collect();
    let recorders = [scene.recorder(), scene.recorder_at("other")];
    for chunk in 0..40_u32 {
        let rows: Vec<Observation> =
            (chunk * 50..chunk * 50 + 50).map(|name| fixture.observation(&name.to_string())).collect();
        // Both send the same, as a sender does that tries again elsewhere.
        for recorder in &recorders {
            recorder.record_durably(rows.clone(), PATIENCE).await.unwrap();
        }
    }
    for recorder in &recorders {
        recorder.flush().await;
    }
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(2_000), 2_000));
    assert!(!fixture.store.down.load(Ordering::SeqCst));
    for worker in workers {
        worker.shutdown().await;
    }
}
