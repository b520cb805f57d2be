//! What strangers try: ambiguous requests, bombs, bodies without end. Each costs them more than us.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::cli::{KEY, Server, brokle};

const ANSWER: &str = r#"{"id":"c","object":"chat.completion","model":"m","choices":[{"index":0,"finish_reason":"stop","message":{"role":"assistant","content":"hi"}}]}"#;
const CALL: &str = r#"{"model":"openai/gpt-4o-mini","messages":[{"role":"user","content":"hi"}]}"#;

/// A vendor that keeps each byte it was sent, and reads no more of a request than its length says.
#[derive(Clone, Default)]
struct Strict(Arc<Mutex<Vec<String>>>);

impl Strict {
    fn start(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/v1", listener.local_addr().unwrap());
        let seen = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let seen = seen.clone();
                std::thread::spawn(move || seen.serve(stream.unwrap()));
            }
        });
        url
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut bytes = Vec::new();
        loop {
            let mut piece = [0; 65_536];
            match stream.read(&mut piece) {
                Ok(size) if size > 0 => bytes.extend_from_slice(&piece[..size]),
                _ => return,
            }
            while let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
                let length = head.lines().find_map(|line| {
                    line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok()
                });
                let whole = end + 4 + length.unwrap_or(0_usize);
                if bytes.len() < whole {
                    break;
                }
                let request: Vec<u8> = bytes.drain(..whole).collect();
                self.0.lock().unwrap().push(String::from_utf8_lossy(&request).into_owned());
                let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
                write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{ANSWER}", ANSWER.len()).unwrap();
            }
        }
    }

    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

