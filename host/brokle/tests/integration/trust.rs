//! Keys, roots, signatures and licenses from the command line, as a publisher, an operator and the vendor use it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// A folder with a root in `keys/`, and the built component in it as `echo.wasm`.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.succeed(&["trust", "init", "--out", "keys"]);
        fs::write(place.path("echo.wasm"), component()).unwrap();
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_brokle"));
        command.args(arguments).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        command.env("BROKLE_TRUST_ROOT", "keys/root.json");
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

    /// The code that standard error begins with.
    fn code(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {stderr}");
        stderr.split(':').next().unwrap_or_default().to_owned()
    }

    fn complaint(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    fn json(&self, arguments: &[&str]) -> serde_json::Value {
        serde_json::from_str(&self.succeed(arguments)).unwrap()
    }
}

/// A real component, as `make plugins` builds it.
fn component() -> Vec<u8> {
    let program = Path::new(env!("CARGO_BIN_EXE_brokle"));
    let paths = program.ancestors().map(|folder| folder.join("wasm32-wasip2/guest/provider_echo.wasm"));
    let path = paths.into_iter().find(|path| path.exists()).expect("run `make plugins`");
    fs::read(path).unwrap()
}

const SIGN: [&str; 5] = ["plugin", "sign", "echo.wasm", "--key", "keys/publisher.key.pem"];
const VERIFY: [&str; 3] = ["plugin", "verify", "echo.wasm"];

#[test]
fn a_component_is_signed_and_verified() {
    let place = Place::new();
    assert_eq!(place.code(&VERIFY), "PLUGIN_UNSIGNED");
    assert!(place.succeed(&[&VERIFY[..], &["--dev"]].concat()).contains("unsigned"));
    place.succeed(&[&SIGN[..], &["--release-seq", "7"]].concat());
    let verdict = place.json(&[&VERIFY[..], &["--json"]].concat());
    assert_eq!((&verdict["level"], &verdict["statement"]["release_seq"]), (&"vendor".into(), &7.into()));
    // The root alone is enough.
    place.succeed(&[&VERIFY[..], &["--root", "keys/root.json"]].concat());
    let shown = place.json(&["plugin", "inspect", "echo.wasm", "--json"]);
    assert_eq!(shown["manifest"]["id"], "brokle.provider-echo");
    assert_eq!(
        (&shown["signature"]["status"], &shown["signature"]["level"]),
        (&"accepted".into(), &"vendor".into())
    );
    assert_eq!(shown["size"], component().len());
    assert_eq!(shown["stack_size"], 64 << 10);
    assert!(shown.get("remark").is_none());
    let text = place.succeed(&["plugin", "inspect", "echo.wasm"]);
    for part in ["brokle:provider/adapter", "stack      64 KiB", "vendor"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // Another root's keys are nobody.
    place.succeed(&["trust", "init", "--out", "other"]);
    assert_eq!(place.code(&[&VERIFY[..], &["--root", "other/root.json"]].concat()), "PLUGIN_KEY_UNKNOWN");
    // Changed after it was signed.
    let mut changed = component();
    changed.extend(b"\0\x03\x01xy");
    fs::write(place.path("echo.wasm"), changed).unwrap();
    assert_eq!(place.code(&VERIFY), "PLUGIN_HASH_MISMATCH");
    fs::write(place.path("echo.wasm"), b"\0asm\x01\0\0\0").unwrap();
    assert_eq!(place.code(&VERIFY), "PLUGIN_INVALID");
}

#[test]
fn keys_are_private_and_never_overwritten() {
    let place = Place::new();
    let id = place.succeed(&["plugin", "keygen", "--out", "mine"]);
    assert_eq!(id.trim().len(), 64);
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("mine/publisher.key.pem"), mode("mine"), mode("keys/root-1.key.pem")),
        (0o600, 0o700, 0o600)
    );
    assert!(place.complaint(&["plugin", "keygen", "--out", "mine"]).contains("publisher.key.pem"));
    assert!(place.complaint(&["trust", "init", "--out", "keys"]).contains("root-1.key.pem"));
    // A public key signs nothing, and the complaint doesn't show what was in the file.
    let complaint = place.complaint(&["plugin", "sign", "echo.wasm", "--key", "mine/publisher.pub.pem"]);
    assert!(complaint.contains("PKCS#8") && !complaint.contains("MCow"), "{complaint}");
}

#[test]
fn an_operator_believes_a_publisher_for_its_prefix() {
    let place = Place::new();
    place.succeed(&["plugin", "keygen", "--out", "mine"]);
    place.succeed(&["plugin", "sign", "echo.wasm", "--key", "mine/publisher.key.pem"]);
    assert_eq!(place.code(&VERIFY), "PLUGIN_KEY_UNKNOWN");
    let add = ["trust", "add-publisher", "--name", "Me", "--key", "mine/publisher.pub.pem", "--prefix"];
    let vendor = place.run(&[&add[..], &["brokle."]].concat());
    assert_eq!(vendor.status.code(), Some(2));
    place.succeed(&[&add[..], &["acme."]].concat());
    // The component's id is the vendor's.
    assert_eq!(place.code(&VERIFY), "PLUGIN_KEY_UNKNOWN");
    let shown = place.json(&["trust", "show", "--json"]);
    assert_eq!((&shown["publishers"][0]["prefix"], &shown["root"]["version"]), (&"acme.".into(), &1.into()));
    let id = place.succeed(&["trust", "show"]);
    let id =
        id.lines().find(|line| line.contains("acme.")).unwrap().split_whitespace().next().unwrap().to_owned();
    place.succeed(&["trust", "remove-publisher", &id]);
    assert_eq!(place.json(&["trust", "show", "--json"])["publishers"], serde_json::json!([]));
}

