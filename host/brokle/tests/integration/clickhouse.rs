//! The server with its observations in ClickHouse: calls and spans are found there, nothing is lost or counted twice while
//! it is away, and a server that starts without it serves.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;
use std::time::{Duration, Instant};

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_test_services::ClickHouse;
use serde_json::Value;

use crate::cli::{brokle, succeed};
use crate::scene::{KEY, Server};

/// None when services are left out.
fn clickhouse() -> Option<ClickHouse> {
    ClickHouse::start().unwrap_or_else(|error| panic!("{error}"))
}

fn serve(directory: &Path, url: &str) -> Server {
    std::fs::write(
        directory.join("brokle.toml"),
        format!("[storage]\nclickhouse_url = \"{url}\"\n[logs]\nlevel = \"error,brokle::serve=info\"\n"),
    )
    .unwrap();
    let mut command = brokle(directory, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    Server::start(command)
}

/// A request with a span of this name, which begins now, in a trace of its own.
fn span(n: u32) -> String {
    let now = SystemClock.now().timestamp_micros();
    format!(
        r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{"traceId":"{:032x}","spanId":"{:016x}","name":"span {n}",
           "startTimeUnixNano":"{now}000","endTimeUnixNano":"{now}500"}}]}}]}}]}}"#,
        n + 1,
        n + 1
    )
}

fn send(server: &Server, span: &str) {
    assert_eq!(server.ask("POST", "/v1/traces", span).0, 200, "{span} is acknowledged");
}

fn call(server: &Server) {
    let (status, answer) = server.chat("echo/echo-1", "hi");
    assert_eq!(status, 200, "{answer}");
}

/// Asks until the answer is as wanted.
fn until(server: &Server, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let (status, answer) = server.ask("GET", path, "");
        if wanted(status, &answer) {
            return answer;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{path}: {status} {answer}");
        std::thread::yield_now();
    }
}

/// The names of everything, once there are as many rows.
fn names(server: &Server, rows: usize) -> Vec<String> {
    let list = until(server, "/api/v1/traces?limit=100", |status, list| {
        status == 200 && list["data"].as_array().unwrap().len() >= rows
    });
    list["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn calls_and_spans_are_kept_there_and_an_outage_costs_none() {
    let Some(mut clickhouse) = clickhouse() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = clickhouse.database_url();
    let server = serve(directory.path(), &url);
    let (status, health) = server.ask("GET", "/health/analytics", "");
    assert_eq!((status, &health["kind"]), (200, &"clickhouse".into()));
    call(&server);
    assert!(server.stored().contains("echo-1"));
    send(&server, &span(0));
    let trace = until(&server, &format!("/api/v1/traces/{:032x}", 1), |status, _| status == 200);
    assert_eq!(trace["observations"][0]["name"], "span 0");

    let status = succeed(directory.path(), &["migrate", "status", "--db", "all", "--json"]);
    let lines: Vec<Value> = serde_json::from_str(&status).unwrap();
    for database in ["sqlite", "clickhouse"] {
        let mut of_database = lines.iter().filter(|line| line["database"] == database).peekable();
        assert!(
            of_database.peek().is_some() && of_database.all(|line| line["state"] == "applied"),
            "{status}"
        );
    }

    clickhouse.stop();
    let (status, health) = server.ask("GET", "/health/analytics", "");
    assert_eq!((status, &health["status"]), (503, &"unavailable".into()));
    assert_eq!(server.ask("GET", "/health", "").1["status"], "degraded");
    assert_eq!(server.ask("GET", "/health/ready", "").0, 200);
    let (status, error) = server.ask("GET", "/api/v1/traces", "");
    assert_eq!((status, &error["code"]), (503, &"analytics_unavailable".into()));
    let spans: Vec<String> = (1..40).map(span).collect();
    spans.iter().for_each(|span| send(&server, span));
    (0..10).for_each(|_| call(&server));
    clickhouse.start_again().unwrap();
    // A sender that lost an acknowledgement comes again, with the same bytes.
    send(&server, &spans[7]);
    send(&server, &span(40));
    until(&server, &format!("/api/v1/traces/{:032x}", 41), |status, _| status == 200);
    let found = names(&server, 41 + 11);
    let spans: BTreeSet<_> = found.iter().filter(|name| name.starts_with("span ")).collect();
    assert_eq!((found.len(), spans.len()), (41 + 11, 41), "each is there once");
    assert_eq!(server.ask("GET", "/health/analytics", "").0, 200);
}

/// How many seconds ClickHouse is away while calls and spans go on; 3 if it isn't said, 300 is what is promised.
const OUTAGE: &str = "BROKLE_TEST_OUTAGE";

#[test]
#[expect(clippy::print_stdout, reason = "the figures are what it is run for, with --nocapture")]
fn calls_go_on_through_an_outage_and_all_is_there_within_twice_its_length() {
    let Some(mut clickhouse) = clickhouse() else { return };
    let seconds = std::env::var(OUTAGE).ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let outage = Duration::from_secs(seconds);
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), &clickhouse.database_url());
    call(&server);
    assert!(server.stored().contains("echo-1"));
    let (from, mut calls, mut spans) = (SystemClock.now(), 0_u64, 0_u32);
    // One after the other, some of them before and after; each is asserted to have been answered.
    let mut go_on = |time: Duration| {
        let begun = Instant::now();
        while begun.elapsed() < time {
            call(&server);
            send(&server, &span(spans));
            (calls, spans) = (calls + 1, spans + 1);
        }
    };
    go_on(Duration::from_millis(500));
    clickhouse.stop();
    go_on(outage);
    clickhouse.start_again().unwrap();
    let back = Instant::now();
    go_on(Duration::from_millis(500));

    let project =
        server.ask("POST", "/v1/auth/validate-key", "").1["project_id"].as_str().unwrap().to_owned();
    let from = from.to_rfc3339_opts(chrono::SecondsFormat::Micros, true);
    let asked = format!("/api/v1/projects/{project}/metrics?measures=count&dimensions=type&from={from}");
    let count = |answer: &Value, kind: &str| {
        let mut groups = answer["data"].as_array().into_iter().flatten();
        groups
            .find(|group| group["type"] == kind)
            .and_then(|group| group["count"].as_u64())
            .unwrap_or_default()
    };
    let all = (calls, u64::from(spans));
    let limit = outage * 2 + Duration::from_secs(30);
    loop {
        let (status, answer) = server.ask("GET", &asked, "");
        let found = (count(&answer, "generation"), count(&answer, "span"));
        assert!(found.0 <= all.0 && found.1 <= all.1, "counted twice: {found:?} of {all:?}");
        if found == all {
            break;
        }
        assert!(back.elapsed() < limit, "{status} {found:?} of {all:?}: {answer}");
        std::thread::yield_now();
    }
    println!(
        "ClickHouse was away for {seconds} s: {calls} calls and {spans} spans, caught up in {:.1} s",
        back.elapsed().as_secs_f64()
    );
}

