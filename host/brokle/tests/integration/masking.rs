//! What is stored is what guardrails leave of it, and never more.

use std::time::{Duration, Instant};

use brokle_core::clock::{Clock as _, SystemClock};
use serde_json::{Value, json};

use crate::cli::{KEY, Server, brokle};

const SECRET: &str = "555-12-3456";

fn start(guardrails: &str) -> (tempfile::TempDir, Server) {
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "{guardrails}\n[telemetry]\ncapture = \"full\"\n[logs]\nlevel = \"warn,brokle::serve=info\"\n"
    );
    std::fs::write(directory.path().join("brokle.toml"), config).unwrap();
    let mut command = brokle(directory.path(), &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    (directory, Server::start(command))
}

fn chat(server: &Server, streaming: bool) -> String {
    let message = format!("my number is {SECRET}, keep it");
    let body = json!({
        "model": "echo-1", "stream": streaming, "messages": [{ "role": "user", "content": message }],
    });
    let answer =
        server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}"), &body.to_string());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn send_span(server: &Server) {
    let now = SystemClock.now().timestamp_nanos_opt().unwrap().to_string();
    let text = |key: &str, text: String| json!({ "key": key, "value": { "stringValue": text } });
    let span = json!({
        "traceId": format!("{:032x}", 77), "spanId": format!("{:016x}", 77), "name": "from elsewhere",
        "startTimeUnixNano": now, "endTimeUnixNano": now,
        "attributes": [
            text("brokle.input", json!({ "name": SECRET, "note": "harmless" }).to_string()),
            text("brokle.output", format!("in words: {SECRET}")),
            text("customer", format!("number {SECRET}")),
            { "key": "count", "value": { "intValue": "7" } },
        ],
    });
    let body = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": [span] }] }] });
    let answer = server.send(&format!("POST /v1/traces HTTP/1.1\r\nx-api-key: {KEY}"), &body.to_string());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn asked(server: &Server, method: &str, path: &str) -> Value {
    let answer = server.ask(&format!("{method} {path} HTTP/1.1\r\nx-api-key: {KEY}"));
    let (from, to) = (answer.find("{\"").unwrap(), answer.rfind('}').unwrap());
    serde_json::from_str(&answer[from..=to]).unwrap()
}

