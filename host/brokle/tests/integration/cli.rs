use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub(crate) const KEY: &str = "bk_AbCd0123456789AbCd0123456789AbCd01234567";

/// The program in a directory of its own, without this process' settings.
pub(crate) fn brokle(directory: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_brokle"));
    command.args(arguments).current_dir(directory).env_clear().env("BROKLE_LISTEN", "127.0.0.1:0");
    command
}

fn run(directory: &Path, arguments: &[&str]) -> Output {
    brokle(directory, arguments).stdin(Stdio::null()).output().unwrap()
}

pub(crate) fn succeed(directory: &Path, arguments: &[&str]) -> String {
    let output = run(directory, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub(crate) fn fail(directory: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let output = run(directory, arguments);
    assert!(!output.status.success(), "{arguments:?}");
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

fn json(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap()
}

/// A running server; killed if the test ends before it does.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// Reads what it logs from when it served, so that it never waits for somebody who does.
    log: Option<JoinHandle<String>>,
}

impl Server {
    #[expect(clippy::zombie_processes, reason = "the server that it becomes is waited for")]
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it served");
            let event = json(&line);
            if event["message"] == "serving" {
                let address = event["address"].as_str().unwrap().to_owned();
                let log = std::thread::spawn(move || {
                    let mut log = String::new();
                    lines.read_to_string(&mut log).unwrap();
                    log
                });
                return Self { child, address, log: Some(log) };
            }
        }
    }

    /// Of its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What `/proc` says of its memory, in bytes: `VmRSS:` is resident now, `VmHWM:` the most that ever was, `RssFile:` of files.
    pub(crate) fn memory(&self, field: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1_024
    }

    pub(crate) fn ask(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{head}\r\nhost: test\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends a JSON body.
    pub(crate) fn send(&self, head: &str, body: &str) -> String {
        self.send_as(head, "application/json", body)
    }

    /// Sends a body of this type.
    pub(crate) fn send_as(&self, head: &str, kind: &str, body: &str) -> String {
        let length = format!("content-type: {kind}\r\ncontent-length: {}", body.len());
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        write!(stream, "{head}\r\nhost: test\r\nconnection: close\r\n{length}\r\n\r\n{body}").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh").arg("-c").arg(format!("kill -{name} {}", self.child.id())).status();
        assert!(sent.unwrap().success());
    }

    /// Waits for the end and answers what was logged.
    pub(crate) fn log(mut self) -> String {
        self.log.take().unwrap().join().unwrap()
    }

    /// Waits for the end and answers the exit code and what was printed.
    pub(crate) fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        self.log.take().unwrap().join().unwrap();
        let code = self.child.wait().unwrap().code();
        assert!(begun.elapsed() < Duration::from_secs(20));
        let mut printed = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut printed).unwrap();
        (code, printed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_first_start_makes_a_key_that_works_and_ends_when_asked() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(brokle(directory.path(), &["serve", "--quickstart"]));
    assert!(server.ask("GET /health/ready HTTP/1.1").starts_with("HTTP/1.1 200"));
    let health = Command::new(env!("CARGO_BIN_EXE_brokle"))
        .arg("health")
        .env_clear()
        .env("BROKLE_LISTEN", &server.address)
        .current_dir(directory.path())
        .status();
    assert!(health.unwrap().success());
    let mode = std::fs::metadata(directory.path().join("data")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let url = format!("http://{}", server.address);
    server.signal("INT");
    let (code, printed) = server.end();
    assert_eq!(code, Some(0));
    assert!(printed.contains(&url) && printed.contains("\"model\":\"echo-1\""), "{printed}");
    let key = printed.split_whitespace().find(|word| word.starts_with("bk_")).unwrap().to_owned();

    let again = Server::start(brokle(directory.path(), &["serve", "--quickstart"]));
    let valid = again.ask(&format!("POST /v1/auth/validate-key HTTP/1.1\r\nauthorization: Bearer {key}"));
    assert!(valid.starts_with("HTTP/1.1 200"), "{valid}");
    again.signal("INT");
    let (_, printed) = again.end();
    assert!(!printed.contains("bk_"), "a key is shown once: {printed}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::start(brokle(directory.path(), &["serve"]));
    // A lame duck of five seconds: long enough for the second signal to come in between.
    server.signal("TERM");
    while !server.ask("GET /health/ready HTTP/1.1").starts_with("HTTP/1.1 503") {}
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.end().0, Some(130));
    assert!(begun.elapsed() < Duration::from_secs(4));
}

#[test]
fn keys_are_made_listed_and_revoked_while_the_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let mut command = brokle(here, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    let server = Server::start(command);
    let is_valid = |key: &str| {
        let answer = server.ask(&format!("POST /v1/auth/validate-key HTTP/1.1\r\nx-api-key: {key}"));
        answer.starts_with("HTTP/1.1 200")
    };
    assert!(is_valid(KEY));

    let made = json(&succeed(
        here,
        &["key", "create", "--name", "ci", "--scopes", "gateway,traces:write", "--json"],
    ));
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(is_valid(key));
    let plain = succeed(here, &["key", "create", "--name", "script"]);
    assert!(is_valid(plain.trim()), "standard output is the key alone: {plain:?}");
    let listed = succeed(here, &["key", "list", "--json"]);
    assert_eq!(json(&listed).as_array().unwrap().len(), 3);
    assert!(!listed.contains(key));

    succeed(here, &["key", "revoke", id]);
    let begun = Instant::now();
    while is_valid(key) {
        assert!(begun.elapsed() < Duration::from_secs(20), "the revoked key goes on");
    }
    let (code, error) = fail(here, &["key", "create", "--name", "x", "--scopes", "everything"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("unknown scope \"everything\""), "{error}");
}

#[test]
fn migrations_go_up_and_down_and_ask_before_they_destroy() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    assert!(succeed(here, &["migrate", "up", "--dry-run"]).contains("CREATE TABLE"));
    let info = || json(&succeed(here, &["migrate", "info", "--json"]));
    let latest = info()["latest"].clone();
    assert_eq!(info()["current"], 0);
    succeed(here, &["migrate", "up"]);
    assert_eq!(info()["current"], latest);
    let (code, error) = fail(here, &["migrate", "down"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("--yes"), "{error}");
    assert_eq!(info()["current"], latest);
    assert!(fail(here, &["key", "list"]).1.contains("brokle serve"));
    succeed(here, &["migrate", "down", "--steps", "1", "--yes"]);
    assert_ne!(info()["current"], latest);
    let status = json(&succeed(here, &["migrate", "status", "--json"]));
    assert_eq!(status.as_array().unwrap().last().unwrap()["state"], "pending");
    let (_, error) = fail(here, &["serve", "--role", "worker"]);
    assert!(error.contains("pending"), "{error}");

    for kind in ["sqlite", "postgres"] {
        std::fs::create_dir_all(here.join("migrations").join(kind)).unwrap();
    }
    std::fs::write(here.join("migrations/sqlite/0007_old.up.sql"), "").unwrap();
    let written = succeed(here, &["migrate", "create", "add_budgets"]);
    assert_eq!(written.lines().count(), 4);
    assert!(here.join("migrations/postgres/0008_add_budgets.down.sql").is_file());
    // ClickHouse counts its own.
    std::fs::create_dir(here.join("migrations/clickhouse")).unwrap();
    let written = succeed(here, &["migrate", "create", "add_spans", "--db", "analytics"]);
    assert_eq!(written.lines().count(), 2);
    assert!(here.join("migrations/clickhouse/0001_add_spans.up.sql").is_file());
}

#[test]
fn a_wrong_configuration_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    assert!(succeed(here, &["config", "check"]).contains("valid"));
    std::fs::write(here.join("brokle.toml"), "[server]\nlistem = \"127.0.0.1:1\"\n").unwrap();
    let (code, error) = fail(here, &["config", "check"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("listem") && error.contains("brokle.toml"), "{error}");
    assert!(fail(here, &["serve"]).1.contains("listem"));
    assert!(json(&succeed(here, &["config", "schema"]))["properties"]["server"].is_object());

    std::fs::write(
        here.join("brokle.toml"),
        "[[models]]\nprovider = \"openai\"\nname = \"x\"\nbase = \"nothing\"\n",
    )
    .unwrap();
    assert!(fail(here, &["config", "check"]).1.contains("openai/x"));
}

#[test]
fn a_policy_that_nobody_knows_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    let route = "candidates = [{ provider = \"echo\", model = \"echo-1\" }]\n";
    for (text, words) in [
        (
            "[gateway]\npolicy = \"wieghted\"\n".to_owned(),
            "gateway.policy: there is no routing policy 'wieghted' (did you mean weighted",
        ),
        (
            format!("[[routes]]\nname = \"a\"\npolicy = \"latancy\"\n{route}"),
            "routes.0.policy: there is no routing policy 'latancy'",
        ),
        (
            format!(
                "[[routes]]\nname = \"a\"\npolicy = \"cost\"\nconfig = {{ output_tokens = \"many\" }}\n{route}"
            ),
            "routes.0.config.output_tokens",
        ),
    ] {
        std::fs::write(here.join("brokle.toml"), text).unwrap();
        let (code, error) = fail(here, &["serve"]);
        assert!(code == Some(1) && error.contains(words), "{error}");
    }
}

#[test]
fn a_malformed_secret_is_refused_without_being_repeated() {
    let directory = tempfile::tempdir().unwrap();
    for name in ["BROKLE_ENCRYPTION_KEY", "BROKLE_BOOTSTRAP_API_KEY"] {
        let output = brokle(directory.path(), &["serve"]).env(name, "hunter2").output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(1));
        assert!(text.contains(name) && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn the_help_teaches_with_examples() {
    let directory = tempfile::tempdir().unwrap();
    assert!(succeed(directory.path(), &["--help"]).contains("brokle serve --config brokle.toml"));
    assert!(succeed(directory.path(), &["key", "--help"]).contains("brokle key create --name ci"));
    assert!(succeed(directory.path(), &["migrate", "--help"]).contains("brokle migrate up --dry-run"));
    assert_eq!(json(&succeed(directory.path(), &["openapi"]))["info"]["title"], "Brokle");
}
