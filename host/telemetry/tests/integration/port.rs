//! What any durable queue does: each test runs over the file and over Redis.

use std::sync::atomic::Ordering;
use std::time::Duration;

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::observation::Observation;
use brokle_core::signal::{LogRecord, MetricPoint};
use brokle_storage::observations::QueryStore as _;
use brokle_storage::observations::signal::{LogsQuery, PointsQuery};
use brokle_telemetry::{NotDurable, Options, Rows, Whose};
use chrono::{DateTime, TimeDelta};

use crate::harness::{Fixture, Pipeline, Scene, numbers, tenant, until};

const PATIENCE: Duration = Duration::from_secs(20);

macro_rules! on_every_queue {
    ($($name:ident)+) => {$(
        mod $name {
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn embedded() {
                super::super::$name(crate::harness::Scene::embedded()).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn redis() {
                let Some(scene) = crate::harness::Scene::redis() else { return };
                super::super::$name(scene).await;
            }
        }
    )+};
}

mod over {
    on_every_queue! {
        what_is_recorded_arrives_once
        an_outage_of_the_database_costs_nothing
        what_is_acknowledged_is_there_for_the_next_process
        letters_are_kept_listed_tried_again_and_dropped
        a_full_queue_refuses_until_it_is_drained
        logs_and_points_go_the_same_way
    }
}

fn batch(fixture: &Fixture, names: std::ops::Range<u32>) -> Vec<Observation> {
    names.map(|name| fixture.observation(&name.to_string())).collect()
}

async fn stop(pipeline: Pipeline) {
    pipeline.shutdown().await;
}

async fn what_is_recorded_arrives_once(scene: Scene) {
    let (fixture, pipeline) = (&scene.fixture, scene.start());
    fixture.record(&pipeline.recorder, 0..700);
    let rows = batch(fixture, 700..750);
    for _ in 0..3 {
        pipeline.recorder.record_durably(rows.clone(), PATIENCE).await.unwrap();
    }
    pipeline.recorder.flush().await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(750), 750));
    until("it was counted", async || pipeline.stored() == (750, 100)).await;
    until("nothing waits", async || pipeline.recorder.stats().queued_rows == 0).await;
    stop(pipeline).await;
}

async fn an_outage_of_the_database_costs_nothing(scene: Scene) {
    let (fixture, pipeline) = (&scene.fixture, scene.start());
    fixture.set_down(true);
    fixture.record(&pipeline.recorder, 0..300);
    pipeline.recorder.record_durably(batch(fixture, 300..400), PATIENCE).await.unwrap();
    until("all of it is in the queue", async || pipeline.recorder.stats().queued_rows == 400).await;
    assert!(pipeline.recorder.stats().oldest_age.is_some());
    fixture.set_down(false);
    pipeline.recorder.flush().await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(400), 400));
    stop(pipeline).await;
}

async fn what_is_acknowledged_is_there_for_the_next_process(scene: Scene) {
    let fixture = &scene.fixture;
    fixture.set_down(true);
    let pipeline = scene.start();
    pipeline.recorder.record_durably(batch(fixture, 0..100), PATIENCE).await.unwrap();
    stop(pipeline).await;
    assert_eq!(fixture.count().await, 0);
    fixture.set_down(false);
    let next = scene.start();
    next.recorder.flush().await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(100), 100));
    stop(next).await;
}

async fn letters_are_kept_listed_tried_again_and_dropped(scene: Scene) {
    let (fixture, pipeline) = (&scene.fixture, scene.start());
    let recorder = &pipeline.recorder;
    let other = tenant();
    let poison = |tenant| Observation { tenant, user: Some("poison".into()), ..fixture.observation("bad") };
    fixture.record(recorder, 0..40);
    recorder.record(poison(fixture.tenant));
    recorder.record(poison(other));
    fixture.record(recorder, 40..80);
    recorder.flush().await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(80), 80));

    let letters = async |whose| recorder.dead_letters(whose, 0, 10).await.unwrap();
    let ids = async |whose| letters(whose).await.iter().map(|letter| letter.id).collect::<Vec<_>>();
    let mine = Whose::Project(fixture.tenant.project);
    let theirs = Whose::Project(other.project);
    assert_eq!(ids(Whose::Everybody).await, [1, 2]);
    let [letter] = &*letters(mine).await else { panic!("one is mine") };
    assert_eq!(
        (letter.reason.as_str(), letter.observation.as_ref().map(|row| row.tenant)),
        ("it tastes odd", Some(fixture.tenant))
    );
    let (mine_id, theirs_id) = (letter.id, letters(theirs).await[0].id);
    assert_eq!(recorder.dead_letters(Whose::Everybody, 1, 10).await.unwrap()[0].id, 2);
    assert_eq!(recorder.dead_letters(Whose::Everybody, 0, 1).await.unwrap().len(), 1);
    until("they are counted", async || recorder.stats().dead_letters == 2).await;

    // Another's is as missing as what never was.
    for id in [theirs_id, 99, 0, -1] {
        assert!(!recorder.redrive(mine, id).await.unwrap() && !recorder.discard(mine, id).await.unwrap());
    }
    assert!(recorder.redrive(mine, mine_id).await.unwrap());
    recorder.flush().await;
    assert_eq!(ids(mine).await, [3], "it failed again, under a new number");
    fixture.store.refuses_poison.store(false, Ordering::SeqCst);
    assert!(recorder.redrive(mine, 3).await.unwrap() && !recorder.redrive(mine, 3).await.unwrap());
    recorder.flush().await;
    assert_eq!(fixture.count().await, 81);
    assert!(recorder.discard(Whose::Everybody, theirs_id).await.unwrap());
    assert!(letters(Whose::Everybody).await.is_empty() && letters(theirs).await.is_empty());
    fixture.store.refuses_poison.store(true, Ordering::SeqCst);
    recorder.record(poison(other));
    recorder.flush().await;
    let last = letters(theirs).await.last().map(|letter| letter.id);
    assert!(last > Some(3), "no number is used again: {last:?}");
    assert!(recorder.discard(theirs, last.unwrap_or_default()).await.unwrap());
    until("none is left", async || recorder.stats().dead_letters == 0).await;
    stop(pipeline).await;
}

