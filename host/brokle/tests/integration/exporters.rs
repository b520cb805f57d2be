//! Observations go elsewhere: all of them, only those that are meant, whatever dies in between.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::ids::EnvironmentId;
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::KeyService;
use brokle_identity::keys::NewKey;
use brokle_storage::sql::{ConnectOptions, Database};
use brokle_test_services::{ClickHouse, Redis};
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::cli::{KEY, Server, brokle};
use crate::tenancy::another_organization;

const TOKEN: &str = "a-token-that-nobody-must-see";
const PATIENCE: Duration = Duration::from_secs(120);

/// One request that came, and what it was answered with.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    status: u16,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

/// Who receives. A rule says what it answers: a status, or 0 to break the connection.
struct Receiver {
    address: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Receiver {
    fn start(rule: impl Fn(&Seen) -> u16 + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let receiver = Self { address: listener.local_addr().unwrap().to_string(), seen: Arc::default() };
        let seen = Arc::clone(&receiver.seen);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                // A server that was killed leaves in the middle.
                let _ = receive(stream.unwrap(), &rule, &seen);
            }
        });
        receiver
    }

    fn taken(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|one| (200..300).contains(&one.status)).cloned().collect()
    }

    /// Waits until what was taken is enough.
    fn until(&self, what: &str, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let begun = Instant::now();
        loop {
            let taken = self.taken();
            if enough(&taken) {
                return taken;
            }
            assert!(begun.elapsed() < PATIENCE, "{what}: {taken:#?}");
            std::thread::yield_now();
        }
    }
}

fn receive(stream: TcpStream, rule: &dyn Fn(&Seen) -> u16, seen: &Mutex<Vec<Seen>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or_default();
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let mut one = Seen { path, headers, body, status: 0 };
    one.status = rule(&one);
    let status = one.status;
    seen.lock().unwrap().push(one);
    if status == 0 {
        return Ok(());
    }
    let head = format!(
        "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}"
    );
    reader.get_mut().write_all(head.as_bytes())
}

/// A server's folder; what it logs from a warning on is kept.
struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new(exporters: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        place.configure(exporters);
        place
    }

    fn configure(&self, exporters: &str) {
        let text = format!(
            "{exporters}\n[logs]\nlevel = \"warn,brokle::serve=info\"\n[telemetry]\ncapture = \"full\"\n"
        );
        std::fs::write(self.folder.path().join("brokle.toml"), text).unwrap();
    }

    fn start(&self) -> Server {
        let mut command: Command = brokle(self.folder.path(), &["serve"]);
        command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("BROKLE_PLUGIN_TOKEN", TOKEN);
        Server::start(command)
    }
}

/// An operator grants an exporter its receiver, its secret, and what else it asks for.
fn grant(server: &Server, plugin: &str, receiver: &Receiver, secret: &str) {
    let mut grants = json!({
        "http": { "upstreams": { "receiver": { "hosts": [format!("http://{}", receiver.address)] } } },
        "secrets": { secret: "env:BROKLE_PLUGIN_TOKEN" },
    });
    if plugin.ends_with("webhook") {
        grants["crypto"] = json!({});
        grants["clock"] = json!({});
    }
    let head = format!("PUT /api/v1/plugins/{plugin}/grants HTTP/1.1\r\nx-api-key: {KEY}");
    let answer = server.send(&head, &grants.to_string());
    assert!(answer.starts_with("HTTP/1.1 2"), "{answer}");
}

/// Sends spans of these names, and sees them acknowledged.
fn send(server: &Server, key: &str, names: &[String]) {
    send_with(server, key, names, |name| format!("input of {name}"));
}

fn send_with(server: &Server, key: &str, names: &[String], input: impl Fn(&str) -> String) {
    let now = SystemClock.now().timestamp_nanos_opt().unwrap();
    let span = |name: &String| {
        let mut id = 7_u128;
        name.bytes().for_each(|byte| id = id.wrapping_mul(1_000_003) ^ u128::from(byte));
        let low = (id as u64) | 1;
        json!({
            "traceId": format!("{id:032x}"), "spanId": format!("{low:016x}"), "name": name,
            "startTimeUnixNano": now.to_string(), "endTimeUnixNano": (now + 1_000_000).to_string(),
            "attributes": [{ "key": "brokle.input", "value": { "stringValue": input(name) } }],
        })
    };
    let spans: Vec<Value> = names.iter().map(span).collect();
    let body = json!({ "resourceSpans": [{ "scopeSpans": [{ "spans": spans }] }] });
    let answer = server.send(&format!("POST /v1/traces HTTP/1.1\r\nx-api-key: {key}"), &body.to_string());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}-{n}")).collect()
}

