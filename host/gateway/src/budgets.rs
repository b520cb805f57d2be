//! Budgets: money or tokens by day, week or month.
//!
//! **Periods** are the calendar's, in UTC: a day, a week from Monday on, a month. A call counts for the period in which
//! it was reserved.
//!
//! **Reservation.** When a candidate is asked, the price of what the call may use (the estimate of [`crate::limits`])
//! is set aside in every budget that counts it, for all of them or for none. A budget that blocks refuses what doesn't
//! fit into what is neither spent nor set aside; so calls at the same time can't spend more together than the estimates
//! are wrong by. At the call's end its cost, the same that its trace has, takes the reservation's place. The sum of a
//! budget is the sum of the traces' costs.
//!
//! A candidate that doesn't fit is passed over, and a cheaper one may serve. When none is left the call is refused with
//! **429** `budget_exceeded`, `Retry-After` (the period's end) and `x-should-retry: false`, which keeps OpenAI's clients
//! from trying again at once. (402 is what a vendor says to somebody who hasn't paid; clients and proxies know 429 as
//! "not now", as OpenAI's own `insufficient_quota` is.)
//!
//! **Tokens** are those of the prompt and of the answer, as limits count them. A budget of tokens is reserved and settled like one of
//! money; its sums are the same exact decimals, in which a token is 1. Prices don't matter to it.
//!
//! **Unknown prices.** A model whose price isn't known costs nothing that could be counted. It passes while something is
//! left of the budget, or is refused with 403 `price_unknown`, as the budget says.
//!
//! **Alerts.** When a share of [`Budget::alert_at`] is reached there is a line in the log and a count in the metrics, once
//! for each subject and period; from then on answers carry `x-brokle-budget`. A budget that only alerts refuses nothing.
//!
//! **Durability.** What was spent is written to the database each second and when the server stops, as additions, so
//! that servers which share a database share budgets and know of each other within a second or two. While the database
//! is away budgets go on in memory, and what wasn't written waits. A server that is killed loses what it spent in its
//! last second; one that is stopped, nothing.

mod cell;
mod ledger;
mod period;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use brokle_core::catalogue::Catalogue;
use brokle_core::clock::Clock;
use brokle_core::money::Usd;
use brokle_core::usage::Usage;
use brokle_identity::Principal;
use brokle_storage::sql::budgets::{SpendKey, SqlBudgets};
use brokle_telemetry::metrics::{BudgetLabels, Metrics};
use chrono::{DateTime, Utc};
use parking_lot::RwLock;
use serde::Serialize;

use self::cell::Cell;
pub(crate) use self::cell::Reservation;
pub use self::period::Period;
use crate::connections::Connection;
use crate::refusal::Refusal;
use crate::who::{self, Caller, Subject, Who};

/// Subjects and periods that are kept, of all budgets together.
const SUBJECTS_KEPT: usize = 200_000;
/// Budgets that [`Budgets::seen_by`] tells of at most.
const TOLD: usize = 1_000;

/// What happens when a budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExceeded {
    /// Calls are refused.
    #[default]
    Block,
    /// Somebody is told.
    Alert,
}

/// What happens to a call whose price isn't known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownPrice {
    /// It passes, and costs nothing here.
    #[default]
    Allow,
    /// It is refused.
    Refuse,
}

/// What a budget is a budget of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Dollars.
    #[default]
    Usd,
    /// Tokens, of prompts and answers.
    Tokens,
}

/// What a call uses, or may use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Use {
    /// Dollars, if the price is known.
    pub(crate) cost: Option<Usd>,
    pub(crate) tokens: u64,
}

impl Use {
    fn of(self, unit: Unit) -> Option<Usd> {
        match unit {
            Unit::Usd => self.cost,
            Unit::Tokens => Some(Usd::new(self.tokens.into())),
        }
    }
}

