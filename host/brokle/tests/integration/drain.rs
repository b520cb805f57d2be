//! What callers whose calls outlive the drain get to hear.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use tokio_tungstenite::tungstenite;

const KEY: &str = "bk_AbCd0123456789AbCd0123456789AbCd01234567";
const EVENT: &str = r#"data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"so far"}}]}"#;

/// A vendor whose streams begin and never end, or which never says a word; its base URL, and who was asked.
fn endless(speaks: bool) -> (String, Receiver<()>) {
    let (asked_it, asked) = channel();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let asked = asked_it;
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Who answers before it is asked is no vendor.
            let mut request = Vec::new();
            while !request.ends_with(b"}") || !request.windows(4).any(|four| four == b"\"hi\"") {
                let mut piece = [0; 4_096];
                let size = stream.read(&mut piece).unwrap();
                assert!(size > 0, "the request isn't whole");
                request.extend_from_slice(&piece[..size]);
            }
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let event = format!("{EVENT}\n\n");
            if speaks {
                write!(stream, "{head}{:x}\r\n{event}\r\n", event.len()).unwrap();
            }
            let _ = asked.send(());
            open.push(stream);
        }
    });
    (url, asked)
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A server with this vendor, its log, and where it listens.
fn start(directory: &std::path::Path, vendor: String) -> (Killed, impl BufRead, String) {
    let config = "[server]\nlame_duck_ms = 100\ndrain_timeout_ms = 300\n";
    std::fs::write(directory.join("brokle.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_brokle"));
    command.arg("serve").current_dir(directory).env_clear().env("BROKLE_LISTEN", "127.0.0.1:0");
    command.envs([("BROKLE_BOOTSTRAP_API_KEY", KEY), ("OPENAI_API_KEY", "sk-test")]);
    command.env("OPENAI_BASE_URL", vendor).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut server = Killed(command.spawn().unwrap());
    let mut lines = BufReader::new(server.0.stderr.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert!(lines.read_line(&mut line).unwrap() > 0, "it ended before it served");
        let event: serde_json::Value = serde_json::from_str(&line).unwrap();
        if event["message"] == "serving" {
            break event["address"].as_str().unwrap().to_owned();
        }
    };
    (server, lines, address)
}

fn terminate(server: &Killed) {
    let signal = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", server.0.id())).status();
    assert!(signal.unwrap().success());
}

#[test]
fn a_stream_that_outlives_the_drain_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let (mut server, mut lines, address) = start(directory.path(), endless(true).0);
    let body = r#"{"model":"openai/gpt-4o-mini","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json"
    );
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut reader = BufReader::new(stream);
    let mut told = String::new();
    while !told.contains("so far") {
        assert!(reader.read_line(&mut told).unwrap() > 0, "{told}");
    }
    terminate(&server);
    reader.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(told.contains(r#""code":"server_stopping""#), "{told}");
    // The verdict, then HTTP's own end of a body that is whole.
    assert!(told.contains("data: [DONE]\n\n") && told.ends_with("\r\n0\r\n\r\n"), "{told}");
    std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

/// In the dialect that it came in.
#[test]
fn a_call_without_a_head_when_the_drain_ends_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let (vendor, asked) = endless(false);
    let (mut server, mut lines, address) = start(directory.path(), vendor);
    let message = r#""messages":[{"role":"user","content":"hi"}]"#;
    let calls = [
        ("/v1/chat/completions", format!(r#"{{"model":"openai/gpt-4o-mini",{message}}}"#)),
        ("/v1/messages", format!(r#"{{"model":"openai/gpt-4o-mini","max_tokens":9,{message}}}"#)),
    ];
    let mut open = Vec::new();
    for (path, body) in calls {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json"
        );
        write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
        asked.recv_timeout(Duration::from_secs(20)).expect("the vendor is asked");
        open.push((path, stream));
    }
    terminate(&server);
    for (path, mut stream) in open {
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert!(told.starts_with("HTTP/1.1 503"), "{path}: {told}");
        let body: serde_json::Value = serde_json::from_str(told.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        match path {
            "/v1/messages" => assert_eq!((&body["type"], body["error"].is_object()), (&"error".into(), true)),
            _ => assert_eq!(body["error"]["code"], "server_stopping"),
        }
    }
    std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}

/// The session's slot and account are the connection's until its end, and it hears of the stop at once.
#[test]
fn a_realtime_session_is_closed_with_1001() {
    let directory = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let vendor = format!("http://{}/v1", listener.local_addr().unwrap());
    let provider = std::thread::spawn(move || {
        let mut socket = tungstenite::accept(listener.accept().unwrap().0).unwrap();
        let message = socket.read().unwrap();
        socket.send(message).unwrap();
        // Until the session is closed here, too.
        while socket.read().is_ok() {}
    });
    let (mut server, mut lines, address) = start(directory.path(), vendor);
    let url = format!("ws://{address}/v1/realtime?model=gpt-realtime");
    let mut request = tungstenite::client::IntoClientRequest::into_client_request(url).unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {KEY}").parse().unwrap());
    let stream = TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let (mut socket, _) = tungstenite::client(request, stream).unwrap();
    let said = tungstenite::Message::text(r#"{"type":"hello"}"#);
    socket.send(said.clone()).unwrap();
    assert_eq!(socket.read().unwrap(), said);
    terminate(&server);
    let told = socket.read().unwrap();
    assert!(told.to_text().unwrap().contains(r#""code":"server_stopping""#), "{told}");
    let tungstenite::Message::Close(Some(frame)) = socket.read().unwrap() else { panic!("no close") };
    assert_eq!(u16::from(frame.code), 1001);
    while socket.read().is_ok() {}
    std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    provider.join().unwrap();
}
