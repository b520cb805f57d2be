//! What the stories need: a vendor, and the built program as a server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The bootstrap key of every server here.
pub(crate) const KEY: &str = "bk_AbCd0123456789AbCd0123456789AbCd01234567";

/// A provider that answers every call, and keeps what it was sent.
pub(crate) struct Vendor {
    pub(crate) address: String,
    bodies: Arc<Mutex<Vec<String>>>,
}

impl Vendor {
    pub(crate) fn start(words: &str) -> Self {
        let words = words.to_owned();
        Self::answering(move |_| {
            json!({
                "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-mini",
                "choices": [{ "index": 0, "finish_reason": "stop",
                    "message": { "role": "assistant", "content": words } }],
                "usage": { "prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14 },
            })
        })
    }

    /// One that makes its answer of what it was sent.
    pub(crate) fn answering(answer: impl Fn(&str) -> Value + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let vendor = Self { address: listener.local_addr().unwrap().to_string(), bodies: Arc::default() };
        let bodies = Arc::clone(&vendor.bodies);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                serve(stream.unwrap(), &answer, &bodies);
            }
        });
        vendor
    }

    pub(crate) fn last(&self) -> String {
        self.bodies.lock().unwrap().last().cloned().unwrap_or_default()
    }
}

/// One call. Its body is noted before it is answered: whoever has the answer may look.
fn serve(stream: TcpStream, answer: &dyn Fn(&str) -> Value, bodies: &Mutex<Vec<String>>) {
    let mut reader = BufReader::new(stream);
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let body = String::from_utf8(body).unwrap();
    bodies.lock().unwrap().push(body.clone());
    let answer = answer(&body).to_string();
    let stream = reader.get_mut();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{answer}",
        answer.len()
    )
    .unwrap();
}

pub(crate) struct Server {
    child: Child,
    address: String,
}

impl Server {
    #[expect(clippy::zombie_processes, reason = "the server that it becomes is waited for")]
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it served");
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "serving" {
                let address = event["address"].as_str().unwrap().to_owned();
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Self { child, address };
            }
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What the server writes to whoever asks for this, until it closes.
    pub(crate) fn open(&self, path: &str) -> TcpStream {
        self.send("GET", path, "")
    }

    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        stream
    }

    /// Status and JSON body.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut answer = String::new();
        self.send(method, path, body).read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        // A chunked body is its size, the document, and 0.
        let document = body.find('{').zip(body.rfind('}')).map(|(from, to)| &body[from..=to]);
        (status, document.map(|text| serde_json::from_str(text).unwrap()).unwrap_or_default())
    }

    /// A chat of one message.
    pub(crate) fn chat(&self, model: &str, message: &str) -> (u16, Value) {
        let body = json!({ "model": model, "messages": [{ "role": "user", "content": message }] });
        self.ask("POST", "/v1/chat/completions", &body.to_string())
    }

    /// What is stored of the newest call that ended well.
    pub(crate) fn stored(&self) -> String {
        let begun = Instant::now();
        loop {
            let (_, list) = self.ask("GET", "/api/v1/traces?status=ok", "");
            if let Some(id) = list["data"][0]["trace_id"].as_str() {
                return self.ask("GET", &format!("/api/v1/traces/{id}"), "").1.to_string();
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "no trace: {list}");
            std::thread::yield_now();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
