//! What a caller whose stream outlives the drain gets to hear.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const KEY: &str = "bk_AbCd0123456789AbCd0123456789AbCd01234567";
const EVENT: &str = r#"data: {"id":"c","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":"so far"}}]}"#;

/// A vendor whose streams begin and never end; its base URL.
fn endless() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // Who answers before it is asked is no vendor.
            let mut asked = Vec::new();
            while !asked.ends_with(b"}}") {
                let mut piece = [0; 4_096];
                let size = stream.read(&mut piece).unwrap();
                assert!(size > 0, "the request isn't whole");
                asked.extend_from_slice(&piece[..size]);
            }
            let head =
                "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            let event = format!("{EVENT}\n\n");
            write!(stream, "{head}{:x}\r\n{event}\r\n", event.len()).unwrap();
            open.push(stream);
        }
    });
    url
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stream_that_outlives_the_drain_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let config = "[server]\nlame_duck_ms = 100\ndrain_timeout_ms = 300\n";
    std::fs::write(directory.path().join("brokle.toml"), config).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_brokle"));
    command.arg("serve").current_dir(directory.path()).env_clear().env("BROKLE_LISTEN", "127.0.0.1:0");
    command.envs([("BROKLE_BOOTSTRAP_API_KEY", KEY), ("OPENAI_API_KEY", "sk-test")]);
    command.env("OPENAI_BASE_URL", endless()).stdout(Stdio::null()).stderr(Stdio::piped());
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
    let signal = Command::new("sh").arg("-c").arg(format!("kill -TERM {}", server.0.id())).status();
    assert!(signal.unwrap().success());
    reader.read_to_string(&mut told).unwrap();
    assert!(told.starts_with("HTTP/1.1 200"), "{told}");
    assert!(told.contains(r#""code":"server_stopping""#), "{told}");
    // The verdict, then HTTP's own end of a body that is whole.
    assert!(told.contains("data: [DONE]\n\n") && told.ends_with("\r\n0\r\n\r\n"), "{told}");
    std::io::copy(&mut lines, &mut std::io::sink()).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
}
