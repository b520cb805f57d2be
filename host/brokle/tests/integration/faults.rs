//! What the server stands on goes away while calls and spans come: PostgreSQL, Redis, room on the disk. Short here;
//! `BROKLE_TEST_OUTAGE` says for how many seconds.

#![expect(clippy::print_stdout, reason = "what an outage cost is printed for whoever asked for a long one")]

use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_test_services::{ClickHouse, Postgres, Redis, Wire, skipped};
use serde_json::Value;

use crate::cli::{KEY, Server, brokle};

/// Only what went wrong, and that it serves: nobody reads the log while it runs.
const LOGS: &str = "[logs]\nlevel = \"warn,brokle::serve=info\"\n";
const UNKNOWN: &str = "bk_0000000000000000000000000000000000000000";

fn outage() -> Duration {
    let told = std::env::var("BROKLE_TEST_OUTAGE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(told.unwrap_or(3))
}

fn call(server: &Server, key: &str) -> String {
    let body = r#"{"model":"echo/echo-1","messages":[{"role":"user","content":"hi"}]}"#;
    server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nauthorization: Bearer {key}"), body)
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap_or_else(|| panic!("{answer}")).parse().unwrap()
}

/// Sends a span in a trace of its own, with so much to say.
fn span(server: &Server, n: u32, said: usize) -> u16 {
    let (now, id) = (SystemClock.now().timestamp_micros(), n + 1);
    let said = "x".repeat(said);
    let body = format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{id:032x}","spanId":"{id:016x}","name":"span {n}",
           "startTimeUnixNano":"{now}000","endTimeUnixNano":"{now}500",
           "attributes":[{{"key":"input.value","value":{{"stringValue":"{said}"}}}}]}}]}}]}}]}}"#
    );
    status(&server.send(&format!("POST /v1/traces HTTP/1.1\r\nauthorization: Bearer {KEY}"), &body))
}

/// Calls one after the other for this long; each is answered. How long each took.
fn calls(server: &Server, time: Duration) -> Vec<Duration> {
    let (begun, mut took) = (Instant::now(), Vec::new());
    while begun.elapsed() < time {
        let asked = Instant::now();
        let answer = call(server, KEY);
        took.push(asked.elapsed());
        assert_eq!(status(&answer), 200, "{answer}");
    }
    took
}

fn p99(mut took: Vec<Duration>) -> Duration {
    took.sort_unstable();
    took[took.len() * 99 / 100]
}

/// How many rows of this kind there are, once there are as many as that; never more.
fn stored(server: &Server, kind: &str, all: u64) {
    let head = |path: &str| format!("{path} HTTP/1.1\r\nauthorization: Bearer {KEY}");
    let json = |answer: &str| -> Value {
        let document = answer.find('{').zip(answer.rfind('}')).map(|(from, to)| &answer[from..=to]);
        document.map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default()
    };
    let key = json(&server.send(&head("POST /v1/auth/validate-key"), ""));
    let project = key["project_id"].as_str().unwrap();
    let path = format!("GET /api/v1/projects/{project}/metrics?measures=count&dimensions=type");
    let begun = Instant::now();
    loop {
        let answer = json(&server.ask(&head(&path)));
        let mut groups = answer["data"].as_array().into_iter().flatten();
        let found = groups.find(|group| group["type"] == kind).and_then(|group| group["count"].as_u64());
        assert!(found.unwrap_or(0) <= all, "counted twice: {found:?} of {all}");
        if found.unwrap_or(0) == all {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{found:?} of {all} {kind}s: {answer}");
        std::thread::yield_now();
    }
}

/// Asks until it is so; how long that took.
fn until(what: &str, is_so: impl Fn() -> bool) -> Duration {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
        std::thread::yield_now();
    }
    begun.elapsed()
}

#[test]
fn without_postgresql_known_keys_go_on_and_nobody_is_called_unknown() {
    let Some(postgres) = Postgres::shared().unwrap_or_else(|error| panic!("{error}")) else { return };
    let database = postgres.database().unwrap();
    let (wire, url) = Wire::to_server_of(&database.owner_url).unwrap();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("brokle.toml"), LOGS).unwrap();
    let mut command = brokle(directory.path(), &["serve"]);
    command.env("DATABASE_URL", url).env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    let mut created = brokle(directory.path(), &["key", "create", "--name", "other", "--json"]);
    let created = created.env("DATABASE_URL", &database.owner_url).output().unwrap();
    let other: Value = serde_json::from_slice(&created.stdout).unwrap();
    let other = other["key"].as_str().unwrap_or_else(|| panic!("{other}"));
    calls(&server, Duration::from_millis(500));
    let before = server.memory("VmRSS:");

    wire.cut();
    let begun = Instant::now();
    while begun.elapsed() < outage() {
        calls(&server, Duration::from_millis(100));
        for key in [other, UNKNOWN] {
            let answer = call(&server, key);
            assert_eq!(status(&answer), 503, "nobody knows whose it is: {answer}");
            assert!(answer.contains("auth_unavailable"), "{answer}");
        }
    }
    let rise = server.memory("VmRSS:").saturating_sub(before);
    assert!(rise <= 20 << 20, "{rise} bytes more memory");
    assert_eq!(status(&server.ask("GET /health/ready HTTP/1.1")), 200);
    assert_eq!(status(&server.ask("GET /health/db HTTP/1.1")), 503);

    wire.mend();
    let known = until("the key is known", || status(&call(&server, other)) == 200);
    assert_eq!(status(&call(&server, UNKNOWN)), 401);
    println!(
        "PostgreSQL was away for {:?}; known again after {known:?}, {} KiB more memory",
        outage(),
        rise >> 10
    );
}

