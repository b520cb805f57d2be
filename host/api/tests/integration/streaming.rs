//! Live streams: server-sent events and WebSockets, over real sockets.

use brokle_api::server::Ended;
use brokle_core::clock::{Clock as _, SystemClock};
use brokle_core::observation::{Kind, Observation, SpanId, TraceId};
use brokle_core::random::SystemRandom;
use brokle_core::tenancy::Tenant;
use brokle_identity::Scope;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::harness::{KEY, PATIENCE, STREAMS, Server, request, until};

const PATH: &str = "/api/v1/streaming/traces";

async fn start() -> (Server, Tenant) {
    let server = Server::with_telemetry(1 << 20).await;
    let tenant = server.app.database.default_tenant().await.unwrap().unwrap();
    (server, tenant)
}

fn row(tenant: Tenant, name: &str) -> Observation {
    let (trace, span) = (TraceId::generate(&SystemRandom), SpanId::generate(&SystemRandom));
    let new = Observation::new(tenant, trace, span, Kind::Generation, SystemClock.now().timestamp_micros());
    Observation { name: name.to_owned().into(), ..new }
}

fn record(server: &Server, tenant: Tenant, names: &[&str]) {
    let recorder = &server.app.ingest.as_ref().unwrap().recorder;
    names.iter().for_each(|name| recorder.record(row(tenant, name)));
}

/// A stream of events as it comes.
struct Events {
    stream: TcpStream,
    text: String,
    at: usize,
}

impl Events {
    async fn open(server: &Server, path: &str, more: &str) -> Self {
        let mut stream = server.connect().await;
        stream.write_all(request(&format!("GET {path}"), more).as_bytes()).await.unwrap();
        Self { stream, text: String::new(), at: 0 }
    }

    /// Reads on to the next event of this name, and tells its id and its data.
    async fn next(&mut self, name: &str) -> (Option<String>, Value) {
        let wanted = format!("event: {name}\n");
        let reading = async {
            loop {
                let rest = &self.text[self.at..];
                if let Some(begin) = rest.find(&wanted)
                    && let Some(end) = rest[begin..].find("\n\n")
                {
                    let id = rest[..begin].lines().last().and_then(|line| line.strip_prefix("id: "));
                    let data = rest[begin..begin + end].split_once("\ndata: ").unwrap().1;
                    let found = (id.map(str::to_owned), serde_json::from_str(data).unwrap());
                    self.at += begin + end + 2;
                    return found;
                }
                assert!(self.more().await, "it ended without {name}: {}", self.text);
            }
        };
        timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("no event {name}"))
    }

    /// False at the end. Chunks' sizes stand between the lines and hurt nobody.
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        let count = self.stream.read(&mut buffer).await.unwrap();
        self.text.push_str(&String::from_utf8_lossy(&buffer[..count]));
        count > 0
    }

    async fn name(&mut self) -> String {
        self.next("observation").await.1["name"].as_str().unwrap().to_owned()
    }
}

