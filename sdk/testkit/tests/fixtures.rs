//! Every component of ours against its fixtures.

use std::path::Path;

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
    regex: "plugins", "guardrail-regex", 6;
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
