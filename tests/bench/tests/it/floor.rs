//! The floor passes everything on, as it comes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command},
    time::{Duration, Instant},
};

const FLOOR: &str = env!("CARGO_BIN_EXE_floor");
const BENCH: &str = env!("CARGO_BIN_EXE_bench");

struct Server {
    child: Child,
    addr: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn start(program: &str, arguments: &[&str]) -> Server {
    let addr = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = Command::new(program).args(arguments).args(["--listen", &addr.to_string()]).spawn().unwrap();
    let server = Server { child, addr };
    let begin = Instant::now();
    while TcpStream::connect(addr).is_err() {
        assert!(begin.elapsed() < Duration::from_secs(10), "{program} doesn't listen");
    }
    server
}

/// The instant upstream with this pause between chunks, and the floor in front of it.
fn pair(delay_ms: &str) -> (Server, Server) {
    let upstream = start(BENCH, &["upstream", "--chunk-delay-ms", delay_ms]);
    let floor = start(FLOOR, &["--upstream", &format!("http://{}", upstream.addr)]);
    (upstream, floor)
}

fn send(addr: SocketAddr, method: &str, path: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(addr).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn ask(addr: SocketAddr, method: &str, path: &str, body: &str) -> String {
    let mut answer = String::new();
    send(addr, method, path, body).read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_whole_answer_is_the_upstreams_own() {
    let (upstream, floor) = pair("0");
    let padding = "x".repeat(300_000);
    let body = format!(r#"{{"model":"gpt-4o-mini","messages":[{{"role":"user","content":"{padding}"}}]}}"#);
    let through = ask(floor.addr, "POST", "/v1/chat/completions", &body);
    let (head, json) = through.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert_eq!(
        json,
        ask(upstream.addr, "POST", "/v1/chat/completions", &body).split_once("\r\n\r\n").unwrap().1
    );
    let json: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(json["usage"]["total_tokens"], 200);
    // Both went to the upstream, and the floor's health to the floor.
    assert!(ask(floor.addr, "GET", "/__served", "").ends_with("\r\n\r\n2"));
    assert!(ask(floor.addr, "GET", "/health/ready", "").starts_with("HTTP/1.1 200 OK"));
    assert!(ask(floor.addr, "GET", "/nothing", "").starts_with("HTTP/1.1 404"));
}

#[test]
fn a_stream_comes_chunk_by_chunk_to_its_end() {
    let (_upstream, floor) = pair("10");
    let begin = Instant::now();
    let stream = send(floor.addr, "POST", "/v1/chat/completions", r#"{"model":"gpt-4o-mini","stream":true}"#);
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    let data: Vec<(Duration, String)> =
        lines.filter_map(|line| Some((begin.elapsed(), line.strip_prefix("data: ")?.to_owned()))).collect();
    assert_eq!(data.len(), 52);
    assert_eq!(data[51].1, "[DONE]");
    assert!(data[50].1.contains(r#""choices":[],"usage":{"prompt_tokens":25"#));
    assert!(data[49].1.contains(r#""content":" word49""#));
    // 49 pauses of 10 ms lie between the first chunk and the last: the floor kept none back.
    assert!(data[49].0 - data[0].0 > Duration::from_millis(400), "{:?}", data[49].0 - data[0].0);
}

#[test]
fn an_upstream_that_is_gone_is_a_bad_gateway() {
    let (upstream, floor) = pair("0");
    drop(upstream);
    assert!(ask(floor.addr, "POST", "/v1/chat/completions", "{}").starts_with("HTTP/1.1 502"));
}
