//! Open-loop load: each request is sent when it is due, whatever became of those before it.
//!
//! A request's time is counted from when it was due and not from when it was sent, so that a server that stops for a second
//! is charged with everybody who waited (no coordinated omission).

use crate::{streams::micros, wire::Connection};
use bytes::Bytes;
use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until, timeout},
};

/// Requests that may be on their way at once; one that is due beyond that counts as an error.
const MAX_OPEN: usize = 3_000;
const PATIENCE: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(1);

/// What is asked, and how often.
pub(crate) struct Paced {
    pub(crate) addr: SocketAddr,
    /// Taken in turns.
    pub(crate) requests: Vec<Bytes>,
    pub(crate) per_second: u32,
    /// Each request of this number is sent and then left; 0: none is.
    pub(crate) left_each: usize,
}

/// What came of it. Times are in µs.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Of answers with 200, sorted.
    pub(crate) served: Vec<u32>,
    /// Of answers with 429 and 503, sorted.
    pub(crate) shed: Vec<u32>,
    pub(crate) left: usize,
    pub(crate) errors: u64,
    pub(crate) first_error: Option<String>,
    /// From the first that was due to the last answer.
    pub(crate) elapsed: Duration,
}

enum One {
    Answered(u16, u32),
    Left,
    Failed(String),
}

impl Paced {
    /// Asks for this long, and waits for the last answer.
    pub(crate) async fn run(&self, length: Duration) -> Outcome {
        let begin = Instant::now();
        let pause = Duration::from_secs(1) / self.per_second;
        let idle = Arc::new(Mutex::new(Vec::new()));
        let (mut outcome, mut open) = (Outcome::default(), JoinSet::new());
        let mut due = begin;
        let mut number = 0;
        while due < begin + length {
            // In a tick's handfuls: a timer for each request would be most of the work.
            sleep_until(due).await;
            let now = Instant::now();
            while due <= now {
                number += 1;
                let request = self.requests.get(number % self.requests.len()).cloned().unwrap_or_default();
                let leaves = self.left_each > 0 && number % self.left_each == 0;
                if open.len() < MAX_OPEN {
                    open.spawn(one(self.addr, request, due, leaves, Arc::clone(&idle)));
                } else {
                    outcome.fail("too many requests are open".into());
                }
                due += pause;
            }
            while let Some(done) = open.try_join_next() {
                outcome.take(done.unwrap_or_else(|error| One::Failed(error.to_string())));
            }
            due = due.max(now + TICK.min(pause));
        }
        while let Some(done) = open.join_next().await {
            outcome.take(done.unwrap_or_else(|error| One::Failed(error.to_string())));
        }
        outcome.elapsed = begin.elapsed();
        outcome.served.sort_unstable();
        outcome.shed.sort_unstable();
        outcome
    }
}

impl Outcome {
    fn take(&mut self, one: One) {
        match one {
            One::Answered(200, time) => self.served.push(time),
            One::Answered(429 | 503, time) => self.shed.push(time),
            One::Answered(status, _) => self.fail(format!("status {status}")),
            One::Left => self.left += 1,
            One::Failed(why) => self.fail(why),
        }
    }

    fn fail(&mut self, why: String) {
        self.errors += 1;
        self.first_error.get_or_insert(why);
    }
}

/// A connection that was used before and that the server hasn't closed since: those on top of what is needed wait until it does.
fn open_one(idle: &Mutex<Vec<Connection>>) -> Option<Connection> {
    let mut idle = idle.lock().unwrap_or_else(PoisonError::into_inner);
    std::iter::from_fn(|| idle.pop()).find(Connection::is_open)
}

async fn one(
    addr: SocketAddr,
    request: Bytes,
    due: Instant,
    leaves: bool,
    idle: Arc<Mutex<Vec<Connection>>>,
) -> One {
    let ask = async {
        if leaves {
            Connection::open(addr).await?.send(&request).await?;
            return Ok(One::Left);
        }
        let mut connection = match open_one(&idle) {
            Some(connection) => connection,
            None => Connection::open(addr).await?,
        };
        let status = connection.exchange(&request, |_| {}).await?;
        let time = micros(due.elapsed());
        idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        Ok::<_, io::Error>(One::Answered(status, time))
    };
    match timeout(PATIENCE, ask).await {
        Ok(Ok(one)) => one,
        Ok(Err(error)) => One::Failed(error.to_string()),
        Err(_) => One::Failed("no answer in time".into()),
    }
}
