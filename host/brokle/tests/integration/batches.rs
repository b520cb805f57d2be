//! Batches outlive the server that works on them.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use crate::cli::{KEY, Server, brokle};

/// A vendor that is asked in words, and answers those that begin with `slow` when it is told to.
#[derive(Default)]
struct Vendor {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: HashMap<String, usize>,
    is_open: bool,
}

impl Vendor {
    fn start() -> (Arc<Self>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let vendor = Arc::new(Self::default());
        let serving = Arc::clone(&vendor);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let vendor = Arc::clone(&serving);
                std::thread::spawn(move || vendor.answer(stream.unwrap()));
            }
        });
        (vendor, url)
    }

    fn answer(&self, mut stream: TcpStream) {
        let mut request = Vec::new();
        // The body is the only JSON document there.
        while !request.ends_with(b"}") {
            let mut piece = [0; 4_096];
            match stream.read(&mut piece) {
                Ok(size) if size > 0 => request.extend_from_slice(&piece[..size]),
                _ => return,
            }
        }
        let text = String::from_utf8(request).unwrap();
        let said = text.split("\"content\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let mut state = self.state.lock().unwrap();
        *state.asked.entry(said.clone()).or_default() += 1;
        self.changed.notify_all();
        while said.starts_with("slow") && !state.is_open {
            state = self.changed.wait(state).unwrap();
        }
        drop(state);
        let body = r#"{"id":"c","object":"chat.completion","model":"m","created":1,"choices":[{"index":0,"message":{"role":"assistant","content":"yes"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}"#;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
        // The server may be gone by now.
        let _ = write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    }

    fn until(&self, is_so: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap();
        let waited = self.changed.wait_timeout_while(state, Duration::from_secs(60), |state| !is_so(state));
        assert!(!waited.unwrap().1.timed_out());
    }

    fn open(&self) {
        self.state.lock().unwrap().is_open = true;
        self.changed.notify_all();
    }
}

fn start(directory: &Path, vendor: &str) -> Server {
    let config = "[server]\nlame_duck_ms = 0\n[batches]\nconcurrency = 2\n[logs]\nlevel = \"off,brokle::serve=info\"\n";
    std::fs::write(directory.join("brokle.toml"), config).unwrap();
    let mut command = brokle(directory, &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY);
    command.env("OPENAI_API_KEY", "sk-test").env("OPENAI_BASE_URL", vendor);
    Server::start(command)
}

fn body(answer: &str) -> serde_json::Value {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{answer}");
    serde_json::from_str(body).unwrap()
}

/// Begins a batch of these lines; its id.
fn begin(server: &Server, lines: &[&str]) -> String {
    let lines: String = lines
        .iter()
        .map(|says| {
            let body = format!(r#"{{"model":"openai/gpt-4o-mini","messages":[{{"role":"user","content":"{says}"}}]}}"#);
            format!(
                "{{\"custom_id\":\"{says}\",\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":{body}}}\n"
            )
        })
        .collect();
    let form = format!(
        "--x\r\ncontent-disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--x\r\n\
         content-disposition: form-data; name=\"file\"; filename=\"l\"\r\n\r\n{lines}\r\n--x--\r\n"
    );
    let mut stream = TcpStream::connect(&server.address).unwrap();
    let head = format!("POST /v1/files HTTP/1.1\r\nhost: test\r\nconnection: close\r\nx-api-key: {KEY}");
    let kind = "content-type: multipart/form-data; boundary=x";
    write!(stream, "{head}\r\n{kind}\r\ncontent-length: {}\r\n\r\n{form}", form.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let file = body(&answer)["id"].as_str().unwrap().to_owned();
    let asked = format!(
        r#"{{"input_file_id":"{file}","endpoint":"/v1/chat/completions","completion_window":"24h"}}"#
    );
    let answer = server.send(&format!("POST /v1/batches HTTP/1.1\r\nx-api-key: {KEY}"), &asked);
    body(&answer)["id"].as_str().unwrap().to_owned()
}

fn until(server: &Server, id: &str, is_so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
    let begun = Instant::now();
    loop {
        let batch = body(&server.ask(&format!("GET /v1/batches/{id} HTTP/1.1\r\nx-api-key: {KEY}")));
        if is_so(&batch) {
            return batch;
        }
        assert!(begun.elapsed() < Duration::from_secs(100), "{batch}");
        std::thread::yield_now();
    }
}

#[test]
fn a_stop_finishes_the_lines_under_way_and_the_next_start_asks_the_rest() {
    let directory = tempfile::tempdir().unwrap();
    let (vendor, url) = Vendor::start();
    let server = start(directory.path(), &url);
    let id = begin(&server, &["slow 1", "slow 2", "slow 3", "slow 4"]);
    vendor.until(|state| state.asked.len() == 2);
    server.signal("TERM");
    // It accepts nothing more: the drain has begun, and waits for what is under way.
    let begun = Instant::now();
    while TcpStream::connect(&server.address).is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        std::thread::yield_now();
    }
    vendor.open();
    assert_eq!(server.end().0, Some(0));
    let server = start(directory.path(), &url);
    let batch = until(&server, &id, |batch| !batch["completed_at"].is_null());
    assert_eq!(batch["request_counts"], serde_json::json!({"total": 4, "completed": 4, "failed": 0}));
    let asked = vendor.state.lock().unwrap().asked.clone();
    assert!(asked.len() == 4 && asked.values().all(|times| *times == 1), "{asked:?}");
}

#[test]
fn after_a_kill_the_lease_runs_out_and_the_answered_lines_are_not_asked_again() {
    let directory = tempfile::tempdir().unwrap();
    let (vendor, url) = Vendor::start();
    let server = start(directory.path(), &url);
    let id = begin(&server, &["one", "two", "slow 3", "slow 4", "five"]);
    until(&server, &id, |batch| batch["request_counts"]["completed"] == 2);
    vendor.until(|state| state.asked.len() == 4);
    server.signal("KILL");
    drop(server);
    vendor.open();
    let server = start(directory.path(), &url);
    let batch = until(&server, &id, |batch| !batch["completed_at"].is_null());
    assert_eq!(batch["request_counts"], serde_json::json!({"total": 5, "completed": 5, "failed": 0}));
    let asked = vendor.state.lock().unwrap().asked.clone();
    let times = |says: &str| asked.get(says).copied();
    assert_eq!((times("one"), times("two"), times("five")), (Some(1), Some(1), Some(1)), "{asked:?}");
}
