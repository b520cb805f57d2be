//! Calls that are relayed as they come.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::SystemClock;
use brokle_gateway::connections::NewConnection;
use brokle_gateway::{RawCall, Timeouts};
use brokle_identity::Secret;
use brokle_identity::keys::NewKey;
use brokle_storage::sql::api_keys::Restrictions;
use brokle_test_upstream::Upstream;
use bytes::Bytes;
use http::{HeaderMap, Method};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::json;

use crate::guardrails::{guard, guardrail};
use crate::harness::{Answer, World, request_id, world_of};
use crate::vendor::{Vendor, reply};

fn timeouts() -> Timeouts {
    Timeouts {
        first_byte: Duration::from_secs(5),
        idle: Duration::from_secs(5),
        total: Duration::from_secs(30),
        ..Timeouts::default()
    }
}

/// A world with one connection of this plugin, `vendor`, which may be called so.
async fn world(plugin: &'static str, base_url: String) -> World {
    let new = NewConnection {
        name: "vendor".into(),
        base_url: Some(base_url),
        secrets: vec![Secret::new("sk-very-secret".into())],
        weight: 1,
        raw: true,
        ..NewConnection::default()
    };
    world_of(vec![(plugin, new)], timeouts(), false, Arc::new(SystemClock)).await
}

fn body(text: &str) -> brokle_gateway::egress::CallerBody {
    Full::new(Bytes::from(text.to_owned())).map_err(|never| match never {}).boxed_unsync()
}

struct Ask<'a> {
    key: &'a str,
    provider: &'a str,
    method: Method,
    path: &'a str,
    headers: HeaderMap,
}

impl World {
    async fn relay(&self, ask: Ask<'_>, body: brokle_gateway::egress::CallerBody) -> Answer {
        let caller = self.keys.authenticate(ask.key).await;
        let call = RawCall {
            provider: ask.provider,
            method: ask.method,
            path: ask.path,
            caller,
            headers: &ask.headers,
            body,
            request_id: request_id(),
        };
        Answer(self.gateway.relay(call).await)
    }

    fn raw<'a>(&'a self, method: Method, path: &'a str) -> Ask<'a> {
        Ask { key: &self.key, provider: "vendor", method, path, headers: HeaderMap::new() }
    }
}

#[tokio::test]
async fn a_call_goes_to_the_vendor_as_it_came_with_the_connections_credential() {
    let vendor = Vendor::start(|_| {
        reply(
            418,
            &json!({"object": "list", "mine": true, "usage": {"prompt_tokens": 9, "completion_tokens": 9}}),
        )
    })
    .await;
    let world = world("provider_anthropic", format!("{}/base", vendor.origin())).await;
    let mut ask = world.raw(Method::PATCH, "/v1/files/a%20b?limit=2&x=..%2f");
    for (name, value) in [
        ("content-type", "application/x-custom"),
        ("authorization", "Bearer bk_mine"),
        ("x-api-key", "bk_mine"),
        ("cookie", "session=1"),
        ("connection", "x-hop"),
        ("te", "trailers"),
        ("x-brokle-user", "ann"),
        ("anthropic-beta", "files-1"),
        ("accept", "application/pdf"),
    ] {
        ask.headers.insert(name, value.parse().unwrap());
    }
    let answer = world.relay(ask, body("what it is")).await;
    assert_eq!(answer.status(), 418);
    assert_eq!(answer.header("x-brokle-provider"), Some("anthropic"));
    assert_eq!(answer.json().await["mine"], true);
    let seen = &vendor.seen("/")[0];
    assert_eq!((seen.method.as_str(), seen.path.as_str()), ("PATCH", "/base/v1/files/a%20b?limit=2&x=..%2f"));
    assert_eq!(seen.text(), "what it is");
    assert_eq!(seen.header("x-api-key"), "sk-very-secret");
    assert_eq!(seen.header("anthropic-version"), "2023-06-01");
    assert_eq!(seen.header("anthropic-beta"), "files-1");
    assert_eq!(seen.header("content-type"), "application/x-custom");
    assert_eq!(seen.header("accept"), "application/pdf");
    for absent in ["authorization", "cookie", "te", "x-brokle-user"] {
        assert_eq!(seen.header(absent), "", "{absent}");
    }
    let trace = world.only_trace().await;
    assert_eq!((&trace["status_code"], &trace["user"]), (&json!(418), &json!("ann")), "{trace:#}");
    assert!(
        trace["usage"].is_null() && trace["cost"].is_null(),
        "an error's numbers aren't counted: {trace:#}"
    );
}

