//! Features, quickly: each row is measured, and each answer came from where it should.

use crate::soak::brokle;
use serde_json::Value;
use std::process::Command;

#[test]
fn each_feature_has_its_row_and_no_call_fails() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["features", "--quick", "--connections", "2", "--streams", "20", "--kept-up", "10"])
        .args(["--only", "guardrail,cache-hit,redis-cache-hit,redis-limits,hedging,all"])
        .args(["--floor", env!("CARGO_BIN_EXE_floor"), "--json"])
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
    let names: Vec<&str> = rows.iter().map(|row| row["feature"].as_str().unwrap()).collect();
    let expected = ["nothing", "guardrail", "cache-hit", "redis-cache-hit", "redis-limits", "hedging", "all"];
    let without_redis: Vec<&str> =
        expected.iter().copied().filter(|name| !name.contains("redis") && *name != "all").collect();
    assert!(names == expected || names == without_redis, "{names:?}");
    for row in rows {
        assert_eq!(row["candidate"]["errors"], 0, "{row:#}");
        assert!(row["candidate"]["requests"].as_f64().unwrap() > 0.0, "{row:#}");
    }
    assert_eq!((&report["streams"]["streams"], &report["streams"]["broken"]), (&20.into(), &0.into()));
    let kept_up = &report["kept_up"];
    assert_eq!((&kept_up["streams"], &kept_up["broken"]), (&10.into(), &0.into()));
    assert!(kept_up["read"].as_u64().unwrap() > 10, "as one ends another begins: {kept_up}");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(told.contains("feature") && told.contains("hedging"), "{told}");
}