#[test]
fn roots_and_revocations_go_forward() {
    let place = Place::new();
    place.succeed(&SIGN);
    place.succeed(&["plugin", "keygen", "--out", "new", "--name", "publisher"]);
    place.succeed(&["plugin", "keygen", "--out", "new", "--name", "root-4"]);
    let old = place.json(&["trust", "show", "--json"]);
    let publisher = old["root"]["keys"].as_object().unwrap();
    let publisher = publisher.iter().find(|(_, key)| key["role"] == "publisher").unwrap().0;
    place.succeed(&[
        "trust",
        "rotate",
        "keys/root.json",
        "--sign-with",
        "keys/root-1.key.pem",
        "--remove",
        publisher,
        "--add",
        "publisher=new/publisher.pub.pem",
        "--add",
        "root=new/root-4.pub.pem",
        "--out",
        "root-2.json",
    ]);
    // One of two.
    assert!(place.complaint(&["trust", "import-root", "root-2.json"]).contains("1 of 2"));
    place.succeed(&["trust", "cosign", "root-2.json", "--key", "keys/root-3.key.pem"]);
    place.succeed(&["trust", "import-root", "root-2.json"]);
    assert!(place.complaint(&["trust", "import-root", "root-2.json"]).contains("version 2 is held already"));
    assert_eq!(place.code(&VERIFY), "PLUGIN_KEY_UNKNOWN");
    place.succeed(&["plugin", "sign", "echo.wasm", "--key", "new/publisher.key.pem"]);
    place.succeed(&VERIFY);

    let digest =
        place.json(&["plugin", "inspect", "echo.wasm", "--json"])["sha256"].as_str().unwrap().to_owned();
    let revoke = ["trust", "revoke", "--key", "keys/revocation.key.pem", "--out"];
    place.succeed(&[&revoke[..], &["one.json", "--sha256", &digest, "--reason", "it leaks"]].concat());
    place.succeed(&["trust", "import-revocations", "one.json"]);
    assert_eq!(place.code(&VERIFY), "PLUGIN_REVOKED");
    assert_eq!(place.code(&[&VERIFY[..], &["--dev"]].concat()), "PLUGIN_REVOKED");
    place.succeed(&[&revoke[..], &["two.json", "--from", "one.json", "--license", "lic-9"]].concat());
    place.succeed(&["trust", "import-revocations", "two.json"]);
    assert!(
        place.complaint(&["trust", "import-revocations", "one.json"]).contains("version 2 is held already")
    );
    let list = &place.json(&["trust", "show", "--json"])["revocations"];
    assert_eq!((&list["version"], &list["licenses"][0]["jti"]), (&2.into(), &"lic-9".into()));
    assert_eq!(list["components"][0]["reason"], "it leaks");
}

#[test]
fn a_license_is_issued_checked_and_installed() {
    let place = Place::new();
    let shown = place.json(&["license", "show", "--json"]);
    assert_eq!(shown["state"], "NONE");
    let instance = shown["instance"].as_str().unwrap().to_owned();
    let issue = ["license", "issue", "--key", "keys/license.key.pem", "--customer", "Acme", "--tier", "pro"];
    let issue_to = |name: &str, more: &[&str]| {
        fs::write(place.path(name), place.succeed(&[&issue[..], more].concat())).unwrap();
    };
    issue_to(
        "good.jwt",
        &["--days", "90", "--instance", &instance, "--seats", "3", "--grant", "scim", "--id", "lic-9"],
    );
    issue_to("elsewhere.jwt", &["--days", "90", "--instance", "another"]);
    issue_to("ended.jwt", &["--starts", "2020-01-01T00:00:00Z", "--expires", "2021-01-01T00:00:00Z"]);
    issue_to("later.jwt", &["--starts", "2200-01-01T00:00:00Z", "--days", "9"]);
    let wrong = [
        "license",
        "issue",
        "--key",
        "keys/publisher.key.pem",
        "--customer",
        "A",
        "--tier",
        "pro",
        "--days",
        "9",
    ];
    fs::write(place.path("wrong.jwt"), place.succeed(&wrong)).unwrap();
    for (name, code) in [
        ("elsewhere.jwt", "LICENSE_WRONG_INSTANCE"),
        ("ended.jwt", "LICENSE_EXPIRED"),
        ("later.jwt", "LICENSE_CLOCK"),
        ("wrong.jwt", "LICENSE_INVALID"),
        ("keys/root.json", "LICENSE_INVALID"),
    ] {
        assert_eq!(place.code(&["license", "verify", name]), code, "{name}");
    }
    assert_eq!(place.code(&["license", "install", "elsewhere.jwt"]), "LICENSE_WRONG_INSTANCE");
    assert_eq!(place.json(&["license", "show", "--json"])["state"], "NONE");
    place.succeed(&["license", "verify", "good.jwt"]);
    assert!(place.succeed(&["license", "install", "good.jwt"]).contains("seats: 3"));
    let shown = place.json(&["license", "show", "--json"]);
    assert_eq!(
        (&shown["state"], &shown["claims"]["tier"], &shown["limits"]["seats"]),
        (&"VALID".into(), &"pro".into(), &3.into())
    );
    assert!(shown["entitlements"].as_array().unwrap().contains(&"scim".into()));
    place.succeed(&[
        "trust",
        "revoke",
        "--key",
        "keys/revocation.key.pem",
        "--license",
        "lic-9",
        "--out",
        "list.json",
    ]);
    place.succeed(&["trust", "import-revocations", "list.json"]);
    assert_eq!(place.json(&["license", "show", "--json"])["state"], "REVOKED");
}
