//! Plays a plan on a socket, and notices when the client leaves.
//!
//! A client that closes its writing half counts as gone, as it does for hyper and nginx: no HTTP client half-closes.
//! Bytes count as sent once the kernel has them.

use crate::{Outcome, inbound::Inbound, plan::Step};
use bytes::{Buf, BytesMut};
use std::{future::Future, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    time::Instant,
};

/// Up to this much is on its way as soon as it is written: a fresh loopback window is 64 KiB, and Nagle is off.
const AT_ONCE: usize = 16 * 1024;
/// How long a RST waits for a slow reader to take what comes before it, and a FIN for the client to close as well.
const PATIENCE: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(1);

/// What came of an answer.
#[derive(Debug)]
pub(crate) struct Played {
    pub(crate) outcome: Outcome,
    pub(crate) bytes_sent: usize,
}

/// The client is gone.
struct Left;

/// Plays all steps; afterwards the connection may be used again if the outcome is [`Outcome::Answered`].
pub(crate) async fn play(inbound: &mut Inbound, steps: Vec<Step>) -> Played {
    let mut bytes_sent = 0;
    let outcome = match send(inbound, steps, &mut bytes_sent).await {
        Err(Left) => Outcome::ClientLeft,
        Ok(outcome) => outcome,
    };
    match outcome {
        Outcome::Reset => {
            if bytes_sent > AT_ONCE {
                drained(&inbound.stream).await;
            }
            // Dropping the socket now is what sends the RST. If the client has just gone there is none to send.
            let _ = inbound.stream.set_zero_linger();
        }
        Outcome::Closed => close(inbound).await,
        Outcome::Answered | Outcome::ClientLeft => {}
    }
    Played { outcome, bytes_sent }
}

async fn send(inbound: &mut Inbound, steps: Vec<Step>, sent: &mut usize) -> Result<Outcome, Left> {
    let (reader, mut writer) = inbound.stream.split();
    let mut client = Client { reader, pending: &mut inbound.buffer };
    for step in steps {
        match step {
            Step::Send(mut bytes) => {
                while bytes.has_remaining() {
                    let written = client.unless_gone(writer.write(&bytes)).await?;
                    bytes.advance(written);
                    *sent += written;
                }
            }
            Step::Pause(pause) => {
                let pause = async {
                    tokio::time::sleep(pause).await;
                    Ok(())
                };
                client.unless_gone(pause).await?;
            }
            Step::Hang => client.unless_gone(std::future::pending()).await?,
            Step::Reset => return Ok(Outcome::Reset),
            Step::Close => return shutdown(writer).await,
        }
    }
    Ok(Outcome::Answered)
}

async fn shutdown(mut writer: WriteHalf<'_>) -> Result<Outcome, Left> {
    writer.shutdown().await.map_err(|_| Left)?;
    Ok(Outcome::Closed)
}

/// The other side, while an answer is under way.
struct Client<'a> {
    reader: ReadHalf<'a>,
    pending: &'a mut BytesMut,
}

impl Client<'_> {
    async fn unless_gone<T>(&mut self, work: impl Future<Output = io::Result<T>>) -> Result<T, Left> {
        tokio::pin!(work);
        loop {
            self.pending.reserve(4096);
            tokio::select! {
                done = &mut work => return done.map_err(|_| Left),
                read = self.reader.read_buf(self.pending) => match read {
                    Ok(0) | Err(_) => return Err(Left),
                    // The next request, early: it waits in the buffer.
                    Ok(_) => {}
                },
            }
        }
    }
}

/// Waits until the client has closed too: closing a socket with unread bytes would send a RST after the FIN.
async fn close(inbound: &mut Inbound) {
    let until_closed = async {
        while inbound.stream.read_buf(&mut inbound.buffer).await.is_ok_and(|read| read > 0) {
            inbound.buffer.clear();
        }
    };
    let _ = tokio::time::timeout(PATIENCE, until_closed).await;
}

/// Waits until the kernel has nothing left to send: a RST throws away what the client hasn't got yet.
async fn drained(stream: &TcpStream) {
    let (Ok(local), Ok(peer)) = (stream.local_addr(), stream.peer_addr()) else { return };
    let deadline = Instant::now() + PATIENCE;
    while unacknowledged(local, peer).is_some_and(|bytes| bytes > 0) && Instant::now() < deadline {
        tokio::time::sleep(POLL).await;
    }
}

/// The bytes in this connection's send queue, from Linux's table of connections (proc(5), `/proc/net/tcp`).
fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let table = std::fs::read_to_string("/proc/net/tcp").ok()?;
    let ports = [local, peer].map(|end| format!(":{:04X}", end.port()));
    table.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let ends = [fields.next()?, fields.next()?];
        let queues = fields.nth(1)?;
        let same = ends.iter().zip(&ports).all(|(end, port)| end.ends_with(port));
        same.then(|| u64::from_str_radix(queues.split_once(':')?.0, 16).ok()).flatten()
    })
}
