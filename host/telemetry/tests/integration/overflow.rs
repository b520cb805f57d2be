//! When more comes than there is room for.

use brokle_core::observation::Observation;
use brokle_telemetry::Options;

use crate::harness::Fixture;

#[tokio::test]
async fn what_comes_on_top_of_the_rows_bound_is_dropped_and_counted() {
    let fixture = Fixture::new();
    let recorder = fixture.start_with(&Options { max_rows: 50, ..Options::new(fixture.directory.path()) });
    // The queue's lock is taken, so nothing leaves memory.
    let other = fixture.queue();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    fixture.record(&recorder, 0..80);
    let stats = recorder.stats();
    assert_eq!((stats.waiting_rows, stats.dropped), (50, 30));
    other.execute_batch("ROLLBACK").unwrap();
    recorder.flush().await;
    assert_eq!(fixture.names().await, crate::harness::numbers(50), "the first ones were kept");

    fixture.record(&recorder, ["there is room again"]);
    recorder.flush().await;
    assert_eq!((fixture.count().await, recorder.stats().dropped), (51, 30));
}

#[tokio::test]
async fn bytes_are_bounded_too() {
    let fixture = Fixture::new();
    let recorder =
        fixture.start_with(&Options { max_bytes: 100_000, ..Options::new(fixture.directory.path()) });
    let other = fixture.queue();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let with_body = |name, bytes: usize| Observation {
        input: Some("x".repeat(bytes).into()),
        ..fixture.observation(name)
    };
    recorder.record(with_body("too large ever", 100_000));
    recorder.record(with_body("fits", 90_000));
    recorder.record(with_body("no more room", 20_000));
    recorder.record(with_body("fits beside", 1_000));
    assert_eq!(recorder.stats().dropped, 2);
    assert!(recorder.stats().waiting_bytes > 91_000);
    other.execute_batch("ROLLBACK").unwrap();
    recorder.flush().await;
    assert_eq!(fixture.names().await, ["fits", "fits beside"]);
    assert_eq!(recorder.stats().waiting_bytes, 0);
}
