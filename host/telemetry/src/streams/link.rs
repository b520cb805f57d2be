//! A thread's own connection to Redis, and what producers do with it.

use std::time::{Duration, Instant};

use redis::{Connection, ErrorKind, RedisError, RedisResult, Script};

use super::{GROUP, LANES, SharedQueue, entries};
use crate::frame::Encoder;
use crate::rows::Rows;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long an answer may take, besides what is asked to wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long nobody asks a Redis that didn't answer.
const PAUSE: Duration = Duration::from_millis(500);

/// What is in Redis.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SharedDepth {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
    pub(crate) oldest_us: Option<i64>,
    pub(crate) dead_letters: u64,
}

/// Why rows aren't in Redis.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AppendError {
    #[error("Redis takes nothing")]
    Redis(#[from] RedisError),
    #[error("observations can't be written")]
    Unwritable(#[from] rmp_serde::encode::Error),
}

/// A connection that is made when it is needed. After a failure nobody asks for [`PAUSE`]: a caller is refused at once.
pub(crate) struct Link {
    pub(super) queue: SharedQueue,
    connection: Option<Connection>,
    retry_at: Option<Instant>,
    encoder: Encoder,
}

impl Link {
    pub(crate) fn new(queue: SharedQueue) -> Self {
        Self { queue, connection: None, retry_at: None, encoder: Encoder::new() }
    }

    /// Does something that may be done twice. A connection that turns out to be closed (Redis was restarted) is made anew
    /// once; without an answer in time there is no second try.
    pub(super) fn with<T>(
        &mut self,
        mut work: impl FnMut(&mut Connection) -> RedisResult<T>,
    ) -> RedisResult<T> {
        if self.retry_at.is_some_and(|at| Instant::now() < at) {
            return Err((ErrorKind::Io, "Redis didn't answer a moment ago").into());
        }
        let mut outcome = Ok(None);
        if let Some(connection) = &mut self.connection {
            outcome = match work(connection) {
                Err(error) if error.is_io_error() && !error.is_timeout() => Ok(None),
                outcome => outcome.map(Some),
            };
        }
        let outcome = match outcome {
            Ok(Some(done)) => Ok(done),
            Ok(None) => self.connect().and_then(work),
            Err(error) => Err(error),
        };
        self.retry_at = None;
        if let Err(error) = &outcome
            && (error.is_io_error() || error.is_unrecoverable_error())
        {
            self.connection = None;
            self.retry_at = Some(Instant::now() + PAUSE);
        }
        outcome
    }

    fn connect(&mut self) -> RedisResult<&mut Connection> {
        let connection = self.queue.client.get_connection_with_timeout(CONNECT_TIMEOUT)?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(self.connection.insert(connection))
    }

    /// Puts rows into their lanes, all or none. After an error they may be there all the same.
    pub(crate) fn append(&mut self, rows: &Rows) -> Result<(), AppendError> {
        let mut pipeline = redis::pipe();
        pipeline.atomic();
        let mut bytes = 0;
        for (lane, entry) in entries(rows) {
            let body = self.encoder.encode(entry.iter().copied())?;
            bytes += body.len();
            let key = self.queue.lane(lane);
            pipeline
                .cmd("XADD")
                .arg(key)
                .arg("*")
                .arg("rows")
                .arg(entry.len())
                .arg("body")
                .arg(body)
                .ignore();
        }
        let depth = self.queue.key("depth");
        pipeline.cmd("HINCRBY").arg(&depth).arg("rows").arg(rows.len()).ignore();
        pipeline.cmd("HINCRBY").arg(&depth).arg("bytes").arg(bytes).ignore();
        Ok(self.with(|connection| pipeline.query(connection))?)
    }

    pub(crate) fn depth(&mut self) -> RedisResult<SharedDepth> {
        let script = Script::new(include_str!("depth.lua"));
        let mut call = script.prepare_invoke();
        call.key(self.queue.key("depth")).key(self.queue.key("dead"));
        for lane in self.queue.lanes() {
            call.key(lane);
        }
        let (rows, bytes, dead_letters, oldest): (usize, usize, u64, i64) =
            self.with(|connection| call.invoke(connection))?;
        let oldest_us = (oldest > 0).then(|| oldest.saturating_mul(1_000));
        Ok(SharedDepth { rows, bytes, oldest_us, dead_letters })
    }

    /// Makes the groups that aren't there, from their streams' beginning: a Redis that lost them lost no more.
    pub(super) fn make_groups(&mut self) -> RedisResult<()> {
        for lane in 0..LANES {
            let mut make = redis::cmd("XGROUP");
            make.arg("CREATE").arg(self.queue.lane(lane)).arg(GROUP).arg(0).arg("MKSTREAM");
            match self.with(|connection| make.query::<()>(connection)) {
                Err(error) if error.code() == Some("BUSYGROUP") => {}
                outcome => outcome?,
            }
        }
        Ok(())
    }
}
