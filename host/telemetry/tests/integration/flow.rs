//! When all is well.

use std::collections::BTreeMap;
use std::sync::Arc;

use brokle_core::clock::SystemClock;
use brokle_core::observation::Observation;
use brokle_storage::observations::AnalyticsStore as _;
use brokle_telemetry::{Options, Recorder};

use crate::harness::{Fixture, numbers, until};

#[tokio::test]
async fn what_was_recorded_before_a_flush_can_be_queried_after_it() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    let threads = [0, 1, 2, 3].map(|thread| {
        let (recorder, tenant) = (recorder.clone(), fixture.tenant);
        let record = move || {
            for n in 0..1_000 {
                recorder.record(crate::harness::observation(tenant, &(thread * 1_000 + n).to_string()));
            }
        };
        std::thread::spawn(record)
    });
    for thread in threads {
        thread.join().unwrap();
    }
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(4_000));
    let stats = recorder.stats();
    assert_eq!((stats.inserted, stats.dropped, stats.duplicates, stats.dead_letters), (4_000, 0, 0, 0));
    assert_eq!(
        (stats.waiting_rows, stats.waiting_bytes, stats.queued_rows, stats.queued_bytes),
        (0, 0, 0, 0)
    );
    assert_eq!((stats.oldest_age, stats.queue_errors, stats.store_errors), (None, 0, 0));
    recorder.shutdown().await;
}

#[tokio::test]
async fn nobody_has_to_flush() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    fixture.record(&recorder, ["one"]);
    until("it arrives by itself", async || fixture.names().await == ["one"]).await;
}

#[tokio::test]
async fn any_text_and_any_bytes_survive_the_queue() {
    let fixture = Fixture::new();
    // Down at first, so that it comes back from the file and not from memory.
    fixture.set_down(true);
    let odd = "nul \0, \u{1f980}, \u{202e}rtl, \u{fffe}, \"quoted\\\"";
    let sent = Observation {
        user: Some(odd.into()),
        session: Some(odd.into()),
        error_message: Some(odd.into()),
        tags: vec![odd.into(), "".into()],
        attributes: BTreeMap::from([(odd.to_owned(), odd.into())]),
        input: Some(format!("{{\"lone\": \"\\udead\", \"raw\": \"{}\"}}", "\u{1f980}").into()),
        output: Some(format!("not json {odd}").into()),
        ..fixture.observation(odd)
    };
    let recorder = fixture.start();
    recorder.record(sent.clone());
    recorder.shutdown().await;
    fixture.set_down(false);
    let recorder = fixture.start();
    recorder.flush().await;

    let trace = fixture.store.trace(fixture.tenant.project, sent.trace_id).await.unwrap().unwrap();
    let node = &trace.observations[0];
    let summary = &node.summary;
    assert_eq!(summary.name, odd);
    assert_eq!((summary.user.as_deref(), summary.session.as_deref()), (Some(odd), Some(odd)));
    assert_eq!(summary.error.as_ref().unwrap().message.as_deref(), Some(odd));
    assert_eq!(summary.tags, [odd, ""]);
    assert_eq!(summary.attributes[odd], odd);
    assert_eq!(node.input.as_ref().unwrap().get().as_bytes(), sent.input.as_ref().unwrap());
    let output: String = serde_json::from_str(node.output.as_ref().unwrap().get()).unwrap();
    assert_eq!(output, format!("not json {odd}"));
}

#[tokio::test]
async fn shutdown_finishes_everything_and_nothing_is_taken_after_it() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    fixture.record(&recorder, 0..500);
    recorder.shutdown().await;
    assert_eq!(fixture.names().await, numbers(500));
    fixture.record(&recorder, ["late"]);
    assert_eq!(recorder.stats().dropped, 1);
    // Neither waits for threads that are gone.
    recorder.flush().await;
    recorder.shutdown().await;
    assert_eq!(recorder.stats().waiting_rows, 0);
}

#[tokio::test]
async fn dropping_the_last_recorder_finishes_too() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    fixture.record(&recorder, 0..500);
    drop(recorder);
    until("everything arrives", async || fixture.count().await == 500).await;
    assert_eq!(fixture.names().await, numbers(500));
}

#[tokio::test]
async fn the_same_span_twice_is_one_row() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    let twice = fixture.observation("twice");
    recorder.record(twice.clone());
    recorder.flush().await;
    recorder.record(twice);
    recorder.flush().await;
    assert_eq!((recorder.stats().inserted, recorder.stats().duplicates), (1, 1));
    assert_eq!(fixture.count().await, 1);
}

#[tokio::test]
async fn a_queue_that_another_version_wrote_is_refused() {
    let fixture = Fixture::new();
    fixture.queue().pragma_update(None, "user_version", 99).unwrap();
    let options = Options::new(fixture.directory.path());
    let refused = Recorder::start(&options, fixture.store, Arc::new(SystemClock)).unwrap_err();
    assert!(refused.to_string().contains("layout 99"), "{refused}");
}
