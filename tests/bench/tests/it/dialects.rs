//! Dialects, quickly: each way is measured, every answer came and was understood.

use crate::soak::brokle;
use serde_json::Value;
use std::process::Command;

#[test]
fn each_way_is_translated_and_no_call_fails() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["dialects", "--quick", "--floor", env!("CARGO_BIN_EXE_floor"), "--json"])
        .arg(&json)
        .arg("--brokle")
        .arg(brokle())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    // A build for tests on a machine that does other things: no figure is judged here.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{said}");
    let report: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let rows = report["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 12);
    for row in rows {
        assert_eq!(row["errors"], 0, "{row:#}");
        assert!(
            row["requests"].as_u64().unwrap() > 0 && row["guest_us"]["request"].as_f64().unwrap() > 0.0,
            "{row:#}"
        );
    }
    let sizes: Vec<_> = report["passed"].as_array().unwrap().iter().map(|cell| &cell["body_bytes"]).collect();
    assert_eq!(sizes, [1_000, 10_000, 100_000, 1_000_000, 10_000_000]);
    for picture in report["pictures"].as_array().unwrap() {
        assert_eq!(picture["status"], 200, "{picture:#}");
        assert!(picture["times_the_body"].as_f64().unwrap() > 0.5, "it was held: {picture:#}");
    }
}
