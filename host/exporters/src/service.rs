//! Who has their turn, and when.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::{OrganizationId, ProjectId};
use brokle_core::random::Random;
use brokle_plugins::Snapshots;
use brokle_storage::observations::{Mark, QueryStore};
use brokle_storage::sql::exporters::CursorKey;
use brokle_storage::sql::{Database, MAX_PAGE, Page};
use brokle_telemetry::metrics::{ExporterLabels, Metrics};
use chrono::{DateTime, Utc};
use futures_util::{FutureExt as _, StreamExt as _};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::settings::{Exporter, Start};
use crate::turn::{Came, Turn, TurnError};

/// Batches that are under way at the same time.
pub const AT_ONCE: usize = 4;

/// How long things take.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// From one look at all cursors to the next: 1 s.
    pub poll: Duration,
    /// How long a server that died keeps others from its cursors: 30 s. More than an exporter may take for a batch.
    pub lease: Duration,
    /// After the first try that failed; doubled with each: 1 s.
    pub first_backoff: Duration,
    /// After many: 5 minutes.
    pub max_backoff: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            poll: Duration::from_secs(1),
            lease: Duration::from_secs(30),
            first_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(300),
        }
    }
}

/// What the service is made with.
#[derive(Debug)]
pub struct Parts {
    /// Where cursors are.
    pub database: Database,
    /// Where observations are.
    pub store: Arc<dyn QueryStore>,
    /// Components.
    pub plugins: Arc<Snapshots>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Chance, for back-offs and for this process's name.
    pub random: Arc<dyn Random>,
    /// Who exports.
    pub exporters: Vec<Exporter>,
    /// No other process that has this flag works at the database: this one goes on at once with what its predecessor held.
    pub is_alone: bool,
    /// How long things take.
    pub times: Times,
}

/// Exporters at work.
#[derive(Debug)]
pub struct Service {
    pub(crate) parts: Parts,
    /// A name that no other process at this database has.
    pub(crate) holder: String,
    /// For cursors that have nothing to send: their position, and up to where nothing is there.
    clear: Mutex<HashMap<CursorKey, (Mark, Mark)>>,
    failing: Mutex<bool>,
}

