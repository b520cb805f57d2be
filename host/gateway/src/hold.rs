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
}

impl Hold {
    pub(crate) fn new(gateway: &Gateway, principal: &Arc<Principal>, user: &str, request: &Request) -> Self {
        let output = match request.operation {
            operation if !operation.streams() => 0,
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
        if !gateway.parts.budgets.is_empty() {
            let caller = self.caller(Some((&connection.provider, model)));
            let (input, output) = (self.prompt_tokens, self.output_tokens);
            let usage = Usage { input, output, estimated: true, ..Usage::default() };
            let catalogue = &gateway.parts.books.catalogue;
            let reserved = gateway.parts.budgets.reserve(&caller, catalogue, connection, model, &usage)?;
            self.spend = reserved.reservations;
            told.budget = reserved.notice;
        }
        Ok(())
    }

    /// The call has ended and used this.
    pub(crate) fn settle(&mut self, usage: Option<&Usage>, cost: Option<Usd>) {
        let tokens = usage.map_or(0, |usage| usage.input.saturating_add(usage.output));
        for reservation in [&mut self.call, &mut self.attempt].into_iter().flatten() {
            reservation.settle(tokens);
        }
        self.budgets.settle(std::mem::take(&mut self.spend), Use { cost, tokens });
    }
}
