//! One turn of one exporter in one project: batches until there are no more, it is somebody else's turn, or one fails.

use std::time::Duration;

use brokle_core::ids::EnvironmentId;
use brokle_core::tenancy::Tenant;
use brokle_runtime::exporting::{Batch as Told, Failure, Receipt};
use brokle_runtime::{Fault, PluginError};
use brokle_storage::observations::{AnalyticsError, Arrival, Mark};
use brokle_storage::sql::StorageError;
use brokle_storage::sql::exporters::{Counts, Cursor, CursorKey};
use brokle_telemetry::metrics::{ExportOutcome, ExportedLabels, ExporterLabels};
use chrono::{DateTime, TimeDelta, Utc};

use crate::batch::{Batch, MAX_ROWS};
use crate::service::Service;
use crate::settings::Exporter;

/// Batches of one turn at most: then others have theirs.
const MAX_BATCHES: usize = 16;
/// What a receiver may ask for by `Retry-After` at most.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3_600);
/// Bytes of a failure's text that are kept.
const MAX_REASON: usize = 300;
/// An observation that is alone and that a component has failed on so often is passed over.
const MAX_FAULTS: i64 = 3;

/// What a turn came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    /// Nothing is there up to this mark.
    Idle(Mark),
    /// There may be more.
    More,
    /// Somebody else has it, or it is too early.
    NotNow,
}

