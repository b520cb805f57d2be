//! A licensed component from its signature to the end of its license, as docs/licensing.md tells it: refused unsigned,
//! refused without a license, at work with one, and still at work when the license has run out.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use brokle_core::clock::Clock;
use serde_json::{Value, json};

use crate::scene::{KEY, Server, Vendor};

const ADA: &str = "ada.lovelace@example.org";
const GRACE: &str = "grace.hopper@example.org";

/// A component as `make` builds it.
fn component(profile: &str, name: &str) -> Vec<u8> {
    let program = Path::new(env!("CARGO_BIN_EXE_brokle"));
    let paths = program.ancestors().map(|folder| folder.join(format!("wasm32-wasip2/{profile}/{name}.wasm")));
    let path = paths.into_iter().find(|path| path.exists()).expect("run `make plugins ee-plugins`");
    fs::read(path).unwrap()
}

/// An installation with a vendor of its own: keys in `keys/`, the unsigned component as `pii.wasm`.
struct Place {
    folder: tempfile::TempDir,
    vendor: Vendor,
}

impl Place {
    fn new() -> Self {
        let vendor = Vendor::start(&format!("Write to {GRACE}."));
        let place = Self { folder: tempfile::tempdir().unwrap(), vendor };
        fs::create_dir(place.path("built-in")).unwrap();
        for name in ["provider_openai", "policy_priority"] {
            fs::write(place.path(&format!("built-in/{name}.wasm")), component("guest", name)).unwrap();
        }
        fs::write(place.path("pii.wasm"), component("guest-ee", "pii_redaction")).unwrap();
        fs::write(
            place.path("brokle.toml"),
            "[runtime]\nplugins_dir = \"built-in\"\n[telemetry]\ncapture = \"full\"\n\
             [[guardrails]]\nplugin = \"pii-redaction\"\nconfig = { action = \"mask\" }\n",
        )
        .unwrap();
        let grants = json!({ "crypto": {}, "secrets": { "pii-key": "env:BROKLE_PLUGIN_PII_KEY" } });
        fs::write(place.path("grants.json"), grants.to_string()).unwrap();
        place.succeed(&["trust", "init", "--out", "keys"]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brokle"));
        command.args(arguments).current_dir(self.folder.path()).env_clear().stdin(Stdio::null());
        command
            .env("BROKLE_TRUST_ROOT", "keys/root.json")
            .env("BROKLE_LISTEN", "127.0.0.1:0")
            .env("BROKLE_BOOTSTRAP_API_KEY", KEY)
            .env("BROKLE_API_KEY", KEY)
            .env("BROKLE_PLUGIN_PII_KEY", "a key for hashes, of thirty-two bytes")
            .env("OPENAI_API_KEY", "sk-not-a-real-one")
            .env("OPENAI_BASE_URL", format!("http://{}/v1", self.vendor.address));
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn issue(&self, file: &str, dates: &[&str]) {
        let mut arguments =
            vec!["license", "issue", "--key", "keys/license.key.pem", "--customer", "Example"];
        arguments.extend(["--tier", "enterprise"]);
        arguments.extend(dates);
        fs::write(self.path(file), self.succeed(&arguments)).unwrap();
    }

    fn state(&self) -> String {
        let shown: Value = serde_json::from_str(&self.succeed(&["license", "show", "--json"])).unwrap();
        shown["state"].as_str().unwrap_or_default().to_owned()
    }

    fn serve(&self) -> Server {
        Server::start(self.command(&["serve"]))
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn chat(server: &Server) -> (u16, Value) {
    server.chat("openai/gpt-4o-mini", &format!("Who is {ADA}?"))
}

fn masks(place: &Place, server: &Server) {
    let (status, answer) = chat(server);
    assert_eq!(status, 200, "{answer}");
    let sent = place.vendor.last();
    assert!(sent.contains("Who is ") && !sent.contains(ADA), "{sent}");
    let told = answer["choices"][0]["message"]["content"].as_str().unwrap();
    assert!(told.starts_with("Write to ") && !told.contains(GRACE), "{told}");
    let stored = server.stored();
    assert!(stored.contains("Who is ") && stored.contains("Write to "), "{stored}");
    assert!(!stored.contains(ADA) && !stored.contains(GRACE), "{stored}");
}

#[test]
fn a_licensed_component_from_its_signature_to_the_end_of_its_license() {
    let place = Place::new();
    let server = place.serve();
    let install = |server: &Server| place.run(&["plugin", "install", "pii.wasm", "--url", &server.url()]);

    // Without the component the guardrail fails closed: nothing leaves.
    let (status, refused) = chat(&server);
    assert_eq!((status, refused["error"]["code"].as_str()), (502, Some("guardrail_failed")), "{refused}");
    assert_eq!(place.vendor.last(), "");

    let unsigned = install(&server);
    assert!(
        !unsigned.status.success() && stderr(&unsigned).contains("PLUGIN_UNSIGNED"),
        "{}",
        stderr(&unsigned)
    );

    place.succeed(&["plugin", "sign", "pii.wasm", "--key", "keys/publisher.key.pem"]);
    let unlicensed = install(&server);
    assert!(stderr(&unlicensed).contains("LICENSE_MISSING"), "{}", stderr(&unlicensed));
    drop(server);

    // A license that holds for as long as this takes to get there, and no grace.
    let end = brokle_core::clock::SystemClock.now() + chrono::TimeDelta::seconds(20);
    let end = end.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
    place.issue("license.jwt", &["--expires", &end, "--grace-days", "0"]);
    place.succeed(&["license", "install", "license.jwt"]);
    let server = place.serve();
    let installed = install(&server);
    assert!(installed.status.success(), "{}", stderr(&installed));
    // It waits for what it asks for, and so does the guardrail.
    assert_eq!(chat(&server).0, 502);
    place.succeed(&["plugin", "grant", "brokle.pii-redaction", "grants.json", "--url", &server.url()]);
    masks(&place, &server);

    // Its end comes while calls go on: redaction does too, also after another start.
    let begun = Instant::now();
    while place.state() != "LIMITED" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", place.state());
        masks(&place, &server);
    }
    drop(server);
    let server = place.serve();
    masks(&place, &server);
    // What is paid for can be read, and not changed.
    let grant =
        place.run(&["plugin", "grant", "brokle.pii-redaction", "grants.json", "--url", &server.url()]);
    assert!(!grant.status.success() && stderr(&grant).contains("LICENSE_EXPIRED"), "{}", stderr(&grant));
    let configured =
        place.run(&["plugin", "config", "brokle.pii-redaction", "--set", "{}", "--url", &server.url()]);
    assert!(stderr(&configured).contains("LICENSE_EXPIRED"), "{}", stderr(&configured));
    masks(&place, &server);
}
