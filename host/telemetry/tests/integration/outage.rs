//! When a disk or the database fails for a while.

use std::time::Duration;

use crate::harness::{Fixture, numbers, until};

#[tokio::test]
async fn the_queue_holds_what_the_database_does_not_take() {
    let fixture = Fixture::new();
    fixture.set_down(true);
    let recorder = fixture.start();
    fixture.record(&recorder, 0..100);
    until("it is tried twice", async || recorder.stats().store_errors >= 2).await;
    let stats = recorder.stats();
    assert_eq!((stats.queued_rows, stats.waiting_rows, stats.inserted), (100, 0, 0));
    assert!(stats.queued_bytes > 0 && stats.oldest_age.is_some_and(|age| age > Duration::ZERO));
    let waiting = tokio::time::timeout(Duration::from_millis(1), recorder.flush()).await;
    assert!(waiting.is_err(), "a flush says nothing that isn't so");

    fixture.set_down(false);
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(100));
    assert_eq!(recorder.stats().queued_rows, 0);
}

#[tokio::test]
async fn a_shutdown_during_an_outage_leaves_the_rest_for_the_next_start() {
    let fixture = Fixture::new();
    fixture.set_down(true);
    let recorder = fixture.start();
    fixture.record(&recorder, 0..100);
    recorder.shutdown().await;
    assert_eq!(recorder.stats().queued_rows, 100);
    drop(recorder);

    fixture.set_down(false);
    let recorder = fixture.start();
    assert_eq!(recorder.stats().dropped, 0);
    fixture.record(&recorder, 100..150);
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(150));
}

#[tokio::test]
async fn a_queue_that_cannot_be_written_is_tried_again() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    let other = fixture.queue();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fixture.record(&recorder, 0..100);
    until("a commit fails", async || recorder.stats().queue_errors >= 1).await;
    assert_eq!((recorder.stats().waiting_rows, recorder.stats().queued_rows), (100, 0));
    other.execute_batch("ROLLBACK").unwrap();
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(100));
    assert_eq!(recorder.stats().dropped, 0);
}

#[tokio::test]
async fn a_month_file_that_cannot_be_opened_is_tried_again() {
    let fixture = Fixture::new();
    let month = chrono::DateTime::from_timestamp_micros(fixture.observation("").start_us).unwrap();
    let path = fixture.directory.path().join(format!("observations-{}.db", month.format("%Y%m")));
    std::fs::create_dir(&path).unwrap();
    let recorder = fixture.start();
    fixture.record(&recorder, 0..10);
    until("an insert fails", async || recorder.stats().store_errors >= 1).await;
    std::fs::remove_dir(&path).unwrap();
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(10));
}
