//! Every guardrail of ours against its fixtures.

use std::path::Path;

fn run(folder: &str, package: &str, least: usize) -> Result<(), String> {
    let component = brokle_testkit::built(package).map_err(|error| error.to_string())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fixtures = root.join(folder).join(package).join("fixtures");
    let names = brokle_testkit::run_guardrail_fixtures(&component, &fixtures)
        .map_err(|error| format!("{package}: {error}"))?;
    if names.len() < least {
        return Err(format!("{package} has only {} fixtures of {least}", names.len()));
    }
    Ok(())
}

#[test]
fn regex() {
    run("plugins", "guardrail-regex", 5).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn secrets() {
    run("plugins", "guardrail-secrets", 3).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn json_schema() {
    run("plugins", "guardrail-json-schema", 5).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn pii_redaction() {
    run("ee-plugins", "pii-redaction", 5).unwrap_or_else(|failure| panic!("{failure}"));
}
