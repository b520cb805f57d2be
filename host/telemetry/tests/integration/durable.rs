//! What somebody waits for.

use std::sync::atomic::Ordering;
use std::time::Duration;

use brokle_core::observation::Observation;
use brokle_telemetry::{NotDurable, Options, Recorder};

use crate::harness::{Fixture, numbers, until};

const PATIENCE: Duration = Duration::from_secs(20);

fn batch(fixture: &Fixture, names: std::ops::Range<u32>) -> Vec<Observation> {
    names.map(|name| fixture.observation(&name.to_string())).collect()
}

/// What is in the file, seen by another connection.
fn queued(fixture: &Fixture) -> i64 {
    fixture.queue().query_row("SELECT coalesce(sum(rows), 0) FROM batches", [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn an_answer_means_that_the_file_has_it() {
    let fixture = Fixture::new();
    fixture.set_down(true);
    let recorder = fixture.start();
    fixture.record(&recorder, 0..10);
    recorder.record_durably(batch(&fixture, 10..110), PATIENCE).await.unwrap();
    assert!(queued(&fixture) >= 100);
    recorder.record_durably(Vec::new(), Duration::ZERO).await.unwrap();
    fixture.set_down(false);
    recorder.flush().await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(110), 110));
    assert_eq!((recorder.stats().waiting_rows, recorder.stats().waiting_bytes), (0, 0));
}

#[tokio::test]
async fn rows_that_come_again_change_nothing() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    let rows = batch(&fixture, 0..50);
    for _ in 0..3 {
        recorder.record_durably(rows.clone(), PATIENCE).await.unwrap();
    }
    recorder.flush().await;
    assert_eq!((fixture.names().await, fixture.count().await), (numbers(50), 50));
    assert_eq!((recorder.stats().inserted, recorder.stats().duplicates), (50, 100));
}

#[tokio::test]
async fn a_commit_that_fails_is_told_and_keeps_nothing_of_it() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    let other = fixture.queue();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let mut refused = Box::pin(recorder.record_durably(batch(&fixture, 100..120), PATIENCE));
    assert!(futures_poll(&mut refused).await.is_pending(), "it is on its way");
    fixture.record(&recorder, 0..5);
    assert_eq!(refused.await, Err(NotDurable::Failed));
    let stats = recorder.stats();
    assert_eq!((stats.refused, stats.dropped, stats.waiting_rows), (20, 0, 5), "the gateway's own stay");
    other.execute_batch("ROLLBACK").unwrap();
    recorder.record_durably(batch(&fixture, 5..8), PATIENCE).await.unwrap();
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(8));
}

#[tokio::test]
async fn a_full_queue_refuses_and_leaves_room_for_the_gateway() {
    let fixture = Fixture::new();
    let options = Options { max_rows: 100, ..Options::new(fixture.directory.path()) };
    let recorder = fixture.start_with(&options);
    assert_eq!(recorder.max_durable().0, 50);
    let too_many = recorder.record_durably(batch(&fixture, 0..51), PATIENCE).await;
    assert_eq!(too_many, Err(NotDurable::Full));
    assert_eq!((recorder.stats().waiting_rows, recorder.stats().waiting_bytes), (0, 0));

    let other = fixture.queue();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fixture.record(&recorder, 0..50);
    assert_eq!(recorder.has_room(), Err(NotDurable::Full));
    let one = recorder.record_durably(batch(&fixture, 0..1), PATIENCE).await;
    assert_eq!(one, Err(NotDurable::Full));
    fixture.record(&recorder, 50..100);
    assert_eq!(recorder.stats().dropped, 0);
    other.execute_batch("ROLLBACK").unwrap();
    until("there is room again", async || recorder.has_room().is_ok()).await;
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(100));
}

#[tokio::test]
async fn a_database_that_is_away_fills_the_disk_to_the_bound_only() {
    let fixture = Fixture::new();
    fixture.set_down(true);
    let options = Options { max_queued_bytes: 1, ..Options::new(fixture.directory.path()) };
    let recorder = fixture.start_with(&options);
    recorder.record_durably(batch(&fixture, 0..3), PATIENCE).await.unwrap();
    assert_eq!(recorder.has_room(), Err(NotDurable::Full));
    let full = recorder.record_durably(batch(&fixture, 3..4), PATIENCE).await;
    assert_eq!(full, Err(NotDurable::Full));
    fixture.store.down.store(false, Ordering::SeqCst);
    until("it was drained", async || recorder.has_room().is_ok()).await;
    recorder.record_durably(batch(&fixture, 3..4), PATIENCE).await.unwrap();
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(4));
}

#[tokio::test]
async fn nobody_waits_for_ever() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    let other = fixture.queue();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let late = recorder.record_durably(batch(&fixture, 0..1), Duration::from_millis(1)).await;
    assert_eq!(late, Err(NotDurable::Late));
    other.execute_batch("ROLLBACK").unwrap();
    recorder.shutdown().await;
    assert_eq!(recorder.has_room(), Err(NotDurable::Closed));
    let closed = recorder.record_durably(batch(&fixture, 0..1), PATIENCE).await;
    assert_eq!(closed, Err(NotDurable::Closed));
}

#[tokio::test]
async fn many_senders_share_commits() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    let send = async |recorder: &Recorder, n: u32| {
        recorder.record_durably(batch(&fixture, n * 10..n * 10 + 10), PATIENCE).await.unwrap();
    };
    futures(&recorder, &send).await;
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(400));
}

async fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut future = std::pin::Pin::new(future);
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context))).await
}

/// Forty senders at once.
async fn futures(recorder: &Recorder, send: &impl AsyncFn(&Recorder, u32)) {
    let mut waiting: Vec<_> = (0..40).map(|n| Box::pin(send(recorder, n))).collect();
    std::future::poll_fn(|context| {
        waiting.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if waiting.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
