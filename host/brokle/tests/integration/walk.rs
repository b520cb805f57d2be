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
        Self { folder: tempfile::tempdir().unwrap(), vendor: Vendor::start("Hello from Acme.") }
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
    let folder = author.folder.path().join("provider-acme");
    let new = Command::new(env!("CARGO_BIN_EXE_brokle"))
        .args(["plugin", "new", "--kind", "provider", "acme"])
        .current_dir(author.folder.path())
        .output()
        .unwrap();
    assert!(new.status.success(), "{}", String::from_utf8_lossy(&new.stderr));
    // The workspace's versions: no look at the registry, and the same result tomorrow.
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    fs::copy(root.join("Cargo.lock"), folder.join("Cargo.lock")).unwrap();

    let built: Value = serde_json::from_str(&author.succeed(&["plugin", "build", "--json"])).unwrap();
    let component = built["path"].as_str().unwrap();
    let tested: Value = serde_json::from_str(&author.succeed(&["plugin", "test", "--json"])).unwrap();
    assert_eq!(tested["plugin"], "com.example.provider-acme 0.1.0", "{tested}");

    author.succeed(&["plugin", "keygen", "--out", "keys"]);
    author.succeed(&["plugin", "sign", component, "--key", "keys/publisher.key.pem"]);
    let stranger = author.command(&["plugin", "verify", component]).output().unwrap();
    assert!(String::from_utf8_lossy(&stranger.stderr).contains("PLUGIN_KEY_UNKNOWN"));
    let key = ["--name", "Me", "--prefix", "com.example.", "--key", "keys/publisher.pub.pem"];
    author.succeed(&[&["trust", "add-publisher"], &key[..]].concat());
    author.succeed(&["plugin", "verify", component]);

    let vendor = &author.vendor.address;
    let config = format!(
        "[[gateway.connections]]\nname = \"acme\"\nprovider = \"acme\"\nbase_url = \"http://{vendor}\"\n\
         api_key_env = \"ACME_API_KEY\"\nmodels = [\"acme-large\"]\n"
    );
    fs::write(folder.join("brokle.toml"), config).unwrap();
    let server = Server::start(author.command(&["serve"]));
    author.succeed(&["plugin", "install", component, "--url", &server.url()]);
    let listed = author.succeed(&["plugin", "list", "--url", &server.url()]);
    assert!(listed.contains("com.example.provider-acme"), "{listed}");
    // Connections are made when the server starts.
    drop(server);
    let server = Server::start(author.command(&["serve"]));
    let (status, answer) = server.chat("acme/acme-large", "Hello!");
    assert_eq!(
        (status, &answer["choices"][0]["message"]["content"]),
        (200, &json!("Hello from Acme.")),
        "{answer}"
    );
    assert!(author.vendor.last().contains("Hello!"), "{}", author.vendor.last());
}
