//! `brokle retention` against a running server.

use std::process::{Output, Stdio};

use brokle_core::clock::{Clock as _, SystemClock};
use chrono::TimeDelta;
use serde_json::{Value, json};

use crate::cli::brokle;
use crate::scene::{KEY, Server};

fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_projects_days_are_shown_and_set_and_what_is_too_old_is_counted_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("brokle.toml"), "[telemetry]\nretention_days = 100\n").unwrap();
    let mut command = brokle(directory.path(), &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    let retention = |arguments: &[&str]| {
        let mut command = brokle(directory.path(), &[&["retention"], arguments].concat());
        command.env("BROKLE_URL", server.url()).env("BROKLE_API_KEY", KEY).stdin(Stdio::null());
        command.output().unwrap()
    };
    let key = server.ask("POST", "/v1/auth/validate-key", "{}").1;
    let project = key["project_id"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned();

    let shown = said(&retention(&["show", "--project", &project, "--json"]));
    assert_eq!((&shown["days"], &shown["default_days"]), (&Value::Null, &json!(100)), "{shown}");
    let set = said(&retention(&["set", "--project", &project, "30", "--json"]));
    assert_eq!(set["days"], 30);
    let text = String::from_utf8(retention(&["show", "--project", &project]).stdout).unwrap();
    assert!(text.starts_with("30 days: nothing from before 2"), "{text}");
    let set = said(&retention(&["set", "--project", &project, "--default", "--json"]));
    assert_eq!(set["days"], Value::Null);

    let old = (SystemClock.now() - TimeDelta::days(200)).timestamp_nanos_opt().unwrap().to_string();
    let span = json!({"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b173", "name": "old",
        "startTimeUnixNano": old, "endTimeUnixNano": old});
    let body = json!({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]});
    assert_eq!(server.ask("POST", "/v1/traces", &body.to_string()).0, 200);
    let told = said(&retention(&["run", "--project", &project, "--dry-run", "--json"]));
    assert_eq!((&told["observations"], &told["dry_run"]), (&json!(1), &json!(true)), "{told}");
    assert_eq!(retention(&["run"]).status.code(), Some(2), "nobody confirmed");
    let text = String::from_utf8(retention(&["run", "--yes"]).stdout).unwrap();
    assert_eq!(text.trim(), "deleted 1 observations, 0 scores, 0 log records, 0 points");
    let told = said(&retention(&["run", "--dry-run", "--json"]));
    assert_eq!(told["observations"], 0, "{told}");
}