/// A server in front of such a vendor.
fn start(directory: &tempfile::TempDir, config: &str) -> (Server, Strict) {
    let vendor = Strict::default();
    std::fs::write(directory.path().join("brokle.toml"), config).unwrap();
    let mut command = brokle(directory.path(), &["serve"]);
    command.env("BROKLE_BOOTSTRAP_API_KEY", KEY).env("OPENAI_API_KEY", "sk-operator");
    command.env("OPENAI_BASE_URL", vendor.start());
    (Server::start(command), vendor)
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// All that comes back for these bytes, until the server closes.
fn exchange(server: &Server, request: &[u8]) -> String {
    let mut stream = connect(server);
    // Who is refused early may find the door shut before the last byte is out.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// `HEAD` is a head's end, `BODY` a call's body: what two readers could take for two different requests is refused, and the
/// connection with it, so that nothing of it can become somebody's next request.
#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused_and_its_connection_closed() {
    let directory = tempfile::tempdir().unwrap();
    let (server, vendor) = start(&directory, "");
    let length = CALL.len();
    let chunked = format!("{length:x}\r\n{CALL}\r\n0\r\n\r\n");
    let second = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {length}\r\n\r\n{CALL}"
    );
    let head =
        format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}\r\ncontent-type: application/json");
    let ambiguous = [
        (
            "two lengths",
            format!(
                "{head}\r\nhost: x\r\ncontent-length: {length}\r\ncontent-length: 3\r\n\r\n{CALL}{second}"
            ),
        ),
        (
            "a list of lengths",
            format!("{head}\r\nhost: x\r\ncontent-length: {length}, 3\r\n\r\n{CALL}{second}"),
        ),
        ("a signed length", format!("{head}\r\nhost: x\r\ncontent-length: +{length}\r\n\r\n{CALL}{second}")),
        (
            "a length in hex",
            format!("{head}\r\nhost: x\r\ncontent-length: 0x{length:x}\r\n\r\n{CALL}{second}"),
        ),
        (
            "a folded line",
            format!(
                "{head}\r\nhost: x\r\nx-folded: a\r\n b\r\ncontent-length: {length}\r\n\r\n{CALL}{second}"
            ),
        ),
        (
            "a blank before the colon",
            format!("{head}\r\nhost: x\r\ntransfer-encoding : chunked\r\n\r\n{chunked}{second}"),
        ),
        (
            "an unknown coding",
            format!("{head}\r\nhost: x\r\ntransfer-encoding: xchunked\r\n\r\n{chunked}{second}"),
        ),
        (
            "chunked, then another",
            format!("{head}\r\nhost: x\r\ntransfer-encoding: chunked, identity\r\n\r\n{chunked}{second}"),
        ),
        (
            "chunked twice",
            format!(
                "{head}\r\nhost: x\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n{chunked}{second}"
            ),
        ),
        (
            "a chunk's size that isn't one",
            format!("{head}\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n-{chunked}{second}"),
        ),
        (
            "a chunk's size beyond 64 bits",
            format!(
                "{head}\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\n{CALL}\r\n0\r\n\r\n{second}"
            ),
        ),
        (
            "a line end alone",
            format!("{head}\nhost: x\ncontent-length: {length}\rx: y\r\n\r\n{CALL}{second}"),
        ),
        (
            "NUL in a header",
            format!("{head}\r\nhost: x\r\nx-nul: a\0b\r\ncontent-length: {length}\r\n\r\n{CALL}{second}"),
        ),
        (
            "two hosts",
            format!("{head}\r\nhost: x\r\nhost: y\r\ncontent-length: {length}\r\n\r\n{CALL}{second}"),
        ),
        ("no host", format!("{head}\r\ncontent-length: {length}\r\n\r\n{CALL}{second}")),
        (
            "no version",
            format!("POST /v1/chat/completions\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{CALL}{second}"),
        ),
        (
            "another version",
            format!(
                "POST /v1/chat/completions HTTP/1.2\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-length: {length}\r\n\r\n{CALL}{second}"
            ),
        ),
    ];
    let mut wrong = Vec::new();
    for (what, request) in &ambiguous {
        let answer = exchange(&server, request.as_bytes());
        let (answers, seen) = (answer.matches("HTTP/1.1 ").count(), vendor.seen().len());
        if !answer.starts_with("HTTP/1.1 400") || answers != 1 || seen != 0 {
            wrong.push(format!(
                "{what}: {answers} answers, {seen} at the vendor, {:?}",
                answer.lines().next()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // Where both are given the chunks count (RFC 9112 §6.1), and what follows isn't read.
    let both = [
        (
            "a length and chunks",
            format!(
                "{head}\r\nhost: x\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n{chunked}{second}"
            ),
        ),
        (
            "chunks and a length",
            format!(
                "{head}\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n{chunked}{second}"
            ),
        ),
    ];
    for (what, request) in &both {
        let answer = exchange(&server, request.as_bytes());
        assert_eq!((answer.matches("HTTP/1.1 ").count(), vendor.seen().len()), (1, 1), "{what}: {answer}");
    }
}

/// The vendor gets one request, with the operator's credential, and nothing that was meant for us.
#[test]
fn what_belongs_to_the_hop_or_to_us_stays_here() {
    let directory = tempfile::tempdir().unwrap();
    let (server, vendor) = start(&directory, "");
    let more = "cookie: session=1\r\nx-forwarded-for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\n\
        x-forwarded-host: evil\r\nx-real-ip: 1.2.3.4\r\nproxy-authorization: Basic eA==\r\nte: trailers\r\nupgrade: h2c\r\n\
        http2-settings: AAMAAABkAAQAoAAAAAIAAAAA\r\nconnection: close, upgrade, x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=5\r\nx_underscored: 1\r\n\
        expect: 100-continue";
    let request = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nx-api-key: {KEY}\r\n{more}\r\ncontent-length: {}\r\n\r\n{CALL}",
        CALL.len()
    );
    let answer = exchange(&server, request.as_bytes());
    assert!(answer.contains("HTTP/1.1 200"), "{answer}");
    let seen = vendor.seen();
    assert_eq!(seen.len(), 1, "{seen:#?}");
    let head = seen[0].split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
    assert!(head.contains("authorization: bearer sk-operator"), "{head}");
    for ours in [
        KEY,
        "cookie",
        "forwarded",
        "x-real-ip",
        "proxy-authorization",
        "te:",
        "upgrade",
        "http2-settings",
        "x-hop",
        "keep-alive",
        "expect",
        "gateway",
    ] {
        assert!(!head.contains(&ours.to_ascii_lowercase()), "{ours}: {head}");
    }
}

/// Line ends in what becomes part of a URL, a header or a log line stay texts.
#[test]
fn line_ends_in_values_make_no_lines() {
    let directory = tempfile::tempdir().unwrap();
    let (server, vendor) = start(&directory, "");
    for body in [
        r#"{"model":"openai/gpt-4o-mini\r\nx-injected: 1","messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"model":"openai/gpt-4o-mini","user":"a\r\nx-injected: 1","messages":[{"role":"user","content":"hi"}]}"#,
        r#"{"model":"openai/../../x","messages":[{"role":"user","content":"hi"}]}"#,
    ] {
        let answer = server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}"), body);
        let head = answer.split("\r\n\r\n").next().unwrap();
        assert!(!head.contains("x-injected") && !answer.starts_with("HTTP/1.1 5"), "{answer}");
    }
    for request in vendor.seen() {
        let (head, _) = request.split_once("\r\n\r\n").unwrap();
        assert!(
            head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n") && !head.contains("x-injected"),
            "{head}"
        );
    }
}

/// None of these breaks the server or its memory of others.
#[test]
fn bombs_in_json_are_answered_and_their_neighbors_kept() {
    let directory = tempfile::tempdir().unwrap();
    let (server, vendor) = start(&directory, "");
    let around = |inner: &str| {
        format!(r#"{{"model":"openai/gpt-4o-mini","messages":[{{"role":"user","content":"hi"}}],{inner}}}"#)
    };
    let keys: Vec<String> = (0..200_000).map(|index| format!(r#""k{index}":1"#)).collect();
    let bombs = [
        ("depth", "[".repeat(100_000), 400),
        ("depth that ends", around(&format!(r#""x":{}{}"#, "[".repeat(100_000), "]".repeat(100_000))), 400),
        (
            "depth of objects",
            around(&format!(r#""x":{}1{}"#, r#"{"a":"#.repeat(50_000), "}".repeat(50_000))),
            400,
        ),
        ("the same name again and again", around(&vec![r#""x":1"#; 200_000].join(",")), 400),
        ("lone surrogate", around(r#""user":"\ud800""#), 400),
        ("NUL in a text", around(r#""user":"a\u0000b""#), 400),
        ("NUL in metadata", around(r#""metadata":{"a":"\u0000"}"#), 400),
        ("NUL in a name", around(r#""a\u0000":1"#), 400),
        ("a number that isn't one", around(r#""temperature":1e"#), 400),
        ("no type for that", around(r#""max_tokens":"many""#), 400),
        ("many names", around(&keys.join(",")), 400),
        // These are JSON, and the vendor's to judge.
        ("a long number", around(&format!(r#""x":{}"#, "9".repeat(1_000_000))), 200),
        ("a number beyond all", around(r#""x":1e400"#), 200),
    ];
    for (what, body, status) in bombs {
        let answer = server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}"), &body);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{what}: {}",
            &answer[..answer.len().min(600)]
        );
        assert_eq!(vendor.seen().len(), usize::from(status == 200), "{what}");
        if status == 400 {
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            let error: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(error["error"]["type"], "invalid_request_error", "{what}: {error}");
            assert!(body.len() < 2_000, "{what}: an answer of {} bytes", body.len());
        }
    }
    // Each is on record, its neighbors among them.
    let begun = Instant::now();
    loop {
        let list = server.ask(&format!("GET /api/v1/traces?limit=100 HTTP/1.1\r\nx-api-key: {KEY}"));
        let (_, body) = list.split_once("\r\n\r\n").unwrap();
        let list: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
        if list["data"].as_array().is_some_and(|traces| traces.len() == 13) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{list}");
        std::thread::yield_now();
    }
}

/// A body beyond the cap is refused at the first byte beyond it, whatever its head says, and a hundred of them at once cost
/// no more than a hundred caps.
#[test]
fn bodies_without_end_are_cut_at_the_cap() {
    const CAP: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let (server, vendor) = start(&directory, "[server]\nmax_body_bytes = 1048576\n");
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json"
    );
    // A length that lies upward is refused unread; one that lies downward is half a document.
    let answer = exchange(&server, format!("{head}\r\ncontent-length: 10000000000\r\n\r\n").as_bytes());
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    let answer = exchange(
        &server,
        format!("{head}\r\nconnection: close\r\ncontent-length: 40\r\n\r\n{CALL}").as_bytes(),
    );
    assert!(answer.starts_with("HTTP/1.1 400") && answer.matches("HTTP/1.1 ").count() == 1, "{answer}");
    let before = server.memory("VmRSS:");
    let piece = vec![b' '; CAP / 4];
    let mut open: Vec<_> = (0..100).map(|_| connect(&server)).collect();
    std::thread::scope(|scope| {
        for stream in &mut open {
            scope.spawn(|| {
                write!(stream, "{head}\r\ntransfer-encoding: chunked\r\n\r\n").unwrap();
                for _ in 0..4 {
                    write!(stream, "{:x}\r\n", piece.len()).unwrap();
                    stream.write_all(&piece).unwrap();
                    stream.write_all(b"\r\n").unwrap();
                }
            });
        }
    });
    let rise = server.memory("VmRSS:").saturating_sub(before);
    assert!(rise < 2 * 100 * CAP as u64, "{rise} bytes for a hundred bodies at the cap");
    // Each has had all that it may have; the next byte is the refusal.
    for mut stream in open {
        stream.write_all(b"1\r\n \r\n").unwrap();
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 413");
    }
    assert!(vendor.seen().is_empty());
}

/// What `gzip` makes of what this shell command prints.
fn gzip(command: &str) -> Vec<u8> {
    let made = Command::new("sh").args(["-c", &format!("{command} | gzip -9")]).output().unwrap();
    assert!(made.status.success() && !made.stdout.is_empty(), "{}", String::from_utf8_lossy(&made.stderr));
    made.stdout
}

/// 10 MB that become 10 GB are refused for a fraction of the cap's 64 MiB; members in a row are one body.
#[test]
fn bombs_in_gzip_cost_little() {
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = start(&directory, "");
    let send = |coding: &str, body: &[u8]| {
        let head = format!(
            "POST /v1/traces HTTP/1.1\r\nhost: x\r\nx-api-key: {KEY}\r\ncontent-type: application/json\r\nconnection: close\r\n\
             content-encoding: {coding}\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        exchange(&server, &[head.as_bytes(), body].concat())
    };
    let document = gzip(r#"printf '{"resourceSpans":[]}'"#);
    assert!(send("gzip", &document).starts_with("HTTP/1.1 200"));
    let (bomb, spaces) =
        (gzip("head -c 100000000 /dev/zero").repeat(100), gzip("printf '%1000s' ' '").repeat(1_000));
    let before = server.memory("VmHWM:");
    for body in [&bomb, &gzip("head -c 67108865 /dev/zero")] {
        let answer = send("gzip", body);
        assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    }
    let rise = server.memory("VmHWM:").saturating_sub(before);
    assert!(rise <= 32 << 20, "{rise} bytes for {} that become 10 GB", bomb.len());
    assert!(send("gzip", &[spaces, document.clone()].concat()).starts_with("HTTP/1.1 200"));
    for coding in ["gzip, gzip", "br", "lzma"] {
        assert!(send(coding, &document).starts_with("HTTP/1.1 415"), "{coding}");
    }
}

/// Envoy's rule for what a small request may cost: here less than 1 MiB each while it is in flight.
#[test]
fn a_small_request_costs_less_than_a_mebibyte() {
    const AT_ONCE: usize = 64;
    let directory = tempfile::tempdir().unwrap();
    let (server, _) = start(&directory, "");
    let around = |inner: &str| {
        format!(r#"{{"model":"openai/gpt-4o-mini","messages":[{{"role":"user","content":"hi"}}],{inner}}}"#)
    };
    let kinds = [
        ("names", around(&(0..800).map(|index| format!(r#""k{index}":{{}}"#)).collect::<Vec<_>>().join(","))),
        ("arrays", around(&format!(r#""x":[{}]"#, vec!["[[[]]]"; 1_400].join(",")))),
        (
            "messages",
            format!(
                r#"{{"model":"openai/gpt-4o-mini","messages":[{}]}}"#,
                vec![r#"{"role":"user"}"#; 630].join(",")
            ),
        ),
        (
            "tools",
            around(&format!(
                r#""tools":[{}]"#,
                vec![r#"{"type":"function","function":{"name":"f"}}"#; 200].join(",")
            )),
        ),
        ("escapes", around(&format!(r#""x":"{}""#, "\\n".repeat(4_900)))),
    ];
    let ask =
        |body: &str| server.send(&format!("POST /v1/chat/completions HTTP/1.1\r\nx-api-key: {KEY}"), body);
    for (what, body) in &kinds {
        assert!(body.len() <= 10 * 1_024, "{what} has {} bytes", body.len());
        ask(body);
    }
    let before = server.memory("VmHWM:");
    for (_, body) in &kinds {
        std::thread::scope(|scope| {
            let calls: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(|| ask(body))).collect();
            calls.into_iter().for_each(|call| assert!(call.join().unwrap().starts_with("HTTP/1.1 ")));
        });
    }
    let rise = server.memory("VmHWM:").saturating_sub(before);
    assert!(rise < (AT_ONCE as u64) << 20, "{rise} bytes at the peak for {AT_ONCE} requests at once");
}
