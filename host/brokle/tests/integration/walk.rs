//! A plugin from nothing to served, by the commands of docs/plugins/writing.md and in their order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::scene::{KEY, Server, Vendor};

/// The same folder as the test-kit's own projects use: the SDK is compiled for guests once.
fn target() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_brokle"));
    program.parent().unwrap().with_file_name("templates")
}

struct Author {
    folder: tempfile::TempDir,
    vendor: Vendor,
}

impl Author {
    fn new() -> Self {
        Self::of(Vendor::start("Hello from Acme."))
    }

    /// With a project that `plugin new` made.
    fn of(vendor: Vendor) -> Self {
        let author = Self { folder: tempfile::tempdir().unwrap(), vendor };
        let new = Command::new(env!("CARGO_BIN_EXE_brokle"))
            .args(["plugin", "new", "--kind", "provider", "acme"])
            .current_dir(author.folder.path())
            .output()
            .unwrap();
        assert!(new.status.success(), "{}", String::from_utf8_lossy(&new.stderr));
        // The workspace's versions: no look at the registry, and the same result tomorrow.
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        fs::copy(root.join("Cargo.lock"), author.project().join("Cargo.lock")).unwrap();
        author
    }

    fn project(&self) -> PathBuf {
        self.folder.path().join("provider-acme")
    }

    /// Has the server believe what is signed with a key of the author's own, and signs this.
    fn sign(&self, component: &str) {
        self.succeed(&["plugin", "keygen", "--out", "keys"]);
        self.succeed(&["plugin", "sign", component, "--key", "keys/publisher.key.pem"]);
        let stranger = self.command(&["plugin", "verify", component]).output().unwrap();
        assert!(String::from_utf8_lossy(&stranger.stderr).contains("PLUGIN_KEY_UNKNOWN"));
        let key = ["--name", "Me", "--prefix", "com.example.", "--key", "keys/publisher.pub.pem"];
        self.succeed(&[&["trust", "add-publisher"], &key[..]].concat());
        self.succeed(&["plugin", "verify", component]);
    }

    /// Installs this, and starts the server anew: connections are made when it starts.
    fn serve(&self, component: &str) -> Server {
        let server = Server::start(self.command(&["serve"]));
        self.succeed(&["plugin", "install", component, "--url", &server.url()]);
        let listed = self.succeed(&["plugin", "list", "--url", &server.url()]);
        assert!(listed.contains("com.example.provider-acme"), "{listed}");
        drop(server);
        Server::start(self.command(&["serve"]))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brokle"));
        command.args(arguments).current_dir(self.folder.path().join("provider-acme")).stdin(Stdio::null());
        // The compiler needs more of the environment than can be listed; nothing of it may send calls elsewhere.
        for (name, _) in std::env::vars_os().filter(|(name, _)| {
            let name = name.to_string_lossy();
            name.starts_with("BROKLE_") || name.ends_with("_API_KEY") || name.ends_with("_BASE_URL")
        }) {
            command.env_remove(name);
        }
        command
            .env("CARGO_TARGET_DIR", target())
            .env("BROKLE_LISTEN", "127.0.0.1:0")
            .env("BROKLE_BOOTSTRAP_API_KEY", KEY)
            .env("BROKLE_API_KEY", KEY)
            .env("ACME_API_KEY", "anything");
        command
    }

    fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {told}");
        String::from_utf8(output.stdout).unwrap()
    }
}

#[test]
fn a_newcomers_provider_is_built_tested_signed_installed_and_served() {
    let author = Author::new();
    let built: Value = serde_json::from_str(&author.succeed(&["plugin", "build", "--json"])).unwrap();
    let component = built["path"].as_str().unwrap();
    let tested: Value = serde_json::from_str(&author.succeed(&["plugin", "test", "--json"])).unwrap();
    assert_eq!(tested["plugin"], "com.example.provider-acme 0.1.0", "{tested}");
    author.sign(component);
    let vendor = &author.vendor.address;
    let config = format!(
        "[[gateway.connections]]\nname = \"acme\"\nprovider = \"acme\"\nbase_url = \"http://{vendor}\"\n\
         api_key_env = \"ACME_API_KEY\"\nmodels = [\"acme-large\"]\n"
    );
    fs::write(author.project().join("brokle.toml"), config).unwrap();
    let server = author.serve(component);
    let (status, answer) = server.chat("acme/acme-large", "Hello!");
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &json!("Hello from Acme.")),
        "{answer}"
    );
    assert!(author.vendor.last().contains("Hello!"), "{}", author.vendor.last());
}