/// What is stored, with its bodies: the span, and the calls.
fn stored(server: &Server, count: usize) -> (Value, Vec<Value>) {
    let begun = Instant::now();
    loop {
        let list = asked(server, "GET", "/api/v1/traces");
        let rows = list["data"].as_array().unwrap();
        if rows.len() >= count {
            let whole = |row: &Value| {
                let id = row["trace_id"].as_str().unwrap();
                asked(server, "GET", &format!("/api/v1/traces/{id}"))["observations"][0].clone()
            };
            let all: Vec<Value> = rows.iter().map(whole).collect();
            let (spans, calls): (Vec<_>, Vec<_>) =
                all.into_iter().partition(|row| row["name"] == "from elsewhere");
            return (spans[0].clone(), calls);
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{list:#}");
        std::thread::yield_now();
    }
}

#[test]
fn inputs_and_outputs_are_stored_masked_and_answered_as_they_are() {
    let (_directory, server) = start(
        "[[guardrails]]\nname = \"numbers\"\nplugin = \"regex\"\nstages = [\"storage\"]\n\
         config = { replace = [{ pattern = \"[0-9]{3}-[0-9]{2}-[0-9]{4}\", with = \"[number]\" }] }\n",
    );
    let answer = chat(&server, false);
    assert!(answer.contains(SECRET), "its caller gets it as it is: {answer}");
    chat(&server, true);
    send_span(&server);
    let (span, calls) = stored(&server, 3);
    for row in calls.iter().chain([&span]) {
        let text = row.to_string();
        assert!(!text.contains(SECRET) && text.contains("[number]"), "{row:#}");
        assert_eq!(row["attributes"]["brokle.storage.masked"], json!(["numbers"]), "{row:#}");
        assert!(
            row["input"].to_string().contains("[number]") && row["output"].to_string().contains("[number]")
        );
    }
    assert_eq!(span["input"], json!({ "name": "[number]", "note": "harmless" }));
    assert_eq!(span["output"], "in words: [number]");
    assert_eq!(
        (&span["attributes"]["customer"], &span["attributes"]["count"]),
        (&"number [number]".into(), &7.into())
    );
    for call in &calls {
        assert!(call["input"]["messages"][0]["content"].as_str().unwrap().ends_with("keep it"), "{call:#}");
    }
}

#[test]
fn what_is_too_long_is_masked_before_it_is_cut() {
    let (_directory, server) = start(
        "[[guardrails]]\nname = \"numbers\"\nplugin = \"regex\"\nstages = [\"storage\"]\n\
         config = { replace = [{ pattern = \"[0-9]{3}-[0-9]{2}-[0-9]{4}\", with = \"#\" }] }\n\
         [[recording]]\nmax_content_bytes = 18\n",
    );
    chat(&server, false);
    send_span(&server);
    let (span, calls) = stored(&server, 2);
    // Cut first, this would be JSON that nobody can read, and the number's first digits.
    assert_eq!((&span["input"], &span["output"]), (&r##"{"name":"#","note""##.into(), &"in words: #".into()));
    assert_eq!(span["attributes"]["brokle.truncated"], json!(["input"]));
    for row in calls.iter().chain([&span]) {
        assert_eq!(row["attributes"]["brokle.storage.masked"], json!(["numbers"]), "{row:#}");
        assert_eq!(row["attributes"]["brokle.storage.withheld"], Value::Null, "{row:#}");
        // Not in times and ids, where such digits are by chance.
        let texts = [&row["input"], &row["output"], &row["attributes"]];
        assert!(texts.iter().all(|text| !text.to_string().contains("555")), "{row:#}");
    }
    assert_eq!(calls[0]["input"].as_str().map(str::len), Some(18), "{:#}", calls[0]);
}

#[test]
fn what_no_guardrail_could_rule_on_is_withheld_and_says_so() {
    let (directory, server) =
        start("[[guardrails]]\nname = \"gone\"\nplugin = \"not-there\"\nstages = [\"storage\"]\n");
    assert!(chat(&server, false).contains(SECRET), "calls go on");
    send_span(&server);
    let (span, calls) = stored(&server, 2);
    for row in calls.iter().chain([&span]) {
        assert_eq!((&row["input"], &row["output"]), (&Value::Null, &Value::Null), "{row:#}");
        assert_eq!(row["attributes"]["brokle.storage.withheld"], "gone: failed", "{row:#}");
        assert!(!row.to_string().contains(SECRET), "{row:#}");
    }
    assert_eq!(span["attributes"]["count"], 7);
    assert_eq!(calls[0]["usage"]["input"].as_u64().map(|tokens| tokens > 0), Some(true), "numbers stay");
    server.signal("TERM");
    assert!(!server.log().contains(SECRET));
    let files =
        std::process::Command::new("grep").args(["-rl", SECRET]).arg(directory.path()).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&files.stdout), "", "it is in a file");
}

#[test]
fn log_records_are_masked_before_they_are_acknowledged() {
    let text = |value: String| json!({ "stringValue": value });
    let record = |body: Value| {
        let now = SystemClock.now().timestamp_nanos_opt().unwrap().to_string();
        json!({ "timeUnixNano": now, "body": body, "attributes": [
            { "key": "customer", "value": text(format!("number {SECRET}")) }, { "key": "count", "value": { "intValue": "7" } },
        ] })
    };
    let said =
        json!({ "kvlistValue": { "values": [{ "key": "content", "value": text(format!("is {SECRET}")) }] } });
    let records = json!([record(text(format!("[note] {SECRET}"))), record(said)]);
    let sent = json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": records }] }] });
    let pattern = r#"pattern = "[0-9]{3}-[0-9]{2}-[0-9]{4}""#;
    for (rule, bodies) in [
        (format!(r##"replace = [{{ {pattern}, with = "#" }}]"##), ["[note] #", r##"{"content":"is #"}"##]),
        (format!("deny = [{{ {pattern} }}]"), ["", ""]),
    ] {
        let (directory, server) = start(&format!(
            "[[guardrails]]\nname = \"numbers\"\nplugin = \"regex\"\nstages = [\"storage\"]\nconfig = {{ {rule} }}\n"
        ));
        let answer = server.send(&format!("POST /v1/logs HTTP/1.1\r\nx-api-key: {KEY}"), &sent.to_string());
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let key = asked(&server, "POST", "/v1/auth/validate-key");
        let path = format!("/api/v1/projects/{}/logs", key["project_id"].as_str().unwrap());
        let begun = Instant::now();
        let rows = loop {
            let list = asked(&server, "GET", &path);
            let rows = list["data"].as_array().unwrap_or_else(|| panic!("{list:#}")).clone();
            if rows.len() == 2 {
                break rows;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{list:#}");
            std::thread::yield_now();
        };
        let mut stored: Vec<_> = rows.iter().map(|row| row["body"].as_str().unwrap_or_default()).collect();
        stored.sort_unstable();
        assert_eq!(stored, bodies, "{rows:#?}");
        for row in &rows {
            let (customer, why) = if bodies[0].is_empty() {
                (Value::Null, ("brokle.storage.withheld", json!("numbers: blocked as denied_pattern")))
            } else {
                ("number #".into(), ("brokle.storage.masked", json!(["numbers"])))
            };
            assert_eq!((&row["attributes"]["customer"], &row["attributes"]["count"]), (&customer, &7.into()));
            assert_eq!(row["attributes"][why.0], why.1, "{row:#}");
        }
        server.signal("TERM");
        let mut search = std::process::Command::new("grep");
        let files = search.args(["-rl", SECRET]).arg(directory.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&files.stdout), "", "it is in a file");
    }
}

/// A guardrail that does as the text tells it: `span NAME ATTRIBUTE VALUE FAILURE` is a span of its own.
fn with_an_obedient_plugin(storage: &str) -> (tempfile::TempDir, Server) {
    let (directory, server) = start(&format!(
        "[plugins]\ndev = true\n\
         [[guardrails]]\nname = \"obedient\"\nplugin = \"capable\"\nstages = [\"request\"]\n\
         [[guardrails]]\nname = \"numbers\"\nplugin = \"regex\"\nstages = [\"storage\"]\nconfig = {storage}\n"
    ));
    let built = std::path::Path::new(env!("CARGO_BIN_EXE_brokle")).ancestors();
    let component = built.map(|folder| folder.join("wasm32-wasip2/guest-test/capable.wasm"));
    let component = component.into_iter().find(|path| path.exists()).expect("run `make guests`");
    let grants = json!({
        "telemetry": {}, "kv": {}, "http": { "upstreams": {} }, "secrets": {}, "crypto": {}, "clock": {}, "random": {},
    });
    std::fs::write(directory.path().join("grants.json"), grants.to_string()).unwrap();
    let url = format!("http://{}", server.address);
    for arguments in [
        &["plugin", "install", component.to_str().unwrap()][..],
        &["plugin", "grant", "test.capable", "grants.json"],
    ] {
        let mut command = brokle(directory.path(), &[arguments, &["--url", &url]].concat());
        let output = command.env("BROKLE_API_KEY", KEY).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (directory, server)
}

/// The plugin's span of the only call, and its trace, once all of it is stored: the span is stored by itself, and may be
/// there before the call that it belongs to.
fn plugins_span(server: &Server) -> (Value, Value) {
    let begun = Instant::now();
    loop {
        let rows = asked(server, "GET", "/api/v1/traces");
        if let Some(span) = rows["data"].as_array().unwrap().iter().find(|row| row["type"] == "plugin") {
            let id = span["trace_id"].as_str().unwrap();
            let trace = asked(server, "GET", &format!("/api/v1/traces/{id}"));
            if trace["observations"][0]["parent_span_id"].is_null() {
                return (span.clone(), trace);
            }
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{rows:#}");
        std::thread::yield_now();
    }
}

#[test]
fn what_a_plugin_says_in_spans_of_its_own_is_masked_as_everything_is() {
    let question = json!({
        "model": "echo-1",
        "messages": [
            { "role": "user", "content": format!("span by-{SECRET} about is-{SECRET} for-{SECRET}") },
            { "role": "user", "content": format!("digest {SECRET} 00") },
        ],
    });
    let pattern = r#"pattern = "[0-9]{3}-[0-9]{2}-[0-9]{4}""#;
    let masked = format!(r##"{{ replace = [{{ {pattern}, with = "#" }}] }}"##);
    let withheld = format!(r#"{{ deny = [{{ {pattern}, category = "number" }}] }}"#);
    for storage in [&masked, &withheld] {
        let (directory, server) = with_an_obedient_plugin(storage);
        let head = format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}");
        let answer = server.send(&head, &question.to_string());
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(SECRET), "{answer}");
        let (span, trace) = plugins_span(&server);
        assert!(!span.to_string().contains(SECRET), "{span:#}");
        assert!(!trace.to_string().contains(SECRET), "{trace:#}");
        // A finding, on the step that made it.
        assert_eq!(trace.to_string().contains("Unsupported(\\\"#\\\")"), *storage == masked, "{trace:#}");
        if *storage == masked {
            assert_eq!(
                (&span["name"], &span["error"]["message"]),
                (&"by-#".into(), &"for-#".into()),
                "{span:#}"
            );
            assert_eq!(span["attributes"]["about"], "is-#", "{span:#}");
            assert_eq!(span["attributes"]["brokle.storage.masked"], json!(["numbers"]), "{span:#}");
        } else {
            assert_eq!(
                (&span["name"], &span["error"]["message"]),
                (&"plugin".into(), &Value::Null),
                "{span:#}"
            );
            let why = "numbers: blocked as number";
            assert_eq!(span["attributes"], json!({ "brokle.storage.withheld": why }), "{span:#}");
        }
        server.signal("TERM");
        assert!(!server.log().contains(SECRET));
        let mut search = std::process::Command::new("grep");
        let files = search.args(["-rl", SECRET]).arg(directory.path()).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&files.stdout), "", "it is in a file");
    }
}
