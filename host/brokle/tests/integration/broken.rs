//! What callers see of an answer that broke off, on the wire.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::cli::{KEY, Server, brokle};

/// A vendor that begins an answer of two pieces, and is gone after the first one.
fn breaking() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4_096]).unwrap();
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(format!("{head}5\r\nfirst\r\n6\r\nsec").as_bytes()).unwrap();
        }
    });
    format!("http://{address}/v1")
}

/// A clean end would say that what came is all: whoever wrote it to a file would have half a file.
#[test]
fn what_is_only_relayed_breaks_off_with_its_connection() {
    let directory = tempfile::tempdir().unwrap();
    let config = format!(
        "[[gateway.connections]]\nname = \"vendor\"\nprovider = \"openai\"\nbase_url = \"{}\"\n\
         api_key_env = \"VENDOR_KEY\"\nraw = true\n",
        breaking()
    );
    std::fs::write(directory.path().join("brokle.toml"), config).unwrap();
    let mut command = brokle(directory.path(), &["serve", "--config", "brokle.toml"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("VENDOR_KEY", "sk-test");
    let server = Server::start(command);
    let speech = r#"{"model":"vendor/tts-1","input":"hi","voice":"alloy"}"#;
    for path in ["/v1/providers/vendor/files/file-1/content", "/v1/audio/speech"] {
        let answer = server.send(&format!("POST {path} HTTP/1.1\r\nx-api-key: {KEY}"), speech);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert!(
            answer.contains("transfer-encoding: chunked") && answer.contains("5\r\nfirst\r\n"),
            "{answer}"
        );
        assert!(!answer.ends_with("0\r\n\r\n"), "{path}: it ended as if it were all: {answer}");
    }
}
