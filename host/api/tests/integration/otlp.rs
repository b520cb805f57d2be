//! Spans in, by OTLP over HTTP.

use std::io::Write as _;

use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::tenancy::Capture;
use brokle_identity::Scope;
use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::strategy::{Strategy, ValueTree as _};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{KEY, PATIENCE, Server, request, until};

const JSON: &str = "application/json";
const PROTOBUF: &str = "application/x-protobuf";
const TRACE: &str = "5b8efff798038103d269b633813fc60c";

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(prefix.as_str()))
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    /// The stable code in a `google.rpc.Status`, in its JSON form.
    fn reason(&self) -> String {
        self.json()["details"][0]["reason"].as_str().unwrap_or_default().to_owned()
    }
}

async fn exchange(server: &Server, bytes: &[u8]) -> Answer {
    let mut stream = server.connect().await;
    // A server that answers before it has read everything may close first.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
    let at = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..at]).to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: answer[at + 4..].to_vec() }
}

async fn post(server: &Server, path: &str, more: &str, body: &[u8]) -> Answer {
    let more = format!("{more}\nx-api-key: {KEY}\nconnection: close\ncontent-length: {}", body.len());
    let head = request(&format!("POST {path}"), &more);
    exchange(server, &[head.as_bytes(), body].concat()).await
}

async fn send(server: &Server, kind: &str, body: &[u8]) -> Answer {
    post(server, "/v1/traces", &format!("content-type: {kind}"), body).await
}

fn span(id: u64, more: Value) -> Value {
    let start = SystemClock.now().timestamp_micros() * 1_000;
    let mut span = json!({"traceId": TRACE, "spanId": format!("{id:016X}"), "name": format!("span {id}"),
        "startTimeUnixNano": start.to_string(), "endTimeUnixNano": (start + 5_000_000).to_string()});
    let Value::Object(more) = more else { panic!("members are expected: {more}") };
    span.as_object_mut().unwrap().extend(more);
    span
}

