//! A licensed component from its signature to the end of its license, as docs/licensing.md tells it: refused unsigned,
//! refused without a license, at work with one, and still at work when the license has run out.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use brokle_core::clock::Clock;
use serde_json::{Value, json};

const KEY: &str = "bk_AbCd0123456789AbCd0123456789AbCd01234567";
const ADA: &str = "ada.lovelace@example.org";
const GRACE: &str = "grace.hopper@example.org";

/// A component as `make` builds it.
fn component(profile: &str, name: &str) -> Vec<u8> {
    let program = Path::new(env!("CARGO_BIN_EXE_brokle"));
    let paths = program.ancestors().map(|folder| folder.join(format!("wasm32-wasip2/{profile}/{name}.wasm")));
    let path = paths.into_iter().find(|path| path.exists()).expect("run `make plugins ee-plugins`");
    fs::read(path).unwrap()
}

/// A provider that answers every call with an address in it, and keeps what it was sent.
struct Vendor {
    address: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Vendor {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let vendor = Self { address: listener.local_addr().unwrap().to_string(), bodies: Arc::default() };
        let bodies = Arc::clone(&vendor.bodies);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let body = serve(stream.unwrap());
                bodies.lock().unwrap().push(body);
            }
        });
        vendor
    }

    fn last(&self) -> String {
        self.bodies.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

/// One call: its body.
fn serve(stream: TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let answer = json!({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
        "choices": [{ "index": 0, "finish_reason": "stop",
            "message": { "role": "assistant", "content": format!("Write to {GRACE}.") } }],
        "usage": { "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14 },
    })
    .to_string();
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    )
    .unwrap();
    String::from_utf8(body).unwrap()
}

/// An installation with a vendor of its own: keys in `keys/`, the unsigned component as `pii.wasm`.
struct Place {
    folder: tempfile::TempDir,
    vendor: Vendor,
}

impl Place {
    fn new() -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap(), vendor: Vendor::start() };
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

struct Server {
    child: Child,
    address: String,
}

impl Server {
    #[expect(clippy::zombie_processes, reason = "the server that it becomes is waited for")]
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it served");
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "serving" {
                let address = event["address"].as_str().unwrap().to_owned();
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Self { child, address };
            }
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Status and JSON body.
    fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // A chunked body is its size, the document, and 0.
        let document = body.find('{').zip(body.rfind('}')).map(|(from, to)| &body[from..=to]);
        (status, document.map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default())
    }

    fn chat(&self) -> (u16, Value) {
        let body = json!({
            "model": "openai/gpt-4o-mini",
            "messages": [{ "role": "user", "content": format!("Who is {ADA}?") }],
        });
        self.ask("POST", "/v1/chat/completions", &body.to_string())
    }

    /// What is stored of the newest call that ended well.
    fn stored(&self) -> String {
        let begun = Instant::now();
        loop {
            let (_, list) = self.ask("GET", "/api/v1/traces?status=ok", "");
            if let Some(id) = list["data"][0]["trace_id"].as_str() {
                return self.ask("GET", &format!("/api/v1/traces/{id}"), "").1.to_string();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no trace: {list}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn masks(place: &Place, server: &Server) {
    let (status, answer) = server.chat();
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
    let (status, refused) = server.chat();
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
    assert_eq!(server.chat().0, 502);
    place.succeed(&["plugin", "grant", "brokle.pii-redaction", "grants.json", "--url", &server.url()]);
    masks(&place, &server);

    // Its end comes while calls go on: redaction does too, also after another start.
    let begun = Instant::now();
    while place.state() != "LIMITED" {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", place.state());
        masks(&place, &server);
    }
    drop(server);
    masks(&place, &place.serve());
}
