//! Every built-in provider against its fixtures.

use std::path::Path;

fn run(package: &str, least: usize) {
    let component = brokle_testkit::built(package).unwrap_or_else(|error| panic!("{error}"));
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(package).join("fixtures");
    let names = brokle_testkit::run_fixtures(&component, &fixtures)
        .unwrap_or_else(|error| panic!("{package}: {error}"));
    assert!(names.len() >= least, "{package} has only {} fixtures", names.len());
}

#[test]
fn anthropic() {
    run("provider-anthropic", 12);
}

#[test]
fn echo() {
    run("provider-echo", 10);
}

#[test]
fn openai() {
    run("provider-openai", 6);
}