#[tokio::test]
async fn an_answer_in_openais_form_is_accounted_and_another_one_isnt() {
    let vendor = Vendor::start(|seen| match seen.path.as_str() {
        "/v1/chat/completions" => reply(
            200,
            &json!({"object": "chat.completion", "model": "gpt-4o-mini", "choices": [],
                "usage": {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}}),
        ),
        "/v1/responses" => {
            let last = json!({"type": "response.completed", "response": {"object": "response",
                "model": "gpt-4o-mini", "usage": {"input_tokens": 7, "output_tokens": 3}}});
            (200, "text/event-stream", format!("event: response.completed\ndata: {last}\n\n").into())
        }
        "/v1/stream" => {
            let chunk = json!({"object": "chat.completion.chunk", "model": "gpt-4o-mini",
                "choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": null}]});
            let usage = json!({"object": "chat.completion.chunk", "model": "gpt-4o-mini", "choices": [],
                "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}});
            (200, "text/event-stream", format!("data: {chunk}\n\ndata: {usage}\n\ndata: [DONE]\n\n").into())
        }
        _ => reply(200, &json!({"type": "message", "usage": {"input_tokens": 7, "output_tokens": 3}})),
    })
    .await;
    let world = world("provider_openai", format!("{}/v1", vendor.origin())).await;
    let mut tokens = Vec::new();
    for path in ["/chat/completions", "/responses", "/stream", "/messages"] {
        let answer = world.relay(world.raw(Method::POST, path), body("{}")).await;
        assert_eq!(answer.status(), 200);
        let _ = answer.text().await;
        let newest = world.traces().await.remove(0);
        tokens.push((
            newest["usage"]["input"].as_u64(),
            newest["cost"].is_null(),
            newest["model_served"].clone(),
        ));
    }
    assert_eq!(tokens[0], (Some(1000), false, json!("gpt-4o-mini")), "{tokens:?}");
    assert_eq!(tokens[1], (Some(7), false, json!("gpt-4o-mini")), "{tokens:?}");
    assert_eq!(tokens[2], (Some(5), false, json!("gpt-4o-mini")), "{tokens:?}");
    assert!(tokens[3].1, "{tokens:?}");
    let sent = &vendor.seen("/v1/chat")[0];
    assert_eq!(sent.header("authorization"), "Bearer sk-very-secret");
}

#[tokio::test]
async fn bodies_flow_in_both_directions_before_they_end() {
    // A vendor that answers each piece as it comes.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut echo = tokio::task::JoinSet::new();
    echo.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service =
            hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| async move {
                Ok::<_, std::convert::Infallible>(http::Response::new(request.into_body()))
            });
        let io = hyper_util::rt::TokioIo::new(stream);
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
    });
    let world = world("provider_openai", format!("http://{address}")).await;
    let (pieces, body) = channel();
    pieces.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    let answer = world.relay(world.raw(Method::POST, "/echo"), body).await;
    let mut answer = answer.0.into_body();
    let mut next = async || answer.frame().await.unwrap().unwrap().into_data().unwrap();
    assert_eq!(next().await, "one");
    pieces.send(Ok(Frame::data(Bytes::from_static(b"two")))).await.unwrap();
    assert_eq!(next().await, "two");
    drop(pieces);
    assert!(answer.frame().await.is_none());
}

type Piece = Result<Frame<Bytes>, brokle_gateway::egress::BodyError>;

fn channel() -> (tokio::sync::mpsc::Sender<Piece>, brokle_gateway::egress::CallerBody) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let pieces =
        futures_util::stream::unfold(receiver, async |mut receiver| Some((receiver.recv().await?, receiver)));
    (sender, StreamBody::new(pieces).boxed_unsync())
}

