//! Who is asked for a call, in which order, and what the route says of it.

use std::borrow::Cow;
use std::sync::Arc;

use brokle_core::json::{Change, Splices};
use bytes::Bytes;

use super::Candidate;
use super::routes::{Hedge, Rules};
use crate::connections::Connection;
use crate::refusal::{Class, Refusal};

/// A decision, as it is carried out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// In the policy's order.
    pub(crate) candidates: Vec<Candidate>,
    /// Of the route, if it says anything.
    pub(crate) rules: Option<Arc<Ruled>>,
}

/// What a route says beside its candidates.
#[derive(Debug)]
pub(crate) struct Ruled {
    pub(crate) rules: Arc<Rules>,
    context_length: Vec<Candidate>,
    content_policy: Vec<Candidate>,
    rate_limit: Vec<Candidate>,
    general: Vec<Candidate>,
}

impl Ruled {
    pub(crate) fn new(rules: &Arc<Rules>, connections: &[Arc<Connection>]) -> Self {
        let of = |wanted| super::routes::found(wanted, rules.timeouts, connections);
        let fallbacks = &rules.fallbacks;
        Self {
            context_length: of(&fallbacks.context_length),
            content_policy: of(&fallbacks.content_policy),
            rate_limit: of(&fallbacks.rate_limit),
            general: of(&fallbacks.general),
            rules: Arc::clone(rules),
        }
    }
}

impl Plan {
    /// Who is asked after this failure of the last candidate; none: nobody.
    pub(crate) fn fallbacks(&self, refusal: &Refusal) -> &[Candidate] {
        let Some(ruled) = &self.rules else { return &[] };
        let own = match refusal.class {
            Class::ContextLength => &ruled.context_length,
            Class::ContentPolicy => &ruled.content_policy,
            Class::RateLimit => &ruled.rate_limit,
            Class::General => &ruled.general,
        };
        match own.is_empty() && refusal.retryable {
            true => &ruled.general,
            false if refusal.class == Class::General && !refusal.retryable => &[],
            false => own,
        }
    }

    /// When a second candidate is asked beside the first.
    pub(crate) fn hedge(&self) -> Option<Hedge> {
        self.rules.as_ref()?.rules.hedge
    }

    /// Whether the route sets parameters, so that the request can't go out as it came.
    pub(crate) fn sets(&self) -> bool {
        self.rules.as_ref().is_some_and(|ruled| !ruled.rules.set.is_empty())
    }

    /// The body with the route's parameters.
    ///
    /// # Errors
    /// It isn't one that they fit.
    pub(crate) fn edit(&self, body: &Bytes) -> Result<Bytes, Refusal> {
        let Some(ruled) = self.rules.as_ref().filter(|ruled| !ruled.rules.set.is_empty()) else {
            return Ok(body.clone());
        };
        let changes: Vec<Change<'_>> = ruled
            .rules
            .set
            .iter()
            .map(|(pointer, value)| Change::Set(pointer, Cow::Borrowed(value.as_slice())))
            .collect();
        let edited = Splices::apply(body, &changes);
        edited.map(|edited| edited.to_vec().into()).map_err(|error| {
            Refusal::invalid("", format!("The request doesn't fit the route's parameters: {error}."))
        })
    }
}
