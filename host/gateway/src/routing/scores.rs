//! What people, evaluators and programs thought of candidates, as facts for policies.
//!
//! The operator names scores. Of each, policies are told every candidate's average over the calls of the last
//! [`Settings::window`] and how many scores that is made of: the attributes `brokle.score.NAME` and `brokle.scores.NAME`. Both are
//! those of the caller's project: what one project thinks of a model is no other's business.
//!
//! **Off the hot path.** A decision reads what is in memory. A project whose first call it is has nothing yet; from then on
//! [`Scores::refresh`] asks the store, one question for a project and all its names, each [`Settings::refresh`]. While the store
//! is away, what was read last stays. A project without calls for an hour is forgotten, and 1,000 are kept at most.
//!
//! **Which model.** Scores are of what vendors say that they served, which may be a version of what was asked for:
//! `gpt-4o-2024-08-06` counts for `gpt-4o`, since nothing but digits and dashes follows; `gpt-4o-mini` doesn't.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use brokle_core::clock::Clock;
use brokle_core::ids::ProjectId;
use brokle_storage::observations::query::metrics::{
    Cell, Dimension, Measure, Measured, MetricsQuery, ScoreStatistic,
};
use brokle_storage::observations::query::{Filter, QueryStore};
use moka::sync::Cache;

/// How many projects' scores are kept.
const PROJECTS: u64 = 1_000;
/// How long without a call.
const IDLE: Duration = Duration::from_secs(3_600);
/// The most names.
pub const MAX_NAMES: usize = 8;

/// Which scores are facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Their names, [`MAX_NAMES`] at most.
    pub names: Vec<String>,
    /// The calls that they are of: the last 24 h.
    pub window: Duration,
    /// How often the store is asked: 1 min.
    pub refresh: Duration,
}

impl Default for Settings {
    /// None.
    fn default() -> Self {
        let (window, refresh) = (Duration::from_secs(86_400), Duration::from_secs(60));
        Self { names: Vec::new(), window, refresh }
    }
}

/// All projects' scores.
#[derive(Debug)]
pub struct Scores {
    settings: Settings,
    store: Arc<dyn QueryStore>,
    clock: Arc<dyn Clock>,
    seen: Cache<ProjectId, Arc<Seen>>,
}

/// One project's.
#[derive(Debug)]
struct Seen {
    table: ArcSwap<Table>,
    /// When the store was asked, microseconds since the Unix epoch.
    asked_at: AtomicI64,
}

/// By a connection's id: the models that it served, with an average and a count for each name.
#[derive(Debug, Default)]
pub(crate) struct Table(HashMap<String, Vec<(String, Vec<Score>)>>);

#[derive(Debug, Default, Clone, Copy, PartialEq)]
struct Score {
    average: f64,
    count: u64,
}

impl Scores {
    /// Reads them from this store.
    pub fn new(settings: Settings, store: Arc<dyn QueryStore>, clock: Arc<dyn Clock>) -> Self {
        let seen = Cache::builder().max_capacity(PROJECTS).time_to_idle(IDLE).build();
        Self { settings, store, clock, seen }
    }

    /// The project's, as they were read last. From now on they are read.
    pub(crate) fn of(&self, project: ProjectId) -> Arc<Table> {
        let unread = || Arc::new(Seen { table: ArcSwap::default(), asked_at: AtomicI64::new(i64::MIN) });
        self.seen.get_with(project, unread).table.load_full()
    }

    /// What policies are told of a candidate.
    pub(crate) fn attributes(&self, table: &Table, connection: &str, model: &str) -> Vec<(String, String)> {
        let served = table.0.get(connection).into_iter().flatten();
        let same = served.filter(|(served, _)| is_version(served, model));
        let mut sums = vec![Score::default(); self.settings.names.len()];
        for (_, scores) in same {
            for (sum, score) in sums.iter_mut().zip(scores) {
                sum.add(*score);
            }
        }
        let known = self.settings.names.iter().zip(sums).filter(|(_, sum)| sum.count > 0);
        known
            .flat_map(|(name, sum)| {
                // What is beyond a millionth is the sum's own error.
                let average = (sum.average * 1e6).round() / 1e6;
                [
                    (format!("brokle.score.{name}"), average.to_string()),
                    (format!("brokle.scores.{name}"), sum.count.to_string()),
                ]
            })
            .collect()
    }

    /// Asks the store for the projects that had calls, each when it is due; for the server to call each second.
    pub async fn refresh(&self) {
        let now = self.clock.now().timestamp_micros();
        let pause = i64::try_from(self.settings.refresh.as_micros()).unwrap_or(i64::MAX);
        for (project, seen) in &self.seen {
            if seen.asked_at.load(Ordering::Relaxed) <= now.saturating_sub(pause) {
                seen.asked_at.store(now, Ordering::Relaxed);
                match self.store.metrics(*project, self.question()).await {
                    Ok(metrics) => seen.table.store(Arc::new(Table::new(metrics.cells))),
                    Err(error) => {
                        tracing::warn!(%error, project = %project, "the project's scores can't be read: policies know those of before");
                    }
                }
            }
        }
    }

    fn question(&self) -> MetricsQuery {
        let to = self.clock.now();
        let of = |name: &String| {
            [ScoreStatistic::Average, ScoreStatistic::Count].map(|one| Measure::Score(name.clone(), one))
        };
        MetricsQuery {
            filter: Filter::default(),
            from: to - self.settings.window,
            to,
            measures: self.settings.names.iter().flat_map(of).collect(),
            dimensions: vec![Dimension::Connection, Dimension::Model],
            bucket: None,
        }
    }
}

impl Table {
    fn new(cells: Vec<Cell>) -> Self {
        let mut table = HashMap::<_, Vec<_>>::new();
        for cell in cells {
            // Spans from elsewhere went through no connection.
            let Ok([Some(connection), Some(model)]) = <[_; 2]>::try_from(cell.dimensions) else { continue };
            let (pairs, _) = cell.values.as_chunks();
            let scores = pairs.iter().map(|[average, count]| match (average, count) {
                (Measured::Number(average), Measured::Count(count)) => {
                    Score { average: *average, count: *count }
                }
                _ => Score::default(),
            });
            table.entry(connection).or_default().push((model, scores.collect()));
        }
        Self(table)
    }
}

impl Score {
    fn add(&mut self, other: Self) {
        let count = self.count + other.count;
        if count > 0 {
            let sum = self.average * self.count as f64 + other.average * other.count as f64;
            *self = Self { average: sum / count as f64, count };
        }
    }
}

/// Whether a vendor that says `served` served `model`, or a version of it.
fn is_version(served: &str, model: &str) -> bool {
    match served.strip_prefix(model) {
        Some("") => true,
        Some(rest) => rest.starts_with('-') && rest.bytes().all(|c| c == b'-' || c.is_ascii_digit()),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_counts_for_its_model_and_another_model_doesnt() {
        for (served, is) in [
            ("gpt-4o", true),
            ("gpt-4o-2024-08-06", true),
            ("gpt-4o-mini", false),
            ("gpt-4o2", false),
            ("gpt-4", false),
        ] {
            assert_eq!(is_version(served, "gpt-4o"), is, "{served}");
        }
    }
}