/// Why a turn came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TurnError {
    #[error(transparent)]
    Database(#[from] StorageError),
    #[error(transparent)]
    Store(#[from] AnalyticsError),
    #[error("an observation can't be written as JSON")]
    Json(#[from] serde_json::Error),
}

/// What became of a batch.
enum Sent {
    Receipt(Receipt),
    /// Never, says the receiver.
    Refused(String),
    /// The component failed on it.
    Faulted(String),
    /// Later.
    Retry(String, Option<Duration>),
}

pub(crate) struct Turn<'a> {
    pub(crate) service: &'a Service,
    pub(crate) exporter: &'a Exporter,
    pub(crate) key: &'a CursorKey,
}

impl Turn<'_> {
    /// `clear`: nothing is there up to here, if the cursor still is where it was.
    pub(crate) async fn take(&self, cursor: &Cursor, clear: Option<&Mark>) -> Result<Came, TurnError> {
        let (parts, now) = (&self.service.parts, self.service.parts.clock.now());
        if cursor.retry_at.is_some_and(|at| at > now) {
            return Ok(Came::NotNow);
        }
        if cursor.pending.is_none() {
            let after = clear.unwrap_or(&cursor.position).clone();
            let filter = self.exporter.filter.clone();
            let found = parts.store.arrivals(self.key.project, filter, after, None, 1).await?;
            if found.rows.is_empty() && !found.more {
                return Ok(Came::Idle(found.end));
            }
        }
        let holder = &*self.service.holder;
        let Some(cursor) = parts.database.exporters().lease(self.key, holder, now, self.until(now)).await?
        else {
            return Ok(Came::NotNow);
        };
        let came = self.batches(cursor).await;
        parts.database.exporters().release(self.key, holder).await?;
        came
    }

    fn until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.service.parts.times.lease).unwrap_or(TimeDelta::MAX)
    }

    /// With the lease.
    async fn batches(&self, mut cursor: Cursor) -> Result<Came, TurnError> {
        let (parts, holder) = (&self.service.parts, &*self.service.holder);
        let cursors = parts.database.exporters();
        for _ in 0..MAX_BATCHES {
            let (filter, after) = (self.exporter.filter.clone(), cursor.position.clone());
            let pending = cursor.pending.clone();
            let found =
                parts.store.arrivals(self.key.project, filter, after, pending.clone(), MAX_ROWS).await?;
            if found.rows.is_empty() {
                if pending.is_none() && !found.more {
                    return Ok(Came::Idle(found.end));
                }
                let position = if found.more { found.end } else { pending.clone().unwrap_or(found.end) };
                let now = parts.clock.now();
                cursors.advance(self.key, holder, &position, !found.more, Counts::default(), now).await?;
                cursor = self.keep(now).await?;
                continue;
            }
            let batch = Batch::of(&found.rows)?;
            let (sent, _) =
                found.rows.split_at_checked(batch.observations.len()).unwrap_or((&found.rows, &[]));
            let is_all = sent.len() == found.rows.len() && !found.more;
            let end =
                if is_all { pending.clone().unwrap_or(found.end) } else { passed(&cursor.position, sent) };
            if pending.as_ref() != Some(&end) {
                cursors.begin(self.key, holder, &end, parts.clock.now()).await?;
            }
            let outcome = self.send(batch, &cursor).await;
            let now = parts.clock.now();
            let (wait, reason) = match outcome {
                Sent::Receipt(receipt) => {
                    self.tell_end(&cursor);
                    let counts = self.count(sent.len(), &receipt);
                    cursors.advance(self.key, holder, &end, true, counts, now).await?;
                    cursor = self.keep(now).await?;
                    continue;
                }
                Sent::Refused(reason) if sent.len() > 1 => {
                    self.halve(&cursor, sent, now).await?;
                    tracing::debug!(
                        exporter = self.exporter.name,
                        reason,
                        "a batch is refused: it is halved"
                    );
                    cursor = self.keep(now).await?;
                    continue;
                }
                Sent::Faulted(reason) if sent.len() > 1 => {
                    self.halve(&cursor, sent, now).await?;
                    (None, reason)
                }
                Sent::Faulted(reason) if cursor.attempts + 1 < MAX_FAULTS => (None, reason),
                Sent::Refused(reason) | Sent::Faulted(reason) => {
                    self.pass_over(sent, &end, &reason, now).await?;
                    cursor = self.keep(now).await?;
                    continue;
                }
                Sent::Retry(reason, after) => (after, reason),
            };
            self.outcome(ExportOutcome::retried, sent.len());
            self.tell_begin(&cursor, &reason);
            let wait = wait.unwrap_or(Duration::ZERO).max(self.service.backoff(cursor.attempts));
            let retry_at = now + TimeDelta::from_std(wait.min(MAX_RETRY_AFTER)).unwrap_or(TimeDelta::MAX);
            cursors.fail(self.key, holder, retry_at, &reason, now).await?;
            return Ok(Came::NotNow);
        }
        Ok(Came::More)
    }

    /// The lease anew, and what is there now.
    async fn keep(&self, now: DateTime<Utc>) -> Result<Cursor, TurnError> {
        let cursors = self.service.parts.database.exporters();
        let kept = cursors.lease(self.key, &self.service.holder, now, self.until(now)).await?;
        kept.ok_or(TurnError::Database(StorageError::NotFound))
    }

    async fn send(&self, batch: Batch, cursor: &Cursor) -> Sent {
        let snapshot = self.service.parts.plugins.load();
        let (organization, project) = (self.key.organization, self.key.project);
        // What a component keeps is by project: observations of all its environments are in a batch.
        let tenant = Tenant { organization, project, environment: EnvironmentId::from_u128(0) };
        let Some(active) = snapshot.of(tenant).exporter(&self.exporter.plugin) else {
            return Sent::Retry(format!("no plugin '{}' serves", self.exporter.plugin), None);
        };
        let mut context = active.context_for(tenant, None);
        if let Some(own) = self.exporter.own_config() {
            context.config = own;
        }
        let told = Told {
            id: batch.id(&self.exporter.name, &project.to_string()),
            organization_id: organization.to_string(),
            project_id: project.to_string(),
            attempt: u32::try_from(cursor.attempts + 1).unwrap_or(u32::MAX),
            observations: batch.observations,
            attributes: vec![("exporter".to_owned(), self.exporter.name.clone())],
        };
        match active.plugin.export(context, &told).await {
            Ok(Ok(receipt)) => Sent::Receipt(receipt),
            Ok(Err(Failure::Retry(delay))) => {
                Sent::Retry(cut(delay.reason), delay.after_ms.map(Duration::from_millis))
            }
            Ok(Err(Failure::Refused(reason))) => Sent::Refused(cut(reason)),
            Ok(Err(Failure::Misconfigured(reason))) => {
                Sent::Retry(cut(format!("its configuration can't be used: {reason}")), None)
            }
            Ok(Err(Failure::Other(reason))) => Sent::Retry(cut(reason), None),
            Err(error) if is_to_blame(&error) => Sent::Faulted(cut(error.to_string())),
            Err(error) => Sent::Retry(cut(error.to_string()), None),
        }
    }

    /// The batch that is being sent is the first half from now on.
    async fn halve(&self, cursor: &Cursor, sent: &[Arrival], now: DateTime<Utc>) -> Result<(), TurnError> {
        let (half, _) = sent.split_at_checked(sent.len() / 2).unwrap_or_default();
        let end = passed(&cursor.position, half);
        let cursors = self.service.parts.database.exporters();
        Ok(cursors.begin(self.key, &self.service.holder, &end, now).await?)
    }

    async fn pass_over(
        &self,
        sent: &[Arrival],
        end: &Mark,
        reason: &str,
        now: DateTime<Utc>,
    ) -> Result<(), TurnError> {
        if let [alone] = sent {
            let (trace, span) = (alone.node.summary.trace_id, alone.node.summary.span_id);
            let (exporter, project) = (&self.exporter.name, self.key.project);
            tracing::error!(
                exporter, %project, %trace, %span, reason,
                "an observation is never taken: it isn't exported"
            );
        }
        self.outcome(ExportOutcome::passed_over, sent.len());
        let counts = Counts { passed_over: number(sent.len()), ..Counts::default() };
        let cursors = self.service.parts.database.exporters();
        Ok(cursors.advance(self.key, &self.service.holder, end, true, counts, now).await?)
    }

    fn count(&self, sent: usize, receipt: &Receipt) -> Counts {
        let rejected = usize::try_from(receipt.rejected).unwrap_or(usize::MAX).min(sent);
        if rejected > 0 {
            let (exporter, project) = (&self.exporter.name, self.key.project);
            let said = cut(receipt.message.clone());
            tracing::warn!(exporter, %project, rejected, said, "the receiver took a batch without some");
        }
        self.outcome(ExportOutcome::exported, sent - rejected);
        self.outcome(ExportOutcome::rejected, rejected);
        Counts { exported: number(sent - rejected), rejected: number(rejected), passed_over: 0 }
    }

    fn outcome(&self, outcome: ExportOutcome, count: usize) {
        if count > 0 {
            let labels = ExportedLabels { exporter: self.exporter.name.clone(), outcome };
            self.service.parts.metrics.exported.get_or_create(&labels).inc_by(count as u64);
        }
    }

    /// An outage's beginning is told, and its end, and not each try.
    fn tell_begin(&self, cursor: &Cursor, reason: &str) {
        let labels = ExporterLabels { exporter: self.exporter.name.clone() };
        self.service.parts.metrics.export_failures.get_or_create(&labels).inc();
        if cursor.attempts == 0 {
            let (exporter, project) = (&self.exporter.name, self.key.project);
            tracing::warn!(exporter, %project, reason, "a batch can't be exported: the store holds it");
        }
    }

    fn tell_end(&self, cursor: &Cursor) {
        if cursor.attempts > 0 {
            let (exporter, project, attempts) = (&self.exporter.name, self.key.project, cursor.attempts);
            tracing::info!(exporter, %project, attempts, "the receiver takes observations again");
        }
    }
}

/// The mark behind these.
fn passed(from: &Mark, rows: &[Arrival]) -> Mark {
    let mut mark = from.clone();
    for row in rows {
        mark.pass(&row.part, row.row);
    }
    mark
}

/// Whether what it was given may be to blame: not for want of a sandbox, or of time, in which it waits for others.
fn is_to_blame(error: &PluginError) -> bool {
    !matches!(error.fault, Fault::Busy | Fault::Deadline(_) | Fault::Instantiate(_))
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn cut(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(MAX_REASON));
    reason
}