const PAGE: &str = include_str!("../../../../docs/plugins/adding-a-provider.md");

/// The block of the page that follows these words.
fn block(words: &str) -> &'static str {
    let (_, rest) = PAGE.split_once(words).unwrap_or_else(|| panic!("the page has no '{words}'"));
    let (_, block) = rest.split_once("```").unwrap();
    let (_, block) = block.split_once('\n').unwrap();
    block.split("```").next().unwrap()
}

/// Of a part of the page, by its heading.
fn connection(author: &Author) -> String {
    block("## A connection\n").replace("127.0.0.1:9000", &author.vendor.address)
}

#[test]
fn the_pages_connection_is_called() {
    let author = Author::new();
    fs::write(author.project().join("brokle.toml"), connection(&author)).unwrap();
    author.succeed(&["config", "check"]);
    let server = Server::start(author.command(&["serve"]));
    let body = json!({ "model": "acme/acme-large", "max_tokens": 9, "store": true,
        "messages": [{ "role": "user", "content": "Hello!" }] });
    let (status, answer) = server.ask("POST", "/v1/chat/completions", &body.to_string());
    assert_eq!((status, &answer["usage"]["total_tokens"]), (200, &json!(14)), "{answer}");
    let sent: Value = serde_json::from_str(&author.vendor.last()).unwrap();
    assert_eq!((&sent["model"], &sent["max_completion_tokens"]), (&json!("acme-large"), &json!(9)), "{sent}");
    assert!(sent.get("store").is_none() && sent.get("max_tokens").is_none(), "{sent}");
}

#[test]
fn the_pages_component_is_built_tested_and_served() {
    let author = Author::of(Vendor::answering(
        |_| json!({ "text": "Hello from Acme.", "ended": "stop", "tokens": { "in": 9, "out": 5 } }),
    ));
    let project = author.project();
    fs::write(project.join("src/lib.rs"), block("`src/lib.rs`:\n")).unwrap();
    let manifest = fs::read_to_string(project.join("Cargo.toml")).unwrap();
    let more = block("so `Cargo.toml` does too:\n");
    fs::write(project.join("Cargo.toml"), manifest.replacen("[dependencies]\n", more, 1)).unwrap();
    fs::remove_dir_all(project.join("fixtures")).unwrap();
    for file in [
        "chat/case.json",
        "chat/request.json",
        "chat/response.json",
        "chat-stream/case.json",
        "chat-stream/request.json",
        "chat-stream/response.ndjson",
    ] {
        let path = project.join("fixtures").join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, block(&format!("`fixtures/{file}`:\n"))).unwrap();
    }
    let built: Value = serde_json::from_str(&author.succeed(&["plugin", "build", "--json"])).unwrap();
    let component = built["path"].as_str().unwrap();
    let blessed = author.command(&["plugin", "test"]).env("BROKLE_BLESS", "1").output().unwrap();
    assert!(blessed.status.success(), "{}", String::from_utf8_lossy(&blessed.stderr));
    author.succeed(&["plugin", "test"]);
    let expected = fs::read_to_string(project.join("fixtures/chat/expected.json")).unwrap();
    let expected: Value = serde_json::from_str(&expected).unwrap();
    assert_eq!(expected["choices"][0]["message"]["content"], "Hello from Acme.", "{expected}");

    author.sign(component);
    let mut config: Vec<_> = connection(&author).lines().map(str::to_owned).collect();
    config.retain(|line| !line.starts_with("options"));
    let config = config.join("\n").replace("openai-compatible", "acme").replace("/v1\"", "\"");
    fs::write(project.join("brokle.toml"), config).unwrap();
    let server = author.serve(component);
    let (status, answer) = server.chat("acme/acme-large", "Hello!");
    assert_eq!(status, 200, "{answer}");
    assert_eq!(
        answer["choices"][0]["message"],
        json!({ "role": "assistant", "content": "Hello from Acme." })
    );
    assert_eq!(answer["usage"]["total_tokens"], 14);
    let sent: Value = serde_json::from_str(&author.vendor.last()).unwrap();
    assert_eq!(sent["prompt"], json!([{ "from": "user", "text": "Hello!" }]), "{sent}");
    let tools = json!({ "model": "acme/acme-large", "tools": [{}], "messages": [{ "role": "user", "content": "x" }] });
    let (status, refused) = server.ask("POST", "/v1/chat/completions", &tools.to_string());
    assert_eq!((status, &refused["error"]["param"]), (400, &json!("tools")), "{refused}");
}
