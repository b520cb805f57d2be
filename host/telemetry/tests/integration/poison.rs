//! Rows that can never be stored.

use std::sync::atomic::Ordering;

use brokle_core::observation::Observation;

use crate::harness::{Fixture, numbers};

#[tokio::test]
async fn a_refused_row_is_put_aside_and_its_neighbors_are_kept() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    let poison = |name| Observation { user: Some("poison".into()), ..fixture.observation(name) };
    fixture.record(&recorder, 0..37);
    let first = poison("first");
    recorder.record(first.clone());
    recorder.record(poison("second"));
    fixture.record(&recorder, 37..100);
    recorder.record(poison("third"));
    recorder.flush().await;

    assert_eq!(fixture.names().await, numbers(100));
    assert_eq!((recorder.stats().dead_letters, recorder.stats().queued_rows), (3, 0));
    let letters = recorder.dead_letters(0, 2).await.unwrap();
    let shown: Vec<_> = letters.iter().map(|letter| (letter.id, letter.reason.as_str())).collect();
    assert_eq!(shown, [(1, "it tastes odd"), (2, "it tastes odd")]);
    assert_eq!(letters[0].observation.as_ref(), Some(&first));
    let rest = recorder.dead_letters(2, 100).await.unwrap();
    assert_eq!(rest.len(), 1);

    // Still refused: it comes back under a new number. A later version of the store takes it.
    assert!(recorder.redrive(1).await.unwrap());
    recorder.flush().await;
    let ids: Vec<_> = recorder.dead_letters(0, 100).await.unwrap().iter().map(|letter| letter.id).collect();
    assert_eq!(ids, [2, 3, 4]);
    fixture.store.refuses_poison.store(false, Ordering::SeqCst);
    for id in ids {
        assert!(recorder.redrive(id).await.unwrap());
    }
    assert!(!recorder.redrive(1).await.unwrap(), "there is no such letter any more");
    recorder.flush().await;
    assert_eq!((fixture.count().await, recorder.stats().dead_letters), (103, 0));
    assert!(recorder.dead_letters(0, 100).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_embedded_store_refuses_what_has_no_month() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    fixture.record(&recorder, 0..3);
    recorder.record(Observation { start_us: i64::MAX, ..fixture.observation("late") });
    fixture.record(&recorder, 3..6);
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(6));
    let letters = recorder.dead_letters(0, 10).await.unwrap();
    assert!(letters[0].reason.contains("1970 to 9999"), "{}", letters[0].reason);
}

#[tokio::test]
async fn a_batch_that_cannot_be_read_is_put_aside_after_a_restart() {
    let fixture = Fixture::new();
    fixture.set_down(true);
    let recorder = fixture.start();
    fixture.record(&recorder, 0..5);
    recorder.shutdown().await;
    drop(recorder);
    let sql = "INSERT INTO batches (id, created_us, rows, body) VALUES (1000, 0, 7, x'00ff')";
    fixture.queue().execute(sql, []).unwrap();

    fixture.set_down(false);
    let recorder = fixture.start();
    fixture.record(&recorder, 5..10);
    recorder.flush().await;
    assert_eq!(fixture.names().await, numbers(10));
    let letters = recorder.dead_letters(0, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].observation.clone()), (1, None));
    let kept: Vec<u8> =
        fixture.queue().query_row("SELECT body FROM dead_letters", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, [0, 0xff]);
}