/// A budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budget {
    /// What refusals call it, and what its sums are kept under.
    pub name: String,
    /// Whom it is about.
    pub who: Who,
    /// How long it lasts.
    pub per: Period,
    /// Of what.
    pub unit: Unit,
    /// How much.
    pub limit: Usd,
    /// What happens when it is used up.
    pub on_exceeded: OnExceeded,
    /// What happens to a call whose price isn't known.
    pub unknown_price: UnknownPrice,
    /// At which shares, in percent, somebody is told; in rising order.
    pub alert_at: Vec<u8>,
}

/// Where a budget stands, as `GET /v1/budgets` tells it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BudgetState {
    /// Its name.
    pub name: String,
    /// Whose share of it this is.
    pub subject: Subject,
    /// `day`, `week` or `month`.
    pub per: Period,
    /// `usd` or `tokens`: what the numbers are.
    pub unit: Unit,
    /// How much in the period.
    pub limit: Usd,
    /// What was spent.
    pub spent: Usd,
    /// What calls under way may spend.
    pub reserved: Usd,
    /// What is left; 0 when it is overspent.
    pub remaining: Usd,
    /// When the period began.
    pub started_at: DateTime<Utc>,
    /// When the next one begins.
    pub resets_at: DateTime<Utc>,
    /// `block` or `alert`.
    pub on_exceeded: OnExceeded,
    /// Whether it refuses calls.
    pub blocked: bool,
}

/// Whose sum it is: the budget's place, the subject, the period's begin.
type Name = (usize, Subject, DateTime<Utc>);

/// The state of all budgets.
#[derive(Debug)]
pub struct Budgets {
    rules: Vec<Budget>,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    cells: RwLock<HashMap<Name, Arc<Cell>>>,
    store: Option<SqlBudgets>,
    /// Whether the database was away the last time.
    away: AtomicBool,
}

/// What a candidate's reservation came to.
#[derive(Debug)]
pub(crate) struct Reserved {
    pub(crate) reservations: Vec<Reservation>,
    /// The budget of which the largest share is used, once that is worth telling: `x-brokle-budget`.
    pub(crate) notice: Option<String>,
}

/// What budgets are charged at once.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    cells: Vec<Arc<Cell>>,
    /// Of the cells, in their order.
    amounts: Vec<(SpendKey, Usd)>,
}

impl Charge {
    pub(crate) fn append(&mut self, other: Self) {
        self.cells.extend(other.cells);
        self.amounts.extend(other.amounts);
    }

    pub(crate) fn amounts(&self) -> &[(SpendKey, Usd)] {
        &self.amounts
    }
}

