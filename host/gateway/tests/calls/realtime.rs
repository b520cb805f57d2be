//! Realtime sessions, by real WebSockets at both ends.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_core::money::Usd;
use brokle_gateway::budgets::{Budget, OnExceeded, Period, Unit, UnknownPrice};
use brokle_gateway::limits::{Amounts, Limit};
use brokle_gateway::who::{By, Filter, Who};
use brokle_gateway::{AnswerBody, RealtimeCall, RealtimeLimits, Timeouts, key_in_protocols};
use brokle_identity::AuthError;
use futures_util::{SinkExt as _, StreamExt as _};
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{self, Message, client::IntoClientRequest as _};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use crate::guardrails::{guard, guardrail};
use crate::harness::{Extra, To, World, request_id, world_extra};
use crate::vendor::{Vendor, reply};

/// A vendor that does what messages ask for.
struct Sockets {
    address: SocketAddr,
    /// The heads that came.
    seen: Arc<Mutex<Vec<HeaderMap>>>,
    /// How sessions were closed by their callers.
    closed: watch::Receiver<Vec<Option<u16>>>,
    /// Lets responses that wait be done.
    go_on: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Sockets {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (tell, closed) = watch::channel(Vec::new());
        let (go_on, wait) = watch::channel(false);
        let (journal, tell) = (seen.clone(), Arc::new(tell));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sessions = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (journal, tell, wait) = (journal.clone(), tell.clone(), wait.clone());
                sessions.spawn(async move {
                    let look =
                        |request: &tungstenite::handshake::server::Request,
                         mut response: tungstenite::handshake::server::Response| {
                            journal.lock().unwrap().push(request.headers().clone());
                            if request.headers().contains_key("sec-websocket-protocol") {
                                response
                                    .headers_mut()
                                    .insert("sec-websocket-protocol", "realtime".parse().unwrap());
                            }
                            Ok(response)
                        };
                    let socket = accept_hdr_async(stream, look).await.unwrap();
                    play(socket, &tell, wait).await;
                });
            }
        });
        Self { address, seen, closed, go_on, _tasks: tasks }
    }

    fn to(&self) -> To {
        self.to_as("vendor", 0)
    }

    fn to_as(&self, name: &'static str, priority: i32) -> To {
        let url = format!("http://{}/v1", self.address);
        To { name, plugin: "provider_openai", url, priority, models: Vec::new() }
    }
}

async fn play(
    mut socket: WebSocketStream<TcpStream>,
    tell: &watch::Sender<Vec<Option<u16>>>,
    mut wait: watch::Receiver<bool>,
) {
    let say = |event: Value| Message::text(event.to_string());
    let created = json!({"type": "session.created", "session": {"model": "gpt-realtime-2025-08-28"}});
    socket.send(say(created)).await.unwrap();
    while let Some(Ok(message)) = socket.next().await {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(bytes) => {
                socket.send(Message::Binary(bytes)).await.unwrap();
                continue;
            }
            Message::Close(frame) => {
                tell.send_modify(|closed| closed.push(frame.map(|frame| frame.code.into())));
                continue;
            }
            _ => continue,
        };
        let asked: Value = serde_json::from_str(&text).unwrap();
        match asked["type"].as_str().unwrap() {
            "response.create" => {
                socket.send(say(json!({"type": "response.created", "response": {}}))).await.unwrap();
                if asked["slow"] == true {
                    let _ = wait.wait_for(|go_on| *go_on).await;
                }
                let usage = json!({"total_tokens": 1500, "input_tokens": 1000, "output_tokens": 500,
                    "input_token_details": {"cached_tokens": 0, "text_tokens": 200, "audio_tokens": 800},
                    "output_token_details": {"text_tokens": 100, "audio_tokens": 400}});
                let done = json!({"type": "response.done", "response": {"usage": usage}});
                socket.send(say(done)).await.unwrap();
            }
            "close" => {
                let frame = CloseFrame { code: CloseCode::Library(4001), reason: "its reason".into() };
                socket.close(Some(frame)).await.unwrap();
            }
            "die" => return,
            "huge" => socket.send(Message::text("x".repeat(200_000))).await.unwrap(),
            _ => socket.send(Message::Text(text)).await.unwrap(),
        }
    }
}

