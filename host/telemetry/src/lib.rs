//! Observations on their way from a request to the analytics database.
//!
//! ```text
//! record() ──memory──▶ collector ───────────────────────────────────────▶ AnalyticsStore, embedded
//!  never waits          20 ms ╲                                                durable, idempotent
//!                              ╲─one row per batch──▶ queue.db ──▶ drainer ──▶ AnalyticsStore, a server
//!                                                     durable      250 ms      idempotent
//! ```
//!
//! [`Recorder::record`] counts and hands over, 0.3 µs; the only system call is the one that wakes the collector, once per
//! batch. The **collector** (an OS thread) sleeps until something comes, lets [`WINDOW`] pass so that
//! others can join, and commits what is there: to an embedded store directly
//! (`docs/adr/0007-embedded-store-without-the-queue.md`), otherwise, and when that fails, as one row of `queue.db`
//! (`synchronous=FULL`): from here on it survives a power cut. The **drainer** (another OS thread) takes batches in order, inserts their rows into the analytics database
//! and only then deletes them from the queue. A crash in between means that rows come again; the database takes each
//! once. So whatever was committed arrives exactly once.
//!
//! [`Recorder::record_durably`] goes the same way, and answers when its rows are committed: for spans from elsewhere,
//! whose senders keep them until they are acknowledged ([`otlp`]).
//!
//! Whoever watches is told by the collector, too ([`live`]).
//!
//! With a [`SharedQueue`] the collector commits to Redis instead, and a [`Worker`], in this process or another, brings it
//! from there to the database:
//!
//! ```text
//! record() ──memory──▶ collector ──▶ 16 streams of Redis ──▶ worker ──▶ AnalyticsStore
//!                          └─ Redis away: queue.db ──drainer──▶ Redis
//! ```
//!
//! While Redis doesn't answer, rows that somebody waits for are given back to their sender, and the gateway's own spill to
//! `queue.db`, up to [`Options::max_queued_bytes`]; the drainer brings them to Redis when it is back.
//!
//! When things go wrong:
//! - **Too much at once**: more than [`Options::max_rows`] or [`Options::max_bytes`] in memory. What comes on top is
//!   dropped and counted ([`Stats::dropped`]), and logged once per 10 s. Requests never wait for telemetry.
//! - **The queue's disk is full or broken**: the collector keeps its batch and tries again (100 ms, doubling to 5 s);
//!   memory fills up to the bound. Rows that somebody waits for are given back to their sender instead.
//! - **The analytics database is**: batches stay in the queue, which grows on disk; same backoff.
//! - **A row can't be stored**: the batch is halved until the row is alone; it goes to `dead_letters` in `queue.db` with
//!   the reason, its neighbors are stored. [`Recorder::dead_letters`] lists them, [`Recorder::redrive`] tries one again,
//!   [`Recorder::discard`] forgets it.
//! - **A crash**: what is in memory is lost: at most the last [`WINDOW`] and what arrives during a commit.

mod collector;
mod drainer;
mod frame;
pub mod live;
pub mod metrics;
pub mod otlp;
mod progress;
mod queue;
mod recorder;
pub mod recording;
pub mod retention;
pub mod rollups;
mod rows;
mod shared;
mod streams;

pub use self::collector::{DURABLE_WINDOW, MAX_BATCH_BYTES, MAX_BATCH_ROWS, WINDOW};
pub use self::drainer::{MAX_ROUND_ROWS, ROUND};
pub use self::queue::{DeadLetter, QueueError, Whose};
pub use self::recorder::{NotDurable, Options, Recorder, Stats};
pub use self::rows::Rows;
pub use self::streams::{LANES, SharedQueue, Worker, WorkerStats};
