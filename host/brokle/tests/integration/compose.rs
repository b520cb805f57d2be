//! `compose.yaml` and the `Dockerfile` without containers: Brokle's services as processes, with the words, the environment and
//! the volume that these files give them, and this machine's servers in the place of the images of others.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use brokle_test_services::{ClickHouse, Fsync, Postgres, Redis};
use serde_yaml_ng::Value;

use crate::cli::{KEY, Server, brokle};
use crate::otlp::send;

/// The volume's place in a container.
const DATA: &str = "/data";

/// Both files.
struct Compose {
    services: Value,
    configs: Value,
    /// `ENV` of the image.
    image: BTreeMap<String, String>,
    /// `CMD` of the image.
    words: Vec<String>,
}

impl Compose {
    fn read() -> Self {
        let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
        let compose = std::fs::read_to_string(format!("{root}/compose.yaml")).unwrap();
        let compose: Value = serde_yaml_ng::from_str(&compose).unwrap();
        let dockerfile = std::fs::read_to_string(format!("{root}/Dockerfile")).unwrap();
        let lines = |instruction: &'static str| {
            dockerfile.lines().filter_map(move |line| line.strip_prefix(instruction)?.strip_prefix(' '))
        };
        let pairs = lines("ENV").flat_map(str::split_whitespace).map(|pair| pair.split_once('=').unwrap());
        assert_eq!(lines("ENTRYPOINT").next_back().unwrap(), r#"["/usr/local/bin/brokle"]"#);
        Self {
            services: compose["services"].clone(),
            configs: compose["configs"].clone(),
            image: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            words: serde_json::from_str(lines("CMD").next_back().unwrap()).unwrap(),
        }
    }

    /// Starts one of Brokle's.
    fn start(&self, service: &str, on: &Machine<'_>) -> Server {
        let words = match self.services[service]["command"].as_sequence() {
            Some(words) => words.iter().map(|word| word.as_str().unwrap()).collect(),
            None => self.words.iter().map(String::as_str).collect::<Vec<_>>(),
        };
        Server::start(self.exec(service, &words, on))
    }

    /// These words in a container of the service, as `docker compose exec` runs them.
    fn exec(&self, service: &str, words: &[&str], on: &Machine<'_>) -> Command {
        let service = &self.services[service];
        assert_eq!(service["volumes"][0], format!("data:{DATA}").as_str());
        let mut command = brokle(on.volume, words);
        let own = service["environment"].as_mapping().unwrap().iter();
        let own = own.map(|(name, value)| (name.as_str().unwrap(), value.as_str().unwrap()));
        let image = self.image.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in image.chain(own) {
            let mut value = interpolated(value, &on.shell).replace(DATA, on.volume.to_str().unwrap());
            if value.starts_with("0.0.0.0:") {
                "127.0.0.1:0".clone_into(&mut value);
            }
            for (host, address) in &on.hosts {
                value = value.replace(host, address);
            }
            command.env(name, value);
        }
        command
    }
}

/// What the files don't say.
struct Machine<'a> {
    /// Where the volume is.
    volume: &'a Path,
    /// Variables that whoever runs `docker compose` has set.
    shell: BTreeMap<&'static str, &'a str>,
    /// What answers to names of the network.
    hosts: Vec<(&'static str, String)>,
}

/// A value with its one `${NAME:-}` filled in.
fn interpolated(value: &str, shell: &BTreeMap<&str, &str>) -> String {
    let Some((before, rest)) = value.split_once("${") else { return value.to_owned() };
    let (variable, after) = rest.split_once('}').unwrap();
    let (name, default) = variable.split_once(":-").unwrap();
    let filled = shell.get(name).copied().unwrap_or(default);
    assert!(!after.contains("${"), "{value}");
    format!("{before}{filled}{after}")
}

fn json(answer: &str) -> serde_json::Value {
    serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap()
}

/// Sends ten spans, and waits until the first can be read.
fn sent_and_read(server: &Server, n: u64) {
    assert!(send(&server.address, n));
    let head = format!("GET /api/v1/traces/{:032x} HTTP/1.1\r\nx-api-key: {KEY}", n + 1);
    let begun = Instant::now();
    while !server.ask(&head).starts_with("HTTP/1.1 200") {
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", server.ask(&head));
        std::thread::yield_now();
    }
}

