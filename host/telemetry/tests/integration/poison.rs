//! Rows that can never be stored.

use std::sync::atomic::Ordering;

use brokle_core::observation::Observation;

use brokle_telemetry::Whose;

use crate::harness::{Fixture, numbers, tenant};

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
    let letters = recorder.dead_letters(Whose::Everybody, 0, 2).await.unwrap();
    let shown: Vec<_> = letters.iter().map(|letter| (letter.id, letter.reason.as_str())).collect();
    assert_eq!(shown, [(1, "it tastes odd"), (2, "it tastes odd")]);
    assert_eq!(letters[0].observation.as_ref(), Some(&first));
    let rest = recorder.dead_letters(Whose::Everybody, 2, 100).await.unwrap();
    assert_eq!(rest.len(), 1);

    // Still refused: it comes back under a new number. A later version of the store takes it.
    assert!(recorder.redrive(Whose::Everybody, 1).await.unwrap());
    recorder.flush().await;
    let ids: Vec<_> = recorder
        .dead_letters(Whose::Everybody, 0, 100)
        .await
        .unwrap()
        .iter()
        .map(|letter| letter.id)
        .collect();
    assert_eq!(ids, [2, 3, 4]);
    fixture.store.refuses_poison.store(false, Ordering::SeqCst);
    for id in ids {
        assert!(recorder.redrive(Whose::Everybody, id).await.unwrap());
    }
    assert!(!recorder.redrive(Whose::Everybody, 1).await.unwrap(), "there is no such letter any more");
    recorder.flush().await;
    assert_eq!((fixture.count().await, recorder.stats().dead_letters), (103, 0));
    assert!(recorder.dead_letters(Whose::Everybody, 0, 100).await.unwrap().is_empty());
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
    let letters = recorder.dead_letters(Whose::Everybody, 0, 10).await.unwrap();
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
    let letters = recorder.dead_letters(Whose::Everybody, 0, 10).await.unwrap();
    assert_eq!((letters.len(), letters[0].observation.clone()), (1, None));
    let kept: Vec<u8> =
        fixture.queue().query_row("SELECT body FROM dead_letters", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, [0, 0xff]);
}

#[tokio::test]
async fn letters_belong_to_their_project_and_those_that_cannot_be_read_to_nobody() {
    let fixture = Fixture::new();
    fixture.set_down(true);
    let recorder = fixture.start();
    recorder.record(fixture.observation("fine"));
    recorder.shutdown().await;
    drop(recorder);
    fixture
        .queue()
        .execute("INSERT INTO batches (id, created_us, rows, body) VALUES (1000, 0, 1, x'00')", [])
        .unwrap();
    fixture.set_down(false);

    let recorder = fixture.start();
    let other = tenant();
    for tenant in [fixture.tenant, other] {
        let row = Observation { tenant, ..fixture.observation("bad") };
        recorder.record(Observation { user: Some("poison".into()), ..row });
    }
    recorder.flush().await;
    let ids = async |whose| {
        recorder.dead_letters(whose, 0, 10).await.unwrap().iter().map(|letter| letter.id).collect::<Vec<_>>()
    };
    let (mine, theirs) = (Whose::Project(fixture.tenant.project), Whose::Project(other.project));
    assert_eq!(ids(Whose::Everybody).await, [1, 2, 3]);
    assert_eq!((ids(mine).await, ids(theirs).await), (vec![2], vec![3]));
    // Another's, and nobody's, are as missing as what never was.
    for id in [1, 3, 99] {
        assert!(!recorder.redrive(mine, id).await.unwrap() && !recorder.discard(mine, id).await.unwrap());
    }
    assert!(recorder.discard(mine, 2).await.unwrap() && !recorder.discard(mine, 2).await.unwrap());
    assert!(recorder.discard(Whose::Everybody, 1).await.unwrap());
    assert_eq!((ids(Whose::Everybody).await, recorder.stats().dead_letters), (vec![3], 1));
    fixture.store.refuses_poison.store(false, Ordering::SeqCst);
    assert!(recorder.redrive(theirs, 3).await.unwrap());
    recorder.flush().await;
    assert_eq!((recorder.stats().dead_letters, fixture.names().await), (0, vec!["fine".to_owned()]));
}

#[tokio::test]
async fn letters_of_the_layout_before_learn_whose_they_are() {
    let fixture = Fixture::new();
    let recorder = fixture.start();
    recorder.record(Observation { user: Some("poison".into()), ..fixture.observation("old") });
    recorder.flush().await;
    recorder.shutdown().await;
    drop(recorder);
    fixture
        .queue()
        .execute_batch(
            "DROP INDEX dead_letters_by_project; ALTER TABLE dead_letters DROP COLUMN project;
             INSERT INTO dead_letters (died_us, reason, body) VALUES (0, 'unreadable', x'00');
             PRAGMA user_version = 1",
        )
        .unwrap();
    let recorder = fixture.start();
    let letters = recorder.dead_letters(Whose::Project(fixture.tenant.project), 0, 10).await.unwrap();
    let names: Vec<_> =
        letters.iter().map(|letter| letter.observation.as_ref().unwrap().name.as_ref()).collect();
    assert_eq!((names, recorder.stats().dead_letters), (vec!["old"], 2));
}