fn body(spans: &[Value]) -> Vec<u8> {
    json!({"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}).to_string().into_bytes()
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

async fn stored(server: &Server) -> Value {
    server.app.ingest.as_ref().unwrap().recorder.flush().await;
    server.send(&format!("GET /api/v1/traces?limit=100\nx-api-key: {KEY}")).await.json()["data"].take()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_become_a_tree() {
    let server = Server::with_telemetry(1 << 20).await;
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let projects = server.app.database.projects();
    projects
        .set_capture(tenant.organization, tenant.project, Capture::Full, SystemClock.now())
        .await
        .unwrap();
    let text = |key: &str, value: &str| json!({"key": key, "value": {"stringValue": value}});
    let root = span(
        1,
        json!({"attributes": [text("gen_ai.operation.name", "invoke_agent"), text("session.id", "s")]}),
    );
    let call = span(
        2,
        json!({"parentSpanId": "0000000000000001", "attributes": [
        text("gen_ai.operation.name", "chat"), text("gen_ai.provider.name", "openai"),
        text("gen_ai.request.model", "gpt-4o-mini"), text("input.value", "{\"a\":1}"),
        {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "1000"}}]}),
    );
    // The child first: parents may come later.
    for spans in [[call], [root]] {
        let answer = send(&server, JSON, &body(&spans)).await;
        assert_eq!(
            (answer.status, answer.header("content-type"), &*answer.body),
            (200, Some(JSON), &b"{}"[..])
        );
        assert!(answer.header("x-request-id").is_some());
    }
    let rows = stored(&server).await;
    assert_eq!(rows.as_array().unwrap().len(), 2);
    let trace = server.send(&format!("GET /api/v1/traces/{TRACE}\nx-api-key: {KEY}")).await.json();
    let [root] = trace["observations"].as_array().unwrap().as_slice() else { panic!("{trace}") };
    assert_eq!((root["type"].as_str(), root["session"].as_str()), (Some("agent"), Some("s")));
    let call = &root["children"][0];
    assert_eq!((call["type"].as_str(), call["cost"].as_str()), (Some("generation"), Some("0.00015")));
    assert_eq!((&call["input"], &call["usage"]["input"]), (&json!({"a": 1}), &json!(1000)));
    assert_eq!(call["key_id"], root["key_id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_answer_has_the_encoding_of_the_question() {
    let server = Server::with_telemetry(1 << 20).await;
    for path in ["/v1/traces", "/v1/otlp/traces"] {
        for (kind, empty, answered) in [
            (PROTOBUF, &b""[..], &b""[..]),
            (JSON, b"{}", b"{}"),
            (JSON, b"", b"{}"),
            ("Application/JSON; charset=UTF-8", b"{}", b"{}"),
        ] {
            let answer = post(&server, path, &format!("content-type: {kind}"), empty).await;
            assert_eq!((answer.status, &*answer.body), (200, answered), "{path} {kind}");
            let expected = if kind == PROTOBUF { PROTOBUF } else { JSON };
            assert_eq!(answer.header("content-type"), Some(expected));
        }
        let bad = post(&server, path, &format!("content-type: {PROTOBUF}"), b"\x0a\xff").await;
        assert_eq!((bad.status, bad.header("content-type"), bad.body[0]), (400, Some(PROTOBUF), 0x08));
    }
    let bad = send(&server, JSON, b"nonsense").await;
    assert_eq!(
        (bad.status, bad.json()["code"].as_u64(), bad.reason().as_str()),
        (400, Some(3), "INVALID_REQUEST")
    );
    for kind in ["text/plain", "application/protobuf", ""] {
        let answer = send(&server, kind, b"{}").await;
        assert_eq!((answer.status, answer.reason().as_str()), (415, "UNSUPPORTED_MEDIA_TYPE"), "{kind}");
    }
    let get = exchange(&server, request("GET /v1/traces", "connection: close").as_bytes()).await;
    assert_eq!((get.status, get.reason().as_str()), (405, "METHOD_NOT_ALLOWED"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_key_with_the_scope_may_send() {
    let server = Server::with_telemetry(1 << 20).await;
    let weak = server.key(Scope::TracesRead).await;
    let strong = server.key(Scope::TracesWrite).await;
    for (key, status, reason) in [
        (String::new(), 401, "INVALID_API_KEY"),
        (format!("authorization: Bearer bk_{}", "0".repeat(40)), 401, "INVALID_API_KEY"),
        (format!("x-api-key: {}", weak.expose()), 403, "INSUFFICIENT_SCOPE"),
        (format!("authorization: Bearer {}", strong.expose()), 200, ""),
    ] {
        let more = format!("{key}\ncontent-type: {JSON}\ncontent-length: 2\nconnection: close");
        let answer = exchange(&server, (request("POST /v1/traces", &more) + "{}").as_bytes()).await;
        assert_eq!((answer.status, answer.reason().as_str()), (status, reason));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_come_compressed_and_in_chunks() {
    let server = Server::with_telemetry(1 << 20).await;
    let spans = body(&[span(1, json!({}))]);
    let head = format!("content-type: {JSON}\ncontent-encoding: gzip");
    assert_eq!(post(&server, "/v1/traces", &head, &gzip(&spans)).await.status, 200);
    let spans = body(&[span(2, json!({}))]);
    let more =
        format!("content-type: {JSON}\nx-api-key: {KEY}\ntransfer-encoding: chunked\nconnection: close");
    let mut bytes = request("POST /v1/traces", &more).into_bytes();
    for chunk in spans.chunks(50) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(exchange(&server, &bytes).await.status, 200);
    assert_eq!(stored(&server).await.as_array().unwrap().len(), 2);

    let not_gzip = post(&server, "/v1/traces", &head, &spans).await;
    assert_eq!((not_gzip.status, not_gzip.reason().as_str()), (400, "INVALID_ENCODING"));
    for coding in ["br", "gzip, gzip", "gzip\ncontent-encoding: gzip"] {
        let head = format!("content-type: {JSON}\ncontent-encoding: {coding}");
        assert_eq!(post(&server, "/v1/traces", &head, &spans).await.status, 415, "{coding}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_is_413_before_and_after_it_is_inflated() {
    let server = Server::with_telemetry(10_000).await;
    let plain = send(&server, JSON, &[b' '; 10_001]).await;
    assert_eq!((plain.status, plain.reason().as_str()), (413, "REQUEST_TOO_LARGE"));
    let head = format!("content-type: {JSON}\ncontent-encoding: gzip");
    // A bomb, and a hundred members of which the last is one too many.
    for bomb in [gzip(&vec![b' '; 5 << 20]), gzip(&[b' '; 100]).repeat(101)] {
        assert!(bomb.len() < 10_000);
        let answer = post(&server, "/v1/traces", &head, &bomb).await;
        assert_eq!((answer.status, answer.reason().as_str()), (413, "REQUEST_TOO_LARGE"));
    }
    assert_eq!(send(&server, JSON, b"{}").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_span_is_told_and_costs_only_itself() {
    let server = Server::with_telemetry(1 << 20).await;
    let spans = [span(1, json!({})), span(2, json!({"traceId": "0"})), span(3, json!({}))];
    let answer = send(&server, JSON, &body(&spans)).await;
    let partial = answer.json()["partialSuccess"].take();
    assert_eq!((answer.status, &partial["rejectedSpans"]), (200, &json!("1")));
    assert_eq!(partial["errorMessage"], "traceId must be 16 bytes, not all of them 0 (1 span)");
    assert_eq!(stored(&server).await.as_array().unwrap().len(), 2);
    let metrics = server.send("GET /metrics").await.body;
    for line in ["brokle_spans_total{outcome=\"accepted\"} 2", "brokle_spans_total{outcome=\"rejected\"} 1"] {
        assert!(metrics.contains(line), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_that_come_again_change_no_count() {
    let server = Server::with_telemetry(1 << 20).await;
    let spans = body(&(1..=20).map(|id| span(id, json!({}))).collect::<Vec<_>>());
    for _ in 0..3 {
        assert_eq!(send(&server, JSON, &spans).await.status, 200);
    }
    assert_eq!(stored(&server).await.as_array().unwrap().len(), 20);
    let stats = server.app.ingest.as_ref().unwrap().recorder.stats();
    assert_eq!((stats.inserted, stats.duplicates), (20, 40));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_that_takes_nothing_is_503_with_retry_after() {
    let server = Server::with_telemetry(1 << 20).await;
    let queue = rusqlite::Connection::open(server.directory.path().join("telemetry/queue.db")).unwrap();
    queue.execute_batch("BEGIN IMMEDIATE").unwrap();
    // Nor does the store: a file of its month can't be opened.
    let month = SystemClock.now().format("%Y%m");
    let file = server.directory.path().join(format!("telemetry/observations-{month}.db"));
    std::fs::create_dir(&file).unwrap();
    let spans = body(&[span(1, json!({}))]);
    let refused = send(&server, JSON, &spans).await;
    assert_eq!((refused.status, refused.reason().as_str()), (503, "QUEUE_UNAVAILABLE"));
    assert_eq!(refused.header("retry-after"), Some("2"));
    queue.execute_batch("ROLLBACK").unwrap();
    std::fs::remove_dir(&file).unwrap();
    assert!(stored(&server).await.as_array().unwrap().is_empty(), "what was refused isn't there");
    assert_eq!(send(&server, JSON, &spans).await.status, 200);
    assert_eq!(stored(&server).await.as_array().unwrap().len(), 1);

    server.app.ingest.as_ref().unwrap().recorder.shutdown().await;
    // Not a byte of this body ever comes: it is refused before it is read.
    let more = format!("content-type: {JSON}\nx-api-key: {KEY}\ncontent-length: 100\nconnection: close");
    let closed = exchange(&server, request("POST /v1/traces", &more).as_bytes()).await;
    assert_eq!((closed.status, closed.reason().as_str()), (503, "SHUTTING_DOWN"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_are_answered_and_never_a_panic() {
    let server = Server::with_telemetry(1 << 20).await;
    let good = body(&[span(1, json!({"attributes": [{"key": "a", "value": {"intValue": "1"}}]}))]);
    let mut runner = TestRunner::deterministic();
    let bytes = proptest::collection::vec(proptest::num::u8::ANY, 0..300);
    for round in 0..150_usize {
        let mut body = bytes.new_tree(&mut runner).unwrap().current();
        if round % 2 == 0 {
            // Most of a good body, with a few bytes of chance in it.
            let at = round * 7 % good.len();
            body = [&good[..at], &body[..body.len().min(3)], &good[at..]].concat();
        }
        for head in [
            format!("content-type: {JSON}"),
            format!("content-type: {PROTOBUF}"),
            format!("content-type: {PROTOBUF}\ncontent-encoding: gzip"),
            format!("content-type: {JSON}\ncontent-encoding: zstd"),
        ] {
            let answer = post(&server, "/v1/traces", &head, &body).await;
            assert!(matches!(answer.status, 200 | 400), "{head} {body:?}: {}", answer.status);
        }
    }
    until(|| server.app.ingest.as_ref().unwrap().recorder.stats().waiting_rows == 0).await;
    assert!(server.send("GET /metrics").await.body.contains("brokle_panics_total 0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_metrics_are_taken_and_listed() {
    let server = Server::with_telemetry(1 << 20).await;
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    let projects = server.app.database.projects();
    projects
        .set_capture(tenant.organization, tenant.project, Capture::Full, SystemClock.now())
        .await
        .unwrap();
    let now = SystemClock.now().timestamp_micros() * 1_000;
    let service = json!({"attributes": [{"key": "service.name", "value": {"stringValue": "shop"}}]});
    let log = |severity: u8, text: &str| json!({"timeUnixNano": now.to_string(), "severityNumber": severity, "traceId": TRACE, "body": {"stringValue": text}});
    let logs = json!({"resourceLogs": [{"resource": service, "scopeLogs": [{"logRecords": [log(9, "fine"), log(17, "disk full"), 5]}]}]});
    let metrics = json!({"resourceMetrics": [{"resource": service, "scopeMetrics": [{"metrics": [
        {"name": "load", "gauge": {"dataPoints": [{"timeUnixNano": now.to_string(), "asDouble": 0.5}]}}, {"name": "x"}]}]}]});
    for (path, body, rejected) in [
        ("/v1/logs", &logs, "rejectedLogRecords"),
        ("/v1/otlp/logs", &logs, "rejectedLogRecords"),
        ("/v1/metrics", &metrics, "rejectedDataPoints"),
        ("/v1/otlp/metrics", &metrics, "rejectedDataPoints"),
    ] {
        let answer = post(
            &server,
            path,
            "content-type: application/json\ncontent-encoding: gzip",
            &gzip(body.to_string().as_bytes()),
        )
        .await;
        assert_eq!(answer.status, 200, "{path}: {:?}", answer.json());
        assert_eq!(answer.json()["partialSuccess"][rejected], "1", "{path}");
    }
    server.app.ingest.as_ref().unwrap().recorder.flush().await;
    let project = format!("/api/v1/projects/{}", tenant.project);
    let list = async |path: &str| {
        let answer = server.send(&format!("GET {project}{path}\nx-api-key: {KEY}")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.json()["data"].as_array().unwrap().clone()
    };
    // Sent twice, there once.
    assert_eq!(list("/logs").await.len(), 2);
    for path in ["/logs?severity=error", "/logs?text=DISK", "/logs?severity=17&service=shop"] {
        let found = list(path).await;
        assert_eq!((found.len(), found[0]["body"].as_str()), (1, Some("disk full")), "{path}");
        assert_eq!((&found[0]["service"], &found[0]["trace_id"]), (&json!("shop"), &json!(TRACE)));
    }
    assert_eq!(list(&format!("/logs?trace_id={TRACE}&limit=1")).await.len(), 1);
    let series = list("/metrics/series").await;
    assert_eq!(
        (series.len(), &series[0]["points"], &series[0]["latest"]["value"]),
        (1, &json!(1), &json!(0.5))
    );
    let of = series[0]["latest"]["series"].as_str().unwrap();
    assert_eq!(list(&format!("/metrics/points?name=load&series={of}")).await[0]["value"], 0.5);

    for path in [
        "/logs?severity=loud",
        "/logs?trace_id=x",
        "/logs?limit=0",
        "/logs?cursor=x",
        "/metrics/points?series=-1",
    ] {
        let answer = server.send(&format!("GET {project}{path}\nx-api-key: {KEY}")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (400, Some("invalid_request")), "{path}");
    }
    let writer = server.key(Scope::TracesWrite).await;
    let reader = server.key(Scope::TracesRead).await;
    for (path, key, status) in [
        (format!("{project}/logs"), writer.expose(), 403),
        ("/api/v1/projects/01ARZ3NDEKTSV4RRFFQ69G5FAV/logs".to_owned(), reader.expose(), 404),
        ("/api/v1/projects/01ARZ3NDEKTSV4RRFFQ69G5FAV/metrics/points".to_owned(), reader.expose(), 404),
    ] {
        assert_eq!(server.send(&format!("GET {path}\nx-api-key: {key}")).await.status, status, "{path}");
    }
    let refused = post(&server, "/v1/logs", "content-type: text/plain", b"").await;
    assert_eq!((refused.status, refused.reason().as_str()), (415, "UNSUPPORTED_MEDIA_TYPE"));
    let broken = post(&server, "/v1/metrics", "content-type: application/json", b"{").await;
    assert_eq!((broken.status, broken.reason().as_str()), (400, "INVALID_REQUEST"));
    assert!(broken.json()["message"].as_str().unwrap().contains("ExportMetricsServiceRequest"));
    let large = post(&server, "/v1/logs", "content-type: application/json", &vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(large.status, 413);
}
