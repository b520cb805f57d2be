//! The configurations of `docs/resilience.md` are valid, mistakes in them are named, and an overloaded gateway goes on.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::cli::{KEY, Server, brokle, succeed};

fn configurations() -> Vec<String> {
    let page = include_str!("../../../../docs/resilience.md");
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

fn checked(text: &str) -> String {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("brokle.toml"), text).unwrap();
    let output = brokle(directory.path(), &["config", "check"]).output().unwrap();
    assert!(!output.status.success(), "{text} is valid");
    String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_configuration_of_the_page_is_valid() {
    let all = configurations();
    assert_eq!(all.len(), 6);
    for text in all {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("brokle.toml"), text).unwrap();
        succeed(directory.path(), &["config", "check"]);
    }
}

#[test]
fn a_mistake_is_named() {
    let route = configurations().remove(5);
    for (good, bad, named) in [
        (
            "general = [{ provider = \"echo\", model = \"echo-1\" }]",
            "general = [{ model = \"x\" }]",
            "routes.0.fallbacks.general.0",
        ),
        ("model = \"claude-haiku-4-5\"", "model = \"\"", "routes.0.fallbacks.rate_limit.0.model"),
        ("temperature = 0", "stream = true", "routes.0.set.stream"),
        ("temperature = 0", "temperature = \"hot\"", "routes.0.set.temperature: number is expected"),
        ("idle_ms = 20000", "idle_ms = 0", "routes.0.timeouts.idle_ms"),
        ("total_ms = 60000", "total_ms = 6000000", "routes.0.timeouts.total_ms"),
        ("retries = 1", "retries = 9", "routes.0.retries"),
    ] {
        assert!(route.contains(good), "{good}");
        let told = checked(&route.replace(good, bad));
        assert!(told.contains(named), "{named}: {told}");
    }
    let hedged = configurations().remove(4);
    for both in ["percentile = 95, after_ms = 1", "", "percentile = 100", "after_ms = 0"] {
        assert!(checked(&hedged.replace("percentile = 95", both)).contains("routes.0.hedge"), "{both}");
    }
    for (text, named) in [
        ("[gateway.breaker]\npercent = 0\n", "gateway.breaker.percent"),
        ("[gateway.breaker]\nprobes = 0\n", "gateway.breaker.probes"),
        ("[gateway]\nretries = 6\n", "gateway.retries"),
    ] {
        assert!(checked(text).contains(named), "{named}");
    }
}

/// A vendor that answers each request when it is told to; its base URL, who was asked, and the word.
fn patient() -> (String, Receiver<()>, Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (asked_it, asked) = channel();
    let (word, told) = channel();
    std::thread::spawn(move || {
        let mut waiting = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"}]}") {
                let mut piece = [0; 4_096];
                let size = stream.read(&mut piece).unwrap();
                assert!(size > 0, "the request isn't whole");
                request.extend_from_slice(&piece[..size]);
            }
            waiting.push(stream);
            asked_it.send(()).unwrap();
            if waiting.len() == 2 {
                told.recv().unwrap();
                for mut stream in waiting.drain(..) {
                    let body = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hi"}}]}"#;
                    let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
                }
            }
        }
    });
    (url, asked, word)
}

#[test]
fn an_overloaded_gateway_goes_on_with_what_it_took() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("brokle.toml"), "[gateway]\nmax_in_flight = 2\n").unwrap();
    let (vendor, asked, word) = patient();
    let mut command = brokle(directory.path(), &["serve"]);
    command
        .env("BROKLE_BOOTSTRAP_API_KEY", KEY)
        .env("OPENAI_API_KEY", "sk-test")
        .env("OPENAI_BASE_URL", vendor);
    let server = Server::start(command);
    let head = format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}");
    let body = r#"{"model":"openai/gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;
    let health = || server.ask("GET /health/providers HTTP/1.1");
    for _ in 0..2 {
        std::thread::scope(|scope| {
            let taken: Vec<_> = (0..2).map(|_| scope.spawn(|| server.send(&head, body))).collect();
            for _ in 0..2 {
                asked.recv_timeout(Duration::from_secs(20)).expect("the vendor is asked");
            }
            assert!(health().contains(r#""in_flight":2"#), "{}", health());
            let begun = Instant::now();
            for _ in 0..50 {
                let shed = server.send(&head, body);
                assert!(shed.starts_with("HTTP/1.1 503"), "{shed}");
                assert!(shed.contains("retry-after: 1\r\n") && shed.contains("gateway_overloaded"), "{shed}");
            }
            // With a connection each, and a client that is as slow as its test.
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
            let claude = format!("POST /v1/messages HTTP/1.1\r\nx-api-key: {KEY}");
            let shed = server.send(&claude, r#"{"model":"m","max_tokens":1,"messages":[]}"#);
            assert!(shed.starts_with("HTTP/1.1 503") && shed.contains(r#""type":"error""#), "{shed}");
            // Who has no key is told so.
            assert!(server.send("POST /v1/chat/completions HTTP/1.1", body).starts_with("HTTP/1.1 401"));
            word.send(()).unwrap();
            for answer in taken {
                let answer = answer.join().unwrap();
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
        });
    }
    assert!(health().contains(r#""circuit":"closed""#), "{}", health());
    // A hundred and two were refused: a line for each would be most of what an overloaded gateway does.
    server.signal("INT");
    let log = server.log();
    let refused: u64 = log
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|event| event["message"] == "calls were refused for want of room")
        .map(|event| event["calls"].as_u64().unwrap())
        .sum();
    assert_eq!((refused, log.matches("request failed").count()), (102, 0), "{log}");
}

#[test]
fn a_connection_made_by_api_is_checked_as_it_says() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = brokle(directory.path(), &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("BROKLE_ALLOW_PRIVATE_UPSTREAMS", "true");
    let server = Server::start(command);
    let send = |head: &str, body: &str| server.send(&format!("{head} HTTP/1.1\r\nx-api-key: {KEY}"), body);
    // It is there while the connection is made, which is tried then, and gone after.
    let vendor = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = vendor.local_addr().unwrap();
    let once = std::thread::spawn(move || {
        let (mut stream, _) = vendor.accept().unwrap();
        let mut request = [0; 4096];
        let _ = stream.read(&mut request).unwrap();
        let models = r#"{"object":"list","data":[]}"#;
        let length = models.len();
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{models}").unwrap();
    });
    let body = format!(
        r#"{{"provider":"openai","name":"mine","base_url":"http://{address}/v1","secret":"sk-x","health_check_seconds":10}}"#
    );
    let made = send("POST /api/v1/connections", &body);
    once.join().unwrap();
    assert!(made.starts_with("HTTP/1.1 201") && made.contains(r#""health_check_seconds":10"#), "{made}");
    let chat = r#"{"model":"echo/echo-1","messages":[{"role":"user","content":"hi"}]}"#;
    assert!(send("POST /v1/chat/completions", chat).starts_with("HTTP/1.1 200"));
    let begun = Instant::now();
    let failures = r#"brokle_health_check_failures_total{provider="openai"}"#;
    while !server.ask("GET /metrics HTTP/1.1").contains(failures) {
        assert!(begun.elapsed() < Duration::from_secs(30), "it isn't asked");
    }
}
