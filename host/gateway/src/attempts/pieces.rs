//! A stream's bytes, as many at a time as have come.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::body::Incoming as Upstream;

use super::wire::{broke, next_piece};
use crate::refusal::Refusal;

/// From so many bytes on they are passed on, whatever else there is.
const TOGETHER: usize = 32 << 10;

/// The body of a vendor's stream.
///
/// Vendors send each event as a chunk of its own, and a connection hands over one chunk at a time, however many it has read.
/// Passed on so, each would be a write to the caller. So what has come is taken together; nothing is waited for. Not where a
/// component translates: it answers for all that it is given at once, and what came before an event that it can't read would be
/// lost with that.
#[derive(Debug)]
pub(crate) struct Pieces {
    body: Upstream,
    /// How it ended, when that was seen behind bytes that had to be passed on first.
    end: Option<Result<(), Refusal>>,
}

impl From<Upstream> for Pieces {
    fn from(body: Upstream) -> Self {
        Self { body, end: None }
    }
}

impl Pieces {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// Nothing came for this long, or the connection broke.
    pub(crate) async fn next(&mut self, idle: Duration) -> Result<Option<Bytes>, Refusal> {
        if let Some(end) = &self.end {
            return end.clone().map(|()| None);
        }
        let Some(first) = next_piece(&mut self.body, idle).await? else { return Ok(None) };
        let (mut together, mut size) = (None, first.len());
        while size < TOGETHER {
            next_turn().await;
            match self.body.frame().now_or_never() {
                None => break,
                Some(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    let bytes = together.get_or_insert_with(|| BytesMut::from(&*first));
                    bytes.extend_from_slice(&data);
                    size = bytes.len();
                }
                Some(Some(Err(_))) => self.end = Some(Err(broke())),
                Some(None) => self.end = Some(Ok(())),
            }
            if self.end.is_some() {
                break;
            }
        }
        Ok(Some(together.map_or(first, BytesMut::freeze)))
    }
}

/// Lets the tasks run that are ready, the connection's among them.
async fn next_turn() {
    let mut is_over = false;
    poll_fn(|context| {
        if std::mem::replace(&mut is_over, true) {
            return Poll::Ready(());
        }
        // Not tokio's own way of yielding: that asks the system for news first.
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

#[cfg(test)]
mod tests {
    use hyper::client::conn::http1;
    use hyper_util::rt::TokioIo;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
    use tokio::task::JoinSet;

    use super::*;

    const IDLE: Duration = Duration::from_secs(10);

    /// A chunked answer, with a chunk for each of `events`, all sent at once; the vendor's end of its connection, and ours.
    async fn answer(events: &[&str]) -> (Pieces, DuplexStream, JoinSet<()>) {
        let (ours, mut theirs) = tokio::io::duplex(1 << 20);
        let (mut sender, connection) = http1::handshake(TokioIo::new(ours)).await.unwrap();
        let mut ends = JoinSet::new();
        ends.spawn(async { drop(connection.await) });
        let request = http::Request::new(http_body_util::Empty::<Bytes>::new());
        let vendor = async {
            assert!(theirs.read(&mut [0; 1_024]).await.unwrap() > 0);
            theirs.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
        };
        let (answered, ()) = tokio::join!(sender.send_request(request), vendor);
        theirs.write_all(chunks(events).as_bytes()).await.unwrap();
        (Pieces::from(answered.unwrap().into_body()), theirs, ends)
    }

    fn chunks(events: &[&str]) -> String {
        events.iter().map(|event| format!("{:x}\r\n{event}\r\n", event.len())).collect()
    }

    #[tokio::test]
    async fn what_has_come_is_taken_together_and_nothing_is_waited_for() {
        let events: Vec<String> = (0..50).map(|number| format!("data: {number}\n\n")).collect();
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        let (mut pieces, mut vendor, _ends) = answer(&events).await;
        assert_eq!(pieces.next(IDLE).await.unwrap().unwrap(), events.concat());
        for event in ["one", "two"] {
            vendor.write_all(chunks(&[event]).as_bytes()).await.unwrap();
            assert_eq!(pieces.next(IDLE).await.unwrap().unwrap(), event);
        }
        vendor.write_all(b"0\r\n\r\n").await.unwrap();
        assert_eq!(pieces.next(IDLE).await.unwrap(), None);
    }

    #[tokio::test]
    async fn an_end_that_came_with_bytes_is_told_after_them() {
        let (mut pieces, mut vendor, _ends) = answer(&[]).await;
        vendor.write_all(b"4\r\nlast\r\n0\r\n\r\n").await.unwrap();
        assert_eq!(pieces.next(IDLE).await.unwrap().unwrap(), "last");
        for _ in 0..2 {
            assert_eq!(pieces.next(IDLE).await.unwrap(), None);
        }
        let (mut pieces, vendor, _ends) = answer(&["a", "b"]).await;
        drop(vendor);
        assert_eq!(pieces.next(IDLE).await.unwrap().unwrap(), "ab");
        for _ in 0..2 {
            assert_eq!(pieces.next(IDLE).await.unwrap_err().code, "upstream_disconnected");
        }
    }

    #[tokio::test]
    async fn not_everything_is_taken_at_once() {
        let event = "x".repeat(1 << 10);
        let (mut pieces, _vendor, _ends) = answer(&[event.as_str(); 100]).await;
        let mut sizes = Vec::new();
        while sizes.iter().sum::<usize>() < 100 << 10 {
            sizes.push(pieces.next(IDLE).await.unwrap().unwrap().len());
        }
        assert!(sizes.len() >= 4 && sizes.iter().all(|&size| size <= TOGETHER), "{sizes:?}");
    }
}
