//! `brokle queue dlq`: letters of a running server.

use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use brokle_core::clock::SystemClock;
use brokle_core::ids::{EnvironmentId, OrganizationId, ProjectId};
use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_storage::observations::SqliteObservations;
use brokle_telemetry::{Options, Recorder};
use serde_json::Value;

use crate::cli::brokle;
use crate::scene::{KEY, Server};

/// Leaves letters in a data directory: observations that begin after the year 9999.
async fn leave_letters(directory: &Path, tenant: Tenant, count: usize) {
    let path = directory.join("data/telemetry");
    let store = Arc::new(SqliteObservations::open(&path).unwrap());
    let recorder = Recorder::start(&Options::new(&path), store, Arc::new(SystemClock)).unwrap();
    for _ in 0..count {
        let (trace, span) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
        recorder.record(Observation::new(tenant, trace, span, Kind::Generation, i64::MAX));
    }
    recorder.shutdown().await;
}

fn start(directory: &Path) -> Server {
    let mut command = brokle(directory, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    Server::start(command)
}

fn dlq(directory: &Path, server: &Server, arguments: &[&str]) -> Output {
    let arguments = [&["queue", "dlq"], arguments].concat();
    let mut command = brokle(directory, &arguments);
    command.env("BROKLE_URL", server.url()).env("BROKLE_API_KEY", KEY).stdin(Stdio::null()).output().unwrap()
}

fn said(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn ids(letters: &Value) -> Vec<&str> {
    letters.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap()).collect()
}

#[test]
fn letters_are_listed_shown_tried_again_and_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let tenant = Tenant {
        organization: OrganizationId::generate(&SystemClock, &SystemRandom),
        project: ProjectId::generate(&SystemClock, &SystemRandom),
        environment: EnvironmentId::generate(&SystemClock, &SystemRandom),
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(leave_letters(directory.path(), tenant, 3));
    let server = start(directory.path());
    let dlq = |arguments: &[&str]| dlq(directory.path(), &server, arguments);

    assert_eq!(said(&dlq(&["list", "--json"])), Value::Array(Vec::new()), "they are another project's");
    let letters = said(&dlq(&["list", "--scope", "instance", "--json"]));
    assert_eq!(ids(&letters), ["1", "2", "3"]);
    assert_eq!(letters[0]["project_id"], tenant.project.to_string());
    let lines = String::from_utf8(dlq(&["list", "--scope", "instance"]).stdout).unwrap();
    assert!(lines.lines().count() == 3 && lines.contains("1970 to 9999"), "{lines}");
    assert_eq!(said(&dlq(&["show", "2", "--scope", "instance"]))["id"], "2");
    let health = server.ask("GET", "/health", "").1;
    assert_eq!(health["telemetry"]["dead_letters"], 3);

    let unconfirmed = dlq(&["drop", "2", "--scope", "instance"]);
    assert_eq!(unconfirmed.status.code(), Some(2));
    assert!(dlq(&["drop", "2", "--scope", "instance", "--yes"]).status.success());
    let again = dlq(&["drop", "2", "--scope", "instance", "--yes"]);
    assert!(String::from_utf8(again.stderr).unwrap().contains("not_found"));
    // Each fails again, under a new number.
    let retried = said(&dlq(&["retry", "--all", "--scope", "instance", "--json"]));
    assert_eq!(retried["retried"], serde_json::json!(["1", "3"]));
    loop {
        let letters = said(&dlq(&["list", "--scope", "instance", "--json"]));
        if ids(&letters) == ["4", "5"] {
            break;
        }
        assert!(ids(&letters).len() <= 2, "{letters}");
    }
    assert_eq!(dlq(&["drop", "--scope", "instance", "--yes"]).status.code(), Some(2), "which?");
    let dropped = said(&dlq(&["drop", "--all", "--scope", "instance", "--yes", "--json"]));
    assert_eq!(dropped["dropped"], serde_json::json!(["4", "5"]));
    assert_eq!(server.ask("GET", "/health", "").1["telemetry"]["dead_letters"], 0);
}
