//! What was spent of budgets.
//!
//! Amounts are exact decimals, which neither database adds up exactly in all versions, so they are texts: an addition
//! takes the row's lock by an upsert that changes nothing, reads the sum, and writes the next one. Servers that share a
//! database add to the same rows, and learn of each other's additions by [`SqlBudgets::changed`].

use brokle_core::ids::OrganizationId;
use brokle_core::money::Usd;
use chrono::{DateTime, Utc};

use super::dialect::{Access, Scope, SystemErrand};
use super::{Database, StorageError, transaction};

/// The table of what was spent.
#[derive(Clone, Debug)]
pub struct SqlBudgets(Database);

/// One budget's one subject in one period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpendKey {
    /// Whose money it is.
    pub organization: OrganizationId,
    /// The budget's name.
    pub budget: String,
    /// Whose allowance: the same text on every server.
    pub subject: String,
    /// `day`, `week` or `month`.
    pub period: &'static str,
    /// When the period began.
    pub start: DateTime<Utc>,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The budget's name.
    pub budget: String,
    /// Whose allowance.
    pub subject: String,
    /// `day`, `week` or `month`.
    pub period: String,
    /// When the period began.
    pub start: DateTime<Utc>,
    /// How much, by all servers.
    pub spent: Usd,
}

/// Adds amounts of one organization in the transaction at hand. What the sums are then, in the same order.
macro_rules! add_spend {
    ($tx:ident, $organization:expr, $amounts:expr, $now:expr) => {{
        let mut sums = vec![brokle_core::money::Usd::ZERO; $amounts.len()];
        for at in $crate::sql::budgets::order($organization, $amounts)? {
            let (Some((key, amount)), Some(sum)) = ($amounts.get(at), sums.get_mut(at)) else { continue };
            let spent: String = sqlx::query_scalar(
                "INSERT INTO budget_spend \
                 (organization_id, budget, subject, period, period_start, spent, updated_at) \
                 VALUES ($1, $2, $3, $4, $5, '0', $6) \
                 ON CONFLICT (organization_id, budget, subject, period, period_start) \
                 DO UPDATE SET updated_at = excluded.updated_at RETURNING spent",
            )
            .bind($organization.to_string())
            .bind(&key.budget)
            .bind(&key.subject)
            .bind(key.period)
            .bind(key.start)
            .bind($now)
            .fetch_one(&mut *$tx)
            .await?;
            *sum = $crate::sql::budgets::read(&spent)? + *amount;
            sqlx::query(
                "UPDATE budget_spend SET spent = $6 WHERE organization_id = $1 AND budget = $2 AND subject = $3 \
                 AND period = $4 AND period_start = $5",
            )
            .bind($organization.to_string())
            .bind(&key.budget)
            .bind(&key.subject)
            .bind(key.period)
            .bind(key.start)
            .bind(sum.to_string())
            .execute(&mut *$tx)
            .await?;
        }
        sums
    }};
}
pub(super) use add_spend;

impl Database {
    /// What was spent of budgets.
    #[must_use]
    pub fn budgets(&self) -> SqlBudgets {
        SqlBudgets(self.clone())
    }
}

impl SqlBudgets {
    /// Adds amounts of one organization, all of them or none, and returns what the sums are now, in the same order.
    /// Keys of other organizations are refused.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when the database is away, [`StorageError::NotFound`] when the organization is gone
    /// or isn't the key's.
    pub async fn add(
        &self,
        organization: OrganizationId,
        amounts: &[(SpendKey, Usd)],
        now: DateTime<Utc>,
    ) -> Result<Vec<Usd>, StorageError> {
        Ok(transaction!(&self.0, Access::Write, Scope::Organization(organization), |tx| {
            add_spend!(tx, organization, amounts, now)
        }))
    }

    /// The rows of every organization that were changed since, of periods that began since: an errand of the gateway
    /// itself.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] when the database is away.
    pub async fn changed(
        &self,
        since: DateTime<Utc>,
        periods_since: DateTime<Utc>,
    ) -> Result<Vec<Spend>, StorageError> {
        type Row = (String, String, String, DateTime<Utc>, String);
        let rows: Vec<Row> =
            transaction!(&self.0, Access::Read, Scope::System(SystemErrand::Budgets), |tx| {
                sqlx::query_as(
                    "SELECT budget, subject, period, period_start, spent FROM budget_spend \
                 WHERE updated_at >= $1 AND period_start >= $2",
                )
                .bind(since)
                .bind(periods_since)
                .fetch_all(&mut *tx)
                .await?
            });
        rows.into_iter()
            .map(|(budget, subject, period, start, spent)| {
                Ok(Spend { budget, subject, period, start, spent: read(&spent)? })
            })
            .collect()
    }
}

/// In which order they are added: one everywhere, so that two servers can't wait for each other's rows.
///
/// # Errors
/// [`StorageError::NotFound`] when one is another organization's.
pub(super) fn order(
    organization: OrganizationId,
    amounts: &[(SpendKey, Usd)],
) -> Result<Vec<usize>, StorageError> {
    if amounts.iter().any(|(key, _)| key.organization != organization) {
        return Err(StorageError::NotFound);
    }
    let mut order: Vec<usize> = (0..amounts.len()).collect();
    order.sort_by_key(|&at| {
        amounts.get(at).map(|(key, _)| (&key.budget, &key.subject, key.period, key.start))
    });
    Ok(order)
}

pub(super) fn read(spent: &str) -> Result<Usd, StorageError> {
    spent.parse().map_err(StorageError::corrupt)
}
