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
            image: pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            words: serde_json::from_str(lines("CMD").next_back().unwrap()).unwrap(),
        }
    }

    /// One of Brokle's, with the volume in this directory. `shell` are the variables that whoever runs `docker compose` has set, and
    /// `hosts` what answers to names of the network.
    fn command(
        &self,
        service: &str,
        volume: &Path,
        shell: &BTreeMap<&str, String>,
        hosts: &[(&str, &str)],
    ) -> Command {
        let service = &self.services[service];
        assert_eq!(service["volumes"][0], format!("data:{DATA}").as_str());
        let words = match service["command"].as_sequence() {
            Some(words) => words.iter().map(|word| word.as_str().unwrap().to_owned()).collect(),
            None => self.words.clone(),
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let mut command = brokle(volume, &words);
        let own = service["environment"].as_mapping().unwrap().iter();
        let own = own.map(|(name, value)| (name.as_str().unwrap(), value.as_str().unwrap()));
        let image = self.image.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in image.chain(own) {
            let mut value = interpolated(value, shell).replace(DATA, volume.to_str().unwrap());
            if value.starts_with("0.0.0.0:") {
                "127.0.0.1:0".clone_into(&mut value);
            }
            for (host, address) in hosts {
                value = value.replace(host, address);
            }
            command.env(name, value);
        }
        command
    }
}

/// A value with its one `${NAME:-}` filled in.
fn interpolated(value: &str, shell: &BTreeMap<&str, String>) -> String {
    let Some((before, rest)) = value.split_once("${") else { return value.to_owned() };
    let (variable, after) = rest.split_once('}').unwrap();
    let (name, default) = variable.split_once(":-").unwrap();
    let filled = shell.get(name).map_or(default, String::as_str);
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
    let shell = BTreeMap::from([("BROKLE_BOOTSTRAP_API_KEY", KEY.to_owned())]);
    let server = Server::start(compose.command("brokle", directory.path(), &shell, &[]));
    let health = json(&server.ask("GET /health HTTP/1.1"));
    assert_eq!(
        (&health["database"]["kind"], &health["analytics"]["kind"]),
        (&"sqlite".into(), &"sqlite".into())
    );
    sent_and_read(&server, 0);
    assert!(directory.path().join("brokle.db").exists(), "not in the volume");
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
    let (database, clickhouse) = (postgres.database().unwrap(), clickhouse.database_url());
    // As at the head of compose.yaml.
    let shell = BTreeMap::from([
        ("DATABASE_URL", "postgres://brokle:secret@postgres/brokle".to_owned()),
        ("REDIS_URL", "redis://redis:6379".to_owned()),
        ("CLICKHOUSE_URL", "http://clickhouse:8123/brokle".to_owned()),
        ("BROKLE_BOOTSTRAP_API_KEY", KEY.to_owned()),
    ]);
    let hosts = [
        ("postgres://brokle:secret@postgres/brokle", database.owner_url.as_str()),
        ("redis://redis:6379", &redis.url()),
        ("http://clickhouse:8123/brokle", &clickhouse),
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
    let start = |service| Server::start(compose.command(service, volume.path(), &shell, &hosts));
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
}