#[test]
fn redis_that_hangs_fails_no_call_and_is_back_without_a_restart() {
    let Some(clickhouse) = ClickHouse::shared().unwrap_or_else(|error| panic!("{error}")) else { return };
    let Some(redis) = Redis::start().unwrap_or_else(|error| panic!("{error}")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let storage = format!(
        "[storage]\nclickhouse_url = \"{}\"\nredis_url = \"{}\"\n",
        clickhouse.database_url(),
        redis.url()
    );
    let limit = "[[limits]]\nname = \"daily\"\nby = [\"project\"]\nrequests_per_day = 1000000\n";
    std::fs::write(directory.path().join("brokle.toml"), format!("{LOGS}{storage}{limit}")).unwrap();
    let mut command = brokle(directory.path(), &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    let alone = calls(&server, Duration::from_secs(1));
    assert_eq!(span(&server, 0, 1), 200);

    let mut connection = TcpStream::connect(redis.url().trim_start_matches("redis://")).unwrap();
    write!(connection, "CLIENT PAUSE {}\r\n", outage().as_millis()).unwrap();
    let mut answer = [0; 5];
    connection.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"+OK\r\n");
    let hung = calls(&server, outage() - Duration::from_millis(500));
    let back = until("spans are taken", || span(&server, 1, 1) == 200);
    let after = calls(&server, Duration::from_millis(500));
    let made = (alone.len() + hung.len() + after.len()) as u64;
    stored(&server, "generation", made);
    stored(&server, "span", 2);
    let answer = call(&server, KEY);
    assert!(answer.contains("x-ratelimit-limit-requests: 1000000\r\n"), "{answer}");
    println!(
        "Redis hung for {:?}: p99 of {} calls {:?}, of {} before {:?}; spans taken {back:?} later",
        outage(),
        hung.len(),
        p99(hung),
        alone.len(),
        p99(alone)
    );
    server.signal("TERM");
    let log = server.log();
    // Refused spans have lines of their own.
    let wrong = |line: &&str| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
    let told = log.lines().filter(wrong).filter(|line| !line.contains("request failed")).count();
    // Thousands of calls went on meanwhile.
    assert!(told as u64 <= 2 * outage().as_secs() + 5, "{told} lines:\n{log}");
}

/// The server with its data on a disk of this size, and where that disk is seen from outside.
fn on_a_small_disk(directory: &Path, size: &str) -> (Server, PathBuf) {
    const MOUNTED: &str = r#"mount -t tmpfs -o "size=$1" tmpfs data && shift && exec "$@""#;
    std::fs::create_dir(directory.join("data")).unwrap();
    std::fs::write(directory.join("brokle.toml"), LOGS).unwrap();
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", MOUNTED, "sh", size]);
    command.arg(env!("CARGO_BIN_EXE_brokle")).arg("serve").current_dir(directory).env_clear();
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    command.env("BROKLE_LISTEN", "127.0.0.1:0").env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    let disk =
        PathBuf::from(format!("/proc/{}/root", server.id())).join(directory.strip_prefix("/").unwrap());
    (server, disk.join("data"))
}

#[test]
fn a_full_disk_fails_no_call_and_acknowledges_nothing() {
    if skipped() {
        return;
    }
    let mut unshare = Command::new("unshare");
    let unshare = unshare.args(["--user", "--map-root-user", "--mount", "true"]).stderr(Stdio::null());
    let can = unshare.status().is_ok_and(|status| status.success());
    assert!(can, "a disk of its own needs user namespaces (unshare -rm); SKIP_SERVICES=1 leaves this out");
    let directory = tempfile::tempdir().unwrap();
    let (server, disk) = on_a_small_disk(directory.path(), "48m");
    let (sent, taken) = (Cell::new(0), RefCell::new(Vec::new()));
    let send = |said| {
        let n = sent.replace(sent.get() + 1);
        let status = span(&server, n, said);
        if status == 200 {
            taken.borrow_mut().push(n);
        }
        status
    };
    for _ in 0..20 {
        assert_eq!(send(1_000), 200);
    }
    let before = calls(&server, Duration::from_millis(300));

    let filler = disk.join("filler");
    let mut file = std::fs::File::create(&filler).unwrap();
    let mut rest = 0;
    while let Ok(written) = file.write(&[7; 4_096]) {
        rest += written;
    }
    assert!(rest > 1 << 20, "the disk was nearly full before");
    // What files have of the disk already takes a few more.
    until("a full disk takes no spans", || match send(200_000) {
        503 => true,
        status => {
            assert_eq!(status, 200);
            false
        }
    });
    let (begun, mut full) = (Instant::now(), Vec::new());
    while begun.elapsed() < outage() {
        full.extend(calls(&server, Duration::from_millis(100)));
        assert_eq!(send(200_000), 503);
    }
    assert_eq!(status(&server.ask("GET /health/live HTTP/1.1")), 200);

    drop(file);
    std::fs::remove_file(&filler).unwrap();
    let back = until("spans are taken again", || send(1_000) == 200);
    let after = calls(&server, Duration::from_millis(300));
    stored(&server, "generation", (before.len() + full.len() + after.len()) as u64);
    for n in taken.take() {
        let path = format!("GET /api/v1/traces/{:032x} HTTP/1.1\r\nauthorization: Bearer {KEY}", n + 1);
        let answer = server.ask(&path);
        assert_eq!(status(&answer), 200, "span {n} was acknowledged: {answer}");
    }
    println!("the disk was full for {:?}: {} calls, spans taken again after {back:?}", outage(), full.len());
}
