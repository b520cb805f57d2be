//! One connection: hyper's HTTP/1.1 over the guarded stream, with the router behind it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::Limits;
use super::io::{GuardedStream, Phase, Progress};
use crate::lifecycle::Lifecycle;

/// What is read of a large body at once, at most: fewer waits. A connection that gets no large body doesn't use it.
const READ: usize = 256 << 10;

/// Who is at the other end of the connection: a request extension. Behind a load balancer it is the balancer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// Serves one connection to its end; idle ones end when the server drains.
pub(super) async fn run(
    router: &Router,
    limits: &Limits,
    lifecycle: &Lifecycle,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let progress = Arc::new(Progress::default());
    let gone = CancellationToken::new();
    let stream = GuardedStream::new(stream, Arc::clone(&progress), limits, gone.clone().drop_guard());
    let service = service_fn(|request: Request<Incoming>| {
        progress.enter(Phase::Request);
        let mut ticket = Ticket(Some(Arc::clone(&progress)));
        let mut request =
            request.map(|inner| Body::new(RequestBody { inner, progress: Arc::clone(&progress) }));
        request.extensions_mut().insert(PeerAddress(peer));
        let answer = router.clone().oneshot(request);
        async move {
            let response = match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if response.status() == StatusCode::SWITCHING_PROTOCOLS {
                // Whoever has the stream from here on sets its own limits; it never is between two requests.
                ticket.0 = None;
            }
            Ok::<_, Infallible>(response.map(|inner| AnswerBody { inner, _ticket: ticket }))
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.max_head_bytes.max(READ))
        .max_header_size(limits.max_head_bytes)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = finish(connection, lifecycle).await {
        // A client that goes away or sends nonsense: its own affair, and nothing that an operator could mend.
        tracing::debug!(%peer, error = &error as &dyn std::error::Error, "the connection ended early");
    }
    // A WebSocket has the stream from here on; it counts as a connection until it lets go of it.
    gone.cancelled().await;
}

/// Serves to the end, or until the stream is somebody else's.
async fn finish<S, B>(
    connection: http1::UpgradeableConnection<TokioIo<GuardedStream>, S>,
    lifecycle: &Lifecycle,
) -> hyper::Result<()>
where
    S: HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: HttpBody<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut connection = pin!(connection);
    tokio::select! {
        result = connection.as_mut() => result,
        () = lifecycle.draining().cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// A request that is being answered; when it is dropped the connection is between two requests.
struct Ticket(Option<Arc<Progress>>);

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(progress) = &self.0 {
            progress.enter(Phase::Idle);
        }
    }
}

/// A request's body that notices when nobody read it to its end.
struct RequestBody {
    inner: Incoming,
    progress: Arc<Progress>,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.inner.is_end_stream() {
            self.progress.leave_unread();
        }
    }
}

/// An answer's body; hyper drops it when the last byte is on its way.
struct AnswerBody {
    inner: Body,
    _ticket: Ticket,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.inner).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
