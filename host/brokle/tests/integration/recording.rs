//! What isn't stored has counted all the same.

use std::time::{Duration, Instant};

use brokle_core::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::cli::{KEY, Server, brokle};

const CONFIG: &str = r#"
[[recording]]
rate = 0.0
keep_errors = true
keep_slower_ms = 60000
max_content_bytes = 16

[[limits]]
name = "few"
by = ["key"]
requests_per_minute = 3

[telemetry]
capture = "full"

[logs]
level = "warn,brokle::serve=info"
"#;

fn chat(server: &Server, model: &str) -> String {
    let body =
        json!({ "model": model, "messages": [{ "role": "user", "content": "a message of some length" }] });
    server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}"), &body.to_string())
}

/// A span that took so long, in a trace with this number.
fn span(trace: u32, id: u32, name: &str, milliseconds: i64) -> Value {
    let now = SystemClock.now().timestamp_nanos_opt().unwrap();
    json!({
        "traceId": format!("{trace:032x}"), "spanId": format!("{id:016x}"), "name": name,
        "startTimeUnixNano": (now - milliseconds * 1_000_000).to_string(), "endTimeUnixNano": now.to_string(),
    })
}

fn stored(server: &Server) -> Vec<Value> {
    let answer = server.ask(&format!("GET /api/v1/traces HTTP/1.1\r\nx-api-key: {KEY}"));
    let list: Value =
        serde_json::from_str(&answer[answer.find("{\"data\"").unwrap()..=answer.rfind('}').unwrap()])
            .unwrap();
    list["data"].as_array().unwrap().clone()
}

#[test]
fn what_sampling_leaves_out_counts_and_what_matters_is_kept() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("brokle.toml"), CONFIG).unwrap();
    let mut command = brokle(directory.path(), &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);

    let spans =
        json!([span(1, 1, "quick", 1), span(2, 2, "slow", 70_000), span(2, 3, "beside the slow one", 1),]);
    let body = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] });
    let answer = server.send(&format!("POST /v1/traces HTTP/1.1\r\nx-api-key: {KEY}"), &body.to_string());
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("rejected"), "{answer}");

    let first = chat(&server, "echo-1");
    assert!(first.starts_with("HTTP/1.1 200") && first.contains("x-brokle-trace-id: "), "{first}");
    assert!(chat(&server, "echo-1").starts_with("HTTP/1.1 200"));
    assert!(chat(&server, "no-such-model").starts_with("HTTP/1.1 404"));
    assert!(
        chat(&server, "echo-1").starts_with("HTTP/1.1 429"),
        "those that aren't stored have used up the limit"
    );

    let begun = Instant::now();
    let rows = loop {
        let rows = stored(&server);
        if rows.len() >= 4 {
            break rows;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{rows:#?}");
        std::thread::yield_now();
    };
    let mut names: Vec<&str> = rows.iter().map(|row| row["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names.len(), 4, "{names:?}");
    assert_eq!(&names[..1], ["beside the slow one"]);
    assert!(names.contains(&"slow") && !names.contains(&"quick"), "{names:?}");
    assert!(rows.iter().filter(|row| row["type"] == "generation").all(|row| row["status"] == "error"));
    let failed = rows.iter().find(|row| row["type"] == "generation").unwrap();
    assert_eq!(failed["attributes"]["brokle.truncated"], json!(["input"]), "{failed:#}");

    let metrics = server.ask("GET /metrics HTTP/1.1");
    for line in [
        r#"brokle_requests_total{operation="chat",status="success"} 2"#,
        "brokle_unrecorded_total 3",
        r#"brokle_spans_total{outcome="accepted"} 3"#,
    ] {
        assert!(metrics.contains(line), "{line}: {metrics}");
    }
}
