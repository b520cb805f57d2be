//! What retention removes.

use std::ops::AddAssign;

use serde::Serialize;

use super::Month;

/// What was removed, or in a dry run would be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Removed {
    /// Calls and spans.
    pub observations: u64,
    /// Scores.
    pub scores: u64,
    /// Log records.
    pub logs: u64,
    /// Metrics' points.
    pub points: u64,
    /// Large inputs and outputs, and what else deleted projects had stored.
    pub blobs: u64,
    /// The months that went as a whole: files of SQLite, partitions of ClickHouse.
    pub months: Vec<Month>,
}

impl AddAssign for Removed {
    fn add_assign(&mut self, other: Self) {
        self.observations += other.observations;
        self.scores += other.scores;
        self.logs += other.logs;
        self.points += other.points;
        self.blobs += other.blobs;
        self.months.extend(other.months);
        self.months.sort_unstable();
        self.months.dedup();
    }
}
