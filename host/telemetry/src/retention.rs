//! Deleting what nobody keeps any longer.
//!
//! A project keeps its calls, spans, scores, logs and metrics for so many days: its own number, or the server's
//! ([`Settings::days`]: 365). What began before the first hour (UTC) of the day so many days ago goes. Months that are too old
//! for everybody go as a whole: a file of SQLite, a partition of ClickHouse; other rows are deleted by project.
//!
//! A **deleted project** leaves rows in the analytics store, and blobs. They go within a minute or so, and once more
//! [`LATE`] later: what was in a queue when the project was deleted may have arrived by then.
//!
//! [`Retention::work`] looks every minute or so, at moments that differ between processes, and runs once an hour. Where processes
//! share a store, the one that has the job's lease in the database runs, and the others find it done; a store of files is its
//! own process' business. One that dies in the middle is followed by another when its lease is over; what it did needn't be
//! done again, and does no harm if it is.

use std::sync::Arc;
use std::time::Duration;

use brokle_core::clock::Clock;
use brokle_core::ids::{OrganizationId, ProjectId};
use brokle_core::random::Random;
use brokle_storage::blobs::BlobStore;
use brokle_storage::observations::{AnalyticsError, AnalyticsStore, Month, Removed};
use brokle_storage::sql::{Database, StorageError};
use chrono::{DateTime, NaiveTime, TimeDelta, Utc};
use parking_lot::Mutex;

/// The job's name in the database.
const JOB: &str = "retention";
/// Between two runs.
const PERIOD: TimeDelta = TimeDelta::hours(1);
/// How long whoever runs has for it.
const LEASE: TimeDelta = TimeDelta::minutes(30);
/// After which time nothing of a deleted project is on its way any more.
const LATE: TimeDelta = TimeDelta::days(2);
/// The shortest and the longest time between two looks.
const LOOK: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(90));

/// The most days that can be asked for.
pub const MAX_DAYS: u32 = 3_650;

/// How long things are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Days, for projects that don't say: 365.
    pub days: u32,
    /// What a project may ask for: [`MAX_DAYS`].
    pub max_days: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self { days: 365, max_days: MAX_DAYS }
    }
}

/// Something wasn't deleted. It will be tried again.
#[derive(Debug, thiserror::Error)]
pub enum RetentionError {
    /// Which projects there are can't be found out.
    #[error("projects can't be read")]
    Storage(#[from] StorageError),
    /// The analytics store.
    #[error("rows can't be deleted")]
    Analytics(#[from] AnalyticsError),
    /// The blob store.
    #[error("blobs can't be deleted")]
    Blobs(#[source] std::io::Error),
}

/// What a run did, or in a dry run would do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// All together.
    pub removed: Removed,
    /// Of it, what was deleted project by project; those of which nothing was aren't here.
    pub projects: Vec<(ProjectId, Removed)>,
    /// Projects that were deleted, and whose rows are among these.
    pub deleted_projects: Vec<ProjectId>,
}

/// Deletes what nobody keeps any longer.
#[derive(Debug)]
pub struct Retention {
    database: Database,
    store: Arc<dyn AnalyticsStore>,
    blobs: Arc<dyn BlobStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    settings: Settings,
    /// This process, as the lease knows it.
    holder: String,
    /// When a store of files was last looked through.
    ended: Mutex<Option<DateTime<Utc>>>,
}

impl Retention {
    /// Over this store and these blobs, for the projects of this database.
    #[must_use]
    pub fn new(
        database: Database,
        store: Arc<dyn AnalyticsStore>,
        blobs: Arc<dyn BlobStore>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        settings: Settings,
    ) -> Self {
        let mut name = [0; 16];
        random.fill(&mut name);
        let holder = format!("{:032x}", u128::from_le_bytes(name));
        Self { database, store, blobs, clock, random, settings, holder, ended: Mutex::default() }
    }

    /// How long things are kept.
    #[must_use]
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// Before which moment a project that keeps things for so many days keeps nothing; none: as long as the server says.
    #[must_use]
    pub fn before(&self, days: Option<u32>) -> DateTime<Utc> {
        let days = TimeDelta::days(i64::from(days.unwrap_or(self.settings.days)));
        (self.clock.now() - days).date_naive().and_time(NaiveTime::MIN).and_utc()
    }

    /// Looks again and again, and runs when it is time; ends when it is dropped.
    pub async fn work(&self) {
        loop {
            tokio::time::sleep(self.pause()).await;
            match self.take_turn().await {
                Ok(Some(report)) => tell(&report),
                Ok(None) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "what is too old isn't deleted yet");
                }
            }
        }
    }

