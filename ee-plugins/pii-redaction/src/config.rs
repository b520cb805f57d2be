//! What an operator may say.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::detect::{Entity, Match, Wanted};

/// What becomes of a find.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// Only noted on the trace, by kind and count.
    Detect,
    /// `<EMAIL>`
    #[default]
    Mask,
    /// `<EMAIL:3f9a0c…>`: the same value gives the same text, and nobody without the key knows which.
    Hash,
    /// `<EMAIL_1>`, which the answer's is turned back from.
    Tokenize,
    /// The call doesn't go on.
    Block,
    /// Not looked for.
    Ignore,
}

/// The configuration.
#[derive(Debug, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    action: Action,
    entities: BTreeMap<String, Action>,
    min_confidence: f32,
    pub(crate) restore: bool,
    kinds: Option<Vec<String>>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            action: Action::Mask,
            entities: BTreeMap::new(),
            min_confidence: 0.5,
            restore: true,
            kinds: None,
        }
    }
}

impl Config {
    pub(crate) fn action(&self, entity: Entity) -> Action {
        self.entities.get(entity.name()).copied().unwrap_or(self.action)
    }

    /// Whether any entity is treated so.
    pub(crate) fn uses(&self, action: Action) -> bool {
        Entity::ALL.iter().any(|&entity| self.action(entity) == action)
    }

    pub(crate) fn sees(&self, kind: &str) -> bool {
        self.kinds.as_ref().is_none_or(|kinds| kinds.iter().any(|known| known == kind))
    }

    pub(crate) fn wanted(&self) -> Wanted {
        Wanted {
            least: Entity::ALL.map(|entity| match self.action(entity) {
                Action::Ignore => 2.0,
                _ => self.min_confidence,
            }),
        }
    }

    pub(crate) fn of(&self, found: &Match) -> Action {
        self.action(found.entity)
    }
}
