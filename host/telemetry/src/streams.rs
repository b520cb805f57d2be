//! The durable queue that processes share: streams of Redis 6.2 or later.
//!
//! A project's batches go through one of [`LANES`] streams, chosen by its id; a worker takes an entry of each in turn, so
//! that a project which sends a lot delays its own lane and not the others. Streams are never trimmed: an entry is deleted
//! by the script that acknowledges it, and the bounds ([`Options::max_queued_bytes`](crate::Options::max_queued_bytes))
//! hold because senders are refused. All keys carry one hash tag: one slot of a cluster, so that scripts may name them.
//!
//! | key | what |
//! |---|---|
//! | `…:lane:N` | a stream of batches (`body`, as [`frame`](crate::frame) writes them, `rows`), consumer group `workers` |
//! | `…:depth` | a hash: `rows` and `bytes` in all lanes |
//! | `…:dead`, `…:dead:PROJECT`, `…:dead:last` | a stream of dead letters, whose entries are numbered; a project's numbers; the last number |
//!
//! Redis must keep what it has: `appendonly yes`, `maxmemory-policy noeviction`. What an `appendfsync everysec` loses when
//! Redis is killed or the power fails, two seconds at most, is lost.

mod letters;
mod link;
mod worker;

use std::fmt;
use std::time::Duration;

use brokle_core::ids::ProjectId;
use redis::Client;

pub(crate) use self::link::{AppendError, Link, SharedDepth};
pub use self::worker::{Worker, WorkerStats};
use crate::rows::{Row, Rows};

/// Streams that projects are spread over.
pub const LANES: usize = 16;
/// Rows in an entry at most: a round takes one of each lane.
const MAX_ENTRY_ROWS: usize = 256;
/// An entry is closed once it holds this many bytes (as they weigh in memory).
const MAX_ENTRY_BYTES: usize = 1 << 20;
/// The workers' consumer group.
const GROUP: &str = "workers";
/// How long a batch may be with a worker before another takes it over.
const CLAIM_AFTER: Duration = Duration::from_secs(15);

/// Which Redis, and which keys of it.
#[derive(Clone)]
pub struct SharedQueue {
    client: Client,
    prefix: String,
    claim_after: Duration,
}

impl fmt::Debug for SharedQueue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The client knows a password.
        formatter.debug_struct("SharedQueue").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

impl SharedQueue {
    /// The queue in this Redis. Connects when it is used.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self { client, prefix: "{brokle:telemetry}".to_owned(), claim_after: CLAIM_AFTER }
    }

    /// The same with another bound on how long a batch may be with a worker before another takes it over; 15 s otherwise.
    #[must_use]
    pub fn claim_after(self, claim_after: Duration) -> Self {
        Self { claim_after, ..self }
    }

    fn key(&self, name: &str) -> String {
        format!("{}:{name}", self.prefix)
    }

    fn lane(&self, lane: usize) -> String {
        self.key(&format!("lane:{lane}"))
    }

    fn lanes(&self) -> impl Iterator<Item = String> + '_ {
        (0..LANES).map(|lane| self.lane(lane))
    }
}

/// A project's lane: the same in every process.
pub(crate) fn lane_of(project: ProjectId) -> usize {
    // The end of a ULID is random.
    project.to_string().bytes().rev().take(6).fold(0, |hash: usize, byte| hash * 31 + usize::from(byte))
        % LANES
}

/// The rows by lane, in entries of bounded size.
fn entries(rows: &Rows) -> Vec<(usize, Vec<Row<'_>>)> {
    let mut lanes: Vec<Vec<Row<'_>>> = vec![Vec::new(); LANES];
    for row in rows.iter() {
        if let Some(lane) = lanes.get_mut(lane_of(row.project())) {
            lane.push(row);
        }
    }
    let mut entries = Vec::new();
    for (lane, rows) in lanes.into_iter().enumerate() {
        let (mut entry, mut weight) = (Vec::new(), 0);
        for row in rows {
            entry.push(row);
            weight += row.weight();
            if entry.len() >= MAX_ENTRY_ROWS || weight >= MAX_ENTRY_BYTES {
                entries.push((lane, std::mem::take(&mut entry)));
                weight = 0;
            }
        }
        if !entry.is_empty() {
            entries.push((lane, entry));
        }
    }
    entries
}
