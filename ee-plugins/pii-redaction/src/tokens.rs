//! Tokens that stand for what was found, and the way back.
//!
//! A token is `<EMAIL_1>`: its entity and its number in the call; the same value has the same token. The table travels
//! from the request to the answer as the ruling's state, in the gateway's memory, and is gone with the call.

use std::collections::BTreeMap;
use std::ops::Range;

use brokle_plugin::guardrail::scan::Finding;

use crate::detect::Entity;

/// The longest token.
pub(crate) const LONGEST: usize = 32;

/// What each token stands for.
#[derive(Debug, Default)]
pub(crate) struct Tokens {
    by_token: BTreeMap<String, String>,
    counts: BTreeMap<&'static str, usize>,
}

impl Tokens {
    /// The token of a value.
    pub(crate) fn token(&mut self, entity: Entity, value: &str) -> String {
        let prefix = format!("<{}_", entity.name());
        let known =
            self.by_token.iter().find(|(token, known)| token.starts_with(&prefix) && known.as_str() == value);
        if let Some((token, _)) = known {
            return token.clone();
        }
        let count = self.counts.entry(entity.name()).or_default();
        *count += 1;
        let token = format!("{prefix}{count}>");
        self.by_token.insert(token.clone(), value.to_owned());
        token
    }

    /// The table as bytes.
    pub(crate) fn save(&self) -> Vec<u8> {
        if self.by_token.is_empty() {
            Vec::new()
        } else {
            serde_json::to_vec(&self.by_token).unwrap_or_default()
        }
    }

    /// The table that a request left.
    pub(crate) fn load(state: &[u8]) -> Self {
        let by_token = serde_json::from_slice(state).unwrap_or_default();
        Self { by_token, counts: BTreeMap::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.by_token.is_empty()
    }

    /// The first token of the table at or after a place, and what it stands for.
    pub(crate) fn first(&self, text: &str, from: usize) -> Option<Finding<String>> {
        let mut at = from;
        while let Some(open) = text.get(at..)?.find('<').map(|open| at + open) {
            let rest = text.get(open..)?;
            let token =
                rest.bytes().take(LONGEST).position(|byte| byte == b'>').and_then(|end| rest.get(..=end));
            if let Some((token, value)) = token.and_then(|token| self.by_token.get_key_value(token)) {
                let range: Range<usize> = open..open + token.len();
                return Some(Finding { range, more: None, what: value.clone() });
            }
            at = open + 1;
        }
        None
    }

    /// From where on a token could still begin.
    pub(crate) fn undecided(text: &str) -> usize {
        match text.rfind('<').filter(|open| text.len() - open <= LONGEST) {
            Some(open) if !text.get(open..).is_some_and(|rest| rest.contains('>')) => open,
            _ => text.len(),
        }
    }
}
