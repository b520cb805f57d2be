//! Questions to the store: lists, sums and percentiles over a filter and a time, and scores.
//!
//! [`QueryStore`] is the port. A question names a project, a time (`from` is part of it, `to` isn't) and a
//! [`Filter`]; answers come in pages that a [`Place`] goes on from.
//!
//! **What a question may cost** is bounded by [`Limits`]: rows that are looked at, groups that are kept, time that it
//! takes. Beyond them the answer is [`AnalyticsError::TooMuch`](super::AnalyticsError), never a part that looks like
//! the whole.
//!
//! **Traces, sessions and users** are made of observations. One is listed if one of its observations in the time
//! passes the filter; its numbers are those of *all* its observations in the time.

pub mod fields;
pub mod filter;
pub mod metrics;
pub mod parse;
mod passes;
mod place;
mod rows;

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use brokle_core::ids::ProjectId;
use brokle_core::observation::TraceId;
use chrono::{DateTime, Utc};

pub use self::fields::{Key, Subject};
pub use self::filter::Filter;
pub use self::metrics::{Metrics, MetricsQuery};
pub use self::parse::FilterError;
pub use self::place::{ParsePlaceError, Place};
pub use self::rows::{Group, GroupKind, ObservationRow, Totals};
use super::payloads::BlobRow;
use super::signal::{LogRow, LogsQuery, PointRow, PointsQuery, SeriesRow};
use super::update::TraceUpdate;
use super::{AnalyticsError, AnalyticsStore, Answer, Arrivals, Mark, Page, Score};

/// The longest time that one question may be about.
pub const MAX_RANGE: Duration = Duration::from_secs(366 * 24 * 3_600);

/// What one question may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Observations that are looked at for groups and metrics.
    pub rows: u64,
    /// Traces, sessions, users or a metric's groups that are kept at once.
    pub groups: usize,
    /// How long one question may run.
    pub time: Duration,
}

impl Default for Limits {
    /// 2,000,000 rows, 50,000 groups, 20 s.
    fn default() -> Self {
        Self { rows: 2_000_000, groups: 50_000, time: Duration::from_secs(20) }
    }
}

/// What a question would have cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// More observations than may be looked at.
    #[error("more than {0} observations would have to be looked at")]
    Rows(u64),
    /// More groups than may be kept.
    #[error("there are more than {0} groups")]
    Groups(usize),
    /// More time than it may take.
    #[error("it takes more than {0:?}")]
    Time(Duration),
}

/// What a list is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// When it began; when a score was given.
    #[default]
    Time,
    /// How long it took.
    Duration,
    /// From the beginning to the first token.
    FirstToken,
    /// What it cost.
    Cost,
    /// Tokens in and out.
    Tokens,
    /// A group's number of observations.
    Observations,
    /// A group's number of errors.
    Errors,
    /// A score's value.
    Value,
}

impl SortBy {
    /// Every order, with its name.
    pub const ALL: [(&'static str, Self); 8] = [
        ("time", Self::Time),
        ("duration", Self::Duration),
        ("ttft", Self::FirstToken),
        ("cost", Self::Cost),
        ("tokens", Self::Tokens),
        ("observations", Self::Observations),
        ("errors", Self::Errors),
        ("value", Self::Value),
    ];

    /// The orders that observations have.
    pub const OF_OBSERVATIONS: &[Self] =
        &[Self::Time, Self::Duration, Self::FirstToken, Self::Cost, Self::Tokens];
    /// The orders that traces, sessions and users have.
    pub const OF_GROUPS: &[Self] =
        &[Self::Time, Self::Duration, Self::Cost, Self::Tokens, Self::Observations, Self::Errors];
    /// The orders that scores have.
    pub const OF_SCORES: &[Self] = &[Self::Time, Self::Value];

    /// The order's name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL.iter().find(|(_, sort)| *sort == self).map_or("time", |(name, _)| name)
    }
}

/// An order. What has no value (no cost, no first token) counts as less than everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sort {
    /// By what.
    pub by: SortBy,
    /// From the largest to the smallest.
    pub descending: bool,
}

impl Default for Sort {
    /// Newest first.
    fn default() -> Self {
        Self { by: SortBy::Time, descending: true }
    }
}

/// Which rows, in which order, and how many.
#[derive(Clone, Debug)]
pub struct Query {
    /// What they must match.
    pub filter: Filter,
    /// They began at this time or later.
    pub from: DateTime<Utc>,
    /// They began before this time.
    pub to: DateTime<Utc>,
    /// In which order.
    pub sort: Sort,
    /// How many at most.
    pub limit: u32,
    /// After this place.
    pub after: Option<Place>,
    /// Whether observations come with their input and output.
    pub bodies: bool,
}

