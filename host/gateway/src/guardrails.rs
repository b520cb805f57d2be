//! Guardrails: what may go to a model, and what may come back.
//!
//! The operator lists them in order. Those whose scope holds the caller's key, project or organization rule on the
//! call, each on what the one before left. So do those that a call's route names, whoever calls; one with `by_route` rules on
//! nothing else. A route that names one that there isn't is refused: 502 `guardrail_failed`.
//!
//! # Where
//! - **Request**: after it is read, before it is routed. [`texts`] says which of its strings are texts.
//! - **Whole answer**: before it reaches the caller. A guardrail may have the model asked again, once a call.
//! - **Stream**: each part as it comes ([`stream`]). What a guardrail isn't sure of is held back, at most
//!   `hold_back_bytes` a text; the rest goes on at once. The same stream gives the same texts however it was cut.
//!
//! # What comes of a ruling
//! - `change`: the strings get their new text, every other byte stays. When an answer's text changes, `logprobs` of
//!   that choice become null: they spell the old text. In a stream they always do.
//! - `block`: 400 `content_policy_violation` with `category` and `guardrail` beside the code; in a stream the same as an error event,
//!   then `[DONE]`. Tokens that were used are paid for and accounted.
//! - In **shadow** mode a ruling is noted on the trace and changes nothing.
//! - A guardrail whose component doesn't serve, that traps, is too slow, can't rule, or rules nonsense has failed. With `on_failure = "closed"` the
//!   call is refused (502 `guardrail_failed`); with `"open"` it goes on as if the guardrail weren't there. What can't
//!   be shown to a guardrail (an answer that is compressed, binary, or larger than 16 MiB) is such a failure.
//!
//! # What is stored
//! The texts as guardrails left them. Those with the stage `storage` rule on nothing but that ([`storage`]). Until every
//! enforcing guardrail has let a request pass its text is not on the trace, so a request that is refused for whatever
//! reason leaves none; nor does an answer that is blocked. A text that passed in shadow mode is stored as it is.
//!
//! Without a guardrail for the caller nothing here runs: one look at the list, no allocation.

mod answer;
mod call;
mod request;
mod rulings;
mod settings;
mod storage;
mod stream;
pub(crate) mod texts;

use std::sync::Arc;

use arc_swap::ArcSwap;
use brokle_core::ids::ApiKeyId;
use brokle_core::tenancy::Tenant;
use brokle_identity::Principal;
use brokle_plugins::View;

use crate::refusal::{Fault, Refusal};

pub(crate) use answer::Ask;
pub(crate) use call::Chain;
pub(crate) use request::GuardRequest;
pub use settings::{ConfigFault, NewGuardrail, Scope};
pub use storage::Masking;
pub(crate) use stream::StreamGuard;

/// The most that may be held back of one text unless the operator says otherwise, in bytes.
pub const HOLD_BACK: usize = 512;

/// Whether rulings count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// They do.
    #[default]
    Enforce,
    /// They are only noted.
    Shadow,
}

/// What becomes of a call when a guardrail fails.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// It is refused.
    #[default]
    Closed,
    /// It goes on.
    Open,
}

/// One guardrail, configured and checked.
#[derive(Debug)]
pub struct Guardrail {
    pub(crate) name: Arc<str>,
    /// The component's short name or id. Which version serves is looked up for each call.
    pub(crate) plugin: String,
    /// None: the component's own, of the caller's scope.
    pub(crate) config: Option<Arc<[u8]>>,
    pub(crate) mode: Mode,
    pub(crate) on_failure: OnFailure,
    pub(crate) on_request: bool,
    pub(crate) on_response: bool,
    pub(crate) on_storage: bool,
    pub(crate) scope: Scope,
    pub(crate) hold_back: usize,
}

