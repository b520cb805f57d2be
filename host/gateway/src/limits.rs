//! Limits: requests and tokens per minute and per day, and requests at once.
//!
//! **Rules.** A [`Limit`] says whom it is about ([`Who`]) and how much they may ([`Amounts`]). A call has to pass every
//! rule that counts it, and takes from all of them or from none. Beside them each API key has its own limit of requests
//! per minute, 3,000,000 unless it says otherwise: a fuse against a client that runs away.
//!
//! **Algorithm.** Rates are kept by the generic cell rate algorithm: an allowance may be used at once, and comes back
//! evenly over its minute or day. Its state is one number, the time at which everything used is paid back, changed by
//! compare-and-swap, so that counts are exact however many threads take at once. There is no window whose edge lets
//! twice the amount through, and nothing that has to be reset.
//!
//! **Tokens** are taken before the call by an estimate: a quarter of the request's bytes, and `max_tokens` (without it
//! [`DEFAULT_OUTPUT_TOKENS`]) for each of the `n` choices. When the call ends, what it really used takes the estimate's
//! place: too much is given back as far as time hasn't done so already, too little is charged, so that the next call
//! waits longer. A call that failed gives all of it back. The [`Reservation`] does it when it is dropped, whatever
//! happens. A request stays counted, also if it fails.
//!
//! **Where.** The key's own limit comes before the request is read; rules that need no candidate before guardrails see
//! it; rules about models when a candidate is asked, which they may refuse in favor of the next one. An answer from the
//! cache counts as a request and uses no tokens.
//!
//! **Servers that share a Redis** share the limits, by the same algorithm ([`shared`]).
//!
//! **Memory.** At most [`SUBJECTS_KEPT`] subjects are kept. Whoever has a full allowance and no call under way is
//! forgotten first, which changes nothing. When all of them are busy, new subjects of a rule share one allowance: a
//! client that makes up names gets no more, and costs no more memory.

mod cell;
mod left;
mod reserve;
mod shared;
mod table;

use std::sync::Arc;
use std::time::Instant;

use brokle_core::ids::ApiKeyId;
use brokle_identity::Principal;

pub(crate) use self::cell::Allowance;
use self::cell::{MINUTE, Measure, Refused};
pub use self::left::LimitState;
pub(crate) use self::reserve::{Reservation, Reserve, Taken, reserve};
pub use self::shared::SharedLimits;
use self::table::Table;
use crate::refusal::Refusal;
use crate::who::{self, Caller, Who};

/// What a key without a limit of its own may do in a minute.
pub(crate) const DEFAULT_PER_MINUTE: u32 = 3_000_000;
/// Tokens that an answer is taken to have when the request doesn't say how many it may have.
pub const DEFAULT_OUTPUT_TOKENS: u64 = 1_024;
/// Subjects that are kept, of all rules together.
pub const SUBJECTS_KEPT: usize = 100_000;
/// The largest amount that a limit may say.
pub const MAX_AMOUNT: u64 = 1_000_000_000;

/// How much somebody may; what isn't said isn't limited. 0 allows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    /// Requests in a minute.
    pub requests_per_minute: Option<u64>,
    /// Requests in a day.
    pub requests_per_day: Option<u64>,
    /// Tokens in a minute, prompt and answer together.
    pub tokens_per_minute: Option<u64>,
    /// Tokens in a day.
    pub tokens_per_day: Option<u64>,
    /// Requests under way at once.
    pub concurrent_requests: Option<u64>,
}

impl Amounts {
    /// What is limited, with the limit.
    fn each(&self) -> impl Iterator<Item = (Measure, u64)> + use<> {
        [
            (Measure::ConcurrentRequests, self.concurrent_requests),
            (Measure::RequestsPerMinute, self.requests_per_minute),
            (Measure::RequestsPerDay, self.requests_per_day),
            (Measure::TokensPerMinute, self.tokens_per_minute),
            (Measure::TokensPerDay, self.tokens_per_day),
        ]
        .into_iter()
        .filter_map(|(measure, limit)| Some((measure, limit?)))
    }
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What refusals call it.
    pub name: String,
    /// Whom it is about.
    pub who: Who,
    /// How much they may.
    pub amounts: Amounts,
}

/// Where a call stands, as OpenAI's `x-ratelimit-*` headers tell it: the tightest limit of each kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) requests: Option<Allowance>,
    pub(crate) tokens: Option<Allowance>,
}

impl Standing {
    fn note(&mut self, measure: Measure, allowance: Allowance) {
        let place = match measure {
            Measure::RequestsPerMinute | Measure::RequestsPerDay => &mut self.requests,
            Measure::TokensPerMinute | Measure::TokensPerDay => &mut self.tokens,
            Measure::ConcurrentRequests => return,
        };
        let tighter =
            |known: &Allowance| (allowance.remaining, known.reset) < (known.remaining, allowance.reset);
        if place.as_ref().is_none_or(tighter) {
            *place = Some(allowance);
        }
    }

    /// Takes over what another one says more tightly.
    pub(crate) fn tighten(&mut self, other: Self) {
        if let Some(requests) = other.requests {
            self.note(Measure::RequestsPerMinute, requests);
        }
        if let Some(tokens) = other.tokens {
            self.note(Measure::TokensPerMinute, tokens);
        }
    }
}

/// A limit is reached.
#[derive(Debug)]
pub(crate) struct Exceeded {
    pub(crate) refusal: Box<Refusal>,
    pub(crate) standing: Standing,
}