/// A server in front of a world's gateway.
struct Front {
    address: SocketAddr,
    leave: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl World {
    /// Upgrades calls as the server does.
    async fn front(self: &Arc<Self>) -> Front {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (leave, leaving) = watch::channel(false);
        let world = Arc::clone(self);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (world, leaving) = (world.clone(), leaving.clone());
                connections.spawn(async move {
                    let (give, after) = oneshot::channel();
                    let give = Mutex::new(Some(give));
                    let service = service_fn(|request: Request<Incoming>| async {
                        let (response, session) = world.open(request, leaving.clone()).await;
                        if let Some((session, give)) = session.zip(give.lock().unwrap().take()) {
                            let _ = give.send(session);
                        }
                        Ok::<_, std::convert::Infallible>(response)
                    });
                    let connection = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades();
                    let _ = connection.await;
                    drop(give);
                    if let Ok(session) = after.await {
                        session.await;
                    }
                });
            }
        });
        Front { address, leave, _tasks: tasks }
    }

    async fn open(
        &self,
        mut request: Request<Incoming>,
        mut leaving: watch::Receiver<bool>,
    ) -> (Response<AnswerBody>, Option<brokle_gateway::RealtimeSession>) {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>();
        let headers = request.headers().clone();
        let bearer = headers.get("authorization").map(|value| value.to_str().unwrap()[7..].to_owned());
        let caller = match bearer.as_deref().or(key_in_protocols(&headers)) {
            Some(key) => self.keys.authenticate(key).await,
            None => Err(AuthError::Missing),
        };
        let model = request.uri().query().and_then(|query| query.strip_prefix("model="));
        let leaving = async move {
            let _ = leaving.wait_for(|leaving| *leaving).await;
        };
        let call = RealtimeCall {
            model,
            caller,
            headers: &headers,
            upgrade,
            request_id: request_id(),
            leaving: Box::pin(leaving),
        };
        self.gateway.realtime(call).await
    }
}

type Socket = WebSocketStream<TcpStream>;

