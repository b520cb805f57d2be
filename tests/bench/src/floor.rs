//! The floor: a pass-through proxy out of the parts that Brokle is built from, and nothing else.
//!
//! axum's router over hyper's HTTP/1.1 server, hyper-util's pooled client, both with TCP_NODELAY; bodies stream through
//! in both directions as they come. No keys, no routes, no limits, no accounting. What Brokle costs beyond this is what
//! its features cost.
#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "the bans are for the product; this is what the product is compared with, and has neither tracker nor egress"
)]

mod listen;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        StatusCode, Uri,
        header::{CONNECTION, HOST},
        uri::{Authority, Scheme},
    },
    response::Response,
    routing::get,
};
use clap::Parser;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use std::{io, net::SocketAddr};

/// A bare pass-through proxy, to compare Brokle with.
#[derive(Parser)]
struct Args {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Where everything goes: `http://HOST:PORT`.
    #[arg(long)]
    upstream: Uri,
}

#[derive(Clone)]
struct Floor {
    client: Client<HttpConnector, Body>,
    upstream: Authority,
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let args = Args::parse();
    let upstream = args.upstream.authority().cloned();
    let upstream = upstream.ok_or_else(|| io::Error::other("--upstream must be http://HOST:PORT"))?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let router = Router::new()
        .route("/health/ready", get(async || "ready"))
        .fallback(forward)
        .with_state(Floor { client, upstream });
    let listener = listen::listen(args.listen)?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let service = TowerToHyperService::new(router.clone());
        let connection =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
        tokio::spawn(connection);
    }
}

async fn forward(State(floor): State<Floor>, mut request: Request) -> Result<Response, StatusCode> {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(floor.upstream);
    *request.uri_mut() = Uri::from_parts(parts).map_err(|_| StatusCode::BAD_REQUEST)?;
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(CONNECTION);
    let response = floor.client.request(request).await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(response.map(Body::new))
}
