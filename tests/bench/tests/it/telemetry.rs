//! Spans in and questions over them, short: every question is answered, and nothing is lost. `make bench-telemetry` has the
//! figures.

use std::path::Path;
use std::process::Command;

#[test]
fn what_was_taken_is_stored_once_and_can_be_asked_for() {
    let bench = env!("CARGO_BIN_EXE_bench");
    let output = Command::new(bench)
        .args(["telemetry", "--seconds", "1", "--rows", "1", "--asked", "2", "--brokle"])
        .arg(Path::new(bench).with_file_name("brokle"))
        .output()
        .unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    for always in
        ["requests that failed or were refused", "spans that were taken and are lost, or there twice"]
    {
        let row = told.lines().find(|line| line.contains(always));
        assert!(row.is_some_and(|row| row.ends_with(" pass |")), "{always}: {told}{said}");
    }
    assert_eq!(told.lines().filter(|line| line.contains("p95 |")).count(), 4, "{told}{said}");
}
