//! A vendor that answers what a test computes from what came, and keeps what came.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use brokle_core::clock::Clock;
use brokle_gateway::Timeouts;
use brokle_gateway::connections::NewConnection;
use brokle_identity::Secret;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{Answer, World, world_of};

/// What came, as it came.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    /// With its query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

/// What answers: status, media type, body.
pub type Reply = (u16, &'static str, Bytes);
type Answering = Pin<Box<dyn Future<Output = Reply> + Send>>;

/// A vendor on loopback; dropping it ends it.
pub struct Vendor {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Vendor {
    /// Answers at once.
    pub async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        Self::slow(move |seen| {
            let reply = answer(&seen);
            Box::pin(async move { reply })
        })
        .await
    }

    /// Answers when it likes.
    pub async fn slow(answer: impl Fn(Seen) -> Answering + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (journal, answer) = (seen.clone(), Arc::new(answer));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (journal, answer) = (journal.clone(), answer.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (journal, answer) = (journal.clone(), answer.clone());
                    async move {
                        let (head, body) = request.into_parts();
                        let seen = Seen {
                            method: head.method.to_string(),
                            path: head.uri.to_string(),
                            headers: head.headers,
                            body: body.collect().await?.to_bytes(),
                        };
                        journal.lock().unwrap().push(seen.clone());
                        let (status, kind, body) = answer(seen).await;
                        let response = Response::builder().status(status).header("content-type", kind);
                        Ok::<_, hyper::Error>(response.body(Full::new(body)).unwrap())
                    }
                });
                connections.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, seen, _tasks: tasks }
    }

    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What came for paths that begin with this.
    pub fn seen(&self, path: &str) -> Vec<Seen> {
        self.seen.lock().unwrap().iter().filter(|seen| seen.path.starts_with(path)).cloned().collect()
    }
}

/// A JSON reply.
pub fn reply(status: u16, body: &Value) -> Reply {
    (status, "application/json", body.to_string().into())
}

/// An answer in the canonical form.
pub fn completion() -> Reply {
    reply(
        200,
        &json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}),
    )
}

/// A world with one connection, `dictated`, of this credential.
pub async fn dictated(origin: String, secret: &str, options: Value, clock: Arc<dyn Clock>) -> World {
    let new = NewConnection {
        name: "dictated".into(),
        base_url: Some(origin),
        secrets: vec![Secret::new(secret.into())],
        options: options.as_object().cloned().unwrap_or_default(),
        weight: 1,
        ..NewConnection::default()
    };
    let timeouts = Timeouts {
        first_byte: std::time::Duration::from_secs(5),
        idle: std::time::Duration::from_secs(5),
        total: std::time::Duration::from_secs(30),
        ..Timeouts::default()
    };
    world_of(vec![("dictated", new)], timeouts, false, clock).await
}

impl World {
    /// A chat call whose provider asks for this.
    pub async fn ask(&self, ask: &Value, more: &str) -> Answer {
        self.chat("dictated/m", &format!(r#","ask":{ask}{more}"#)).await
    }
}
