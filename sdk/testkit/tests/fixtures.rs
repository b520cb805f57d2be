//! Every component of ours against its fixtures.

use std::collections::BTreeSet;
use std::path::Path;
use std::{fs, io};

use serde_json::Value;

fn run(folder: &str, package: &str, least: usize) -> Result<(), String> {
    let component = brokle_testkit::built(package).map_err(|error| error.to_string())?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let fixtures = root.join(folder).join(package).join("fixtures");
    let names =
        brokle_testkit::run_fixtures(&component, &fixtures).map_err(|error| format!("{package}: {error}"))?;
    if names.len() < least {
        return Err(format!("{package} has only {} fixtures of {least}", names.len()));
    }
    Ok(())
}

macro_rules! fixtures {
    ($($test:ident: $folder:literal, $package:literal, $least:literal;)+) => {$(
        #[test]
        fn $test() {
            run($folder, $package, $least).unwrap_or_else(|failure| panic!("{failure}"));
        }
    )+};
}

fixtures! {
    anthropic: "plugins", "provider-anthropic", 12;
    bedrock: "plugins", "provider-bedrock", 55;
    azure_openai: "plugins", "provider-azure-openai", 14;
    cohere: "plugins", "provider-cohere", 25;
    dialect_anthropic: "plugins", "dialect-anthropic", 12;
    dialect_gemini: "plugins", "dialect-gemini", 12;
    dialect_openai_responses: "plugins", "dialect-openai-responses", 12;
    echo: "plugins", "provider-echo", 10;
    gemini: "plugins", "provider-gemini", 40;
    mistral: "plugins", "provider-mistral", 18;
    ollama: "plugins", "provider-ollama", 20;
    openai: "plugins", "provider-openai", 6;
    openai_compatible: "plugins", "provider-openai-compatible", 20;
    replicate: "plugins", "provider-replicate", 25;
    regex: "plugins", "guardrail-regex", 7;
    secrets: "plugins", "guardrail-secrets", 4;
    json_schema: "plugins", "guardrail-json-schema", 6;
    moderation: "plugins", "guardrail-moderation", 2;
    voyage: "plugins", "provider-voyage", 8;
    jina: "plugins", "provider-jina", 6;
    vertex: "plugins", "provider-vertex", 35;
    webhook: "plugins", "guardrail-webhook", 3;
    exporter_otlp: "plugins", "exporter-otlp", 7;
    exporter_webhook: "plugins", "exporter-webhook", 5;
    pii_redaction: "ee-plugins", "pii-redaction", 8;
}

/// What is shipped is the same wherever it is built, and tells nobody where that was.
#[test]
fn no_component_has_a_path_of_the_machine_in_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let home = std::env::var("HOME").unwrap_or_default();
    let places = [root.to_str().unwrap(), &home].map(|place| format!("{}/", place.trim_end_matches('/')));
    let shipped = brokle_testkit::built("provider-openai").unwrap();
    let mut looked_at = 0;
    for file in fs::read_dir(shipped.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "wasm") {
            continue;
        }
        let component = fs::read(&file).unwrap();
        for place in places.iter().filter(|place| place.len() > 1) {
            let names = component.windows(place.len()).any(|bytes| bytes == place.as_bytes());
            assert!(!names, "{} names {place}", file.display());
        }
        looked_at += 1;
    }
    assert!(looked_at > 30, "only {looked_at} components");
}

/// Pictures, documents, sounds and signatures of fixtures, each made long enough for the host to keep it to itself
/// (`abridged`), have to come out where the short ones do, and whole.
#[test]
fn what_the_host_keeps_to_itself_is_carried() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins");
    let mut packages = BTreeSet::new();
    for package in fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().file_name()) {
        let package = package.to_str().unwrap();
        if !package.starts_with("provider-") && !package.starts_with("dialect-") {
            continue;
        }
        let copies = tempfile::tempdir().unwrap();
        for fixture in fs::read_dir(root.join(package).join("fixtures")).unwrap().map(Result::unwrap) {
            let request = fs::read(fixture.path().join("request.json")).unwrap_or_else(|_| b"null".to_vec());
            let mut texts = BTreeSet::new();
            base64(&serde_json::from_slice(&request).unwrap(), "", &mut texts);
            if !texts.is_empty() {
                packages.insert(package.to_owned());
            }
            // All of them: some are compared with others.
            enlarged(&fixture.path(), &copies.path().join(fixture.file_name()), &texts).unwrap();
        }
        if packages.contains(package) {
            let component = brokle_testkit::built(package).unwrap();
            let played = brokle_testkit::run_fixtures(&component, copies.path());
            played.unwrap_or_else(|error| panic!("{package}: {error}"));
        }
    }
    let carry = ["anthropic", "bedrock", "gemini", "ollama", "vertex"].map(|name| format!("provider-{name}"));
    let dialects = ["anthropic", "gemini", "openai-responses"].map(|name| format!("dialect-{name}"));
    for package in carry.iter().chain(&dialects) {
        assert!(packages.contains(package), "{package} has no fixture with a picture, only {packages:?}");
    }
}

/// Base64 that a component need not read.
fn base64(value: &Value, name: &str, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| base64(value, name, found)),
        Value::Array(elements) => elements.iter().for_each(|value| base64(value, name, found)),
        Value::String(text) => {
            let url = text.strip_prefix("data:").filter(|url| !url.starts_with("text/"));
            let data = match url.and_then(|url| url.split_once(";base64,")) {
                Some((_, data)) => data,
                None if ["data", "signature", "thought_signature", "thoughtSignature"].contains(&name) => {
                    text
                }
                None => return,
            };
            if data.len() >= 8 {
                found.insert(data.to_owned());
            }
        }
        _ => {}
    }
}

/// A fixture's copy, in which these texts are long.
fn enlarged(fixture: &Path, copy: &Path, texts: &BTreeSet<String>) -> io::Result<()> {
    fs::create_dir(copy)?;
    for file in fs::read_dir(fixture)? {
        let file = file?;
        let copy = copy.join(file.file_name());
        let Ok(mut content) = fs::read_to_string(file.path()) else {
            fs::copy(file.path(), copy)?;
            continue;
        };
        for (number, text) in texts.iter().enumerate() {
            let long = format!("{number:04}").repeat(2000);
            content = content.replace(&format!("{text}\""), &format!("{long}{text}\""));
        }
        fs::write(copy, content)?;
    }
    Ok(())
}