async fn a_full_queue_refuses_until_it_is_drained(scene: Scene) {
    let fixture = &scene.fixture;
    fixture.set_down(true);
    let pipeline =
        scene.start_with(Options { max_queued_bytes: 1, ..Options::new(fixture.directory.path()) });
    let recorder = &pipeline.recorder;
    recorder.record_durably(batch(fixture, 0..3), PATIENCE).await.unwrap();
    until("it is full", async || recorder.has_room() == Err(NotDurable::Full)).await;
    assert_eq!(recorder.record_durably(batch(fixture, 3..4), PATIENCE).await, Err(NotDurable::Full));
    fixture.set_down(false);
    until("it was drained", async || recorder.has_room().is_ok()).await;
    recorder.record_durably(batch(fixture, 3..4), PATIENCE).await.unwrap();
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(4));
    stop(pipeline).await;
}

fn log(fixture: &Fixture, body: &str) -> LogRecord {
    let now_us = SystemClock.now().timestamp_micros();
    let id = body.bytes().fold(0, |id: u128, byte| id * 256 + u128::from(byte));
    let json = serde_json::json!({
        "id": 0, "tenant": fixture.tenant, "time_us": now_us, "observed_us": now_us, "body": body
    });
    LogRecord { id, ..serde_json::from_value(json).unwrap() }
}

fn point(fixture: &Fixture, series: i64) -> MetricPoint {
    let time_us = SystemClock.now().timestamp_micros();
    let json = serde_json::json!({
        "tenant": fixture.tenant, "name": "load", "kind": "gauge", "series": series, "time_us": time_us, "value": 0.5
    });
    serde_json::from_value(json).unwrap()
}

async fn logs_and_points_go_the_same_way(scene: Scene) {
    let fixture = &scene.fixture;
    fixture.set_down(true);
    let pipeline = scene.start();
    let rows = Rows {
        observations: batch(fixture, 0..10),
        logs: ["one", "poison", "two"].map(|body| log(fixture, body)).into(),
        points: (0..5).map(|series| point(fixture, series)).collect(),
    };
    // Twice, as by a sender that didn't hear the answer.
    pipeline.recorder.record_durably(rows.clone(), PATIENCE).await.unwrap();
    pipeline.recorder.record_durably(rows, PATIENCE).await.unwrap();
    stop(pipeline).await;
    fixture.set_down(false);
    let next = scene.start();
    next.recorder.flush().await;
    until("all of it is stored", async || next.stored().0 == 17).await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(10), 10));
    let (from, to) = (DateTime::UNIX_EPOCH, SystemClock.now() + TimeDelta::days(1));
    let store = &fixture.store.inner;
    let query = PointsQuery { from, to, name: None, series: None, limit: 100, after: None };
    assert_eq!(store.points(fixture.tenant.project, query).await.unwrap().data.len(), 5);
    let query = LogsQuery {
        from,
        to,
        min_severity: None,
        trace_id: None,
        span_id: None,
        service: None,
        event_name: None,
        text: None,
        limit: 100,
        after: None,
    };
    let page = store.logs(fixture.tenant.project, query).await.unwrap();
    let mut bodies: Vec<_> = page.data.into_iter().map(|row| row.body).collect();
    bodies.sort();
    assert_eq!(bodies, ["one", "two"], "their neighbor is put aside");
    let whose = Whose::Project(fixture.tenant.project);
    until("the letters are there", async || {
        next.recorder.dead_letters(whose, 0, 10).await.unwrap().len() == 2
    })
    .await;
    fixture.store.refuses_poison.store(false, Ordering::SeqCst);
    for letter in next.recorder.dead_letters(whose, 0, 10).await.unwrap() {
        assert_eq!((letter.reason.as_str(), letter.observation), ("it tastes odd", None));
        assert!(next.recorder.redrive(whose, letter.id).await.unwrap());
    }
    next.recorder.flush().await;
    until("the letter is stored, once", async || next.stored().0 == 18).await;
    stop(next).await;
}
