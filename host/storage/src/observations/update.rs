//! What is said of a trace after the fact: labels, the user, a bookmark.
//!
//! An update is written beside the observations, a row for each member that it has, and merged when they are read: nothing
//! is read to be written again, and observations stay as they came. What was said last of a member counts. Like a score it
//! may come before the trace.

use serde::Serialize;

/// Labels that a trace may be given.
pub const MAX_TAGS: usize = 50;

/// What is said of a trace; members that aren't said stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TraceUpdate {
    /// Its labels, in place of those of its observations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// Its end user, in place of that of its observations; `Some(None)` says that it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Option<String>>,
    /// Whether somebody wants to find it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bookmarked: Option<bool>,
}

impl TraceUpdate {
    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
