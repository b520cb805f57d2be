//! Killed at any moment: what was durable arrives, and once.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use brokle_core::clock::SystemClock;
use brokle_core::ids::ProjectId;
use brokle_core::tenancy::Tenant;
use brokle_telemetry::{Options, Recorder};

use crate::harness::{Fixture, count, names, numbers, observation, store, tenant, until};

/// Tells the child where to write; without it the child's test does nothing.
const DIRECTORY: &str = "BROKLE_TEST_CRASH_DIRECTORY";
const TENANT: &str = "BROKLE_TEST_CRASH_TENANT";
const FIRST: &str = "BROKLE_TEST_CRASH_FIRST";

/// Not a test of its own: the process that the next one kills. It records numbered calls for ever, and says which of
/// them are durable: those that had left memory.
#[test]
fn child() {
    let Ok(directory) = std::env::var(DIRECTORY) else { return };
    let tenant: Tenant = serde_json::from_str(&std::env::var(TENANT).unwrap()).unwrap();
    let first: u64 = std::env::var(FIRST).unwrap().parse().unwrap();
    let options = Options::new(&directory);
    let recorder = Recorder::start(&options, store(Path::new(&directory)), Arc::new(SystemClock)).unwrap();
    for n in first.. {
        recorder.record(observation(tenant, &n.to_string()));
        if n % 100 == 99 {
            while recorder.stats().waiting_rows > 0 {
                std::thread::yield_now();
            }
            // Not `println!`: the test harness would keep it.
            writeln!(std::io::stdout(), "\ndurable {n}").unwrap();
        }
    }
}

/// Lets a child go on from `first`, kills it after `lines` reports, and tells the last number that was durable.
fn killed_after(directory: &Path, tenant: &Tenant, first: u64, lines: usize) -> u64 {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(TENANT, serde_json::to_string(tenant).unwrap())
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let numbers = output.lines().filter_map(|line| line.unwrap().strip_prefix("durable ")?.parse().ok());
    let last = numbers.take(lines).last().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    last
}

#[tokio::test]
async fn what_was_durable_survives_a_kill_and_arrives_once() {
    let directory = tempfile::tempdir().unwrap();
    let tenant = tenant();
    let mut durable = Vec::new();
    // Early, so that the files are hardly made; later, so that rounds and deletions are under way.
    for lines in [1, 3, 12, 25] {
        let first = durable.last().map_or(0, |last: &u64| last + 100_000);
        let last = killed_after(directory.path(), &tenant, first, lines);
        durable.push(last);
    }
    let store = store(directory.path());
    let recorder =
        Recorder::start(&Options::new(directory.path()), store.clone(), Arc::new(SystemClock)).unwrap();
    recorder.flush().await;
    let found: Vec<u64> = stored(&store, tenant.project).await;
    let mut first = 0;
    for last in durable {
        let missing: Vec<_> = (first..=last).filter(|n| found.binary_search(n).is_err()).collect();
        assert!(missing.is_empty(), "{missing:?}");
        first = last + 100_000;
    }
    assert!(found.windows(2).all(|pair| pair[0] != pair[1]), "something came twice");
    assert_eq!(count(&*store, tenant.project).await, found.len() as u64, "sums and rows agree");
}

async fn stored(store: &crate::harness::Fussy, project: ProjectId) -> Vec<u64> {
    names(store, project).await.iter().map(|name| name.parse().unwrap()).collect()
}

#[tokio::test]
async fn a_queue_from_before_its_batches_were_deleted_changes_nothing() {
    let fixture = Fixture::new();
    fixture.set_down(true);
    let recorder = fixture.start();
    fixture.record(&recorder, 0..250);
    until("all of it is in the queue", async || recorder.stats().queued_rows == 250).await;
    recorder.shutdown().await;
    drop(recorder);
    // As a crash between the database's commit and the queue's leaves it.
    let before = fixture.directory.path().join("before").display().to_string();
    fixture.queue().execute("VACUUM INTO ?1", [&before]).unwrap();
    fixture.set_down(false);
    for round in 0..3 {
        let recorder = fixture.start();
        recorder.flush().await;
        let stats = recorder.stats();
        let expected = if round == 0 { (250, 0) } else { (0, 250) };
        assert_eq!((stats.inserted, stats.duplicates), expected);
        assert_eq!((fixture.names().await, fixture.count().await), (numbers(250), 250));
        recorder.shutdown().await;
        drop(recorder);
        let queue = fixture.queue();
        queue.execute("ATTACH ?1 AS before", [&before]).unwrap();
        queue.execute_batch("INSERT INTO batches SELECT * FROM before.batches").unwrap();
    }
}
