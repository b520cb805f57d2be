//! What is left of limits, for whoever asks without calling.

use brokle_identity::Principal;
use serde::Serialize;

use super::cell::{Allowance, MINUTE, Measure};
use super::{DEFAULT_PER_MINUTE, Limits};
use crate::who::{By, Caller};

/// Where somebody stands with one measure of a limit, as `GET /v1/usage` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LimitState {
    /// The limit's name; null for the key's own.
    pub name: Option<String>,
    /// What tells callers apart.
    pub by: Vec<By>,
    /// `requests_per_minute`, `requests_per_day`, `tokens_per_minute`, `tokens_per_day` or `concurrent_requests`.
    pub measure: &'static str,
    /// How much.
    pub limit: u64,
    /// What may be used at once; null for calls at once, of which the answer would be over before it is read.
    pub remaining: Option<u64>,
    /// Until all of it is there again, milliseconds; null where `remaining` is.
    pub reset_ms: Option<u64>,
}

impl LimitState {
    fn new(rule: Option<(&str, &[By])>, measure: Measure, limit: u64, left: Option<Allowance>) -> Self {
        let (name, by) =
            rule.map_or((None, vec![By::Key]), |(name, by)| (Some(name.to_owned()), by.to_vec()));
        Self {
            name,
            by,
            measure: measure.key(),
            limit,
            remaining: left.map(|left| left.remaining),
            reset_ms: left.map(|left| u64::try_from(left.reset.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

impl Limits {
    /// The key's own limit, and those that count the caller's calls whatever their model. Those by user are told for the user
    /// that is named, and not without one.
    pub(crate) async fn left(&self, principal: &Principal, user: &str) -> Vec<LimitState> {
        let own = principal.requests_per_minute;
        let limit = u64::from(own.unwrap_or(DEFAULT_PER_MINUTE));
        let measure = Measure::RequestsPerMinute;
        let shared = self.shared.as_ref().filter(|_| own.is_some());
        let left = match shared {
            Some(shared) => shared.key_left(principal.tenant.organization, principal.key_id, limit).await,
            None => None,
        };
        let here =
            || self.keys.cell(0, &principal.key_id, self.now()).rate(measure).left(limit, MINUTE, self.now());
        let mut told = vec![LimitState::new(None, measure, limit, Some(left.unwrap_or_else(here)))];
        let caller = Caller { principal, user, model: None };
        for (index, rule) in self.rules.iter().enumerate() {
            let nobody = user.is_empty() && rule.who.by.contains(&By::User);
            if nobody || rule.who.needs_model() || !rule.who.counts(&caller) {
                continue;
            }
            let subject = rule.who.subject(&caller);
            for (measure, limit) in rule.amounts.each() {
                let window = measure.window();
                let left = match &self.shared {
                    _ if measure == Measure::ConcurrentRequests => None,
                    Some(shared) => shared.left(&rule.name, &subject, measure, limit).await,
                    None => None,
                };
                let here = || {
                    let now = self.now();
                    let rate = |rate: &super::cell::Rate| rate.left(limit, window, now);
                    (measure != Measure::ConcurrentRequests)
                        .then(|| rate(self.table.cell(index, &subject, now).rate(measure)))
                };
                let rule = Some((rule.name.as_str(), rule.who.by.as_slice()));
                told.push(LimitState::new(rule, measure, limit, left.or_else(here)));
            }
        }
        told
    }
}