#[tokio::test]
async fn only_those_who_may_reach_what_is_open() {
    let vendor = Vendor::start(|_| reply(200, &json!({}))).await;
    let shut = NewConnection {
        name: "shut".into(),
        base_url: Some(vendor.origin()),
        secrets: vec![Secret::new("sk-very-secret".into())],
        weight: 1,
        ..NewConnection::default()
    };
    let open = NewConnection { name: "vendor".into(), raw: true, ..shut.clone() };
    let world = world_of(
        vec![("provider_openai", shut), ("provider_openai", open)],
        timeouts(),
        false,
        Arc::new(SystemClock),
    )
    .await;
    let gateway_only = world.limited_key(1_000).await;
    let new = NewKey {
        name: "relaying".into(),
        scopes: vec!["gateway".into(), "providers:relay".into()],
        requests_per_minute: Some(2),
        restrictions: Default::default(),
        expires_at: None,
    };
    let only = Restrictions { models: vec!["gpt-4o".into()], ..Restrictions::default() };
    let restricted = NewKey { restrictions: only, ..new.clone() };
    let restricted = world.keys.create(world.tenant, restricted).await.unwrap().1.expose().to_owned();
    let relaying = world.keys.create(world.tenant, new).await.unwrap().1.expose().to_owned();
    let refused = async |ask: Ask<'_>| {
        let answer = world.relay(ask, body("")).await;
        (answer.status(), answer.json().await["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let ask = |path| world.raw(Method::GET, path);
    let is = |status, code: &str| (status, code.to_owned());
    assert_eq!(refused(Ask { key: "bk_nobody", ..ask("/x") }).await, is(401, "invalid_api_key"));
    assert_eq!(refused(Ask { key: &gateway_only, ..ask("/x") }).await, is(403, "insufficient_scope"));
    assert_eq!(refused(Ask { key: &restricted, ..ask("/x") }).await, is(403, "model_not_allowed"));
    assert_eq!(refused(Ask { provider: "shut", ..ask("/x") }).await, is(404, "provider_not_found"));
    assert_eq!(refused(Ask { provider: "none", ..ask("/x") }).await, is(404, "provider_not_found"));
    assert_eq!(refused(ask("/../admin")).await, is(400, "invalid_path"));
    assert_eq!(refused(ask("//evil.example/")).await, is(400, "invalid_path"));
    assert_eq!(refused(ask("/a%2f..%2fb")).await, is(400, "invalid_path"));
    let connect = Ask { method: Method::CONNECT, ..ask("/x") };
    assert_eq!(refused(connect).await, is(405, "method_not_allowed"));
    assert!(vendor.seen("/").is_empty(), "nothing of it reached the vendor");
    // By the provider's name it is the connection that is open; the key's own limit holds.
    for _ in 0..2 {
        let asked = Ask { key: &relaying, provider: "openai", ..ask("/x") };
        assert_eq!(world.relay(asked, body("")).await.status(), 200);
    }
    assert_eq!(refused(Ask { key: &relaying, ..ask("/x") }).await, is(429, "rate_limit_exceeded"));
}

#[tokio::test]
async fn a_body_that_breaks_off_is_the_callers_fault() {
    let vendor = Vendor::start(|_| reply(200, &json!({}))).await;
    let world = world("provider_openai", vendor.origin()).await;
    let (pieces, body) = channel();
    pieces.send(Ok(Frame::data(Bytes::from_static(b"one")))).await.unwrap();
    let (answer, ()) = tokio::join!(world.relay(world.raw(Method::POST, "/x"), body), async move {
        pieces.send(Err("gone".into())).await.unwrap();
    });
    assert_eq!(answer.status(), 400);
    assert_eq!(answer.json().await["error"]["code"], "incomplete_body");
}

/// There is no form to say so in: the caller's stream breaks as the vendor's did, and the account says it.
#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_here() {
    let upstream = Upstream::start().await.unwrap();
    let world = world("provider_openai", upstream.base_url()).await;
    let chat =
        r#"{"model":"gpt-4o-mini!reset-at=1000","stream":true,"messages":[{"role":"user","content":"hi"}]}"#;
    let mut ask = world.raw(Method::POST, "/chat/completions");
    ask.headers.insert("content-type", "application/json".parse().unwrap());
    let answer = world.relay(ask, body(chat)).await;
    assert_eq!(answer.status(), 200);
    let mut pieces = answer.0.into_body();
    let mut came = 0;
    let broken = loop {
        match pieces.frame().await {
            Some(Ok(frame)) => came += frame.into_data().unwrap().len(),
            Some(Err(_)) => break true,
            None => break false,
        }
    };
    assert!(broken, "it ended well after {came} bytes");
    assert!((1..1000).contains(&came), "{came}");
    let trace = world.only_trace().await;
    assert_eq!(
        (&trace["status"], &trace["error"]["class"]),
        (&json!("error"), &json!("upstream_disconnected")),
        "{trace:#}"
    );
}

#[tokio::test]
async fn a_guarded_caller_is_refused() {
    let vendor = Vendor::start(|_| reply(200, &json!({}))).await;
    let world = world("provider_openai", vendor.origin()).await;
    let rules = json!({"deny": [{"pattern": "zephyr", "category": "confidential"}]});
    guard(&world, vec![guardrail("regex", rules)]).await;
    let answer = world.relay(world.raw(Method::GET, "/x"), body("")).await;
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.json().await["error"]["code"], "guarded");
    assert!(vendor.seen("/").is_empty());
}
