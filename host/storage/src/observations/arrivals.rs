//! Observations in the order in which they arrived, for whoever brings them elsewhere.
//!
//! A [`Mark`] says how far a reader has come. What arrives later is behind every mark that was given before, whenever it
//! began: late spans and clocks that differ lose nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::view::Node;

/// Observations that are looked at for one answer, those of other projects included.
pub(super) const MAX_LOOKED_AT: i64 = 20_000;
/// A batch is closed once its bodies have so many bytes.
pub(super) const MAX_BODIES: usize = 2 << 20;

/// How far a reader has come: for each part of the store (a month's file, or the whole) the last row that it has passed.
/// A part that isn't named was not begun.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Mark(BTreeMap<String, i64>);

impl Mark {
    pub(super) fn row(&self, part: &str) -> i64 {
        self.0.get(part).copied().unwrap_or_default()
    }

    /// None: the part had no rows when the mark was made.
    pub(super) fn last(&self, part: &str) -> Option<i64> {
        self.0.get(part).copied()
    }

    /// Passes a row.
    pub fn pass(&mut self, part: &str, row: i64) {
        self.0.insert(part.to_owned(), row);
    }

    /// Forgets parts that are gone.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.0.retain(|part, _| is_there(part));
    }
}

/// One that has arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The part of the store that it is in.
    pub part: String,
    /// Its place there.
    pub row: i64,
    /// It, with what happened inside.
    pub node: Node,
}

/// What has arrived after a mark.
#[derive(Clone, Debug, Default)]
pub struct Arrivals {
    /// In order.
    pub rows: Vec<Arrival>,
    /// Where to go on after all of them; past whatever was left out between them.
    pub end: Mark,
    /// There may be more behind the end.
    pub more: bool,
}