impl Query {
    /// Everything of this time, newest first, 100 at most.
    #[must_use]
    pub fn new(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        let (filter, sort) = (Filter::default(), Sort::default());
        Self { filter, from, to, sort, limit: 100, after: None, bodies: false }
    }
}

/// A database of observations and scores that answers questions.
///
/// Its promises are the tests of `host/storage/tests/integration/observations/conformance`, which run over every
/// implementation.
pub trait QueryStore: AnalyticsStore {
    /// Stores the project's scores durably, all or none. One whose id is there replaces what is there, except for its
    /// `created_at`. All must have passed [`Score::check`].
    fn put_scores(&self, project: ProjectId, scores: Vec<Score>) -> Answer<'_, ()>;

    /// Writes down which blobs belong to which rows, durably. Blocks, as [`insert`](AnalyticsStore::insert) does.
    ///
    /// # Errors
    /// As [`insert`](AnalyticsStore::insert) says.
    fn log_blobs(&self, rows: &[BlobRow]) -> Result<(), AnalyticsError>;

    /// The names of blobs whose rows began in this time, the project's or everybody's, in the order of names, after this one.
    fn blobs(
        &self,
        project: Option<ProjectId>,
        time: Range<DateTime<Utc>>,
        after: String,
        limit: u32,
    ) -> Answer<'_, Vec<String>>;

    /// Deletes one of the project's scores, and tells whether it was there.
    fn delete_score(&self, project: ProjectId, id: String) -> Answer<'_, bool>;

    /// Lists the project's scores. The filter's subject is [`Subject::Scores`].
    fn scores(&self, project: ProjectId, query: Query) -> Answer<'_, Page<Score, Place>>;

    /// Lists the project's observations.
    fn observations(&self, project: ProjectId, query: Query) -> Answer<'_, Page<ObservationRow, Place>>;

    /// Lists the project's traces, sessions or users.
    fn groups(&self, project: ProjectId, kind: GroupKind, query: Query) -> Answer<'_, Page<Group, Place>>;

    /// Counts, sums and percentiles of the project's observations and of their scores.
    fn metrics(&self, project: ProjectId, query: MetricsQuery) -> Answer<'_, Metrics>;

    /// Says something of one of the project's traces, which needn't be there yet. What is said later of the same member
    /// counts.
    fn update_trace(
        &self,
        project: ProjectId,
        trace: TraceId,
        update: TraceUpdate,
        now: DateTime<Utc>,
    ) -> Answer<'_, ()>;

    /// What was said of these traces of the project; of most nothing is.
    fn trace_updates(
        &self,
        project: ProjectId,
        traces: Vec<TraceId>,
    ) -> Answer<'_, HashMap<TraceId, TraceUpdate>>;

    /// Lists the project's log records, the newest first.
    fn logs(&self, project: ProjectId, query: LogsQuery) -> Answer<'_, Page<LogRow, Place>>;

    /// Lists the project's metric points, the newest first.
    fn points(&self, project: ProjectId, query: PointsQuery) -> Answer<'_, Page<PointRow, Place>>;

    /// Lists the series that the project's metric points belong to, by name.
    fn series(&self, project: ProjectId, query: PointsQuery) -> Answer<'_, Page<SeriesRow, Place>>;

    /// The project's observations that have arrived after a mark and pass the filter, oldest arrival first, their bodies and
    /// steps with them: at most so many, and no more once they are large. `to`: not behind this mark. What was answered once
    /// with both marks is answered again, as long as it is kept.
    fn arrivals(
        &self,
        project: ProjectId,
        filter: Filter,
        after: Mark,
        to: Option<Mark>,
        limit: usize,
    ) -> Answer<'_, Arrivals>;

    /// The mark behind everything that has arrived, in every project.
    fn arrived(&self) -> Answer<'_, Mark>;

    /// What one question may cost.
    fn limits(&self) -> Limits;
}

/// The page, and where it ended if there was a row more.
pub(super) fn page_of<T>(mut found: Vec<(Place, T)>, limit: u32) -> Page<T, Place> {
    let limit = limit as usize;
    let more = found.len() > limit;
    found.truncate(limit);
    let next_cursor = found.last().filter(|_| more).map(|(place, _)| place.clone());
    Page { data: found.into_iter().map(|(_, row)| row).collect(), next_cursor }
}
