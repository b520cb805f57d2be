//! Observations on their way to elsewhere.
//!
//! ```text
//! AnalyticsStore ──arrivals after the cursor──▶ batch ──▶ exporter, a component ──▶ receiver
//!       ▲                                         │
//!  telemetry's worker                     cursor (SQL): begin, advance, fail
//! ```
//!
//! An [`Exporter`] is a component, whose observations it gets (organizations, projects, a filter of the query language), and
//! its configuration. For each project that it is for there is a **cursor**, which says up to which arrival the receiver has
//! everything. Nothing stands between a call and its answer: exporters read what is stored already.
//!
//! - **At least once, in order.** The cursor moves on when the receiver has acknowledged a batch, and not before. Where a
//!   batch ends is written down before it is sent, and its id is a digest of what is in it: after a crash the same batch
//!   comes again with the same id, and a receiver can tell.
//! - **One at a time.** Whoever works on a cursor has its lease, for [`Times::lease`]; servers and workers at one database share
//!   the work, and take over what one leaves behind.
//! - **A receiver that is away** costs nothing but disk that is used already: the store holds what it doesn't have. Tries
//!   back off from [`Times::first_backoff`] to [`Times::max_backoff`], and `Retry-After` is waited for, up to an hour.
//! - **A batch that is refused** for good is halved until the observation to blame is alone. That one is passed over: counted
//!   (`passed_over`), and named in the log by its trace and span. It stays in the store, so nothing needs to be kept aside.
//!   A component that traps on a batch is treated the same, with a back-off between the tries.
//! - **Memory**: [`MAX_ROWS`] observations and 2 MiB of bodies are read at once (and the one with which they
//!   are more), [`MAX_BATCH_BYTES`] of JSON are sent at
//!   once, by [`AT_ONCE`] batches at the same time. An observation of more than [`MAX_OBSERVATION`] goes without its bodies,
//!   and says so in the attribute [`WITHHELD`].
//! - **Beginning**: an exporter that is new begins with what arrives from then on, or with all that there is
//!   ([`Start`]). A project that is made later is exported from its beginning.
//!
//! What is said of traces after the fact (tags, bookmarks), scores, log records and metrics' points aren't exported.

mod batch;
mod service;
mod settings;
mod turn;

pub use self::batch::{MAX_BATCH_BYTES, MAX_OBSERVATION, MAX_ROWS, WITHHELD};
pub use self::service::{AT_ONCE, Parts, Service, Times};
pub use self::settings::{ConfigFault, Exporter, Start};