/// The first start's tenant, and another one with a key.
fn two_tenants(folder: &Path) -> (Tenant, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let url = format!("sqlite:{}", folder.join("data/brokle.db").display());
        let database = Database::connect(&url, ConnectOptions::default()).await.unwrap();
        let first = brokle_storage::sql::Page::first(10);
        let found = database.exporters().projects(first).await.unwrap();
        let [(organization, project, _)] = found.as_slice() else { panic!("{found:?}") };
        let ours = Tenant {
            organization: *organization,
            project: *project,
            environment: EnvironmentId::from_u128(0),
        };
        let theirs = another_organization(&database).await;
        let keys = KeyService::new(database.clone(), Arc::new(SystemClock), Arc::new(SystemRandom));
        let new = NewKey {
            name: "theirs".into(),
            scopes: vec!["traces:write".into()],
            expires_at: None,
            requests_per_minute: None,
            restrictions: Default::default(),
        };
        let (_, secret) = keys.create(theirs, new).await.unwrap();
        database.close().await;
        (ours, secret.expose().to_owned())
    })
}

fn spans(seen: &[Seen]) -> Vec<Value> {
    let of =
        |one: &Seen| one.json()["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    seen.iter().flat_map(of).collect()
}

fn metric(server: &Server, line: &str) -> String {
    let metrics = server.ask("GET /metrics HTTP/1.1");
    metrics.lines().find(|one| one.starts_with(line)).unwrap_or("none").to_owned()
}

/// Observations are counted a moment after their receiver's answer is there.
fn until_counted(server: &Server, exporter: &str, outcome: &str, count: u64) {
    let line = format!(r#"brokle_exported_total{{exporter="{exporter}",outcome="{outcome}"}}"#);
    let begun = Instant::now();
    while !metric(server, &line).ends_with(&format!(" {count}")) {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", metric(server, &line));
        std::thread::yield_now();
    }
}

#[test]
fn exactly_the_projects_spans_arrive_and_no_secret_shows() {
    let receiver = Receiver::start(|_| 200);
    let place = Place::new("");
    place.start().signal("KILL");
    let (ours, theirs) = two_tenants(place.folder.path());
    place.configure(&format!(
        "[[exporters]]\nname = \"mine\"\nplugin = \"otlp\"\nprojects = [\"{}\"]\nfilter = \"-name:boring-0\"\n\
         config = {{ encoding = \"json\", authentication = {{ type = \"bearer\" }} }}\n",
        ours.project
    ));
    let server = place.start();
    // Before anything is granted: the store holds it.
    send(&server, KEY, &names("early", 5));
    grant(&server, "brokle.exporter-otlp", &receiver, "token");
    send(&server, &theirs, &names("theirs", 20));
    send(&server, KEY, &names("boring", 1));
    send(&server, KEY, &names("ours", 20));
    let chat = json!({ "model": "echo-1", "messages": [{ "role": "user", "content": "to the echo" }] });
    let answer =
        server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}"), &chat.to_string());
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");

    let called = |span: &Value| span["kind"] == 3;
    let taken = receiver.until("the call and 25 spans", |seen| {
        let spans = spans(seen);
        spans.iter().any(called)
            && spans.iter().filter(|span| span["name"].as_str().unwrap().contains('-')).count() >= 25
    });
    send(&server, &theirs, &names("more-of-theirs", 5));
    send(&server, KEY, &names("last", 1));
    let taken_later =
        receiver.until("the last one", |seen| spans(seen).iter().any(|span| span["name"] == "last-0"));
    let found: Vec<String> =
        spans(&taken_later).iter().map(|span| span["name"].as_str().unwrap().to_owned()).collect();
    let unique: BTreeSet<&String> = found.iter().collect();
    assert_eq!(unique.len(), found.len(), "nothing failed: each came once");
    for name in names("early", 5).iter().chain(&names("ours", 20)) {
        assert!(unique.contains(name), "{name}: {found:?}");
    }
    assert!(
        !found
            .iter()
            .any(|name| name.starts_with("theirs") || name.starts_with("boring") || name.starts_with("more"))
    );

    let all = spans(&taken);
    let call = all.iter().find(|span| called(span)).unwrap();
    let attribute = |name: &str| {
        let attributes = call["attributes"].as_array().unwrap();
        attributes.iter().find(|one| one["key"] == name).map(|one| one["value"].clone()).unwrap_or_default()
    };
    assert_eq!(attribute("gen_ai.operation.name"), json!({ "stringValue": "chat" }), "{call:#}");
    assert!(attribute("brokle.input").to_string().contains("to the echo"));
    let inside: Vec<&Value> = all.iter().filter(|span| span["parentSpanId"] == call["spanId"]).collect();
    assert!(!inside.is_empty() && inside.iter().all(|span| span["traceId"] == call["traceId"]), "{all:#?}");

    let first = &taken[0];
    assert_eq!(first.path, "/v1/traces");
    assert_eq!(first.headers["authorization"], format!("Bearer {TOKEN}"));
    let resource = &first.json()["resourceSpans"][0]["resource"];
    assert!(resource.to_string().contains(&ours.project.to_string()), "{resource}");
    until_counted(&server, "mine", "exported", 27);
    let shown = server.ask(&format!("GET /api/v1/plugins HTTP/1.1\r\nx-api-key: {KEY}"));
    server.signal("TERM");
    let log = server.log();
    assert!(!log.contains(TOKEN) && !shown.contains(TOKEN), "{log}");
    let kept = walk(place.folder.path());
    assert!(!kept.windows(TOKEN.len()).any(|bytes| bytes == TOKEN.as_bytes()), "a secret is in a file");
}

/// Every byte below a folder.
fn walk(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        bytes.extend(if path.is_dir() { walk(&path) } else { std::fs::read(&path).unwrap_or_default() });
    }
    bytes
}

