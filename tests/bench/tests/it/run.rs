//! Runs of two shapes: what they report, and how they end.

use serde_json::Value;
use std::process::{Command, Output};

const FLOOR: &str = env!("CARGO_BIN_EXE_floor");
const BENCH: &str = env!("CARGO_BIN_EXE_bench");

/// A quick run over one connection with this in Brokle's place.
fn run(candidate: &str) -> (Output, Option<Value>) {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = Command::new(BENCH)
        .args(["run", "--quick", "--connections", "1", "--bodies", "200", "--floor", FLOOR])
        .args(["--candidate-cmd", candidate, "--json"])
        .arg(&json)
        .output()
        .unwrap();
    (output, std::fs::read(json).ok().map(|json| serde_json::from_slice(&json).unwrap()))
}

fn failed(report: &Value) -> Vec<&str> {
    let targets = report["targets"].as_array().unwrap();
    targets
        .iter()
        .filter(|target| target["pass"] == false)
        .map(|target| target["name"].as_str().unwrap())
        .collect()
}

#[test]
fn the_floor_in_brokles_place_is_measured_whole() {
    let (output, report) = run(&format!("{FLOOR} --listen {{listen}} --upstream {{upstream}}"));
    let report = report.unwrap();
    let cells = report["cells"].as_array().unwrap();
    assert_eq!(cells.len(), 2);
    for cell in cells {
        for side in ["floor", "candidate"] {
            assert_eq!(cell[side]["errors"], 0, "{cell}");
            for measure in ["requests", "requests_per_s", "p50_ms", "p99_ms", "cpu_us_per_request", "rss_mb"]
            {
                assert!(cell[side][measure].as_f64().unwrap() > 0.0, "{measure} in {cell}");
            }
        }
    }
    for streams in ["floor_streams", "candidate_streams"] {
        assert_eq!(
            (&report[streams]["streams"], &report[streams]["broken"]),
            (&500.into(), &0.into()),
            "{report}"
        );
        // 49 pauses of 20 ms.
        assert!(report[streams]["total_p50_ms"].as_f64().unwrap() >= 980.0);
    }
    // The shape on which CPU is judged isn't among these, and a target without a measurement isn't met.
    assert!(failed(&report).iter().any(|name| name.starts_with("CPU per request")), "{report}");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stdout).unwrap().contains("| FAIL |"));
}

#[test]
fn answers_that_never_went_to_the_upstream_are_errors() {
    let (output, report) = run(&format!("{BENCH} upstream --listen {{listen}}"));
    let report = report.unwrap();
    let candidate = &report["cells"][0]["candidate"];
    assert!(candidate["errors"].as_u64().unwrap() > 0);
    assert!(candidate["first_error"].as_str().unwrap().ends_with("didn't come from the upstream"));
    assert!(failed(&report).contains(&"errors"));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_candidate_that_cannot_start_is_told_with_its_last_words() {
    let (output, report) = run(&format!("{FLOOR} --listen nowhere"));
    assert!(report.is_none());
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("candidate ended with") && said.contains("nowhere"), "{said}");
}
