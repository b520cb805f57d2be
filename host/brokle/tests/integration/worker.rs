//! Servers and workers of their own, on a shared queue and a shared store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use brokle_test_services::{ClickHouse, Fsync, Redis};

use crate::cli::{KEY, Server, brokle};
use crate::otlp::{SPANS, listed, send};

/// How often server, worker, store and queue are killed each; 50 if it isn't said.
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
#[expect(clippy::print_stdout, reason = "the figures are what it is run for, with --nocapture")]
fn killed_servers_workers_stores_and_queues_lose_nothing_that_was_acknowledged_and_count_nothing_twice() {
    let (Some(mut queue), Some(mut clickhouse)) =
        (Redis::start_durable(Fsync::Always).unwrap(), ClickHouse::start().unwrap())
    else {
        return;
    };
    let (redis, clickhouse_url) = (queue.url(), clickhouse.database_url());
    let kills = std::env::var(KILLS).ok().and_then(|text| text.parse().ok()).unwrap_or(50);
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
            some_more(5);
            clickhouse.stop();
            some_more(5);
            clickhouse.start_again().unwrap();
            some_more(5);
            // Nothing is acknowledged while it is away.
            queue.stop();
            queue.start_again().unwrap();
        }
        done.store(true, Ordering::SeqCst);
        senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
    });

    until("nothing waits", || server.ask("GET /health HTTP/1.1").contains("\"depth\":0"));
    let acknowledged: Vec<u64> = acknowledged.iter().flat_map(|n| *n..*n + SPANS).collect();
    let mut stored = BTreeMap::new();
    let mut missing = Vec::new();
    let begun = Instant::now();
    while stored.is_empty() || !missing.is_empty() {
        let alone = missing
            .first()
            .map(|n| server.ask(&format!("GET /api/v1/traces/{:032x} HTTP/1.1\r\nx-api-key: {KEY}", *n + 1)));
        assert!(
            begun.elapsed() < Duration::from_secs(120),
            "{} of {} aren't in a list of {}: {:?}; the first by itself: {alone:?}",
            missing.len(),
            acknowledged.len(),
            stored.len(),
            missing.iter().take(30).collect::<Vec<_>>()
        );
        stored = listed(&server, "/api/v1/traces", "name");
        missing = acknowledged.iter().copied().filter(|n| !stored.contains_key(&n.to_string())).collect();
    }
    // Those that nobody heard of, too.
    let twice: Vec<_> = stored.iter().filter(|(_, times)| **times > 1).collect();
    assert!(twice.is_empty(), "{twice:?}");
    let key = server.send(&format!("POST /v1/auth/validate-key HTTP/1.1\r\nx-api-key: {KEY}"), "");
    let count = format!(
        "GET /api/v1/projects/{}/metrics?measures=count&dimensions=type HTTP/1.1\r\nx-api-key: {KEY}",
        member(&key, "project_id")
    );
    let all = format!("\"count\":{}", stored.len());
    until("sums say as many", || {
        let answer = server.ask(&count);
        answer.contains(&format!("{all}}}")) || answer.contains(&format!("{all},"))
    });
    println!("{kills} kills of each, {} spans acknowledged: each is there once", acknowledged.len());
}

/// A batch's state, once it has ended.
fn ended(server: &Server, id: &str) -> String {
    let mut answer = String::new();
    until("the batch ends", || {
        answer = server.ask(&format!("GET /v1/batches/{id} HTTP/1.1\r\nx-api-key: {KEY}"));
        ["completed", "failed", "expired"]
            .iter()
            .any(|state| answer.contains(&format!("\"status\":\"{state}\"")))
    });
    answer
}

/// The value of a member of an answer.
fn member(answer: &str, name: &str) -> String {
    let body: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    body[name].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn a_worker_works_on_a_servers_batches_within_its_callers_limits() {
    let (Some(redis), Some(clickhouse)) = (Redis::start().unwrap(), ClickHouse::start().unwrap()) else {
        return;
    };
    let (redis, clickhouse_url) = (redis.url(), clickhouse.database_url());
    let directory = tempfile::tempdir().unwrap();
    let start = |role: &str, runs: bool| {
        let home = directory.path().join(role);
        std::fs::create_dir(&home).unwrap();
        let text = format!(
            "[files]\nfolder = \"{}\"\n[batches]\nrun = {runs}\n[[limits]]\nname = \"few\"\nby = [\"project\"]\nrequests_per_day = 3\n",
            directory.path().join("files").display()
        );
        std::fs::write(home.join("brokle.toml"), text).unwrap();
        let mut command = brokle(&home, &["serve", "--role", role]);
        let database = format!("sqlite:{}", directory.path().join("shared.db").display());
        command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("REDIS_URL", &redis).env("DATABASE_URL", database);
        command.env("CLICKHOUSE_URL", &clickhouse_url).env("BROKLE_ENCRYPTION_KEY", "0".repeat(64));
        Server::start(command)
    };
    let server = start("server", false);
    let line = |number: usize| {
        format!(
            r#"{{"custom_id":"{number}","method":"POST","url":"/v1/chat/completions","body":{{"model":"echo/echo-1","messages":[{{"role":"user","content":"hi"}}]}}}}"#
        )
    };
    let lines: Vec<String> = (0..3).map(line).collect();
    let boundary = "XXX";
    let form = format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"lines.jsonl\"\r\ncontent-type: application/jsonl\r\n\r\n{}\r\n--{boundary}--\r\n",
        lines.join("\n")
    );
    let uploaded = server.send_as(
        &format!("POST /v1/files HTTP/1.1\r\nx-api-key: {KEY}"),
        &format!("multipart/form-data; boundary={boundary}"),
        &form,
    );
    let file = member(&uploaded, "id");
    let made = server.send(
        &format!("POST /v1/batches HTTP/1.1\r\nx-api-key: {KEY}"),
        &format!(
            r#"{{"input_file_id":"{file}","endpoint":"/v1/chat/completions","completion_window":"24h"}}"#
        ),
    );
    let id = member(&made, "id");
    // Nobody works on it: the server leaves it to a worker.
    let worker = start("worker", true);
    let done = ended(&server, &id);
    assert!(done.contains(r#""completed":3"#), "{done}");
    let answers = server.ask(&format!(
        "GET /v1/files/{}/content HTTP/1.1\r\nx-api-key: {KEY}",
        member(&done, "output_file_id")
    ));
    assert_eq!(answers.matches("\"custom_id\"").count(), 3, "{answers}");
    // They were its key's calls, and took what that has.
    let one_more = r#"{"model":"echo/echo-1","messages":[{"role":"user","content":"hi"}]}"#;
    let refused = server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}"), one_more);
    assert!(refused.starts_with("HTTP/1.1 429"), "three a day: {refused}");
    // Its calls are the project's, as if the server had made them.
    until("the calls are stored", || {
        let traces = server.ask(&format!("GET /api/v1/traces HTTP/1.1\r\nx-api-key: {KEY}"));
        traces.matches("\"trace_id\"").count() >= 3
    });
    assert!(worker.ask(&format!("GET /v1/models HTTP/1.1\r\nx-api-key: {KEY}")).starts_with("HTTP/1.1 404"));
}
