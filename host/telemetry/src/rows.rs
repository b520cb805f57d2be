//! What goes through the queue together: observations, log records and metrics' points.

use brokle_core::ids::ProjectId;
use brokle_core::observation::Observation;
use brokle_core::signal::{LogRecord, MetricPoint};

/// Rows of any kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows {
    /// Calls and spans.
    pub observations: Vec<Observation>,
    /// Log records.
    pub logs: Vec<LogRecord>,
    /// Metrics' points.
    pub points: Vec<MetricPoint>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Row<'a> {
    Observation(&'a Observation),
    Log(&'a LogRecord),
    Point(&'a MetricPoint),
}

impl From<Vec<Observation>> for Rows {
    fn from(observations: Vec<Observation>) -> Self {
        Self { observations, ..Self::default() }
    }
}

impl Rows {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.observations.len() + self.logs.len() + self.points.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// About how many bytes they hold in memory.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.iter().map(Row::weight).sum()
    }

    /// Takes in others.
    pub fn append(&mut self, mut other: Self) {
        self.observations.append(&mut other.observations);
        self.logs.append(&mut other.logs);
        self.points.append(&mut other.points);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = Row<'_>> + Clone {
        let observations = self.observations.iter().map(Row::Observation);
        observations.chain(self.logs.iter().map(Row::Log)).chain(self.points.iter().map(Row::Point))
    }
}

impl Row<'_> {
    pub(crate) const fn project(self) -> ProjectId {
        match self {
            Self::Observation(row) => row.tenant.project,
            Self::Log(row) => row.tenant.project,
            Self::Point(row) => row.tenant.project,
        }
    }

    pub(crate) fn weight(self) -> usize {
        match self {
            Self::Observation(row) => row.weight(),
            Self::Log(row) => row.weight(),
            Self::Point(row) => row.weight(),
        }
    }
}