#[test]
fn neither_a_receiver_that_is_away_nor_a_killed_server_loses_anything() {
    let away = Arc::new(Mutex::new(false));
    let rule = Arc::clone(&away);
    let turn = Mutex::new(0_u32);
    // While it is away it breaks connections or is busy, and sometimes has taken the batch before.
    let receiver = Receiver::start(move |_| {
        if !*rule.lock().unwrap() {
            return 204;
        }
        let mut turn = turn.lock().unwrap();
        *turn += 1;
        [0, 503, 429][*turn as usize % 3]
    });
    let place = Place::new("[[exporters]]\nplugin = \"webhook\"\nconfig = { path = \"/hook\" }\n");
    let mut server = place.start();
    grant(&server, "brokle.exporter-webhook", &receiver, "signing-key");
    let mut sent = BTreeSet::new();
    for round in 0..4 {
        let batch = names(&format!("round{round}"), 50);
        *away.lock().unwrap() = round % 2 == 1;
        send(&server, KEY, &batch);
        sent.extend(batch);
        if round % 2 == 1 {
            let begun = Instant::now();
            let tries = receiver.seen.lock().unwrap().len();
            while receiver.seen.lock().unwrap().len() < tries + 2 {
                assert!(begun.elapsed() < PATIENCE, "nothing is tried");
                std::thread::yield_now();
            }
        }
        // In the middle of whatever it does.
        server.signal("KILL");
        server = place.start();
    }
    *away.lock().unwrap() = false;
    send(&server, KEY, &names("end", 1));
    sent.insert("end-0".into());
    let observed = |seen: &[Seen]| -> BTreeSet<String> {
        let of = |one: &Seen| one.json()["observations"].as_array().unwrap().clone();
        let all = seen.iter().flat_map(of);
        all.map(|observation| observation["name"].as_str().unwrap().to_owned()).collect()
    };
    let taken = receiver.until("all spans", |seen| observed(seen).is_superset(&sent));

    // The same batch has the same id and the same bytes, however often it comes.
    let mut bodies: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for one in receiver.seen.lock().unwrap().iter() {
        let id = one.headers["webhook-id"].clone();
        assert_eq!(
            (&one.headers["idempotency-key"], one.json()["batch_id"].as_str()),
            (&id, Some(id.as_str()))
        );
        let body = bodies.entry(id).or_insert_with(|| one.body.clone());
        assert_eq!(*body, one.body);
    }
    for one in &taken {
        assert_eq!(one.path, "/hook");
        let mut mac = Hmac::<Sha256>::new_from_slice(TOKEN.as_bytes()).unwrap();
        mac.update(format!("{}.{}.", one.headers["webhook-id"], one.headers["webhook-timestamp"]).as_bytes());
        mac.update(&one.body);
        let signature = base64::engine::general_purpose::STANDARD.encode(mac.finalize().into_bytes());
        assert_eq!(one.headers["webhook-signature"], format!("v1,{signature}"));
    }
    drop(server);
}

