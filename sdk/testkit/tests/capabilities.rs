//! Fixtures' stand-ins for the host, under a guest that uses every capability (`tests/guests/capable`).
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use brokle_testkit::Report;

/// Where `make guests` puts it.
fn capable() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let mut folders = exe.ancestors().map(|folder| folder.join("wasm32-wasip2/guest-test/capable.wasm"));
    folders.find(|path| path.exists()).expect("capable.wasm isn't built: run `make guests`")
}

fn play(fixture: &str) -> Report {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one.yaml"), fixture).unwrap();
    brokle_testkit::test(&capable(), folder.path()).unwrap()
}

#[test]
fn what_is_granted_answers_always_the_same_and_what_is_not_is_denied() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/capable");
    let report = brokle_testkit::test(&capable(), &fixtures).unwrap();
    assert!(report.passed(), "{}", report.lines().join("\n"));
    assert_eq!(report.fixtures.len(), 3);
}

#[test]
fn calls_that_come_otherwise_are_told() {
    let grants =
        "host: { grants: { http: { upstreams: { checker: { hosts: [check.example.com] } } } }, http: [";
    let end =
        "] }\nstage: request\ntexts: [{ value: http POST checker none /a none none hello }]\nexpect: {}\n";
    for (http, told) in [
        ("", "http: unexpected: POST https://check.example.com/a"),
        ("{ call: POST https://check.example.com/b }", "http: missing: POST https://check.example.com/b"),
        (
            "{ call: POST https://check.example.com/a, sends: { body: bye } }",
            r#"body (whole): expected "bye", came "hello""#,
        ),
        (
            "{ call: POST https://check.example.com/a, sends: { headers: { authorization: x } } }",
            r#"header authorization: expected "x", nothing came"#,
        ),
        ("{ call: POST }", "should be a method and a URL"),
    ] {
        let report = play(&format!("{grants}{http}{end}"));
        let lines = report.lines().join("\n");
        assert!(!report.passed() && lines.contains(told), "{told}: {lines}");
    }
}

#[test]
fn grants_that_an_operator_could_not_give_are_told_by_their_place() {
    let texts = "stage: request\ntexts: [{ value: clock }]\nexpect: {}\n";
    for (host, told) in
        [("", "/http/upstreams/checker/hosts"), ("host: { grants: { files: {} } }\n", "/files")]
    {
        let lines = play(&format!("{host}{texts}")).lines().join("\n");
        assert!(lines.contains(told), "{told}: {lines}");
    }
}

#[test]
fn misspelt_members_are_refused_with_their_line() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one.yaml"), "stage: request\ntext: []\nexpect: {}\n").unwrap();
    let failure = brokle_testkit::test(&capable(), folder.path()).unwrap_err().to_string();
    assert!(failure.contains("one.yaml") && failure.contains("`text`"), "{failure}");
}