    fn pause(&self) -> Duration {
        let mut bytes = [0; 4];
        self.random.fill(&mut bytes);
        LOOK.0 + (LOOK.1 - LOOK.0).mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
    }

    /// Runs if it is time and this process' turn.
    ///
    /// # Errors
    /// [`RetentionError`]: the next turn does what is left.
    pub async fn take_turn(&self) -> Result<Option<Report>, RetentionError> {
        let now = self.clock.now();
        let deleted = self.database.retention().deleted().await?;
        let period =
            if deleted.iter().any(|one| one.swept_at.is_none()) { TimeDelta::zero() } else { PERIOD };
        if !self.take(now, now - period).await? {
            return Ok(None);
        }
        let report = self.run(false).await?;
        let now = self.clock.now();
        if self.store.is_embedded() {
            *self.ended.lock() = Some(now);
        } else {
            self.database.jobs().end(JOB, &self.holder, now).await?;
        }
        Ok(Some(report))
    }

    async fn take(&self, now: DateTime<Utc>, due: DateTime<Utc>) -> Result<bool, StorageError> {
        if self.store.is_embedded() {
            return Ok(self.ended.lock().is_none_or(|ended| ended <= due));
        }
        self.database.jobs().take(JOB, &self.holder, now, now + LEASE, due).await
    }

    /// Deletes what is too old, of every project, and what deleted projects left; in a dry run it only counts.
    ///
    /// # Errors
    /// [`RetentionError`]; what was deleted before stays so.
    pub async fn run(&self, dry_run: bool) -> Result<Report, RetentionError> {
        let projects = self.database.retention().projects().await?;
        let days = |own: Option<i64>| own.and_then(|days| u32::try_from(days).ok());
        let longest = projects.iter().filter_map(|kept| days(kept.retention_days));
        let longest = longest.max().unwrap_or_default().max(self.settings.days);
        if !dry_run {
            self.store.keep(longest).await?;
        }
        let mut report = Report::default();
        // What is before is deleted with everybody's.
        let mut from = DateTime::<Utc>::MIN_UTC;
        if let Some(month) = Month::of(self.before(Some(longest))) {
            report.removed += self.store.retain(month, dry_run).await?;
            from = month.begin();
        }
        for kept in projects {
            let before = self.before(days(kept.retention_days));
            let removed = self.store.expire(kept.project, from..before, dry_run).await?;
            report.add(kept.project, removed);
        }
        for deleted in self.database.retention().deleted().await? {
            let now = self.clock.now();
            let removed = self.store.expire(deleted.project, from..DateTime::<Utc>::MAX_UTC, dry_run).await?;
            report.add(deleted.project, removed);
            report.deleted_projects.push(deleted.project);
            if dry_run {
                continue;
            }
            let blobs = self.blobs.delete_under(&deleted.project.to_string()).await;
            report.removed.blobs += blobs.map_err(RetentionError::Blobs)?;
            let deleted_projects = self.database.retention();
            match deleted.swept_at {
                None => deleted_projects.swept(deleted.project, now).await?,
                Some(swept) if swept <= now - LATE => deleted_projects.forget(deleted.project).await?,
                Some(_) => {}
            }
        }
        Ok(report)
    }

    /// The same of one project's, by its own number of days.
    ///
    /// # Errors
    /// [`RetentionError`]; [`StorageError::NotFound`] when the organization has no such project.
    pub async fn run_project(
        &self,
        organization: OrganizationId,
        project: ProjectId,
        dry_run: bool,
    ) -> Result<Removed, RetentionError> {
        let row = self.database.projects().get(organization, project).await?;
        let days = row.retention_days.and_then(|days| u32::try_from(days).ok());
        Ok(self.store.expire(project, DateTime::<Utc>::MIN_UTC..self.before(days), dry_run).await?)
    }
}

impl Report {
    fn add(&mut self, project: ProjectId, removed: Removed) {
        if removed != Removed::default() {
            self.removed += removed.clone();
            self.projects.push((project, removed));
        }
    }
}

fn tell(report: &Report) {
    let Removed { observations, scores, logs, points, blobs, months } = &report.removed;
    if *report == Report::default() {
        return;
    }
    let months = months.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let deleted_projects = report.deleted_projects.len();
    tracing::info!(
        observations,
        scores,
        logs,
        points,
        months,
        blobs,
        deleted_projects,
        "deleted what was too old"
    );
}