impl Front {
    async fn dial(
        &self,
        model: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<(Socket, Response<()>), (u16, Value)> {
        let url = format!("ws://{}/v1/realtime?model={model}", self.address);
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        match client_async(request, stream).await {
            Ok((socket, response)) => Ok((socket, response.map(|_| ()))),
            Err(tungstenite::Error::Http(response)) => {
                let status = response.status().as_u16();
                let body = response.body().as_deref().unwrap_or_default();
                Err((status, serde_json::from_slice(body).unwrap_or(Value::Null)))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// A session that has begun.
    async fn session(&self, key: &str) -> Socket {
        let (mut socket, _) =
            self.dial("gpt-realtime", &[("authorization", &format!("Bearer {key}"))]).await.unwrap();
        assert_eq!(heard(&mut socket).await["type"], "session.created");
        socket
    }
}

async fn say(socket: &mut Socket, event: Value) {
    socket.send(Message::text(event.to_string())).await.unwrap();
}

async fn next(socket: &mut Socket) -> Message {
    loop {
        let message = tokio::time::timeout(Duration::from_secs(20), socket.next()).await.unwrap();
        match message.unwrap().unwrap() {
            Message::Ping(_) | Message::Pong(_) => {}
            message => return message,
        }
    }
}

async fn heard(socket: &mut Socket) -> Value {
    serde_json::from_str(next(socket).await.to_text().unwrap()).unwrap()
}

/// The close that comes next.
async fn closed(socket: &mut Socket) -> (u16, String) {
    let Message::Close(Some(frame)) = next(socket).await else { panic!("it isn't closed with a code") };
    (frame.code.into(), frame.reason.as_str().to_owned())
}

/// The one observation, once the session is over.
async fn trace(world: &World) -> Value {
    for _ in 0..2_000 {
        if !world.traces().await.is_empty() {
            return world.only_trace().await;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the session left no trace");
}

async fn world(connections: Vec<To>, extra: Extra) -> Arc<World> {
    Arc::new(world_extra(connections, Arc::new(SystemClock), extra).await)
}

#[tokio::test]
async fn messages_pass_both_ways_and_are_accounted() {
    let vendor = Sockets::start().await;
    let world = world(vec![vendor.to()], Extra::default()).await;
    let front = world.front().await;
    let protocols = format!("realtime, openai-insecure-api-key.{}, openai-beta.realtime-v1", world.key);
    let (mut socket, response) = front
        .dial("gpt-realtime", &[("sec-websocket-protocol", &protocols), ("openai-beta", "realtime=v1")])
        .await
        .unwrap();
    assert_eq!(response.headers()["sec-websocket-protocol"], "realtime");
    assert_eq!(response.headers()["x-brokle-provider"], "openai");
    assert_eq!(heard(&mut socket).await["type"], "session.created");
    say(&mut socket, json!({"type": "some.event", "audio": "x".repeat(300_000)})).await;
    assert_eq!(heard(&mut socket).await["audio"].as_str().unwrap().len(), 300_000);
    socket.send(Message::Binary(vec![0, 255].into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Message::Binary(vec![0, 255].into()));
    for _ in 0..2 {
        say(&mut socket, json!({"type": "response.create"})).await;
        assert_eq!(heard(&mut socket).await["type"], "response.created");
        assert_eq!(heard(&mut socket).await["type"], "response.done");
    }
    socket.close(Some(CloseFrame { code: CloseCode::Library(4100), reason: "bye".into() })).await.unwrap();
    assert_eq!(closed(&mut socket).await.0, 4100);
    let trace = trace(&world).await;
    assert_eq!(vendor.closed.borrow().as_slice(), [Some(4100)]);
    let seen = vendor.seen.lock().unwrap()[0].clone();
    assert_eq!(seen["authorization"], "Bearer sk-very-secret");
    assert_eq!(
        (&seen["sec-websocket-protocol"], &seen["openai-beta"]),
        (&"realtime, openai-beta.realtime-v1".parse().unwrap(), &"realtime=v1".parse().unwrap())
    );
    assert!(!format!("{seen:?}").contains(&world.key), "the caller's key stays here: {seen:?}");
    assert_eq!(trace["status"], "ok", "{trace:#}");
    assert_eq!(trace["status_code"], 101);
    assert_eq!(trace["usage"]["input"], 2_000);
    assert_eq!(trace["usage"]["output"], 1_000);
    assert_eq!(trace["usage"]["audio_input"], 1_600);
    assert_eq!(trace["model_served"], "gpt-realtime-2025-08-28");
    // 400 at $4, 1600 at $32, 200 at $16 and 800 at $64 a million.
    assert_eq!(trace["cost"], "0.1072", "{trace:#}");
    assert!(trace["input"].is_null() && trace["output"].is_null(), "what is said isn't stored");
}

#[tokio::test]
async fn the_vendors_end_is_the_callers() {
    let vendor = Sockets::start().await;
    let world = world(vec![vendor.to()], Extra::default()).await;
    let front = world.front().await;
    let mut socket = front.session(&world.key).await;
    say(&mut socket, json!({"type": "close"})).await;
    assert_eq!(closed(&mut socket).await, (4001, "its reason".into()));
    assert_eq!(trace(&world).await["error"]["class"], "upstream_error");
    let mut socket = front.session(&world.key).await;
    say(&mut socket, json!({"type": "die"})).await;
    let told = heard(&mut socket).await;
    assert_eq!((&told["type"], &told["error"]["code"]), (&json!("error"), &json!("upstream_disconnected")));
    assert_eq!(closed(&mut socket).await, (1011, "upstream_disconnected".into()));
}

#[tokio::test]
async fn a_caller_that_vanishes_is_accounted_and_the_vendor_is_let_go() {
    let mut vendor = Sockets::start().await;
    let world = world(vec![vendor.to()], Extra::default()).await;
    let front = world.front().await;
    let mut socket = front.session(&world.key).await;
    say(&mut socket, json!({"type": "response.create"})).await;
    for _ in 0..2 {
        heard(&mut socket).await;
    }
    drop(socket);
    let vendors =
        tokio::time::timeout(Duration::from_secs(20), vendor.closed.wait_for(|all| !all.is_empty()));
    assert_eq!(vendors.await.unwrap().unwrap().as_slice(), [Some(1001)]);
    let trace = trace(&world).await;
    assert_eq!((&trace["status"], &trace["usage"]["input"]), (&json!("aborted"), &json!(1_000)));
}

#[tokio::test]
async fn messages_have_a_size_and_sessions_an_end() {
    let vendor = Sockets::start().await;
    let realtime = RealtimeLimits { max_message_bytes: 100_000, ..RealtimeLimits::default() };
    let world_of = async |realtime| world(vec![vendor.to()], Extra { realtime, ..Extra::default() }).await;
    let world = world_of(realtime).await;
    let front = world.front().await;
    let mut socket = front.session(&world.key).await;
    socket.send(Message::text("x".repeat(150_000))).await.unwrap();
    assert_eq!(heard(&mut socket).await["error"]["code"], "request_too_large");
    assert_eq!(closed(&mut socket).await.0, 1009);
    let mut socket = front.session(&world.key).await;
    say(&mut socket, json!({"type": "huge"})).await;
    assert_eq!(heard(&mut socket).await["error"]["code"], "upstream_disconnected");
    let short = Duration::from_millis(300);
    for realtime in [
        RealtimeLimits { total: short, ..RealtimeLimits::default() },
        RealtimeLimits { idle: short, ..RealtimeLimits::default() },
    ] {
        let world = world_of(realtime).await;
        let front = world.front().await;
        let mut socket = front.session(&world.key).await;
        assert_eq!(heard(&mut socket).await["error"]["code"], "session_expired");
        assert_eq!(closed(&mut socket).await, (1000, "session_expired".into()));
        assert_eq!(trace(&world).await["error"]["class"], "session_expired");
    }
}

#[tokio::test]
async fn a_silent_end_is_noticed() {
    let vendor = Sockets::start().await;
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..Timeouts::default() };
    let world = world(vec![vendor.to()], Extra { timeouts: Some(timeouts), ..Extra::default() }).await;
    let front = world.front().await;
    // Whoever reads answers pings, and stays though nothing is said.
    let mut lively = front.session(&world.key).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < Duration::from_millis(900) {
        let message = lively.next().await.unwrap().unwrap();
        assert!(message.is_ping(), "{message:?}");
    }
    say(&mut lively, json!({"type": "there?"})).await;
    assert_eq!(heard(&mut lively).await["type"], "there?");
    lively.close(None).await.unwrap();
    // Who doesn't read is gone.
    let silent = front.session(&world.key).await;
    for _ in 0..2_000 {
        if world.traces().await.iter().any(|trace| trace["status"] == "aborted") {
            drop(silent);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("nobody noticed");
}

#[tokio::test]
async fn a_session_keeps_its_places_and_a_budget_ends_it() {
    let vendor = Sockets::start().await;
    let limits = vec![Limit {
        name: "one".into(),
        who: Who { by: vec![By::Project], only: Filter::default() },
        amounts: Amounts { concurrent_requests: Some(1), ..Amounts::default() },
    }];
    let budgets = vec![Budget {
        name: "talk".into(),
        who: Who { by: vec![By::Project], only: Filter::default() },
        per: Period::Month,
        unit: Unit::Tokens,
        limit: Usd::new(4_000.into()),
        on_exceeded: OnExceeded::Block,
        unknown_price: UnknownPrice::Allow,
        alert_at: Vec::new(),
    }];
    let world = world(vec![vendor.to()], Extra { limits, budgets, ..Extra::default() }).await;
    let front = world.front().await;
    let mut socket = front.session(&world.key).await;
    let authorization = format!("Bearer {}", world.key);
    let again = front.dial("gpt-realtime", &[("authorization", &authorization)]).await.err().unwrap();
    assert_eq!((again.0, &again.1["error"]["code"]), (429, &json!("rate_limit_exceeded")));
    let spent = async || world.gateway.budgets().seen_by(&*world.caller().await)[0].spent.to_string();
    // Of 4000 tokens 1500 are used, then 3000, and then there isn't room for another answer.
    say(&mut socket, json!({"type": "response.create"})).await;
    assert_eq!(heard(&mut socket).await["type"], "response.created");
    assert_eq!(heard(&mut socket).await["type"], "response.done");
    assert_eq!(spent().await, "1500", "while it goes on");
    say(&mut socket, json!({"type": "response.create"})).await;
    assert_eq!(heard(&mut socket).await["type"], "response.created");
    assert_eq!(heard(&mut socket).await["type"], "response.done");
    assert_eq!(heard(&mut socket).await["error"]["code"], "budget_exceeded");
    assert_eq!(closed(&mut socket).await, (1008, "budget_exceeded".into()));
    drop(socket);
    let traces = world.traces().await;
    let trace = traces.iter().find(|trace| trace["status_code"] == 101).unwrap();
    assert_eq!(trace["error"]["class"], "budget_exceeded");
    assert_eq!(spent().await, "3000", "each token once");
    let again = front.dial("gpt-realtime", &[("authorization", &authorization)]).await.err().unwrap();
    assert_eq!(again.1["error"]["code"], "budget_exceeded", "its place is free: {again:?}");
}

#[tokio::test]
async fn a_server_that_stops_closes_with_1001() {
    let vendor = Sockets::start().await;
    let world = world(vec![vendor.to()], Extra::default()).await;
    let front = world.front().await;
    let mut answering = front.session(&world.key).await;
    let mut idle = front.session(&world.key).await;
    let mut endless = front.session(&world.key).await;
    for socket in [&mut answering, &mut endless] {
        say(socket, json!({"type": "response.create", "slow": true})).await;
        assert_eq!(heard(socket).await["type"], "response.created");
    }
    front.leave.send_replace(true);
    assert_eq!(heard(&mut idle).await["error"]["code"], "server_stopping");
    assert_eq!(closed(&mut idle).await, (1001, "server_stopping".into()));
    drop(endless);
    // What is being said is said to its end.
    vendor.go_on.send_replace(true);
    assert_eq!(heard(&mut answering).await["type"], "response.done");
    assert_eq!(heard(&mut answering).await["error"]["code"], "server_stopping");
    assert_eq!(closed(&mut answering).await, (1001, "server_stopping".into()));
}

#[tokio::test]
async fn the_end_of_the_drain_cuts_what_is_still_said() {
    let vendor = Sockets::start().await;
    let world = world(vec![vendor.to()], Extra::default()).await;
    let front = world.front().await;
    let mut socket = front.session(&world.key).await;
    say(&mut socket, json!({"type": "response.create", "slow": true})).await;
    assert_eq!(heard(&mut socket).await["type"], "response.created");
    world.gateway.cut();
    assert_eq!(heard(&mut socket).await["error"]["code"], "server_stopping");
    assert_eq!(closed(&mut socket).await, (1001, "server_stopping".into()));
}

#[tokio::test]
async fn who_cant_is_refused_before_the_upgrade_and_another_candidate_may() {
    let sockets = Sockets::start().await;
    let busy = Vendor::start(|_| reply(503, &json!({"error": {"message": "later"}}))).await;
    let denying = Vendor::start(|_| reply(403, &json!({"error": {"message": "not you"}}))).await;
    let to = |name, vendor: &Vendor, priority| To {
        name,
        plugin: "provider_openai",
        url: vendor.origin(),
        priority,
        models: Vec::new(),
    };
    let claude = To {
        name: "claude",
        plugin: "provider_anthropic",
        url: busy.origin(),
        priority: 0,
        models: vec!["gpt-realtime".into()],
    };
    let connections =
        vec![claude, to("busy", &busy, 1), sockets.to_as("vendor", 2), to("denying", &denying, 3)];
    let world = world(connections, Extra::default()).await;
    let front = world.front().await;
    let bearer = format!("Bearer {}", world.key);
    // Anthropic has no such sessions, the first of OpenAI's is busy.
    let (_socket, response) = front.dial("gpt-realtime", &[("authorization", &bearer)]).await.unwrap();
    assert_eq!(response.headers()["x-brokle-attempts"], "3");
    let refused = async |model: &str, headers: &[(&'static str, &str)]| {
        let (status, body) = front.dial(model, headers).await.err().unwrap();
        (status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let is = |status, code: &str| (status, code.to_owned());
    let mine = [("authorization", bearer.as_str())];
    assert_eq!(refused("gpt-realtime", &[]).await, is(401, "invalid_api_key"));
    assert_eq!(refused("claude/gpt-realtime", &mine).await, is(400, "unsupported"));
    assert_eq!(refused("busy/gpt-realtime", &mine).await.0, 503);
    assert_eq!(refused("denying/gpt-realtime", &mine).await.0, 403);
    assert_eq!(refused("nobody-has-this", &mine).await, is(404, "model_not_found"));
    assert_eq!(refused("", &mine).await, is(400, "missing_required_parameter"));
    let old = [mine[0], ("sec-websocket-version", "8")];
    assert_eq!(refused("gpt-realtime", &old).await, is(426, "upgrade_required"));
    let rules = json!({"deny": [{"pattern": "zephyr", "category": "confidential"}]});
    guard(&world, vec![guardrail("regex", rules)]).await;
    assert_eq!(refused("gpt-realtime", &mine).await, is(403, "guarded"));
}
