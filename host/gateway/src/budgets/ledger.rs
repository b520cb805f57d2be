//! What was spent, to the database and back.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use brokle_core::ids::OrganizationId;
use brokle_core::money::Usd;
use brokle_storage::sql::StorageError;
use brokle_storage::sql::budgets::{Spend, SpendKey, SqlBudgets};
use chrono::{DateTime, Days, TimeDelta, Utc};

use super::cell::Cell;
use super::{Budget, Budgets, Period, Unit};

/// Rows of one transaction.
const BATCH: usize = 200;
/// How far back changes are looked for: longer than servers' clocks differ and a transaction takes.
const LOOK_BACK: TimeDelta = TimeDelta::seconds(60);

impl Budgets {
    /// Reads what is spent of the periods that are under way; for the server's start.
    ///
    /// # Errors
    /// When the database can't be read: without the sums, budgets would begin anew.
    pub async fn load(&self) -> Result<(), StorageError> {
        let Some(store) = self.store.as_ref().filter(|_| !self.is_empty()) else { return Ok(()) };
        self.learn(store, DateTime::UNIX_EPOCH).await
    }

    /// Writes what was spent since the last time, and reads what other servers wrote; for the server to call each second
    /// and when it stops. Never twice at once.
    ///
    /// # Errors
    /// When the database is away; nothing is lost by it.
    pub async fn synchronize(&self) -> Result<(), StorageError> {
        let Some(store) = self.store.as_ref().filter(|_| !self.is_empty()) else { return Ok(()) };
        let mut outcome = self.write(store).await;
        let since = self.clock.now().checked_sub_signed(LOOK_BACK).unwrap_or(DateTime::UNIX_EPOCH);
        outcome = outcome.and(self.learn(store, since).await);
        self.forget(&mut self.cells.write());
        let away = outcome.is_err();
        if self.away.swap(away, Ordering::Relaxed) != away {
            match &outcome {
                Err(error) => {
                    let error = error as &dyn std::error::Error;
                    tracing::warn!(error, "what is spent of budgets can't be written: they go on in memory");
                }
                Ok(()) => tracing::info!("what is spent of budgets is written again"),
            }
        }
        outcome
    }

    /// Adds to a sum that isn't a budget's, and says what it is now; none while the database is away, or there is none.
    pub(crate) async fn add_to(&self, key: SpendKey, amount: Usd) -> Option<Usd> {
        let store = self.store.as_ref()?;
        let sums = store.add(key.organization, &[(key, amount)], self.clock.now()).await;
        match sums {
            Ok(sums) => sums.first().copied(),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "what shadows cost can't be written"
                );
                None
            }
        }
    }

    async fn write(&self, store: &SqlBudgets) -> Result<(), StorageError> {
        let mut changed: HashMap<OrganizationId, Vec<Arc<Cell>>> = HashMap::new();
        for cell in self.cells.read().values() {
            changed.entry(cell.subject.organization).or_default().push(Arc::clone(cell));
        }
        let mut outcome = Ok(());
        for (organization, cells) in changed {
            for cells in cells.chunks(BATCH) {
                outcome = outcome.and(self.write_batch(store, organization, cells).await);
            }
        }
        outcome
    }

    async fn write_batch(
        &self,
        store: &SqlBudgets,
        organization: OrganizationId,
        cells: &[Arc<Cell>],
    ) -> Result<(), StorageError> {
        let mut writing = Writing(Vec::new());
        let mut amounts = Vec::new();
        for cell in cells {
            let Some(rule) = self.rules.get(cell.rule) else { continue };
            let Some(key) = key(rule, cell) else { continue };
            let Some(amount) = cell.begin_write() else { continue };
            writing.0.push(Arc::clone(cell));
            amounts.push((key, amount));
        }
        if amounts.is_empty() {
            return Ok(());
        }
        match store.add(organization, &amounts, self.clock.now()).await {
            Ok(sums) => {
                writing.end(sums.into_iter().map(Some));
                Ok(())
            }
            // The organization is gone, and its budgets with it.
            Err(StorageError::NotFound) => {
                writing.end(std::iter::repeat(Some(Usd::ZERO)));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn learn(&self, store: &SqlBudgets, since: DateTime<Utc>) -> Result<(), StorageError> {
        let now = self.clock.now();
        // A day ahead, since another server's clock may say so.
        let first = Period::Month.start_of(now).min(Period::Week.start_of(now));
        let first = first.checked_sub_days(Days::new(1)).unwrap_or(first);
        for Spend { budget, subject, period, start, spent } in store.changed(since, first).await? {
            let rule = |rule: &Budget| stored_name(rule) == budget && rule.per.as_str() == period;
            // A budget that is configured no more, or otherwise.
            let Some(index) = self.rules.iter().position(rule) else { continue };
            let Ok(subject) = serde_json::from_str(&subject) else { continue };
            self.cell((index, subject, start)).learn(spent);
        }
        Ok(())
    }
}

/// What a sum is kept under.
pub(super) fn key(rule: &Budget, cell: &Cell) -> Option<SpendKey> {
    Some(SpendKey {
        organization: cell.subject.organization,
        budget: stored_name(rule),
        subject: serde_json::to_string(&cell.subject).ok()?,
        period: rule.per.as_str(),
        start: cell.start,
    })
}

/// The name that a budget's sums are kept under, so that tokens are never taken for dollars of another budget that once had its
/// name. No budget's name has a control character.
fn stored_name(rule: &Budget) -> String {
    match rule.unit {
        Unit::Usd => rule.name.clone(),
        Unit::Tokens => format!("{}\u{1f}tokens", rule.name),
    }
}

/// Amounts on their way to the database. Dropped on the way, they are pending again.
struct Writing(Vec<Arc<Cell>>);

impl Writing {
    fn end(&mut self, sums: impl Iterator<Item = Option<Usd>>) {
        for (cell, sum) in self.0.drain(..).zip(sums) {
            cell.end_write(sum);
        }
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.end(std::iter::repeat(None));
    }
}
