//! A Redis with TLS, a user and a password: limits, the cache, the queue and live streams get through, and only as whom they say.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use brokle_test_services::Redis;

use crate::cli::{KEY, Server, brokle};

const CONFIGURATION: &str = r#"
[cache]
enabled = true
store = "redis"

[telemetry]
queue = "redis"

[[limits]]
name = "daily"
by = ["project"]
requests_per_day = 1000
"#;

fn start(directory: &std::path::Path, name: &str, url: &str, authority: Option<&Redis>) -> Server {
    std::fs::write(directory.join("brokle.toml"), CONFIGURATION).unwrap();
    let mut command = brokle(directory, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("REDIS_URL", url);
    command.env("DATABASE_URL", "sqlite:shared.db").env("BROKLE_DATA_DIR", name);
    if let Some(redis) = authority {
        command.env("REDIS_CA_FILE", redis.ca_file());
    }
    Server::start(command)
}

fn chat(server: &Server, words: &str) -> String {
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}");
    let body = format!(r#"{{"model":"echo/echo-1","messages":[{{"role":"user","content":"{words}"}}]}}"#);
    let answer = server.send(&head, &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    answer
}

fn header<'a>(answer: &'a str, name: &str) -> &'a str {
    answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap().trim()
}

fn ask(server: &Server, path: &str) -> String {
    server.ask(&format!("GET {path} HTTP/1.1\r\nx-api-key: {KEY}"))
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}");
    }
}

#[test]
fn servers_share_everything_over_tls() {
    let Some(redis) = Redis::start_guarded().unwrap_or_else(|error| panic!("{error}")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let server = |name: &str| start(directory.path(), name, &redis.url(), Some(&redis));
    let (one, two) = (server("one"), server("two"));
    chat(&one, "hi");
    until("the cache is shared", || header(&chat(&two, "hi"), "x-brokle-cache") == "hit");
    let left = |answer: &str| header(answer, "x-ratelimit-remaining-requests").parse::<u32>().unwrap();
    // On a busy machine Redis may not answer in time, and then each counts for itself for a second.
    let is_shared = (0..5).any(|_| {
        let begun = Instant::now();
        let of_one = (0..20).map(|_| left(&chat(&one, "hi"))).min().unwrap();
        let is_shared = left(&chat(&two, "hi")) < of_one;
        while !is_shared && begun.elapsed() < Duration::from_millis(1_500) {
            std::thread::yield_now();
        }
        is_shared
    });
    assert!(is_shared, "limits are shared");
    // Whoever's worker took it: it went through the queue.
    until("the queue is worked off", || {
        [&one, &two].iter().any(|server| {
            let usage = ask(server, "/v1/usage");
            usage.contains(r#""requests":"#) && !usage.contains(r#""month":{"requests":0"#)
        })
    });
    let mut live = TcpStream::connect(&two.address).unwrap();
    live.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    write!(live, "GET /api/v1/streaming/traces HTTP/1.1\r\nx-api-key: {KEY}\r\nhost: test\r\n\r\n").unwrap();
    let (mut heard, mut buffer) = (String::new(), [0; 4096]);
    until("what one does, two tells", || {
        chat(&one, "hello");
        if let Ok(count) = live.read(&mut buffer) {
            heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
        heard.contains("echo-1")
    });
}

#[test]
fn nobody_else_gets_in_and_no_call_fails_by_it() {
    let Some(redis) = Redis::start_guarded().unwrap_or_else(|error| panic!("{error}")) else { return };
    let directory = tempfile::tempdir().unwrap();
    let wrong = redis.url_with("guessed-password");
    let plain = redis.url().replace("rediss://", "redis://");
    for (name, url, authority) in [
        ("password", wrong.as_str(), Some(&redis)),
        // Nobody vouches for it.
        ("authority", &redis.url(), None),
        ("plain", &plain, None),
    ] {
        let server = start(directory.path(), name, url, authority);
        chat(&server, "hi");
        assert_eq!(header(&chat(&server, "hi"), "x-brokle-cache"), "miss", "{name}");
        assert!(ask(&server, "/v1/cache/status").contains(r#""available":false"#), "{name}");
        server.signal("TERM");
        let log = server.log();
        assert!(log.contains("answer"), "{name}: {log}");
        assert!(!log.contains("guessed-password") && !log.contains("s3cret"), "{name}: {log}");
    }
    let directory = tempfile::tempdir().unwrap();
    let odd = directory.path().join("odd.pem");
    std::fs::write(&odd, "no certificate").unwrap();
    for (url, file, told) in [
        (redis.url(), odd, "storage.redis_ca_file"),
        (redis.url(), "absent.pem".into(), "storage.redis_ca_file"),
        (plain, redis.ca_file(), "rediss://"),
        ("http://x".to_owned(), redis.ca_file(), "rediss://"),
    ] {
        let checked = brokle(directory.path(), &["config", "check"])
            .env("REDIS_URL", url)
            .env("REDIS_CA_FILE", file)
            .output();
        let checked = checked.unwrap();
        let said =
            String::from_utf8_lossy(&checked.stderr).into_owned() + &String::from_utf8_lossy(&checked.stdout);
        assert!(!checked.status.success() && said.contains(told) && !said.contains("s3cret"), "{said}");
    }
}
