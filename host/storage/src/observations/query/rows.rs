//! What lists answer. Field names are part of the API.

use brokle_core::money::Usd;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::Summary;
use super::super::view::rfc3339;

/// An observation of a list.
#[derive(Clone, Debug, Serialize)]
pub struct ObservationRow {
    /// Everything but the bodies.
    #[serde(flatten)]
    pub summary: Summary,
    /// The request's body, if it was asked for and captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<Box<RawValue>>,
    /// The answer's body, if it was asked for and captured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Box<RawValue>>,
}

/// What observations are put together by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupKind {
    /// By trace.
    Trace,
    /// By session; observations without one are left out.
    Session,
    /// By end user; observations without one are left out.
    User,
}

/// A trace, a session or a user.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// The trace's id, the session or the user.
    pub id: String,
    /// A trace's name: its first root's, else its first observation's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The user of the first observation that has one.
    pub user: Option<String>,
    /// The session of the first observation that has one.
    pub session: Option<String>,
    /// When the first observation began.
    #[serde(serialize_with = "rfc3339")]
    pub start_time: DateTime<Utc>,
    /// When the last one ended.
    #[serde(serialize_with = "rfc3339")]
    pub end_time: DateTime<Utc>,
    /// From the first beginning to the last end, in milliseconds.
    pub duration_ms: f64,
    /// Its numbers.
    #[serde(flatten)]
    pub totals: Totals,
}

/// A group's numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// Traces.
    pub traces: u64,
    /// Sessions.
    pub sessions: u64,
    /// Observations.
    pub observations: u64,
    /// Observations that didn't end `ok`.
    pub errors: u64,
    /// Tokens in.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Dollars, exact, of the observations with a known price.
    pub cost: Usd,
}
