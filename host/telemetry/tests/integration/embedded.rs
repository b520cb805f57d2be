//! A store on the same disk takes rows without the queue, unless it fails.

use std::time::Duration;

use brokle_core::observation::Observation;
use brokle_telemetry::Whose;

use crate::harness::{Fixture, numbers, until};

const PATIENCE: Duration = Duration::from_secs(20);

/// Lets nothing be written to the queue as long as it lives.
fn locked_queue(fixture: &Fixture) -> rusqlite::Connection {
    let queue = fixture.queue();
    queue.execute_batch("BEGIN IMMEDIATE").unwrap();
    queue
}

#[tokio::test]
async fn an_answer_means_that_the_store_has_it() {
    let fixture = Fixture::embedded();
    let recorder = fixture.start();
    let _queue = locked_queue(&fixture);
    let rows: Vec<Observation> = (0..100).map(|name| fixture.observation(&name.to_string())).collect();
    recorder.record_durably(rows.clone(), PATIENCE).await.unwrap();
    assert_eq!(fixture.names().await, numbers(100), "without a flush");
    recorder.record_durably(rows, PATIENCE).await.unwrap();
    fixture.record(&recorder, 100..110);
    recorder.flush().await;
    let stats = recorder.stats();
    assert_eq!((stats.inserted, stats.duplicates, stats.waiting_rows, stats.waiting_bytes), (110, 100, 0, 0));
    assert_eq!((fixture.count().await, stats.queue_errors), (110, 0));
    recorder.shutdown().await;
}

#[tokio::test]
async fn what_the_store_does_not_take_is_queued_and_arrives_once() {
    let fixture = Fixture::embedded();
    let recorder = fixture.start();
    fixture.set_down(true);
    let rows: Vec<_> = (0..50).map(|name| fixture.observation(&name.to_string())).collect();
    recorder.record_durably(rows, PATIENCE).await.unwrap();
    let batches: i64 =
        fixture.queue().query_row("SELECT count(*) FROM batches", [], |row| row.get(0)).unwrap();
    assert_eq!(batches, 1, "it is durable all the same");
    // While anything is queued, what follows stands behind it, and doesn't try the store again.
    fixture.record(&recorder, 50..80);
    until("all of it is queued", async || recorder.stats().queued_rows == 80).await;
    fixture.set_down(false);
    recorder.flush().await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(80), 80));
    // The queue is empty, and isn't needed again.
    let _queue = locked_queue(&fixture);
    fixture.record(&recorder, 80..90);
    recorder.flush().await;
    assert_eq!((fixture.count().await, recorder.stats().queue_errors), (90, 0));
}

#[tokio::test]
async fn a_refused_row_is_put_aside_and_its_neighbors_are_kept() {
    let fixture = Fixture::embedded();
    let recorder = fixture.start();
    fixture.record(&recorder, 0..20);
    recorder.record(Observation { user: Some("poison".into()), ..fixture.observation("odd") });
    fixture.record(&recorder, 20..40);
    recorder.flush().await;
    assert_eq!((fixture.names().await, recorder.stats().dead_letters), (numbers(40), 1));
    let letters = recorder.dead_letters(Whose::Everybody, 0, 10).await.unwrap();
    assert_eq!(letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(), ["it tastes odd"]);
}