#[test]
fn a_server_that_starts_without_it_serves_and_catches_up() {
    let Some(mut clickhouse) = clickhouse() else { return };
    let directory = tempfile::tempdir().unwrap();
    let url = clickhouse.database_url();
    clickhouse.stop();
    let server = serve(directory.path(), &url);
    call(&server);
    send(&server, &span(0));
    assert_eq!(server.ask("GET", "/health/analytics", "").0, 503);
    clickhouse.start_again().unwrap();
    assert_eq!(names(&server, 2).len(), 2);
}

#[test]
fn a_url_that_names_no_database_is_an_error_that_does_not_repeat_it() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = brokle(directory.path(), &["config", "check"]);
    let output = command.env("CLICKHOUSE_URL", "tcp://ann:hush@h:9000").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && error.contains("storage.clickhouse_url"), "{error}");
    assert!(!error.contains("hush"), "{error}");
    let output = brokle(directory.path(), &["migrate", "status", "--db", "analytics"]).output().unwrap();
    assert!(String::from_utf8(output.stderr).unwrap().contains("CLICKHOUSE_URL"));
}

/// Whoever reads a file to its end must be able to tell that it isn't all.
#[test]
fn an_export_whose_store_goes_away_breaks_off() {
    const SPANS: usize = 2_000;
    let Some(mut clickhouse) = clickhouse() else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = serve(directory.path(), &clickhouse.database_url());
    // More than sockets hold between a server that writes and a client that doesn't read.
    let said = "x".repeat(8 << 10);
    let now = SystemClock.now().timestamp_micros();
    for first in (0..SPANS).step_by(500) {
        let spans: Vec<String> = (first..first + 500)
            .map(|n| {
                let (trace, span) = (format!("{:032x}", n + 1), format!("{:016x}", n + 1));
                format!(
                    r#"{{"traceId":"{trace}","spanId":"{span}","name":"span","startTimeUnixNano":"{now}000","endTimeUnixNano":"{now}500",
                       "attributes":[{{"key":"input.value","value":{{"stringValue":"{said}"}}}}]}}"#
                )
            })
            .collect();
        let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","));
        assert_eq!(server.ask("POST", "/v1/traces", &body).0, 200);
    }
    until(&server, &format!("/api/v1/traces/{SPANS:032x}"), |status, _| status == 200);
    let project =
        server.ask("POST", "/v1/auth/validate-key", "").1["project_id"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/projects/{project}/observations?format=ndjson&fields=span_id,input");

    let mut whole = String::new();
    server.open(&path).read_to_string(&mut whole).unwrap();
    assert!(whole.ends_with("\r\n0\r\n\r\n"), "{}", &whole[..200]);
    assert_eq!(whole.matches("\"span_id\"").count(), SPANS);

    let mut cut = server.open(&path);
    let mut begun = [0; 4 << 10];
    cut.read_exact(&mut begun).unwrap();
    assert!(begun.starts_with(b"HTTP/1.1 200"));
    clickhouse.stop();
    let mut rest = Vec::new();
    // Some systems say so with a reset.
    let _ = cut.read_to_end(&mut rest);
    assert!(rest.len() < whole.len() - begun.len(), "all of it was on its way already");
    assert!(!rest.ends_with(b"\r\n0\r\n\r\n"), "half of it ended as if it were all");
}
