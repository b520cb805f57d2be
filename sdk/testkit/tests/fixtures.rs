//! Every built-in provider against its fixtures.

use std::path::Path;

fn run(package: &str, least: usize) -> Result<(), String> {
    let component = brokle_testkit::built(package).map_err(|error| error.to_string())?;
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins").join(package).join("fixtures");
    let names =
        brokle_testkit::run_fixtures(&component, &fixtures).map_err(|error| format!("{package}: {error}"))?;
    if names.len() < least {
        return Err(format!("{package} has only {} fixtures of {least}", names.len()));
    }
    Ok(())
}

#[test]
fn anthropic() {
    run("provider-anthropic", 12).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn echo() {
    run("provider-echo", 10).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn openai() {
    run("provider-openai", 6).unwrap_or_else(|failure| panic!("{failure}"));
}
