//! Closed-loop load: each connection sends its next request when it has read the whole answer to the last one.
//!
//! Connections live as long as the load, so that no round pays for opening them. Each answer is checked for its status
//! and its end; a request that fails counts as an error and not as a latency. Percentiles are exact: every latency is
//! kept, in whole microseconds.

use crate::wire::Connection;
use bytes::Bytes;
use std::{
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// A worker that fails as often in one round has nothing more to tell.
const MAX_ERRORS: u64 = 100;
/// How much longer than its round a request may take before it counts as an error.
const PATIENCE: Duration = Duration::from_secs(15);

/// Connections to one gateway, and what they ask.
pub(crate) struct Load {
    addr: SocketAddr,
    request: Bytes,
    /// What the body of an answer must end with, blanks aside.
    end: &'static [u8],
    connections: Vec<Option<Connection>>,
}

/// What one round gave.
#[derive(Debug, Default)]
pub(crate) struct Round {
    /// In µs, one for each request that went well.
    pub(crate) latencies: Vec<u32>,
    pub(crate) errors: u64,
    /// Why the first one failed.
    pub(crate) first_error: Option<String>,
    pub(crate) elapsed: Duration,
}

impl Load {
    pub(crate) fn new(addr: SocketAddr, request: Bytes, streamed: bool, connections: usize) -> Self {
        let end: &[u8] = if streamed { b"data: [DONE]" } else { b"}" };
        Self::ending(addr, request, end, connections)
    }

    /// Load whose answers end with these bytes.
    pub(crate) fn ending(addr: SocketAddr, request: Bytes, end: &'static [u8], connections: usize) -> Self {
        Self { addr, request, end, connections: (0..connections).map(|_| None).collect() }
    }

    /// Runs all connections for this long, and until each has its last answer.
    pub(crate) async fn round(&mut self, length: Duration) -> Round {
        let begin = Instant::now();
        let mut workers = JoinSet::new();
        for connection in std::mem::take(&mut self.connections) {
            let worker = Worker {
                addr: self.addr,
                request: self.request.clone(),
                end: self.end,
                connection,
                round: Round::default(),
            };
            workers.spawn(worker.run(begin + length));
        }
        let mut round = Round::default();
        while let Some(done) = workers.join_next().await {
            let Ok((connection, part)) = done else {
                round.fail("a worker panicked".into());
                continue;
            };
            self.connections.push(connection);
            round.latencies.extend(part.latencies);
            round.errors += part.errors;
            round.first_error = round.first_error.or(part.first_error);
        }
        round.elapsed = begin.elapsed();
        round
    }
}

impl Round {
    fn fail(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }
}

struct Worker {
    addr: SocketAddr,
    request: Bytes,
    end: &'static [u8],
    connection: Option<Connection>,
    round: Round,
}

impl Worker {
    async fn run(mut self, until: Instant) -> (Option<Connection>, Round) {
        let patience = tokio::time::Instant::from_std(until + PATIENCE);
        if tokio::time::timeout_at(patience, self.requests(until)).await.is_err() {
            self.connection = None;
            self.round.fail("no answer in time".into());
        }
        (self.connection, self.round)
    }

    async fn requests(&mut self, until: Instant) {
        while Instant::now() < until && self.round.errors < MAX_ERRORS {
            // Taken out while it is in use: one that failed, or was given up on, isn't put back.
            match self.one().await {
                Ok(micros) => self.round.latencies.push(micros),
                Err(error) => self.round.fail(error.to_string()),
            }
        }
    }

    async fn one(&mut self) -> io::Result<u32> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => Connection::open(self.addr).await?,
        };
        let mut tail = Tail::default();
        let begin = Instant::now();
        let status = connection.exchange(&self.request, |body| tail.push(body)).await?;
        let micros = u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX);
        self.connection = Some(connection);
        if status != 200 {
            return Err(io::Error::other(format!("status {status}")));
        }
        if !tail.bytes().trim_ascii_end().ends_with(self.end) {
            let tail = String::from_utf8_lossy(tail.bytes()).into_owned();
            return Err(io::Error::other(format!("the answer ends with {tail:?}")));
        }
        Ok(micros)
    }
}

/// The last bytes of a body.
#[derive(Default)]
struct Tail {
    bytes: [u8; 16],
    length: usize,
}

impl Tail {
    fn push(&mut self, body: &[u8]) {
        let body = body.get(body.len().saturating_sub(self.bytes.len())..).unwrap_or_default();
        self.bytes.rotate_left(body.len());
        if let Some(end) = self.bytes.get_mut(16 - body.len()..) {
            end.copy_from_slice(body);
        }
        self.length = (self.length + body.len()).min(self.bytes.len());
    }

    fn bytes(&self) -> &[u8] {
        self.bytes.get(self.bytes.len() - self.length..).unwrap_or_default()
    }
}

/// The exact percentile (nearest rank) of sorted values, 0 when there are none.
pub(crate) fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_the_nearest_rank() {
        let values: Vec<u32> = (1..=200).collect();
        assert_eq!(
            (percentile(&values, 50), percentile(&values, 99), percentile(&values, 100)),
            (100, 198, 200)
        );
        assert_eq!((percentile(&[7], 50), percentile(&[7], 99), percentile(&[], 50)), (7, 7, 0));
    }

    #[test]
    fn the_tail_is_the_end_of_all_pieces() {
        for size in 1..40 {
            let mut tail = Tail::default();
            b"0123456789abcdefghijklmnopqrst".chunks(size).for_each(|piece| tail.push(piece));
            assert_eq!(tail.bytes(), b"efghijklmnopqrst");
        }
        let mut tail = Tail::default();
        tail.push(b"ab");
        assert_eq!(tail.bytes(), b"ab");
    }
}