#[test]
fn one_observation_that_is_never_taken_doesnt_hold_up_the_others() {
    let receiver = Receiver::start(|seen| {
        if String::from_utf8_lossy(&seen.body).contains("input of poison-0") { 400 } else { 200 }
    });
    let place = Place::new("[[exporters]]\nplugin = \"webhook\"\n");
    let server = place.start();
    grant(&server, "brokle.exporter-webhook", &receiver, "signing-key");
    let mut mixed = names("before", 20);
    mixed.extend(names("poison", 1));
    mixed.extend(names("after", 20));
    send(&server, KEY, &mixed);
    receiver.until("all the others", |seen| {
        let text: String = seen.iter().map(|one| String::from_utf8_lossy(&one.body).into_owned()).collect();
        mixed
            .iter()
            .filter(|name| !name.starts_with("poison"))
            .all(|name| text.contains(&format!("\"{name}\"")))
    });
    send(&server, KEY, &names("next", 1));
    receiver
        .until("the next", |seen| seen.iter().any(|one| one.body.windows(6).any(|bytes| bytes == b"next-0")));
    until_counted(&server, "webhook", "passed_over", 1);
    until_counted(&server, "webhook", "exported", 41);
    server.signal("TERM");
    let log = server.log();
    assert!(log.contains("an observation is never taken") && !log.contains("input of"), "{log}");
}

#[test]
fn workers_export_each_observation_once_and_whole_and_sum_up() {
    let (Some(redis), Some(clickhouse)) = (Redis::start().unwrap(), ClickHouse::start().unwrap()) else {
        return;
    };
    let (redis, clickhouse_url) = (redis.url(), clickhouse.database_url());
    let receiver = Receiver::start(|_| 200);
    let folder = tempfile::tempdir().unwrap();
    let start = |name: &str, role: &str, exporters: &str| {
        let home = folder.path().join(name);
        std::fs::create_dir(&home).unwrap();
        // Nobody reads the log while the test goes on.
        let text = format!(
            "{exporters}\n[files]\nfolder = \"{}\"\n[batches]\nrun = false\n[telemetry]\ncapture = \"full\"\n\
             [logs]\nlevel = \"off,brokle::serve=info\"\n",
            folder.path().join("files").display()
        );
        std::fs::write(home.join("brokle.toml"), text).unwrap();
        let mut command = brokle(&home, &["serve", "--role", role]);
        let database = format!("sqlite:{}", folder.path().join("shared.db").display());
        command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("REDIS_URL", &redis).env("DATABASE_URL", database);
        command.env("CLICKHOUSE_URL", &clickhouse_url).env("BROKLE_ENCRYPTION_KEY", "0".repeat(64));
        command.env("BROKLE_PLUGIN_TOKEN", TOKEN);
        Server::start(command)
    };
    let server = start("server", "server", "");
    grant(&server, "brokle.exporter-webhook", &receiver, "signing-key");
    let exporters = "[[exporters]]\nplugin = \"webhook\"\nstart = \"beginning\"\n";
    let workers = [start("one", "worker", exporters), start("other", "worker", exporters)];
    send(&server, KEY, &names("small", 40));
    let large = |name: &str| format!("{name} {}", "x".repeat(300 << 10));
    send_with(&server, KEY, &names("large", 5), large);

    let observed = |seen: &[Seen]| -> Vec<Value> {
        seen.iter().flat_map(|one| one.json()["observations"].as_array().unwrap().clone()).collect()
    };
    let taken = receiver.until("all spans", |seen| observed(seen).len() >= 45);
    let project = taken[0].json()["project_id"].as_str().unwrap().to_owned();
    let taken = observed(&taken);
    let found: BTreeSet<&str> = taken.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!((taken.len(), found.len()), (45, 45), "each once");
    for one in taken.iter().filter(|one| one["name"].as_str().unwrap().starts_with("large")) {
        assert_eq!(one["input"].as_str().unwrap(), large(one["name"].as_str().unwrap()), "whole");
    }
    let exported = |worker: &Server| {
        let line = metric(worker, r#"brokle_exported_total{exporter="webhook",outcome="exported"}"#);
        line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).unwrap_or_default()
    };
    assert_eq!(workers.iter().map(exported).sum::<u64>(), 45);
    assert_eq!(exported(&server), 0);

    // Workers sum up the hours, too, a minute later at most.
    let begun = Instant::now();
    loop {
        let asked =
            format!("GET /api/v1/projects/{project}/metrics?measures=count HTTP/1.1\r\nx-api-key: {KEY}");
        let answer = server.ask(&asked);
        assert!(answer.contains(r#""count":45"#), "{answer}");
        if answer.contains(r#""source":"rollups""#) {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "{answer}");
        std::thread::yield_now();
    }
}
