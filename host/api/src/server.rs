//! The accept loop: HTTP/1.1 over TCP, with a limit on everything that a client could hold for ever. Connections are served
//! by [`Reactors`].
//!
//! | what | limit | then |
//! |---|---|---|
//! | connections at once | [`Limits::max_connections`], 4,096 | the next one is answered 503 with `Connection: close` |
//! | a request's head, from its first byte | [`Limits::head_timeout`], 10 s | closed without an answer |
//! | a connection's first byte | the same | the same |
//! | a kept-alive connection without a request | [`Limits::idle_timeout`], 75 s | closed |
//! | a request's head | [`Limits::max_head_bytes`], 64 KiB, 100 fields | 431 |
//! | a client that doesn't read its answer | [`Limits::write_stall`], 30 s | closed |
//! | a request's body | see [`crate::body`] | 413, 408 |
//!
//! The idle time is longer than the 60 s that load balancers usually keep a connection, so that it is they who close it;
//! the other way round a request can be lost on a connection that is just being closed.
//!
//! **Closing.** If a request's body wasn't read to its end (it was refused) and hasn't come with its head, the connection can't be
//! kept, and the answer says so (RFC 9112 §9.6): a client that took it for its next request would lose that. It is closed
//! for writing first and read on for [`LINGER`] at most, since closing it at once would reset it and destroy the answer
//! that the client hasn't read yet.
//!
//! **Shutdown** has two phases, both of them begun by [`Stop`]:
//! 1. `SIGTERM` comes from an orchestrator that needs time to take the server out of rotation: readiness flips at once,
//!    and accepting goes on for [`Limits::lame_duck`] (5 s). `SIGINT` comes from a person: no lame duck.
//! 2. The listening socket is closed, idle connections too; requests in flight, streams included, have
//!    [`Limits::drain_timeout`] (30 s). Then [`Lifecycle::cutting`] fires, and [`CUT_NOTICE`] later what is left is cut.
//!
//! A second signal ends it at once, at any time.

mod connection;
mod io;
mod reactors;
mod signals;

use std::io as std_io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::lifecycle::Lifecycle;

pub use self::connection::PeerAddress;
pub use self::reactors::Reactors;
pub use self::signals::Stop;

/// How many connections the kernel keeps that haven't been accepted yet (as far as `net.core.somaxconn` lets it).
pub const BACKLOG: u32 = 4_096;

/// How long a connection is read on after it was closed for writing with a part of a request unread.
pub const LINGER: Duration = Duration::from_secs(2);

/// How long streams have between being told that they are cut and being cut.
pub const CUT_NOTICE: Duration = Duration::from_millis(500);

/// Connections beyond the limit that are being told so at the same time; those beyond this are closed without a word.
const MAX_REFUSALS: usize = 256;

const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\nretry-after: 1\r\n\
content-type: application/json\r\ncontent-length: 127\r\n\r\n\
{\"error\":{\"message\":\"The server has too many connections. Try again.\",\"type\":\"server_error\",\"param\":null,\"code\":\"overloaded\"}}\n";

/// What a client may hold, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at once.
    pub max_connections: usize,
    /// Bytes of a request's head.
    pub max_head_bytes: usize,
    /// Time for a request's head.
    pub head_timeout: Duration,
    /// Time between two requests.
    pub idle_timeout: Duration,
    /// Time without a byte taken by the client while there are some to send.
    pub write_stall: Duration,
    /// How long accepting goes on after `SIGTERM`.
    pub lame_duck: Duration,
    /// How long requests in flight have to end.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4_096,
            max_head_bytes: 64 * 1024,
            head_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            write_stall: Duration::from_secs(30),
            lame_duck: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(30),
        }
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything in flight was finished.
    Drained,
    /// This many connections were cut when their time was over.
    Cut(usize),
    /// A second signal ended it at once.
    Aborted,
}

