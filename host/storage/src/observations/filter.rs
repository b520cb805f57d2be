//! Which observations a list answers.

use brokle_core::observation::{Kind, Status};
use chrono::{DateTime, Utc};

/// What rows must match: all that is set.
#[derive(Clone, Debug, Default)]
pub struct TraceFilter {
    /// Began at this time or later.
    pub from: Option<DateTime<Utc>>,
    /// Began before this time.
    pub to: Option<DateTime<Utc>>,
    /// This model was asked for, or served.
    pub model: Option<String>,
    /// This provider served it.
    pub provider: Option<String>,
    /// It ended so.
    pub status: Option<Status>,
    /// The client's end user.
    pub user: Option<String>,
    /// The client's session.
    pub session: Option<String>,
    /// It is about this.
    pub kind: Option<Kind>,
    /// It is called so.
    pub name: Option<String>,
}