/// The state of all limits.
#[derive(Debug)]
pub(crate) struct Limits {
    epoch: Instant,
    rules: Vec<Limit>,
    /// Whether any rule is asked before, and any after a candidate is known.
    early: bool,
    late: bool,
    table: Table,
    keys: Table,
    /// Where servers share them.
    shared: Option<Arc<SharedLimits>>,
}

impl Limits {
    pub(crate) fn new(rules: Vec<Limit>, shared: Option<Arc<SharedLimits>>) -> Self {
        Self {
            epoch: Instant::now(),
            early: rules.iter().any(|rule| !rule.who.needs_model()),
            late: rules.iter().any(|rule| rule.who.needs_model()),
            rules,
            table: Table::new(SUBJECTS_KEPT),
            keys: Table::new(SUBJECTS_KEPT),
            shared,
        }
    }

    /// Whether any rule has to be asked now.
    pub(crate) fn has_rules(&self, with_model: bool) -> bool {
        if with_model { self.late } else { self.early }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Takes one request of a key.
    pub(crate) async fn take_key(
        &self,
        principal: &Principal,
        own: Option<u32>,
    ) -> Result<Allowance, Exceeded> {
        let key = principal.key_id;
        // The fuse is each server's own: it isn't worth a message.
        if let (Some(shared), Some(own)) = (&self.shared, own)
            && let Some(taken) =
                Box::pin(shared.take_key(principal.tenant.organization, key, own.into())).await
        {
            return taken.map_err(|refused| key_exceeded(own.into(), &refused));
        }
        self.take_key_at(key, own, self.now())
    }

    fn take_key_at(&self, key: ApiKeyId, own: Option<u32>, now: u64) -> Result<Allowance, Exceeded> {
        let limit = u64::from(own.unwrap_or(DEFAULT_PER_MINUTE));
        let cell = self.keys.cell(0, &key, now);
        match cell.rate(Measure::RequestsPerMinute).take(1, limit, MINUTE, now) {
            Ok((_, allowance)) => Ok(allowance),
            Err(refused) => Err(key_exceeded(limit, &refused)),
        }
    }

    /// Takes one request and these tokens of every rule that counts the call: those without a model, or those with one.
    pub(crate) async fn admit(
        &self,
        caller: &Caller<'_>,
        tokens: u64,
    ) -> Result<(Reservation, Standing), Exceeded> {
        // In a box: most servers share nothing, and their calls' futures needn't be larger for it.
        if let Some(shared) = &self.shared
            && let Some(answer) = Box::pin(shared.admit(&self.rules, caller, tokens)).await
        {
            return answer;
        }
        self.admit_at(caller, tokens, self.now())
    }

    fn admit_at(
        &self,
        caller: &Caller<'_>,
        tokens: u64,
        now: u64,
    ) -> Result<(Reservation, Standing), Exceeded> {
        let mut reservation = Reservation::new(self.epoch);
        let mut standing = Standing::default();
        for (index, rule) in self.rules.iter().enumerate() {
            if rule.who.needs_model() != caller.model.is_some() || !rule.who.counts(caller) {
                continue;
            }
            let cell = self.table.cell(index, &rule.who.subject(caller), now);
            for (measure, limit) in rule.amounts.each() {
                match Taken::take(&cell, measure, limit, tokens, now) {
                    Ok((taken, allowance)) => {
                        reservation.push(taken);
                        if let Some(allowance) = allowance {
                            standing.note(measure, allowance);
                        }
                    }
                    Err(refused) => {
                        // What was taken of others is given back: a call that didn't take place takes nothing.
                        reservation.undo(now);
                        standing.note(measure, refused.allowance);
                        let refusal = refusal(rule, measure, limit, tokens, &refused);
                        return Err(Exceeded { refusal: Box::new(refusal), standing });
                    }
                }
            }
        }
        Ok((reservation, standing))
    }
}

fn key_exceeded(limit: u64, refused: &Refused) -> Exceeded {
    let message = format!("Rate limit reached for requests: {limit} per minute for this API key.");
    let mut standing = Standing::default();
    standing.note(Measure::RequestsPerMinute, refused.allowance);
    let refusal =
        Refusal { retry_after: refused.wait, ..Refusal::client(429, "rate_limit_exceeded", message) };
    Exceeded { refusal: Box::new(refusal), standing }
}

fn refusal(rule: &Limit, measure: Measure, limit: u64, tokens: u64, refused: &Refused) -> Refusal {
    let (name, whose) = (&rule.name, who::named(&rule.who.by));
    let message = match measure {
        Measure::ConcurrentRequests => {
            format!(
                "Rate limit reached for concurrent requests: {limit} at once for this {whose} (limit '{name}')."
            )
        }
        _ if refused.wait.is_none() => format!(
            "Request too large: it may use {tokens} {}, and the limit '{name}' is {limit} {} for this {whose}.",
            measure.unit(),
            measure.window_name()
        ),
        _ => format!(
            "Rate limit reached for {}: {limit} {} for this {whose} (limit '{name}').",
            measure.unit(),
            measure.window_name()
        ),
    };
    Refusal {
        // For the candidates that a limit about models doesn't concern.
        retryable: rule.who.needs_model(),
        retry_after: refused.wait,
        ..Refusal::client(429, "rate_limit_exceeded", message)
    }
}

#[cfg(test)]
mod tests;
