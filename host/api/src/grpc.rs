//! OTLP over gRPC: `Export` of `TraceService`, `LogsService` and `MetricsService`, on a listener of its own (4317 by
//! convention).
//!
//! As [OTLP/gRPC](https://opentelemetry.io/docs/specs/otlp/#otlpgrpc) has it: `OK` says that what was sent is on disk, a partial
//! success counts those that weren't taken. What may pass by itself is `UNAVAILABLE`, which senders try again; nothing else is.
//! The key is metadata: `authorization: Bearer bk_…` or `x-api-key`. It is checked, and the queue asked for room, before a
//! byte of the message is read.
//!
//! | what | limit |
//! |---|---|
//! | connections at once | [`MAX_CONNECTIONS`] |
//! | calls at once on a connection | [`MAX_CALLS`] |
//! | a message, before and after it is inflated | as over HTTP |
//! | a call, from its head to its answer | [`CALL_TIMEOUT`] |

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::OriginalUri;
use brokle_identity::Scope;
use brokle_telemetry::otlp::{Coding, Encoding, Signal, grpc_code};
use bytes::{Buf, BufMut, Bytes};
use http::{Extensions, HeaderMap, Request, Response};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::body::Body;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream::{Stream, StreamExt, wrappers::TcpListenerStream};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::{Connected, TcpConnectInfo};
use tonic::{Code, Status};
use tower::Service;

use crate::app::App;
use crate::auth::{Authenticated, authenticate};
use crate::error::ApiError;
use crate::handlers::otlp::{self, Sent};
use crate::ingest::Ingest;
use crate::server::{PeerAddress, Stop};

/// Connections at once; the next one waits in the kernel's queue.
const MAX_CONNECTIONS: usize = 1_024;
/// Calls at once on a connection.
const MAX_CALLS: u32 = 64;
/// From a call's head to its answer.
const CALL_TIMEOUT: Duration = Duration::from_secs(30);
/// A silent connection is asked whether it is there, and closed if it isn't.
const KEEPALIVE: Duration = Duration::from_secs(60);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// Takes spans until the server stops; what is under way then is finished.
///
/// # Errors
/// The listener broke.
pub async fn serve(listener: TcpListener, app: Arc<App>, stop: Stop) -> Result<(), tonic::transport::Error> {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    Server::builder()
        .timeout(CALL_TIMEOUT)
        .max_concurrent_streams(MAX_CALLS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .add_service(TraceService(Arc::clone(&app)))
        .add_service(LogsService(Arc::clone(&app)))
        .add_service(MetricsService(app))
        .serve_with_incoming_shutdown(connections(listener, places), async move {
            stop.requested().await;
        })
        .await
}

fn connections(
    listener: TcpListener,
    places: Arc<Semaphore>,
) -> impl Stream<Item = std::io::Result<Connection>> {
    TcpListenerStream::new(listener).then(move |accepted| {
        let places = Arc::clone(&places);
        async move {
            let stream = accepted?;
            stream.set_nodelay(true)?;
            let place = places.acquire_owned().await.map_err(std::io::Error::other)?;
            Ok(Connection { stream, _place: place })
        }
    })
}

/// A connection and its place among them.
struct Connection {
    stream: TcpStream,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.connect_info()
    }
}

impl tokio::io::AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl tokio::io::AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

macro_rules! services {
    ($($service:ident, $name:literal, $signal:expr;)+) => {$(
        #[doc = concat!("`", $name, "`.")]
        #[derive(Clone)]
        struct $service(Arc<App>);

        impl NamedService for $service {
            const NAME: &'static str = $name;
        }

        impl Service<Request<Body>> for $service {
            type Response = Response<Body>;
            type Error = Infallible;
            type Future = Answer;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: Request<Body>) -> Answer {
                let app = Arc::clone(&self.0);
                Box::pin(async move { Ok(export(app, $signal, request).await.unwrap_or_else(Status::into_http)) })
            }
        }
    )+};
}

services! {
    TraceService, "opentelemetry.proto.collector.trace.v1.TraceService", Signal::Traces;
    LogsService, "opentelemetry.proto.collector.logs.v1.LogsService", Signal::Logs;
    MetricsService, "opentelemetry.proto.collector.metrics.v1.MetricsService", Signal::Metrics;
}

async fn export(app: Arc<App>, signal: Signal, request: Request<Body>) -> Result<Response<Body>, Status> {
    if !request.uri().path().ends_with("/Export") {
        return Err(Status::unimplemented("the service has one method, Export"));
    }
    let mut extensions = Extensions::new();
    let peer = request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    if let Some(peer) = peer {
        extensions.insert(PeerAddress(peer));
    }
    extensions.insert(OriginalUri(request.uri().clone()));
    let (caller, ingest) =
        admit(&app, &extensions, request.headers()).await.map_err(|error| status(&error))?;
    let max_bytes = ingest.max_bytes;
    let mut grpc = Grpc::new(Messages)
        .accept_compressed(CompressionEncoding::Gzip)
        .send_compressed(CompressionEncoding::Gzip)
        .max_decoding_message_size(max_bytes);
    Ok(grpc.unary(Export { app: Arc::clone(&app), signal, ingest, caller }, request).await)
}

/// Who calls, and where what is sent goes; asked before the message is read.
async fn admit(
    app: &App,
    extensions: &Extensions,
    headers: &HeaderMap,
) -> Result<(Authenticated, Arc<Ingest>), ApiError> {
    let caller = authenticate(app, extensions, headers).await?;
    caller.require(Scope::TracesWrite)?;
    let ingest = app.ingest.as_ref().ok_or_else(|| ApiError::internal("this server takes no telemetry"))?;
    ingest.recorder.has_room().map_err(otlp::not_durable)?;
    Ok((caller, Arc::clone(ingest)))
}

fn status(error: &ApiError) -> Status {
    if let Some(source) = &error.source {
        tracing::warn!(
            code = error.code,
            error = source.as_ref() as &dyn std::error::Error,
            "OTLP over gRPC"
        );
    }
    let code = i32::try_from(grpc_code(error.status.as_u16())).map_or(Code::Unknown, Code::from_i32);
    Status::new(code, error.message.clone())
}

/// One call.
struct Export {
    app: Arc<App>,
    signal: Signal,
    ingest: Arc<Ingest>,
    caller: Authenticated,
}

impl UnaryService<Bytes> for Export {
    type Response = Bytes;
    type Future = Pin<Box<dyn Future<Output = Result<tonic::Response<Bytes>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (app, ingest, caller) = (Arc::clone(&self.app), Arc::clone(&self.ingest), self.caller.clone());
        let signal = self.signal;
        Box::pin(async move {
            let body = request.into_inner();
            let mut share = ingest.share();
            let sent = match share.grow(body.len()) {
                true => Sent { signal, encoding: Encoding::Protobuf, coding: Coding::Identity, body, share },
                false => return Err(status(&otlp::no_room())),
            };
            let answer = otlp::take(&app, &ingest, &caller, sent).await.map_err(|error| status(&error))?;
            Ok(tonic::Response::new(answer.into()))
        })
    }
}

/// Messages as bytes: what they mean is read elsewhere.
#[derive(Clone, Copy, Default)]
struct Messages;

impl Codec for Messages {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Messages {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put(message);
        Ok(())
    }
}

impl Decoder for Messages {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, message: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(message.copy_to_bytes(message.remaining())))
    }
}