#[test]
fn alone_it_serves_on_files() {
    let compose = Compose::read();
    let directory = tempfile::tempdir().unwrap();
    let shell = BTreeMap::from([("BROKLE_BOOTSTRAP_API_KEY", KEY)]);
    let machine = Machine { volume: directory.path(), shell, hosts: Vec::new() };
    let server = compose.start("brokle", &machine);
    let health = json(&server.ask("GET /health HTTP/1.1"));
    assert_eq!(
        (&health["database"]["kind"], &health["analytics"]["kind"]),
        (&"sqlite".into(), &"sqlite".into())
    );
    sent_and_read(&server, 0);
    assert!(directory.path().join("brokle.db").exists(), "not in the volume");
    // docs/telemetry.md.
    let words = ["key", "create", "--name", "app", "--scopes", "traces:write,traces:read"];
    let made = compose.exec("brokle", &words, &machine).output().unwrap();
    let key = String::from_utf8(made.stdout).unwrap();
    let key = key.split_whitespace().find(|word| word.starts_with("bk_")).unwrap();
    let traces = server.ask(&format!("GET /api/v1/traces HTTP/1.1\r\nx-api-key: {key}"));
    assert!(traces.starts_with("HTTP/1.1 200"), "{traces}");
}

#[test]
fn with_every_profile_server_and_worker_share_what_the_others_keep() {
    let (Some(redis), Some(clickhouse), Some(postgres)) = (
        Redis::start_durable(Fsync::EverySecond).unwrap(),
        ClickHouse::shared().unwrap(),
        Postgres::shared().unwrap(),
    ) else {
        return;
    };
    let compose = Compose::read();
    let [script] = compose.services["postgres"]["configs"].as_sequence().unwrap().as_slice() else {
        panic!()
    };
    assert_eq!(script["target"], "/docker-entrypoint-initdb.d/brokle.sh");
    let script = compose.configs[&script["source"]]["content"].as_str().unwrap().replace("$$", "$");
    let exempt = r#"psql -U "$POSTGRES_USER" -tAc "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = 'brokle'""#;
    let [made, exempt] = [&script, exempt].map(|script| {
        let mut bash = Command::new("bash");
        bash.args(["-c", script]).envs(postgres.environment().unwrap()).output().unwrap()
    });
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    assert_eq!(exempt.stdout, b"f\n", "row-level security holds for the role");
    // As at the head of compose.yaml.
    let shell = BTreeMap::from([
        ("DATABASE_URL", "postgres://brokle:secret@postgres/brokle"),
        ("REDIS_URL", "redis://redis:6379"),
        ("CLICKHOUSE_URL", "http://clickhouse:8123/brokle"),
        ("BROKLE_BOOTSTRAP_API_KEY", KEY),
    ]);
    let hosts = vec![
        ("postgres://brokle:secret@postgres/brokle", postgres.url("brokle", "brokle")),
        ("redis://redis:6379", redis.url()),
        ("http://clickhouse:8123/brokle", clickhouse.database_url()),
    ];
    for store in ["postgres", "redis", "clickhouse"] {
        assert_eq!(compose.services["brokle"]["depends_on"][store]["condition"], "service_healthy");
        assert!(compose.services[store]["healthcheck"]["test"].is_sequence());
    }
    let redis_words = serde_yaml_ng::to_string(&compose.services["redis"]["command"]).unwrap();
    for needed in ["--appendonly\n- yes", "--maxmemory-policy\n- noeviction"] {
        assert!(redis_words.replace('\'', "").contains(needed), "{redis_words}");
    }

    let volume = tempfile::tempdir().unwrap();
    let machine = Machine { volume: volume.path(), shell, hosts };
    let start = |service| compose.start(service, &machine);
    // A worker never migrates.
    assert_eq!(compose.services["worker"]["depends_on"]["brokle"]["condition"], "service_healthy");
    let (server, worker) = (start("brokle"), start("worker"));
    let health = json(&server.ask("GET /health HTTP/1.1"));
    assert_eq!(
        (&health["database"]["kind"], &health["analytics"]["kind"]),
        (&"postgres".into(), &"clickhouse".into())
    );
    assert!(worker.ask("GET /health/ready HTTP/1.1").starts_with("HTTP/1.1 200"));
    sent_and_read(&server, 0);
    worker.signal("TERM");
    assert_eq!(worker.end().0, Some(0));
    let _again = start("worker");
    sent_and_read(&server, 100);
    // Another server, which leaves the queue to others: what it takes only the worker can have stored.
    server.signal("INT");
    assert_eq!(server.end().0, Some(0));
    let server = Server::start(compose.exec("brokle", &["serve", "--role", "server"], &machine));
    sent_and_read(&server, 200);
}
