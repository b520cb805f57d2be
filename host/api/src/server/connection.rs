//! One connection: hyper's HTTP/1.1 over the guarded stream, with the router behind it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request, StatusCode};
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
        progress.begin();
        let mut ticket = Ticket(Some(Arc::clone(&progress)));
        let is_asked_for = request.headers().contains_key(EXPECT);
        let mut request = request.map(|inner| Body::new(RequestBody::new(inner, Arc::clone(&progress))));
        request.extensions_mut().insert(PeerAddress(peer));
        let answer = router.clone().oneshot(request);
        async move {
            let mut response = match answer.await {
                Ok(response) => response,
                Err(never) => match never {},
            };
            if let Some(progress) = &ticket.0
                && let Some(body) = progress.take_unread()
                && (is_asked_for || !is_all_there(body).await)
            {
                progress.close_unread();
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
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

/// How much of a body that nobody wanted is read, so that the connection can be kept: what comes in one piece with its head.
const UNWANTED: usize = 64 << 10;

/// Reads what has come of a body that nobody wanted; whether that is all of it.
async fn is_all_there(mut body: Incoming) -> bool {
    let mut read = 0;
    // What is in the connection is passed on when its task is at the next turn.
    for _ in 0..4 {
        loop {
            match poll_fn(|context| Poll::Ready(Pin::new(&mut body).poll_frame(context))).await {
                Poll::Ready(None) => return true,
                Poll::Ready(Some(Ok(frame))) if read < UNWANTED => {
                    read += frame.data_ref().map_or(0, Bytes::len);
                }
                Poll::Ready(Some(_)) => return false,
                Poll::Pending => break,
            }
        }
        tokio::task::yield_now().await;
    }
    false
}

/// A request's body that notices when nobody read it to its end.
struct RequestBody {
    /// Until it is dropped.
    inner: Option<Incoming>,
    is_read: bool,
    progress: Arc<Progress>,
}

impl RequestBody {
    fn new(inner: Incoming, progress: Arc<Progress>) -> Self {
        Self { is_read: inner.is_end_stream(), inner: Some(inner), progress }
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
        let polled = Pin::new(inner).poll_frame(context);
        // A chunked body says that it has ended, and nothing else does.
        self.is_read |= matches!(polled, Poll::Ready(None)) || self.is_end_stream();
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take().filter(|_| !self.is_read) {
            self.progress.leave_unread(inner);
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
