//! What a route says of its calls, beside who serves them.

use std::time::Duration;

use brokle_core::money::Usd;
use brokle_core::tenancy::Capture;

use super::{Fault, MAX_CANDIDATES, RouteCandidate};
use crate::gateway::Timeouts;
use crate::shadow::WHOLE;

/// The most further rounds.
const MAX_RETRIES: u32 = 5;
/// What decides where a request goes and what comes back is the caller's.
const NOT_SET: [&str; 7] = ["model", "messages", "prompt", "input", "stream", "stream_options", "n"];

/// What a route says of its calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    /// Who is asked when the candidates have failed, by the kind of failure.
    pub fallbacks: Fallbacks,
    /// How long a provider may take; none: as everywhere.
    pub timeouts: Option<Timeouts>,
    /// How often candidates are asked again; none: as everywhere.
    pub retries: Option<u32>,
    /// Pointers to members of the request, and the JSON that is put there.
    pub set: Vec<(String, Vec<u8>)>,
    /// The same where there is nothing.
    pub defaults: Vec<(String, Vec<u8>)>,
    /// Pointers to members that are taken out.
    pub remove: Vec<String>,
    /// The cache has no part in its calls.
    pub uncached: bool,
    /// The cache looks for nothing that means the same.
    pub exact_only: bool,
    /// How near a question has to be whose answer is given, in millionths; none: as everywhere.
    pub semantic_threshold: Option<u32>,
    /// How long answers are kept.
    pub cache_ttl: Option<Duration>,
    /// Guardrails that rule on its calls beside those that do so anyway.
    pub guardrails: Vec<String>,
    /// The most that its calls leave behind.
    pub capture: Option<Capture>,
    /// When a second candidate is asked beside the first.
    pub hedge: Option<Hedge>,
    /// Who is asked once more for a share of the calls.
    pub shadow: Option<Shadow>,
}

/// Who is asked once more for a share of a route's calls, without its answer reaching anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shadow {
    /// Who.
    pub candidate: RouteCandidate,
    /// The share of the calls, in millionths: 1 to 1,000,000.
    pub share: u32,
    /// What that may cost in a day, for each project and server; none: it isn't counted.
    pub usd_per_day: Option<Usd>,
}

/// When a second candidate is asked beside one that hasn't answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hedge {
    /// After this time.
    After(Duration),
    /// When it takes longer than this share of its last 64 answers did, in percent; never before there were 20.
    Percentile(u8),
}

/// Who is asked when the candidates have failed. They have no fallbacks of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fallbacks {
    /// The request is too long for the model.
    pub context_length: Vec<RouteCandidate>,
    /// The vendor doesn't want to answer this.
    pub content_policy: Vec<RouteCandidate>,
    /// The vendor has had too many requests.
    pub rate_limit: Vec<RouteCandidate>,
    /// Anything else that another one may do better; also for a rate limit without a list of its own.
    pub general: Vec<RouteCandidate>,
}

impl Fallbacks {
    /// Each list with its name.
    pub fn lists(&self) -> [(&'static str, &[RouteCandidate]); 4] {
        [
            ("context_length", &self.context_length),
            ("content_policy", &self.content_policy),
            ("rate_limit", &self.rate_limit),
            ("general", &self.general),
        ]
    }
}

impl Rules {
    /// Whether they say nothing.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What can't be, with its key.
    pub(super) fn problem(&self) -> Option<Fault> {
        let fault = |key: String, what: &str| Some(Fault::new(key, what));
        for (class, list) in self.fallbacks.lists() {
            if list.len() > MAX_CANDIDATES {
                return fault(format!("fallbacks.{class}"), "64 of them are the most");
            }
            for (at, candidate) in list.iter().enumerate() {
                if candidate.model.trim().is_empty() || candidate.model.len() > 256 {
                    return fault(
                        format!("fallbacks.{class}.{at}.model"),
                        "1 to 256 characters are expected",
                    );
                }
            }
        }
        if self.retries.is_some_and(|rounds| rounds > MAX_RETRIES) {
            return fault("retries".to_owned(), "0 to 5 are expected");
        }
        for (key, members) in [("set", &self.set), ("defaults", &self.defaults)] {
            for (pointer, value) in members {
                let name = pointer.trim_start_matches('/');
                if NOT_SET.contains(&name) || name.is_empty() {
                    let what = format!("a route can't set this: not {}", NOT_SET.join(", "));
                    return Some(Fault::new(format!("{key}.{name}"), what));
                }
                // What the gateway reads of each request is checked as if a caller had written it.
                if let Some(expected) = crate::request::type_problem(name, value) {
                    return fault(format!("{key}.{name}"), &format!("{expected} is expected"));
                }
            }
        }
        for (at, pointer) in self.remove.iter().enumerate() {
            let name = pointer.trim_start_matches('/');
            if NOT_SET.contains(&name) || name.is_empty() {
                let what = format!("a route can't take this out: not {}", NOT_SET.join(", "));
                return Some(Fault::new(format!("remove.{at}"), what));
            }
        }
        if self.cache_ttl.is_some_and(|ttl| ttl.is_zero()) {
            return fault("cache.ttl_s".to_owned(), "1 or more is expected; enabled = false keeps nothing");
        }
        if self.semantic_threshold.is_some_and(|near| !(1..=WHOLE).contains(&near)) {
            return fault("cache.semantic_threshold".to_owned(), "more than 0 and at most 1 is expected");
        }
        if let Some(shadow) = &self.shadow {
            if !(1..=WHOLE).contains(&shadow.share) {
                return fault("shadow.share".to_owned(), "more than 0 and at most 1 is expected");
            }
            if shadow.candidate.model.trim().is_empty() || shadow.candidate.model.len() > 256 {
                return fault("shadow.model".to_owned(), "1 to 256 characters are expected");
            }
            if shadow.usd_per_day.is_some_and(Usd::is_negative) {
                return fault("shadow.usd_per_day".to_owned(), "less than nothing can't be spent");
            }
        }
        match self.hedge {
            Some(Hedge::Percentile(share)) if !(50..=99).contains(&share) => {
                fault("hedge.percentile".to_owned(), "50 to 99 is expected")
            }
            Some(Hedge::After(after)) if after.is_zero() => {
                fault("hedge.after_ms".to_owned(), "0 would ask two from the start")
            }
            _ => None,
        }
    }
}