impl Service {
    /// Does nothing yet.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let holder = if parts.is_alone {
            "the only one".to_owned()
        } else {
            let mut id = [0; 8];
            parts.random.fill(&mut id);
            format!("{:016x}", u64::from_be_bytes(id))
        };
        Self { parts, holder, clear: Mutex::default(), failing: Mutex::new(false) }
    }

    /// Works until it is told to stop; what is being sent then is finished.
    pub async fn run(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let busy = match self.pass(&stop).await {
                Ok(busy) => {
                    if std::mem::take(&mut *self.failing.lock()) {
                        tracing::info!("exporters go on");
                    }
                    busy
                }
                Err(error) => {
                    if !std::mem::replace(&mut *self.failing.lock(), true) {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, "exporters can't read what they are to export: trying again");
                    }
                    false
                }
            };
            if !busy {
                stop.run_until_cancelled(tokio::time::sleep(self.parts.times.poll)).await;
            }
        }
    }

    /// A turn for everybody. Whether somebody has more.
    async fn pass(&self, stop: &CancellationToken) -> Result<bool, TurnError> {
        let arrived = self.parts.store.arrived().await?;
        let work = self.work().await?;
        let mut turns = Vec::with_capacity(work.len());
        for (exporter, key, is_new) in &work {
            turns.push(self.turn(exporter, key, *is_new, &arrived, stop).boxed());
        }
        let came: Vec<_> = futures_util::stream::iter(turns).buffer_unordered(AT_ONCE).collect().await;
        let mut lag = HashMap::<&str, i64>::new();
        for (name, _, since) in came.iter().flatten() {
            let waited = since.map_or(0, |since| (self.parts.clock.now() - since).num_seconds().max(0));
            let longest = lag.entry(name).or_default();
            *longest = waited.max(*longest);
        }
        for exporter in &self.parts.exporters {
            let labels = ExporterLabels { exporter: exporter.name.clone() };
            let waited = lag.get(exporter.name.as_str()).copied().unwrap_or_default();
            self.parts.metrics.export_lag.get_or_create(&labels).set(waited);
        }
        let mut busy = false;
        for one in came {
            // One project's failure is told after everybody had their turn.
            busy |= one?.1 == Came::More;
        }
        Ok(busy)
    }

    /// Who exports what: with each whether the project is newer than the exporter.
    async fn work(&self) -> Result<Vec<(&Exporter, CursorKey, bool)>, TurnError> {
        let projects = self.projects().await?;
        let mut work = Vec::new();
        for exporter in &self.parts.exporters {
            let since = self.parts.database.exporters().since(&exporter.name).await?;
            for (organization, project, created_at) in &projects {
                if exporter.is_for(*organization, *project) {
                    let name = exporter.name.clone();
                    let key = CursorKey { organization: *organization, project: *project, exporter: name };
                    let is_new = since.is_some_and(|since| since < *created_at);
                    work.push((exporter, key, is_new));
                }
            }
        }
        Ok(work)
    }

    /// Makes the cursors of exporters that are new, so that they begin with this moment. What fails is tried again by
    /// [`run`](Self::run).
    pub async fn begin(&self) {
        let made = async {
            let arrived = self.parts.store.arrived().await?;
            for (exporter, key, is_new) in self.work().await? {
                self.make(exporter, &key, is_new, &arrived).await?;
            }
            Ok::<_, TurnError>(())
        };
        if let Err(error) = made.await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                "exporters don't know yet where they begin: what arrives until they do isn't exported"
            );
        }
    }

    async fn make(
        &self,
        exporter: &Exporter,
        key: &CursorKey,
        is_new: bool,
        arrived: &Mark,
    ) -> Result<(), TurnError> {
        let cursors = self.parts.database.exporters();
        if cursors.get(key).await?.is_none() {
            let from_now = exporter.start == Start::Now && !is_new;
            let position = if from_now { arrived.clone() } else { Mark::default() };
            cursors.create(key, &position, self.parts.clock.now()).await?;
        }
        Ok(())
    }

    async fn projects(&self) -> Result<Vec<(OrganizationId, ProjectId, DateTime<Utc>)>, TurnError> {
        let mut projects = Vec::new();
        loop {
            let after = projects.last().map(|(_, project, _)| *project);
            let page = self.parts.database.exporters().projects(Page { after, limit: MAX_PAGE }).await?;
            let is_last = page.len() < MAX_PAGE as usize;
            projects.extend(page);
            if is_last {
                return Ok(projects);
            }
        }
    }

    /// One cursor's turn, with its exporter's name; and since when what it holds waits.
    async fn turn<'a>(
        &self,
        exporter: &'a Exporter,
        key: &CursorKey,
        is_new: bool,
        arrived: &Mark,
        stop: &CancellationToken,
    ) -> Result<(&'a str, Came, Option<DateTime<Utc>>), TurnError> {
        let name = exporter.name.as_str();
        let known = self.clear.lock().get(key).cloned();
        if stop.is_cancelled() || known.as_ref().is_some_and(|(_, end)| end == arrived) {
            return Ok((name, Came::NotNow, None));
        }
        let cursors = self.parts.database.exporters();
        self.make(exporter, key, is_new, arrived).await?;
        let Some(cursor) = cursors.get(key).await? else { return Ok((name, Came::NotNow, None)) };
        let clear = known.filter(|(position, _)| *position == cursor.position).map(|(_, end)| end);
        let came = Turn { service: self, exporter, key }.take(&cursor, clear.as_ref()).await?;
        let left = cursors.get(key).await?;
        match (&came, &left) {
            (Came::Idle(end), Some(left)) if left.pending.is_none() => {
                self.clear.lock().insert(key.clone(), (left.position.clone(), end.clone()));
            }
            _ => drop(self.clear.lock().remove(key)),
        }
        Ok((name, came, left.and_then(|left| left.pending_since)))
    }

    /// How long after so many tries in vain: doubled with each, and up to half less by chance.
    pub(crate) fn backoff(&self, attempts: i64) -> Duration {
        let times = &self.parts.times;
        let doubled = 2_u32.saturating_pow(u32::try_from(attempts).unwrap_or(u32::MAX).min(30));
        let longest = times.first_backoff.saturating_mul(doubled).min(times.max_backoff);
        let mut chance = [0];
        self.parts.random.fill(&mut chance);
        longest.mul_f64(1.0 - f64::from(chance[0]) / 512.0)
    }
}
