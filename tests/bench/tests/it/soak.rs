//! Load that isn't fair, short: what must hold on any build and any machine. `make soak` has the figures.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The program beside this one's binaries: a workspace's tests build it too.
pub(crate) fn brokle() -> PathBuf {
    let brokle = Path::new(env!("CARGO_BIN_EXE_bench")).with_file_name("brokle");
    assert!(brokle.exists(), "{} isn't built: cargo build -p brokle", brokle.display());
    brokle
}

fn keeps_its_promises(scenario: &str, promises: usize) {
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["soak", "--short", "--only", scenario, "--floor", env!("CARGO_BIN_EXE_floor"), "--brokle"])
        .arg(brokle())
        .output()
        .unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{said}");
    assert_eq!(told.lines().filter(|line| line.ends_with(" pass |")).count(), promises, "{told}");
}

#[test]
fn clients_that_dawdle_cost_no_good_call() {
    keeps_its_promises("slow-clients", 2);
}

#[test]
fn each_call_of_an_overload_is_served_or_refused_and_then_all_is_well() {
    keeps_its_promises("overload", 3);
}

#[test]
fn streams_at_once_come_whole() {
    keeps_its_promises("streams", 2);
}

#[test]
fn a_stop_among_streams_and_new_calls_lets_nobody_down_and_forgets_no_call() {
    keeps_its_promises("drain", 4);
}

#[test]
fn an_everyday_gives_all_places_back() {
    keeps_its_promises("steady", 3);
}
