//! Acknowledged spans and scores survive SIGKILL.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::cli::{KEY, Server, brokle};

/// Spans in a request.
pub(crate) const SPANS: u64 = 10;

/// Sends spans `n..n + SPANS`; true when they were acknowledged.
pub(crate) fn send(address: &str, n: u64) -> bool {
    let spans: Vec<String> = (n..n + SPANS)
        .map(|n| {
            #[expect(
                clippy::disallowed_methods,
                reason = "the server that is tested has the machine's clock"
            )]
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
            format!(
                r#"{{"traceId":"{:032x}","spanId":"{:016x}","name":"{n}","startTimeUnixNano":"{now}"}}"#,
                n + 1,
                n + 1
            )
        })
        .collect();
    let body = format!(r#"{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{}]}}]}}]}}"#, spans.join(","));
    post(address, "/v1/traces", &body).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
}

/// Sends two scores about span `n`, in one batch; true when they were acknowledged.
fn score(address: &str, n: u64) -> bool {
    let score = |half: char| {
        format!(r#"{{"id":"{n}{half}","name":"quality","value":0.5,"trace_id":"{:032x}"}}"#, n + 1)
    };
    let body = format!(r#"{{"scores":[{},{}]}}"#, score('a'), score('b'));
    post(address, "/v1/scores/batch", &body).is_ok_and(|answer| answer.starts_with("HTTP/1.1 201"))
}

fn post(address: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-api-key: {KEY}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// How often each row is in a list of all, by this member.
pub(crate) fn listed(server: &Server, path: &str, member: &str) -> BTreeMap<String, u32> {
    let (mut found, mut cursor) = (BTreeMap::new(), String::new());
    loop {
        let answer = server.ask(&format!("GET {path}?limit=100{cursor} HTTP/1.1\r\nx-api-key: {KEY}"));
        let page: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        for row in page["data"].as_array().unwrap_or_else(|| panic!("{answer}")) {
            *found.entry(row[member].as_str().unwrap().to_owned()).or_default() += 1;
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

#[test]
fn acknowledged_spans_and_scores_survive_sigkill_and_count_once() {
    let directory = tempfile::tempdir().unwrap();
    // Nobody reads the log while the test goes on: a line per request would fill the pipe.
    std::fs::write(directory.path().join("brokle.toml"), "[logs]\nlevel = \"warn,brokle::serve=info\"\n")
        .unwrap();
    let start = || {
        let mut command = brokle(directory.path(), &["serve"]);
        command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
        Server::start(command)
    };
    let next = AtomicU64::new(0);
    let (mut acknowledged, scored) = (Vec::new(), Mutex::new(Vec::new()));
    // Killed early and late, with four senders under way.
    for enough in [1, 5, 30] {
        let server = start();
        let (dead, count) = (AtomicBool::new(false), AtomicU64::new(0));
        let senders: Vec<u64> = std::thread::scope(|scope| {
            let sender = || {
                let mut mine = Vec::new();
                while !dead.load(Ordering::SeqCst) {
                    let n = next.fetch_add(SPANS, Ordering::SeqCst);
                    if send(&server.address, n) {
                        mine.push(n);
                        count.fetch_add(1, Ordering::SeqCst);
                    }
                    if score(&server.address, n) {
                        scored.lock().unwrap().push(n);
                    }
                }
                mine
            };
            let senders: Vec<_> = (0..4).map(|_| scope.spawn(sender)).collect();
            let begun = Instant::now();
            while count.load(Ordering::SeqCst) < enough {
                assert!(begun.elapsed() < Duration::from_secs(60), "nothing is acknowledged");
                std::thread::yield_now();
            }
            server.signal("KILL");
            dead.store(true, Ordering::SeqCst);
            senders.into_iter().flat_map(|sender| sender.join().unwrap()).collect()
        });
        acknowledged.extend(senders);
    }
    let server = start();
    // Some of it again, as a sender does whose acknowledgement was lost.
    for n in acknowledged.iter().take(5) {
        assert!(send(&server.address, *n));
    }
    let scored = scored.into_inner().unwrap();
    assert!(scored.len() > 5, "{scored:?}");
    for n in scored.iter().take(5) {
        assert!(score(&server.address, *n));
    }
    let stored = listed(&server, "/v1/scores", "id");
    for n in &scored {
        assert!(stored.contains_key(&format!("{n}a")), "score {n} was acknowledged and is lost");
    }
    // Those that nobody heard of, too.
    for (id, times) in &stored {
        let other = if id.ends_with('a') { id.replace('a', "b") } else { id.replace('b', "a") };
        assert!(
            *times == 1 && stored.contains_key(&other),
            "{id}: {times} times, or without the rest of its batch"
        );
    }
    let begun = Instant::now();
    for n in acknowledged.iter().flat_map(|n| *n..*n + SPANS) {
        loop {
            let answer =
                server.ask(&format!("GET /api/v1/traces/{:032x} HTTP/1.1\r\nx-api-key: {KEY}", n + 1));
            if answer.starts_with("HTTP/1.1 200") {
                let name = format!("\"name\":\"{n}\"");
                assert_eq!(answer.matches(&name).count(), 1, "{answer}");
                break;
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "span {n} was acknowledged and is lost");
            std::thread::yield_now();
        }
    }
}
