//! Another gateway's configuration as one of ours, with a report of what has no equal.
//!
//! Secrets aren't copied: what the other configuration takes from a variable, ours does, and a key that is written there becomes
//! a variable that the operator sets. No value of the other configuration is repeated in the report.

pub(crate) mod litellm;
mod section;

use std::collections::BTreeMap;

use brokle_core::catalogue::ModelOverride;
use brokle_gateway::routing::definition::Definition;
use serde::Serialize;

use crate::config::{Budget, Connection, Limit};

/// What becomes of a key that isn't simply translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// Somebody has to do something before it serves.
    Todo,
    /// It works, and otherwise than before.
    Changed,
    /// There is nothing like it.
    NoEqual,
}

/// A line of the report.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(crate) struct Note {
    pub(crate) kind: Kind,
    /// Where it stands in the other configuration: `model_list.0.litellm_params.rpm`.
    pub(crate) key: String,
    /// What becomes of it.
    pub(crate) text: String,
}

/// The report in the making.
#[derive(Debug, Default)]
pub(crate) struct Notes(Vec<Note>);

impl Notes {
    fn add(&mut self, kind: Kind, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Note { kind, key: key.into(), text: text.into() });
    }

    /// What is to be done first; of one kind in the other configuration's order.
    fn sorted(mut self) -> Vec<Note> {
        self.0.sort_by_key(|note| note.kind);
        self.0.dedup();
        self.0
    }
}

/// The keys of the configuration file that an import writes.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Written {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) storage: BTreeMap<&'static str, toml::Value>,
    pub(crate) gateway: Gateway,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) cache: BTreeMap<&'static str, toml::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) routes: Vec<Definition>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) limits: Vec<Limit>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) budgets: Vec<Budget>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) models: Vec<ModelOverride>,
}

/// The section `[gateway]`: what isn't said stays as it is by default.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Gateway {
    #[serde(flatten)]
    pub(crate) settings: BTreeMap<&'static str, toml::Value>,
    pub(crate) connections: Vec<Connection>,
}

/// What came of an import.
#[derive(Debug)]
pub(crate) struct Imported {
    pub(crate) written: Written,
    pub(crate) notes: Vec<Note>,
}