impl Budgets {
    /// Budgets of which nothing is spent; [`load`](Self::load) reads what is.
    #[must_use]
    pub fn new(
        rules: Vec<Budget>,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        store: Option<SqlBudgets>,
    ) -> Self {
        Self { rules, clock, metrics, cells: RwLock::default(), store, away: AtomicBool::default() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Sets what a call may use aside, in every budget that counts it.
    pub(crate) fn reserve(
        &self,
        caller: &Caller<'_>,
        catalogue: &Catalogue,
        connection: &Connection,
        model: &str,
        usage: &Usage,
    ) -> Result<Reserved, Refusal> {
        let cost = catalogue.find(&connection.catalogue, model).and_then(|row| row.cost(usage));
        self.reserve_use(caller, Use { cost, tokens: usage.input.saturating_add(usage.output) })
    }

    fn reserve_use(&self, caller: &Caller<'_>, most: Use) -> Result<Reserved, Refusal> {
        let now = self.clock.now();
        let mut reservations = Vec::new();
        let mut fullest: Option<(u64, String)> = None;
        for (index, rule) in self.rules.iter().enumerate() {
            if !rule.who.counts(caller) {
                continue;
            }
            let amount = most.of(rule.unit);
            if amount.is_none() && rule.unknown_price == UnknownPrice::Refuse {
                let (_, model) = caller.model.unwrap_or_default();
                let message = format!(
                    "The price of the model '{model}' isn't known, and the budget '{}' needs one.",
                    rule.name
                );
                return Err(Refusal { retryable: true, ..Refusal::client(403, "price_unknown", message) });
            }
            let start = rule.per.start_of(now);
            let cell = self.cell((index, rule.who.subject(caller), start));
            match cell.reserve(rule, amount) {
                Ok(reservation) => reservations.push(reservation),
                Err(left) => {
                    // Those before it are given back as they are dropped.
                    self.metrics
                        .budget_refusals
                        .get_or_create(&BudgetLabels { budget: rule.name.clone() })
                        .inc();
                    return Err(exceeded(rule, amount, left, now));
                }
            }
            let percent = cell.percent(rule.limit);
            let told = rule.alert_at.first().copied().unwrap_or(100).min(100);
            if percent >= u64::from(told) && fullest.as_ref().is_none_or(|(most, _)| percent > *most) {
                fullest = Some((percent, format!("{};used={percent}%", rule.name)));
            }
        }
        Ok(Reserved { reservations, notice: fullest.map(|(_, notice)| notice) })
    }

    /// What every budget that counts the caller is to be charged for what was used without having been set aside: it was used,
    /// whatever is left. Nothing is charged by this: whoever writes it to the database says so to [`charged`](Self::charged).
    pub(crate) fn charge(&self, caller: &Caller<'_>, used: Use) -> Charge {
        let now = self.clock.now();
        let mut charge = Charge::default();
        for (index, rule) in self.rules.iter().enumerate().filter(|(_, rule)| rule.who.counts(caller)) {
            let amount = used.of(rule.unit).unwrap_or(Usd::ZERO);
            let cell = self.cell((index, rule.who.subject(caller), rule.per.start_of(now)));
            if let Some(key) = ledger::key(rule, &cell).filter(|_| amount != Usd::ZERO) {
                charge.cells.push(cell);
                charge.amounts.push((key, amount));
            }
        }
        charge
    }

    /// The database has what was charged; its sums are these.
    pub(crate) fn charged(&self, charge: Charge, sums: Vec<Usd>) {
        for (cell, sum) in charge.cells.into_iter().zip(sums) {
            let (before, _) = cell.sums();
            cell.learn(sum);
            let (after, _) = cell.sums();
            if let Some(rule) = self.rules.get(cell.rule) {
                self.alert(rule, before, after);
            }
        }
    }

    /// What a call used takes the place of what was set aside.
    pub(crate) fn settle(&self, reservations: Vec<Reservation>, used: Use) {
        for reservation in reservations {
            // Rules stay as they are for as long as there are reservations.
            let Some(rule) = self.rules.get(reservation.rule) else { continue };
            let (before, after) = reservation.settle(used.of(rule.unit).unwrap_or(Usd::ZERO));
            self.alert(rule, before, after);
        }
    }

    /// Tells once of each share that the sum has just passed.
    fn alert(&self, rule: &Budget, before: Usd, after: Usd) {
        let shares = rule.alert_at.iter().copied().chain((!rule.alert_at.contains(&100)).then_some(100));
        for share in shares {
            let reached = |sum: Usd| cell::percent_of(sum, rule.limit) >= u64::from(share);
            if reached(after) && !reached(before) {
                self.metrics.budget_alerts.get_or_create(&BudgetLabels { budget: rule.name.clone() }).inc();
                tracing::warn!(
                    budget = rule.name,
                    percent = share,
                    spent = %after,
                    limit = %rule.limit,
                    "a budget's threshold is reached"
                );
            }
        }
    }

    /// Where the budgets stand that the caller may know of, by name.
    #[must_use]
    pub fn seen_by(&self, principal: &Principal) -> Vec<BudgetState> {
        let now = self.clock.now();
        let mut found: HashMap<(usize, Subject), Option<Arc<Cell>>> = HashMap::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let fixed = !rule.who.needs_model()
                && !rule.who.by.contains(&who::By::User)
                && rule.who.only.users.is_empty();
            let caller = Caller { principal, user: "", model: None };
            // The caller's own, spent or not.
            if fixed && rule.who.counts(&caller) {
                found.insert((index, rule.who.subject(&caller)), None);
            }
        }
        for ((index, subject, start), cell) in self.cells.read().iter() {
            let current = self.rules.get(*index).is_some_and(|rule| rule.per.start_of(now) == *start);
            if current && subject.is_seen_by(principal) {
                found.insert((*index, subject.clone()), Some(Arc::clone(cell)));
            }
        }
        let told = found.into_iter().filter_map(|((index, subject), cell)| {
            let rule = self.rules.get(index)?;
            let (spent, reserved) = cell.map_or((Usd::ZERO, Usd::ZERO), |cell| cell.sums());
            let left = rule.limit.checked_sub(spent + reserved).unwrap_or(Usd::ZERO);
            Some(BudgetState {
                name: rule.name.clone(),
                subject,
                per: rule.per,
                unit: rule.unit,
                limit: rule.limit,
                spent,
                reserved,
                remaining: left.max(Usd::ZERO),
                started_at: rule.per.start_of(now),
                resets_at: rule.per.end_of(now),
                on_exceeded: rule.on_exceeded,
                blocked: rule.on_exceeded == OnExceeded::Block && left <= Usd::ZERO,
            })
        });
        let mut told: Vec<_> = told.collect();
        told.sort_by(|a, b| a.name.cmp(&b.name).then_with(|| b.spent.cmp(&a.spent)));
        told.truncate(TOLD);
        told
    }

    fn cell(&self, name: Name) -> Arc<Cell> {
        if let Some(cell) = self.cells.read().get(&name) {
            return Arc::clone(cell);
        }
        let mut cells = self.cells.write();
        let mut name = name;
        if cells.len() >= SUBJECTS_KEPT && !cells.contains_key(&name) {
            self.forget(&mut cells);
            if cells.len() >= SUBJECTS_KEPT {
                // Newcomers share one sum for each budget and organization: made-up names buy nothing.
                let (index, subject, start) = name;
                let organization = subject.organization;
                let shared = Subject { organization, project: None, key: None, user: None, model: None };
                name = (index, shared, start);
            }
        }
        Arc::clone(cells.entry(name.clone()).or_insert_with(|| Arc::new(Cell::new(name.0, name.1, name.2))))
    }

    /// Forgets sums of periods that are over, and those of which nothing was spent.
    fn forget(&self, cells: &mut HashMap<Name, Arc<Cell>>) {
        let now = self.clock.now();
        cells.retain(|(index, _, start), cell| {
            let over = self.rules.get(*index).is_none_or(|rule| rule.per.start_of(now) > *start);
            Arc::strong_count(cell) > 1 || !cell.may_go(over)
        });
    }
}

fn exceeded(rule: &Budget, amount: Option<Usd>, left: Usd, now: DateTime<Utc>) -> Refusal {
    let (name, per, whose) = (&rule.name, rule.per, who::named(&rule.who.by));
    let left = left.max(Usd::ZERO);
    let (verb, written): (_, fn(Usd) -> String) = match rule.unit {
        Unit::Usd => ("cost", |amount| format!("${amount}")),
        Unit::Tokens => ("use", |amount| format!("{amount} tokens")),
    };
    let limit = written(rule.limit);
    let message = match amount {
        Some(amount) if left > Usd::ZERO => format!(
            "Budget exceeded: the call may {verb} {}, and {} of {limit} per {per} is left for this {whose} (budget '{name}').",
            written(amount),
            written(left),
        ),
        _ => format!("Budget exceeded: {limit} per {per} is spent for this {whose} (budget '{name}')."),
    };
    let wait = (rule.per.end_of(now) - now).to_std().unwrap_or_default();
    Refusal {
        // For the candidates that cost less.
        retryable: true,
        retry_after: Some(wait),
        ..Refusal::client(429, "budget_exceeded", message)
    }
}

#[cfg(test)]
mod tests;
