//! Who is asked for a call, in which order, and what the route says of it.

use std::borrow::Cow;
use std::sync::Arc;

use brokle_core::json::{Change, Splices};
use brokle_runtime::Body;

use super::Candidate;
use super::conditions::Said;
use super::routes::{Hedge, Route, RouteCandidate, Rules};
use crate::connections::Connection;
use crate::refusal::{Class, Refusal};

/// A decision, as it is carried out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    /// In the policy's order.
    pub(crate) candidates: Vec<Candidate>,
    /// Of the route, if it says anything.
    pub(crate) rules: Option<Arc<Ruled>>,
    /// The body has preferences, which are the gateway's.
    pub(crate) preferred: bool,
    /// Whether the caller wants no route's fallbacks.
    pub(crate) alone: bool,
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
    /// What a route says of a call; none: nothing.
    pub(crate) fn new(route: &Route, connections: &[Arc<Connection>], said: &Said<'_>) -> Option<Self> {
        let rules = route.rules.as_ref()?;
        let of = |wanted: &[RouteCandidate]| {
            let mut found = route.found(wanted, connections, Some(said)).candidates;
            found.retain(|candidate| candidate.allowed(said.principal, Some(&route.name)));
            found
        };
        let fallbacks = &rules.fallbacks;
        Some(Self {
            context_length: of(&fallbacks.context_length),
            content_policy: of(&fallbacks.content_policy),
            rate_limit: of(&fallbacks.rate_limit),
            general: of(&fallbacks.general),
            rules: Arc::clone(rules),
        })
    }
}

fn set((pointer, value): &(String, Vec<u8>)) -> Change<'_> {
    Change::Set(pointer, Cow::Borrowed(value))
}

impl Plan {
    /// Who is asked after this failure of the last candidate; none: nobody.
    pub(crate) fn fallbacks(&self, refusal: &Refusal) -> &[Candidate] {
        let Some(ruled) = self.rules.as_ref().filter(|_| !self.alone) else { return &[] };
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

    /// Whether the request can't go out as it came.
    pub(crate) fn edits(&self) -> bool {
        let sets =
            |rules: &Rules| !(rules.set.is_empty() && rules.defaults.is_empty() && rules.remove.is_empty());
        self.preferred || self.rules.as_ref().is_some_and(|ruled| sets(&ruled.rules))
    }

    /// The body without preferences, and with the route's parameters.
    ///
    /// # Errors
    /// It isn't one that they fit.
    pub(crate) fn edit(&self, document: &Body) -> Result<Body, Refusal> {
        if !self.edits() {
            return Ok(document.clone());
        }
        let mut changes = Vec::new();
        if self.preferred {
            changes.push(Change::Remove("/provider"));
        }
        if let Some(ruled) = &self.rules {
            let rules = &ruled.rules;
            let missing = |(pointer, _): &&(String, Vec<u8>)| document.find(pointer).is_none();
            changes.extend(rules.remove.iter().map(|pointer| Change::Remove(pointer)));
            changes.extend(rules.defaults.iter().filter(missing).map(set));
            changes.extend(rules.set.iter().map(set));
        }
        let edited = Splices::apply(document.bytes(), &changes);
        edited.map(|edited| Body::json(edited.to_vec().into())).map_err(|error| {
            Refusal::invalid("", format!("The request doesn't fit the route's parameters: {error}."))
        })
    }
}
