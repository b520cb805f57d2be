//! Servers and workers of their own, on a shared queue and a shared store.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brokle_test_services::{ClickHouse, Redis};

use crate::cli::{KEY, Server, brokle};
use crate::otlp::{SPANS, send};

/// How often server and worker are killed each; 3 if it isn't said.
const KILLS: &str = "BROKLE_TEST_KILLS";

fn start(directory: &Path, role: &str, redis: &str, clickhouse: &str) -> Server {
    let mut command = brokle(directory, &["serve", "--role", role]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("REDIS_URL", redis).env("CLICKHOUSE_URL", clickhouse);
    Server::start(command)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(120), "never: {what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_worker_of_its_own_needs_what_processes_can_share() {
    let directory = tempfile::tempdir().unwrap();
    let up = brokle(directory.path(), &["migrate", "up"]).output().unwrap();
    assert!(up.status.success());
    let output = brokle(directory.path(), &["serve", "--role", "worker"]).output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("REDIS_URL and CLICKHOUSE_URL"), "{error}");
    let mut command = brokle(directory.path(), &["config", "check"]);
    std::fs::write(directory.path().join("brokle.toml"), "[telemetry]\nqueue = \"redis\"\n").unwrap();
    let error = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(error.contains("telemetry.queue"), "{error}");
}

#[test]
fn killed_servers_and_workers_lose_nothing_that_was_acknowledged_and_count_nothing_twice() {
    let (Some(redis), Some(clickhouse)) = (Redis::start().unwrap(), ClickHouse::start().unwrap()) else {
        return;
    };
    let (redis, clickhouse_url) = (redis.url(), clickhouse.database_url());
    let kills = std::env::var(KILLS).ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let directory = tempfile::tempdir().unwrap();
    // Nobody reads the log while the test goes on: a line per request would fill the pipe.
    std::fs::write(directory.path().join("brokle.toml"), "[logs]\nlevel = \"off,brokle::serve=info\"\n")
        .unwrap();
    let start = |role| start(directory.path(), role, &redis, &clickhouse_url);
    let (mut server, mut worker) = (start("server"), start("worker"));
    let ready = worker.ask("GET /health/ready HTTP/1.1");
    assert!(ready.starts_with("HTTP/1.1 200"), "{ready}");
    assert!(
        worker.ask(&format!("GET /api/v1/traces HTTP/1.1\r\nx-api-key: {KEY}")).starts_with("HTTP/1.1 404")
    );

    let (next, count, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let address = Mutex::new(server.address.clone());
    let acknowledged: Vec<u64> = std::thread::scope(|scope| {
        let sender = || {
            let mut mine = Vec::new();
            while !done.load(Ordering::SeqCst) {
                let n = next.fetch_add(SPANS, Ordering::SeqCst);
                let address = address.lock().unwrap().clone();
                if send(&address, n) {
                    mine.push(n);
                    count.fetch_add(1, Ordering::SeqCst);
                }
            }
            mine
        };
        let senders: Vec<_> = (0..2).map(|_| scope.spawn(sender)).collect();
        let some_more = |more| {
            let before = count.load(Ordering::SeqCst);
            until("more is acknowledged", || count.load(Ordering::SeqCst) >= before + more);
        };
        for _ in 0..kills {
            some_more(5);
            worker.signal("KILL");
            worker = start("worker");
            some_more(5);
            server.signal("KILL");
            server = start("server");
            address.lock().unwrap().clone_from(&server.address);
        }
        done.store(true, Ordering::SeqCst);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });

    for n in acknowledged.iter().flat_map(|n| *n..*n + SPANS).collect::<BTreeSet<_>>() {
        let (mut answer, name) = (String::new(), format!("\"name\":\"{n}\""));
        until("every acknowledged span is stored", || {
            answer = server.ask(&format!("GET /api/v1/traces/{:032x} HTTP/1.1\r\nx-api-key: {KEY}", n + 1));
            answer.starts_with("HTTP/1.1 200")
        });
        assert_eq!(answer.matches(&name).count(), 1, "{answer}");
    }
    until("nothing waits", || server.ask("GET /health HTTP/1.1").contains("\"depth\":0"));
}