impl Guardrail {
    /// Whether it rules on this caller's calls.
    fn holds(&self, principal: &Principal, named: Named<'_>) -> bool {
        if !self.on_request && !self.on_response {
            return false;
        }
        let is_named = match named {
            Named::These(names) => names.iter().any(|name| **name == *self.name),
            Named::All => self.scope.by_route,
        };
        is_named || (!self.scope.by_route && self.scope.holds(principal))
    }

    /// Whether its rulings count.
    pub(crate) fn enforces(&self) -> bool {
        self.mode == Mode::Enforce
    }

    /// Whether it rules on what is stored of this tenant's, sent with this key.
    fn holds_for_storage(&self, tenant: Tenant, key: Option<ApiKeyId>) -> bool {
        self.on_storage && self.enforces() && self.scope.covers(tenant, key)
    }
}

/// The operator's list, in order. Cheap to clone; clones see the same list.
#[derive(Debug, Clone, Default)]
pub struct Guardrails(Arc<ArcSwap<Vec<Arc<Guardrail>>>>);

impl Guardrails {
    /// This list.
    pub fn new(list: Vec<Guardrail>) -> Self {
        let guardrails = Self::default();
        guardrails.replace(list);
        guardrails
    }

    /// Puts another list in its place. Calls and streams that have begun stay with theirs.
    pub fn replace(&self, list: Vec<Guardrail>) {
        self.0.store(Arc::new(list.into_iter().map(Arc::new).collect()));
    }

    /// Whether any rules on what is stored of this tenant's, sent with this key.
    fn rule_on_storage(&self, tenant: Tenant, key: Option<ApiKeyId>) -> bool {
        self.0.load().iter().any(|guardrail| guardrail.holds_for_storage(tenant, key))
    }

    /// Those that do; none when there are none.
    fn of_storage(&self, tenant: Tenant, key: Option<ApiKeyId>, view: &View) -> Option<Chain> {
        let list = self.0.load();
        let holding = list.iter().filter(|guardrail| guardrail.holds_for_storage(tenant, key));
        let mut holding = holding.cloned().peekable();
        holding.peek().is_some().then(|| Chain::new(holding, tenant, view))
    }

    /// Those that rule on this caller's calls for a route that names these, or for any route; none when there are none,
    /// which is found out without an allocation.
    ///
    /// # Errors
    /// The route names one that there isn't: the call is refused rather than let through.
    pub(crate) fn of(
        &self,
        principal: &Principal,
        view: &View,
        named: Named<'_>,
    ) -> Result<Option<Chain>, Refusal> {
        let list = self.0.load();
        if let Named::These(names) = named
            && let Some(missing) = names.iter().find(|name| !list.iter().any(|one| *one.name == ***name))
        {
            let message = format!("The route wants the guardrail '{missing}', which isn't configured.");
            return Err(Refusal {
                fault: Fault::Internal,
                ..Refusal::client(502, "guardrail_failed", message)
            });
        }
        let holds = |guardrail: &&Arc<Guardrail>| guardrail.holds(principal, named);
        let any = list.iter().any(|guardrail| holds(&guardrail));
        Ok(any.then(|| Chain::new(list.iter().filter(holds).cloned(), principal.tenant, view)))
    }

    /// The names of all that there are.
    pub(crate) fn names(&self) -> Vec<Arc<str>> {
        self.0.load().iter().map(|one| Arc::clone(&one.name)).collect()
    }

    /// Whether a request of this caller's may be changed or refused, so that its text must not be stored yet.
    pub(crate) fn withhold(&self, principal: &Principal) -> bool {
        self.withhold_for(principal, &[])
    }

    /// The same of a call for a route that names these guardrails.
    pub(crate) fn withhold_for(&self, principal: &Principal, named: &[String]) -> bool {
        let holds = |one: &Guardrail| one.holds(principal, Named::These(named));
        self.0.load().iter().any(|one| one.on_request && one.enforces() && holds(one))
    }
}

/// Which guardrails rule on a call beside those that rule on its caller's anyway.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Named<'a> {
    /// Those that its route names.
    These(&'a [String]),
    /// All: its route isn't known.
    All,
}
