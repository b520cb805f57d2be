//! One subject's sum in one period, of dollars or of tokens.
//!
//! Decimals don't fit into an atomic, so a sum is behind a lock that is held for a few additions.

use std::sync::Arc;

use brokle_core::money::Usd;
use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use super::{Budget, OnExceeded};
use crate::who::Subject;

/// A sum, and what becomes of it.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) rule: usize,
    pub(super) subject: Subject,
    pub(super) start: DateTime<Utc>,
    money: Mutex<Money>,
}

#[derive(Debug, Default)]
struct Money {
    /// The database's sum, by all servers, as far as is known.
    stored: Usd,
    /// Spent here, and being written.
    writing: Usd,
    /// Spent here, and not written.
    pending: Usd,
    /// Set aside for calls under way.
    reserved: Usd,
}

impl Money {
    fn spent(&self) -> Usd {
        self.stored + self.writing + self.pending
    }

    /// The sum before and after.
    fn spend(&mut self, used: Usd) -> (Usd, Usd) {
        let before = self.spent();
        self.pending += used;
        (before, self.spent())
    }
}

/// The share in percent, rounded down; of a budget of nothing everything is always used.
pub(super) fn percent_of(sum: Usd, limit: Usd) -> u64 {
    use rust_decimal::prelude::ToPrimitive as _;
    let share = sum.as_decimal().checked_mul(100.into()).and_then(|sum| sum.checked_div(limit.as_decimal()));
    share.map_or(100, |share| share.to_u64().unwrap_or(u64::MAX))
}

impl Cell {
    pub(super) fn new(rule: usize, subject: Subject, start: DateTime<Utc>) -> Self {
        Self { rule, subject, start, money: Mutex::default() }
    }

    /// Sets an amount aside. The error is what is left, which isn't enough.
    pub(super) fn reserve(self: &Arc<Self>, rule: &Budget, amount: Option<Usd>) -> Result<Reservation, Usd> {
        let mut money = self.money.lock();
        let used = money.spent() + money.reserved;
        let left = rule.limit.checked_sub(used).unwrap_or(Usd::ZERO);
        // What isn't known fits as long as there is anything.
        let fits = match amount {
            Some(amount) => amount <= left || amount == Usd::ZERO,
            None => left > Usd::ZERO,
        };
        if !fits && rule.on_exceeded == OnExceeded::Block {
            return Err(left);
        }
        let amount = amount.unwrap_or(Usd::ZERO);
        money.reserved += amount;
        Ok(Reservation { rule: self.rule, cell: Arc::clone(self), amount, settled: false })
    }

    /// What is spent and set aside.
    pub(super) fn sums(&self) -> (Usd, Usd) {
        let money = self.money.lock();
        (money.spent(), money.reserved)
    }

    /// The share that is spent, in percent.
    pub(super) fn percent(&self, limit: Usd) -> u64 {
        percent_of(self.money.lock().spent(), limit)
    }

    /// Takes what isn't written, to write it.
    pub(super) fn begin_write(&self) -> Option<Usd> {
        let mut money = self.money.lock();
        (money.pending != Usd::ZERO).then(|| {
            money.writing = std::mem::take(&mut money.pending);
            money.writing
        })
    }

    /// It was written, and the database's sum is this; or it wasn't.
    pub(super) fn end_write(&self, stored: Option<Usd>) {
        let mut money = self.money.lock();
        let writing = std::mem::take(&mut money.writing);
        match stored {
            Some(stored) => money.stored = money.stored.max(stored),
            None => money.pending += writing,
        }
    }

    /// Another server's sum may be larger; sums never shrink.
    pub(super) fn learn(&self, stored: Usd) {
        let mut money = self.money.lock();
        money.stored = money.stored.max(stored);
    }

    /// Whether nothing is lost when it is forgotten.
    pub(super) fn may_go(&self, over: bool) -> bool {
        let money = self.money.lock();
        let settled = money.reserved == Usd::ZERO && money.pending == Usd::ZERO && money.writing == Usd::ZERO;
        settled && (over || money.stored == Usd::ZERO)
    }
}

/// An amount that is set aside. Dropped without being settled, the call used nothing.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(super) rule: usize,
    cell: Arc<Cell>,
    amount: Usd,
    settled: bool,
}

impl Reservation {
    /// What the call used takes its place. Returns the sum before and after.
    pub(super) fn settle(mut self, used: Usd) -> (Usd, Usd) {
        self.settled = true;
        let mut money = self.cell.money.lock();
        money.reserved = money.reserved.checked_sub(self.amount).unwrap_or(Usd::ZERO);
        money.spend(used)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.settled {
            let mut money = self.cell.money.lock();
            money.reserved = money.reserved.checked_sub(self.amount).unwrap_or(Usd::ZERO);
        }
    }
}
