//! What a call has reserved, and what becomes of it at the call's end.
//!
//! A [`Hold`] lives in the call's meter, and so ends with it: answered, failed, or left by its client. It is made only
//! where there are limits or budgets.

use std::sync::Arc;

use brokle_core::money::Usd;
use brokle_core::usage::Usage;
use brokle_identity::Principal;

use crate::answer::Told;
use crate::budgets::{self, Budgets, Use};
use crate::connections::Connection;
use crate::gateway::Gateway;
use crate::limits::{DEFAULT_OUTPUT_TOKENS, Reservation};
use crate::operation::Operation;
use crate::refusal::Refusal;
use crate::request::Request;
use crate::who::Caller;

/// What one call has reserved.
#[derive(Debug)]
pub(crate) struct Hold {
    principal: Arc<Principal>,
    user: String,
    budgets: Arc<Budgets>,
    /// What the call may use, by estimate.
    pub(crate) prompt_tokens: u64,
    pub(crate) output_tokens: u64,
    /// Of the rules that need no candidate.
    pub(crate) call: Option<Reservation>,
    /// Of those that do: the candidate's that is being asked.
    pub(crate) attempt: Option<Reservation>,
    /// Of the budgets, for the same candidate.
    spend: Vec<budgets::Reservation>,
    /// What was charged before the end.
    charged: Use,
}

impl Hold {
    pub(crate) fn new(gateway: &Gateway, principal: &Arc<Principal>, user: &str, request: &Request) -> Self {
        let output = match request.operation {
            operation if !operation.has_choices() && operation != Operation::Realtime => 0,
            _ => request.max_output_tokens.unwrap_or(DEFAULT_OUTPUT_TOKENS),
        };
        Self {
            principal: Arc::clone(principal),
            user: user.chars().take(256).collect(),
            budgets: Arc::clone(&gateway.parts.budgets),
            prompt_tokens: request.estimated_tokens(),
            output_tokens: output.saturating_mul(request.choices),
            call: None,
            attempt: None,
            spend: Vec::new(),
            charged: Use::default(),
        }
    }

    pub(crate) fn caller<'a>(&'a self, model: Option<(&'a str, &'a str)>) -> Caller<'a> {
        Caller { principal: &self.principal, user: &self.user, model }
    }

    /// What the call may use, prompt and answer together.
    pub(crate) fn tokens(&self) -> u64 {
        self.prompt_tokens.saturating_add(self.output_tokens)
    }

    /// Reserves for a candidate; what was reserved for the one before is given back.
    pub(crate) async fn reserve(
        &mut self,
        gateway: &Gateway,
        connection: &Connection,
        model: &str,
        told: &mut Told,
    ) -> Result<(), Refusal> {
        self.attempt = None;
        self.spend.clear();
        told.budget = None;
        if gateway.limits.has_rules(true) {
            let caller = self.caller(Some((&connection.provider, model)));
            match gateway.limits.admit(&caller, self.tokens()).await {
                Ok((reservation, standing)) => {
                    self.attempt = Some(reservation);
                    told.standing.tighten(standing);
                }
                Err(exceeded) => {
                    told.standing.tighten(exceeded.standing);
                    return Err(*exceeded.refusal);
                }
            }
        }
        self.reserve_spend(gateway, connection, model, told)
    }

    fn reserve_spend(
        &mut self,
        gateway: &Gateway,
        connection: &Connection,
        model: &str,
        told: &mut Told,
    ) -> Result<(), Refusal> {
        if self.budgets.is_empty() {
            return Ok(());
        }
        let caller = self.caller(Some((&connection.provider, model)));
        let (input, output) = (self.prompt_tokens, self.output_tokens);
        let usage = Usage { input, output, estimated: true, ..Usage::default() };
        let catalogue = &gateway.parts.books.catalogue;
        let reserved = self.budgets.reserve(&caller, catalogue, connection, model, &usage)?;
        self.spend = reserved.reservations;
        told.budget = reserved.notice;
        Ok(())
    }

    /// The call goes on, and has used this so far: budgets are charged with it, and asked for more.
    pub(crate) fn charge(
        &mut self,
        gateway: &Gateway,
        connection: &Connection,
        model: &str,
        usage: Option<&Usage>,
        cost: Option<Usd>,
        told: &mut Told,
    ) -> Result<(), Refusal> {
        self.settle_spend(usage, cost);
        self.reserve_spend(gateway, connection, model, told)
    }

    /// What was used since budgets were last charged takes the place of what is set aside.
    fn settle_spend(&mut self, usage: Option<&Usage>, cost: Option<Usd>) {
        let tokens = usage.map_or(0, Usage::total);
        let before = std::mem::replace(&mut self.charged, Use { cost, tokens });
        let since = Use {
            cost: cost.map(|cost| cost.checked_sub(before.cost.unwrap_or(Usd::ZERO)).unwrap_or(Usd::ZERO)),
            tokens: tokens.saturating_sub(before.tokens),
        };
        self.budgets.settle(std::mem::take(&mut self.spend), since);
    }

    /// The call has ended and used this.
    pub(crate) fn settle(&mut self, usage: Option<&Usage>, cost: Option<Usd>) {
        let tokens = usage.map_or(0, |usage| usage.input.saturating_add(usage.output));
        for reservation in [&mut self.call, &mut self.attempt].into_iter().flatten() {
            reservation.settle(tokens);
        }
        self.settle_spend(usage, cost);
    }
}