fn as_key(key: &str) -> String {
    format!("x-api-key: {key}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_tells_what_passes_and_goes_on_where_it_was() {
    let (server, tenant) = start().await;
    let path = format!("{PATH}?filter=type:generation%20-name:no");
    let mut events = Events::open(&server, &path, &as_key(KEY)).await;
    let (begun, _) = events.next("open").await;
    assert!(events.text.to_lowercase().contains("content-type: text/event-stream"));
    record(&server, tenant, &["one", "no", "two"]);
    let (id, data) = events.next("observation").await;
    assert_eq!(
        (&data["name"], &data["type"], data.get("input")),
        (&json!("one"), &json!("generation"), None)
    );
    assert_eq!(events.name().await, "two");
    drop(events);

    record(&server, tenant, &["three"]);
    for (last, names) in [(id, &["two", "three"][..]), (begun, &["one", "two", "three"])] {
        let more = format!("{}\nlast-event-id: {}", as_key(KEY), last.unwrap());
        let mut again = Events::open(&server, &path, &more).await;
        for name in names {
            assert_eq!(again.name().await, *name);
        }
    }
    // A place of a channel that isn't there any more, long ago.
    let more = format!("{}\nlast-event-id: 0000000000000001-5-1000", as_key(KEY));
    let mut late = Events::open(&server, PATH, &more).await;
    assert_eq!(late.next("gap").await.1["code"], "gap");
    assert_eq!(late.name().await, "one", "what there is comes all the same");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_stream_shows_that_it_is_there_and_its_place() {
    let (server, tenant) = start().await;
    let mut events = Events::open(&server, &format!("{PATH}?filter=name:yes"), &as_key(KEY)).await;
    events.next("open").await;
    record(&server, tenant, &["no"]);
    let seen = async {
        while !events.text.contains("-1-") || !events.text.contains(": ping\nid: ") {
            assert!(events.more().await);
        }
    };
    timeout(PATIENCE, seen).await.expect("a ping with the place behind what was passed over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_makes_no_sense_is_refused() {
    let (server, _) = start().await;
    let writer = server.key(Scope::TracesWrite).await;
    let own = as_key(KEY);
    for (query, more, status, code) in [
        ("", "", 401, "invalid_api_key"),
        ("", &*as_key(writer.expose()), 403, "insufficient_scope"),
        ("?filter=colour:red", &own, 400, "invalid_filter"),
        ("?filter=scores.good:1", &own, 400, "invalid_filter"),
        ("?last_event_id=x", &own, 400, "invalid_request"),
        ("?colour=red", &own, 400, "invalid_request"),
        ("?ticket=made-up", "", 401, "invalid_ticket"),
        ("", &format!("{own}\norigin: https://evil.example"), 403, "origin_not_allowed"),
    ] {
        let answer = server.send(&format!("GET {PATH}{query}\n{more}")).await;
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{query} {more}");
    }
    let answer = server.send(&format!("GET /ws\n{own}")).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (426, Some("upgrade_required")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_has_so_many_streams_and_a_place_is_given_back() {
    let (server, _) = start().await;
    let mut open = Vec::new();
    for _ in 0..STREAMS {
        let mut events = Events::open(&server, PATH, &as_key(KEY)).await;
        events.next("open").await;
        open.push(events);
    }
    let refused = server.send(&format!("GET {PATH}\n{}", as_key(KEY))).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (429, Some("too_many_streams")));
    let other = server.key(Scope::TracesRead).await;
    Events::open(&server, PATH, &as_key(other.expose())).await.next("open").await;
    open.pop();
    let again = async {
        loop {
            let mut events = Events::open(&server, PATH, &as_key(KEY)).await;
            events.more().await;
            if events.text.starts_with("HTTP/1.1 200") {
                break;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("the place is free again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_key_hears_no_more() {
    let (server, tenant) = start().await;
    let key = server.key(Scope::TracesRead).await;
    let mut events = Events::open(&server, PATH, &as_key(key.expose())).await;
    events.next("open").await;
    let mut socket = Socket::open(&server, "", &[("x-api-key", key.expose())]).await.unwrap();
    assert_eq!(socket.hear().await["type"], "authenticated");
    let id = server.app.keys.authenticate(key.expose()).await.unwrap().key_id;
    server.app.keys.revoke(tenant.organization, id).await.unwrap();
    assert_eq!(events.next("closing").await.1["code"], "invalid_api_key");
    assert_eq!(socket.end().await, (4401, "invalid_api_key".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_ends_streams_and_sockets_and_waits_for_neither() {
    let (server, _) = start().await;
    let mut events = Events::open(&server, PATH, &as_key(KEY)).await;
    events.next("open").await;
    let mut socket = Socket::open(&server, "", &[("x-api-key", KEY)]).await.unwrap();
    socket.hear().await;
    server.stop.soon();
    assert_eq!(events.next("closing").await.1["code"], "shutting_down");
    assert_eq!(socket.end().await.0, 1001);
    drop(socket);
    assert_eq!(timeout(PATIENCE, server.ended).await.unwrap().unwrap(), Ended::Drained);
}

/// A client of `/ws`.
struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    async fn open(server: &Server, query: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = format!("ws://{}/ws{query}", server.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        Ok(Self(client_async(request, server.connect().await).await?.0))
    }

    async fn say(&mut self, message: Value) {
        self.0.send(Message::Text(message.to_string().into())).await.unwrap();
    }

    async fn next(&mut self) -> Message {
        timeout(PATIENCE, self.0.next()).await.expect("a message").unwrap().unwrap()
    }

    async fn hear(&mut self) -> Value {
        loop {
            match self.next().await {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// Code and reason of its end; what comes before is passed over.
    async fn end(&mut self) -> (u16, String) {
        loop {
            if let Message::Close(frame) = self.next().await {
                let frame = frame.unwrap();
                return (frame.code.into(), frame.reason.to_string());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_subscribes_and_unsubscribes() {
    let (server, tenant) = start().await;
    let mut socket = Socket::open(&server, "", &[]).await.unwrap();
    socket.say(json!({"type": "auth", "api_key": KEY})).await;
    assert_eq!(socket.hear().await, json!({"type": "authenticated"}));
    for (id, filter) in [("a", "name:one"), ("b", "")] {
        socket.say(json!({"type": "subscribe", "id": id, "filter": filter})).await;
        assert_eq!(socket.hear().await, json!({"type": "subscribed", "id": id}));
    }
    record(&server, tenant, &["one", "two"]);
    let mut heard = Vec::new();
    let mut last = String::new();
    for _ in 0..3 {
        let event = socket.hear().await;
        assert_eq!(event["type"], "observation");
        let (id, name) = (event["id"].as_str().unwrap(), event["data"]["name"].as_str().unwrap());
        heard.push(format!("{id} {name}"));
        if name == "one" {
            last = event["event_id"].as_str().unwrap().to_owned();
        }
    }
    heard.sort();
    assert_eq!(heard, ["a one", "b one", "b two"]);

    for (message, code) in [
        (json!({"type": "subscribe", "id": "b"}), "invalid_request"),
        (json!({"type": "subscribe", "id": "c", "filter": "colour:red"}), "invalid_filter"),
        (json!({"type": "unsubscribe", "id": "z"}), "not_found"),
        (json!({"type": "auth", "api_key": KEY}), "invalid_request"),
    ] {
        socket.say(message).await;
        let answer = socket.hear().await;
        assert_eq!((answer["type"].as_str(), answer["code"].as_str()), (Some("error"), Some(code)));
    }
    for id in ["a", "b"] {
        socket.say(json!({"type": "unsubscribe", "id": id})).await;
        assert_eq!(socket.hear().await, json!({"type": "unsubscribed", "id": id}));
    }
    record(&server, tenant, &["three"]);
    socket.say(json!({"type": "ping"})).await;
    assert_eq!(socket.hear().await, json!({"type": "pong"}));
    socket.say(json!({"type": "subscribe", "id": "d", "last_event_id": last})).await;
    assert_eq!(socket.hear().await["type"], "subscribed");
    assert_eq!(socket.hear().await["data"]["name"], "two");
    assert_eq!(socket.hear().await["data"]["name"], "three");
    for n in 0.. {
        socket.say(json!({"type": "subscribe", "id": n.to_string(), "filter": "name:none"})).await;
        if let Some(code) = socket.hear().await["code"].as_str() {
            assert_eq!((code, n), ("too_many_subscriptions", 15));
            break;
        }
    }
    socket.say(json!({"type": "sing"})).await;
    assert_eq!(socket.end().await.0, 4400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_one_stream_or_socket() {
    let (server, tenant) = start().await;
    let ticket = async || {
        let head = format!("POST /api/v1/streaming/tickets\n{}", as_key(KEY));
        let answer = server.send(&head).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        answer.json()["ticket"].as_str().unwrap().to_owned()
    };
    let first = ticket().await;
    let mut events = Events::open(&server, &format!("{PATH}?ticket={first}"), "").await;
    events.next("open").await;
    record(&server, tenant, &["one"]);
    assert_eq!(events.name().await, "one");
    let again = server.send(&format!("GET {PATH}?ticket={first}")).await;
    assert_eq!((again.status, again.json()["code"].as_str()), (401, Some("invalid_ticket")));

    let second = ticket().await;
    let mut socket = Socket::open(&server, &format!("?ticket={second}"), &[]).await.unwrap();
    assert_eq!(socket.hear().await["type"], "authenticated");
    drop(socket);
    let third = ticket().await;
    let mut socket = Socket::open(&server, "", &[]).await.unwrap();
    socket.say(json!({"type": "auth", "ticket": third})).await;
    assert_eq!(socket.hear().await["type"], "authenticated");
    let no_scope = server.key(Scope::TracesWrite).await;
    let answer = server.send(&format!("POST /api/v1/streaming/tickets\n{}", as_key(no_scope.expose()))).await;
    assert_eq!(answer.status, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_opens_no_socket() {
    let (server, _) = start().await;
    let host = server.address.to_string();
    for (origin, is_let_in) in [
        (format!("http://{host}"), true),
        ("https://app.example".to_owned(), true),
        ("https://app.example.evil.example".to_owned(), false),
        ("null".to_owned(), false),
    ] {
        let opened = Socket::open(&server, "", &[("origin", &origin)]).await;
        match opened {
            Ok(_) => assert!(is_let_in, "{origin}"),
            Err(Error::Http(answer)) => assert_eq!((answer.status().as_u16(), is_let_in), (403, false)),
            Err(error) => panic!("{error}"),
        }
    }
    let writer = server.key(Scope::TracesWrite).await;
    for (message, code) in [
        (json!({"type": "auth", "api_key": "bk_0000000000000000000000000000000000000000"}), 4401),
        (json!({"type": "auth", "api_key": writer.expose()}), 4403),
        (json!({"type": "auth", "ticket": "made-up"}), 4401),
        (json!({"type": "auth"}), 4401),
        (json!({"type": "subscribe", "id": "a"}), 4401),
        (json!([]), 4400),
    ] {
        let mut socket = Socket::open(&server, "", &[]).await.unwrap();
        socket.say(message.clone()).await;
        assert_eq!(socket.end().await.0, code, "{message}");
    }
    let mut sockets = Vec::new();
    for _ in 0..STREAMS {
        let mut socket = Socket::open(&server, "", &[("x-api-key", KEY)]).await.unwrap();
        assert_eq!(socket.hear().await["type"], "authenticated");
        sockets.push(socket);
    }
    let mut socket = Socket::open(&server, "", &[("x-api-key", KEY)]).await.unwrap();
    assert_eq!(socket.end().await.0, 4429);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_too_slow_is_told_and_dropped() {
    let (server, tenant) = start().await;
    let mut socket = Socket::open(&server, "", &[("x-api-key", KEY)]).await.unwrap();
    socket.hear().await;
    socket.say(json!({"type": "subscribe", "id": "a"})).await;
    assert_eq!(socket.hear().await["type"], "subscribed");
    let mut events = Events::open(&server, PATH, &as_key(KEY)).await;
    events.next("open").await;
    // More than the sockets' buffers and the ring hold; nobody reads.
    let (recorder, name) = (&server.app.ingest.as_ref().unwrap().recorder, "x".repeat(4 << 10));
    for _ in 0..6 {
        for _ in 0..2_000 {
            recorder.record(row(tenant, &name));
        }
        recorder.flush().await;
    }
    until(|| recorder.stats().waiting_rows == 0).await;
    assert_eq!(recorder.stats().dropped, 0);
    assert_eq!(socket.end().await, (4008, "slow_consumer".to_owned()));
    assert_eq!(events.next("lagged").await.1["code"], "slow_consumer");
}
