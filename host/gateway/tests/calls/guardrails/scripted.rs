//! A provider that answers what a test wrote, in order, and keeps what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What came: the first line, the credential, the body.
type Journal = Arc<Mutex<Vec<(String, Option<String>, serde_json::Value)>>>;

/// The provider.
pub(crate) struct Scripted {
    address: std::net::SocketAddr,
    asked: Journal,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Scripted {
    /// Gives each of these answers (media type, body) once; the last one again and again.
    #[expect(clippy::disallowed_methods, reason = "the tasks end with the test's runtime")]
    pub(crate) async fn start(answers: Vec<(&'static str, String)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(VecDeque::from(answers)));
        let journal = asked.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, answers.clone(), journal.clone()));
            }
        });
        Self { address, asked, task }
    }

    pub(crate) fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// The bodies that came.
    pub(crate) fn asked(&self) -> Vec<serde_json::Value> {
        self.asked.lock().unwrap().iter().map(|(_, _, body)| body.clone()).collect()
    }

    /// The first lines that came, each with its credential.
    pub(crate) fn heads(&self) -> Vec<(String, Option<String>)> {
        self.asked
            .lock()
            .unwrap()
            .iter()
            .map(|(line, credential, _)| (line.clone(), credential.clone()))
            .collect()
    }
}

async fn serve(
    mut stream: TcpStream,
    answers: Arc<Mutex<VecDeque<(&'static str, String)>>>,
    journal: Journal,
) {
    let mut read = Vec::new();
    loop {
        let head = loop {
            if let Some(end) = read.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        };
        let as_sent = String::from_utf8_lossy(&read[..head]).into_owned();
        let text = as_sent.to_lowercase();
        let credential =
            text.find("authorization: ").and_then(|at| as_sent[at + 15..].lines().next()).map(str::to_owned);
        let line = as_sent.lines().next().unwrap_or_default().to_owned();
        let length = text.split("content-length:").nth(1).and_then(|rest| rest.lines().next());
        let length: usize = length.map_or(0, |length| length.trim().parse().unwrap());
        while read.len() < head + length {
            if stream.read_buf(&mut read).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let body: Vec<u8> = read.drain(..head + length).skip(head).collect();
        journal.lock().unwrap().push((line, credential, serde_json::from_slice(&body).unwrap()));
        let (kind, answer) = {
            let mut answers = answers.lock().unwrap();
            if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() }
        };
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(head.as_bytes()).await.is_err()
            || stream.write_all(answer.as_bytes()).await.is_err()
        {
            return;
        }
    }
}

/// A chat completion with this message.
pub(crate) fn completion(message: &serde_json::Value) -> (&'static str, String) {
    let answer = serde_json::json!({"id": "c1", "object": "chat.completion", "created": 1, "model": "m",
        "choices": [{"index": 0, "message": message, "logprobs": {"content": []}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}});
    ("application/json", answer.to_string())
}

/// A stream of these deltas, each with its choice, then the end.
pub(crate) fn stream(deltas: &[serde_json::Value]) -> (&'static str, String) {
    let mut text = String::new();
    let event = |delta: &serde_json::Value, reason: Option<&str>| {
        let chunk = serde_json::json!({"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m",
            "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]});
        format!("data: {chunk}\n\n")
    };
    for delta in deltas {
        text.push_str(&event(delta, None));
    }
    text.push_str(&event(&serde_json::json!({}), Some("stop")));
    text.push_str("data: [DONE]\n\n");
    ("text/event-stream", text)
}
