//! What a call has taken, until it ends; and the stage that takes it.

use std::sync::Arc;
use std::time::Instant;

use brokle_identity::Principal;
use http::HeaderMap;

use super::cell::{Allowance, Cell, Measure, Refused};
use super::shared::SharedTaken;
use crate::account::Meter;
use crate::answer::Told;
use crate::gateway::Gateway;
use crate::pipeline::Stage;
use crate::refusal::Refusal;
use crate::request::Request;

/// A part of a reservation: an amount of one measure of one subject.
#[derive(Debug)]
pub(crate) struct Taken {
    cell: Arc<Cell>,
    measure: Measure,
    limit: u64,
    amount: u64,
    /// When it is paid back by time.
    paid: u64,
}

impl Taken {
    pub(super) fn take(
        cell: &Arc<Cell>,
        measure: Measure,
        limit: u64,
        tokens: u64,
        now: u64,
    ) -> Result<(Self, Option<Allowance>), Refused> {
        let amount = if measure.is_tokens() { tokens } else { 1 };
        let (paid, allowance) = if measure == Measure::ConcurrentRequests {
            cell.enter(limit)?;
            (0, None)
        } else {
            let (paid, allowance) = cell.rate(measure).take(amount, limit, measure.window(), now)?;
            (paid, Some(allowance))
        };
        Ok((Self { cell: Arc::clone(cell), measure, limit, amount, paid }, allowance))
    }

    fn give_back(&self, amount: u64, now: u64) {
        let window = self.measure.window();
        self.cell.rate(self.measure).give_back(amount, self.limit, window, self.paid, now);
    }

    /// The call has ended, and used these tokens.
    fn settle(&self, tokens: u64, now: u64) {
        match self.measure {
            Measure::ConcurrentRequests => self.cell.leave(),
            Measure::RequestsPerMinute | Measure::RequestsPerDay => {}
            Measure::TokensPerMinute | Measure::TokensPerDay if tokens > self.amount => {
                let (rate, window) = (self.cell.rate(self.measure), self.measure.window());
                rate.charge(tokens - self.amount, self.limit, window, now);
            }
            Measure::TokensPerMinute | Measure::TokensPerDay => self.give_back(self.amount - tokens, now),
        }
    }

    /// The call didn't take place.
    fn undo(&self, now: u64) {
        match self.measure {
            Measure::ConcurrentRequests => self.cell.leave(),
            _ => self.give_back(self.amount, now),
        }
    }
}

/// What a call has taken. Dropped without being settled, its tokens were never used.
#[derive(Debug)]
pub(crate) struct Reservation {
    epoch: Instant,
    taken: Vec<Taken>,
    /// Or, where servers share limits, in Redis.
    pub(super) shared: Option<SharedTaken>,
}

impl Reservation {
    pub(super) fn new(epoch: Instant) -> Self {
        Self { epoch, taken: Vec::new(), shared: None }
    }

    pub(super) fn push(&mut self, taken: Taken) {
        self.taken.push(taken);
    }

    pub(super) fn undo(&mut self, now: u64) {
        for taken in self.taken.drain(..) {
            taken.undo(now);
        }
    }

    /// The call used these tokens.
    pub(crate) fn settle(&mut self, tokens: u64) {
        let now = u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.settle_at(tokens, now);
    }

    pub(super) fn settle_at(&mut self, tokens: u64, now: u64) {
        if let Some(shared) = self.shared.take() {
            shared.settle(tokens);
        }
        for taken in self.taken.drain(..) {
            taken.settle(tokens, now);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.taken.is_empty() || self.shared.is_some() {
            self.settle(0);
        }
    }
}

/// The stage: rules that need no candidate.
pub(crate) struct Reserve;

type Call<'a> = Stage<'a, (Arc<Principal>, Box<Request>)>;

impl Reserve {
    pub(crate) async fn run<'a>(gateway: &Gateway, call: Call<'a>) -> Result<Call<'a>, Refusal> {
        let (principal, request) = &call.known;
        reserve(gateway, call.meter, call.told, call.incoming.headers, principal, request).await?;
        Ok(call)
    }
}

/// Takes what a call may use, of the rules that need no candidate; the meter holds it.
pub(crate) async fn reserve(
    gateway: &Gateway,
    meter: &mut Meter,
    told: &mut Told,
    headers: &HeaderMap,
    principal: &Arc<Principal>,
    request: &Request,
) -> Result<(), Refusal> {
    let limits = &gateway.limits;
    if !limits.has_rules(false) && !limits.has_rules(true) && gateway.parts.budgets.is_empty() {
        return Ok(());
    }
    let own = headers.get("x-brokle-user").and_then(|value| value.to_str().ok());
    let user = own.map(str::trim).filter(|user| !user.is_empty()).or(request.user.as_deref());
    let hold = meter.hold(gateway, principal, user.unwrap_or_default(), request);
    if limits.has_rules(false) {
        let caller = hold.caller(None);
        match limits.admit(&caller, hold.tokens()).await {
            Ok((reservation, standing)) => {
                hold.call = Some(reservation);
                told.standing.tighten(standing);
            }
            Err(exceeded) => {
                told.standing.tighten(exceeded.standing);
                return Err(*exceeded.refusal);
            }
        }
    }
    Ok(())
}