/// Opens the listening socket, with [`BACKLOG`] and `SO_REUSEADDR`.
///
/// # Errors
/// When the address is taken or not this machine's.
pub fn bind(address: SocketAddr) -> std_io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until `stop` says otherwise, then drains. The reactors go on: whoever has them ends them when nothing needs what was
/// opened there any more.
pub async fn serve(
    listener: TcpListener,
    reactors: Reactors,
    router: Router,
    limits: Limits,
    lifecycle: Lifecycle,
    stop: Stop,
) -> Ended {
    let server = Arc::new(Server {
        reactors,
        router,
        limits,
        lifecycle,
        kill: CancellationToken::new(),
        slots: Arc::new(Semaphore::new(limits.max_connections)),
        refusals: Arc::new(Semaphore::new(MAX_REFUSALS)),
        tracker: TaskTracker::new(),
    });
    let ended = tokio::select! {
        biased;
        () = stop.at_once() => Ended::Aborted,
        ended = server.run(listener, &stop) => ended,
    };
    server.lifecycle.begin_cutting();
    server.kill.cancel();
    server.tracker.close();
    // The tasks end at their next poll; a handler that blocks its thread isn't waited for.
    let _ = timeout(CUT_NOTICE, server.tracker.wait()).await;
    ended
}

struct Server {
    reactors: Reactors,
    router: Router,
    limits: Limits,
    lifecycle: Lifecycle,
    /// Drops every connection.
    kill: CancellationToken,
    slots: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    tracker: TaskTracker,
}

impl Server {
    async fn run(self: &Arc<Self>, listener: TcpListener, stop: &Stop) -> Ended {
        let end_of_duty = async {
            let lame_duck = stop.requested().await;
            self.lifecycle.begin_shutdown();
            if lame_duck {
                tracing::info!(seconds = self.limits.lame_duck.as_secs_f32(), "stopping: not ready any more");
                sleep(self.limits.lame_duck).await;
            }
        };
        tokio::select! {
            biased;
            () = end_of_duty => {}
            () = self.accept(&listener) => {}
        }
        drop(listener);
        self.drain().await
    }

    /// Never returns.
    async fn accept(self: &Arc<Self>, listener: &TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => self.admit(stream, peer),
                // The client was gone before it was accepted.
                Err(error) if error.kind() == std_io::ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    // No file descriptors left, most likely: trying again at once would only burn the processor.
                    tracing::error!(error = &error as &dyn std::error::Error, "can't accept connections");
                    sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        // Answers are written whole or as they come: waiting for more to send would only delay a stream's chunks.
        let _ = stream.set_nodelay(true);
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            let server = Arc::clone(self);
            // From the accepting thread's poll to that of the one that serves it.
            let (Some(place), Ok(stream)) = (self.reactors.place(), stream.into_std()) else { return };
            let runtime = place.runtime.clone();
            let serving = async move {
                let Ok(stream) = TcpStream::from_std(stream) else { return };
                tokio::select! {
                    biased;
                    () = server.kill.cancelled() => {}
                    () = connection::run(&server.router, &server.limits, &server.lifecycle, stream, peer) => {}
                }
                drop((slot, place));
            };
            self.tracker.spawn_on(serving, &runtime);
        } else if let Ok(slot) = Arc::clone(&self.refusals).try_acquire_owned() {
            tracing::warn!(%peer, limit = self.limits.max_connections, "too many connections: refused one");
            self.tracker.spawn(async move {
                let _ = timeout(LINGER, refuse(stream)).await;
                drop(slot);
            });
        }
    }

    /// Waits until nothing is in flight.
    async fn idle(&self) {
        self.tracker.wait().await;
        self.lifecycle.busy().wait().await;
    }

    async fn drain(&self) -> Ended {
        self.lifecycle.begin_draining();
        self.tracker.close();
        self.lifecycle.busy().close();
        let deadline = Instant::now() + self.limits.drain_timeout;
        if !self.tracker.is_empty() {
            tracing::info!(connections = self.tracker.len(), "stopping: finishing what is in flight");
        }
        tokio::select! {
            () = self.idle() => return Ended::Drained,
            () = sleep_until(deadline) => {}
        }
        self.lifecycle.begin_cutting();
        if timeout(CUT_NOTICE, self.idle()).await.is_ok() {
            return Ended::Drained;
        }
        let left = self.tracker.len();
        tracing::warn!(connections = left, "stopping: cut what was still in flight");
        Ended::Cut(left)
    }
}

/// Says that there are too many connections, and waits until the client has heard it.
async fn refuse(mut stream: TcpStream) -> std_io::Result<()> {
    stream.write_all(REFUSAL).await?;
    stream.shutdown().await?;
    let mut ignored = [0_u8; 1_024];
    while stream.read(&mut ignored).await? > 0 {}
    Ok(())
}
