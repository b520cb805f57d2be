//! The connection's stream with the limits that hyper doesn't have: a time for the head that doesn't count the idle time
//! before it, a time for a client that doesn't read, and a close that doesn't destroy the last answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::DropGuard;

use super::{LINGER, Limits};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Phase {
    /// A request's head is being read; how every connection begins.
    Head = 0,
    /// A request is being answered.
    Request = 1,
    /// Waiting for a request.
    Idle = 2,
}

/// What the stream and the requests on it tell each other.
#[derive(Debug, Default)]
pub(super) struct Progress {
    phase: AtomicU8,
    unread: Mutex<Unread>,
    has_unread: AtomicBool,
}

/// A request's body that nobody read to its end.
#[derive(Debug, Default)]
enum Unread {
    /// None so far; it will be wanted when the request is answered.
    #[default]
    None,
    Left(Incoming),
    /// The answer is on its way and can say nothing of it any more.
    TooLate,
}

impl Progress {
    pub(super) fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
    }

    fn is(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Acquire) == phase as u8
    }

    /// A request begins.
    pub(super) fn begin(&self) {
        self.enter(Phase::Request);
        *self.unread.lock() = Unread::None;
    }

    /// A part of a request's body was left in the connection.
    pub(super) fn leave_unread(&self, body: Incoming) {
        let mut unread = self.unread.lock();
        if matches!(*unread, Unread::None) {
            *unread = Unread::Left(body);
        } else {
            self.close_unread();
        }
    }

    /// What was left, when the request is answered.
    pub(super) fn take_unread(&self) -> Option<Incoming> {
        match std::mem::replace(&mut *self.unread.lock(), Unread::TooLate) {
            Unread::Left(body) => Some(body),
            Unread::None | Unread::TooLate => None,
        }
    }

    /// The connection ends with a part of a request in it.
    pub(super) fn close_unread(&self) {
        self.has_unread.store(true, Ordering::Release);
    }
}

/// A TCP stream that fails with `TimedOut` when its client is too slow.
pub(super) struct GuardedStream {
    inner: TcpStream,
    progress: Arc<Progress>,
    head: Timer,
    stall: Timer,
    linger: Timer,
    is_shut: bool,
    /// Tells that the stream is gone.
    _gone: DropGuard,
}

impl GuardedStream {
    pub(super) fn new(inner: TcpStream, progress: Arc<Progress>, limits: &Limits, gone: DropGuard) -> Self {
        Self {
            inner,
            progress,
            head: Timer::new(limits.head_timeout),
            stall: Timer::new(limits.write_stall),
            linger: Timer::new(LINGER),
            is_shut: false,
            _gone: gone,
        }
    }

    /// Passes a writing result on, or fails if it has been pending for too long.
    fn or_stalled<T>(
        &mut self,
        context: &mut Context<'_>,
        result: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if result.is_ready() {
            self.stall.stop();
            return result;
        }
        self.stall.poll(context).map(|()| Err(timed_out("the client doesn't read")))
    }
}

fn timed_out(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, reason)
}

impl AsyncRead for GuardedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(context, buffer);
        if this.progress.is(Phase::Request) {
            this.head.stop();
            return result;
        }
        let is_first_read = buffer.filled().len() > before && this.progress.is(Phase::Idle);
        if is_first_read {
            this.progress.enter(Phase::Head);
            this.head.stop();
        }
        // Whole heads come in one read, so the timer is asked only when there is nothing to read.
        let is_late = match &result {
            Poll::Pending if this.progress.is(Phase::Head) => this.head.poll(context).is_ready(),
            Poll::Ready(Ok(())) => this.head.is_over(),
            _ => false,
        };
        if is_late { Poll::Ready(Err(timed_out("the request's head takes too long"))) } else { result }
    }
}

impl AsyncWrite for GuardedStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(context, bytes);
        this.or_stalled(context, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(context, slices);
        this.or_stalled(context, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream has nothing to flush; a pending write must keep its timer.
        Pin::new(&mut self.get_mut().inner).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.is_shut {
            ready!(Pin::new(&mut this.inner).poll_shutdown(context))?;
            this.is_shut = true;
        }
        if !this.progress.has_unread.load(Ordering::Acquire) {
            return Poll::Ready(Ok(()));
        }
        let mut ignored = [0_u8; 4_096];
        // A sender that is faster than this loop mustn't keep the thread to itself.
        for _ in 0..64 {
            if this.linger.poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut ignored);
            match Pin::new(&mut this.inner).poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {}
                Poll::Ready(_) => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// A time that starts to run when it is first waited for. The tokio timer is made only once there is something to wait
/// for, and reused from then on.
struct Timer {
    limit: Duration,
    sleep: Option<Pin<Box<Sleep>>>,
    is_running: bool,
}

impl Timer {
    fn new(limit: Duration) -> Self {
        Self { limit, sleep: None, is_running: false }
    }

    fn stop(&mut self) {
        self.is_running = false;
    }

    /// Does it run, and is its time over?
    fn is_over(&self) -> bool {
        self.is_running && self.sleep.as_ref().is_some_and(|sleep| sleep.deadline() <= Instant::now())
    }

    /// Starts the timer if it doesn't run; ready when its time is over.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let sleep = self.sleep.get_or_insert_with(|| {
            self.is_running = true;
            Box::pin(sleep(self.limit))
        });
        if !self.is_running {
            self.is_running = true;
            sleep.as_mut().reset(Instant::now() + self.limit);
        }
        sleep.as_mut().poll(context)
    }
}
