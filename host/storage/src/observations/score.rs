//! Scores: what people, evaluators and programs thought of a trace, an observation or a session.
//!
//! A score belongs to a project by its `id`. An id that its sender chose makes sending it again harmless: the score is
//! replaced by what came last, and keeps the moment when it was first stored. What a score is about needn't be stored
//! yet: scores and observations come by different ways.
//!
//! Sizes: [`MAX_ID`], [`MAX_NAME`], [`MAX_CATEGORY`], [`MAX_TEXT`], [`MAX_METADATA`] bytes, [`MAX_BATCH`] scores at once.

use brokle_core::ids::EnvironmentId;
use brokle_core::observation::{SpanId, TraceId};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::view::rfc3339;

/// Bytes of an id or a session's name at most.
pub const MAX_ID: usize = 200;
/// Bytes of a score's name at most.
pub const MAX_NAME: usize = 200;
/// Bytes of a category at most.
pub const MAX_CATEGORY: usize = 500;
/// Bytes of a text or a comment at most.
pub const MAX_TEXT: usize = 8 * 1024;
/// Bytes of the metadata at most, as JSON.
pub const MAX_METADATA: usize = 16 * 1024;
/// Scores that are stored at once at most.
pub const MAX_BATCH: usize = 1_000;

/// What kind of value a score has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DataType {
    /// A number.
    Numeric,
    /// One of a few names.
    Categorical,
    /// True or false.
    Boolean,
    /// Whatever somebody wrote.
    Text,
}

/// Who gave a score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A program, by the API: a user's thumb, a test.
    #[default]
    Api,
    /// An evaluator: a model as a judge, a rule.
    Evaluator,
    /// A person who looked at it.
    Annotation,
}

impl DataType {
    /// The name in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Categorical => "categorical",
            Self::Boolean => "boolean",
            Self::Text => "text",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Numeric, Self::Categorical, Self::Boolean, Self::Text]
            .into_iter()
            .find(|one| one.as_str() == name)
    }
}

impl Source {
    /// The name in JSON and in the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Evaluator => "evaluator",
            Self::Annotation => "annotation",
        }
    }

    pub(super) fn of(name: &str) -> Option<Self> {
        [Self::Api, Self::Evaluator, Self::Annotation].into_iter().find(|one| one.as_str() == name)
    }
}

/// A score's value. As JSON it is the number, the flag or the text alone; `data_type` tells a category from a text.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum ScoreValue {
    /// Finite.
    Numeric(f64),
    /// Up to [`MAX_CATEGORY`] bytes.
    Categorical(String),
    /// Yes or no.
    Boolean(bool),
    /// Up to [`MAX_TEXT`] bytes.
    Text(String),
}

impl ScoreValue {
    /// What kind of value it is.
    #[must_use]
    pub const fn data_type(&self) -> DataType {
        match self {
            Self::Numeric(_) => DataType::Numeric,
            Self::Categorical(_) => DataType::Categorical,
            Self::Boolean(_) => DataType::Boolean,
            Self::Text(_) => DataType::Text,
        }
    }

    /// As a number, if it counts as one: 1 and 0 for flags.
    #[must_use]
    pub const fn number(&self) -> Option<f64> {
        match self {
            Self::Numeric(number) => Some(*number),
            Self::Boolean(flag) => Some(if *flag { 1.0 } else { 0.0 }),
            Self::Categorical(_) | Self::Text(_) => None,
        }
    }

    /// As a text, if it is one.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Categorical(text) | Self::Text(text) => Some(text),
            Self::Numeric(_) | Self::Boolean(_) => None,
        }
    }
}

/// A score.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Its id, within its project.
    pub id: String,
    /// What was looked at: `helpfulness`, `thumbs`.
    pub name: String,
    /// What was found.
    pub value: ScoreValue,
    /// The value's kind.
    pub data_type: DataType,
    /// Who gave it.
    pub source: Source,
    /// The trace that it is about, itself or by one of its observations.
    pub trace_id: Option<TraceId>,
    /// The observation of the trace that it is about.
    pub span_id: Option<SpanId>,
    /// The session that it is about.
    pub session: Option<String>,
    /// Why.
    pub comment: Option<String>,
    /// Whatever else was said.
    pub metadata: Map<String, Value>,
    /// The environment of the key that sent it.
    pub environment_id: EnvironmentId,
    /// When it was given: RFC 3339 with microseconds, UTC.
    #[serde(serialize_with = "rfc3339")]
    pub timestamp: DateTime<Utc>,
    /// When it was first stored.
    #[serde(serialize_with = "rfc3339")]
    pub created_at: DateTime<Utc>,
    /// When it was last stored.
    #[serde(serialize_with = "rfc3339")]
    pub updated_at: DateTime<Utc>,
}

/// Why a score can't be stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{member}: {message}")]
pub struct ScoreError {
    /// The member that is wrong.
    pub member: &'static str,
    /// What is expected of it.
    pub message: String,
}

impl Score {
    /// Looks at sizes and at what must go together.
    ///
    /// # Errors
    /// For the first member that is wrong.
    pub fn check(&self) -> Result<(), ScoreError> {
        let wrong = |member, message: String| Err(ScoreError { member, message });
        let sizes = [
            ("id", Some(&self.id), MAX_ID),
            ("name", Some(&self.name), MAX_NAME),
            ("session", self.session.as_ref(), MAX_ID),
        ];
        for (member, text, most) in sizes {
            if text.is_some_and(|text| {
                text.is_empty() || text.len() > most || text.chars().any(char::is_control)
            }) {
                return wrong(member, format!("1 to {most} bytes without control characters are expected"));
            }
        }
        match &self.value {
            ScoreValue::Numeric(number) if !number.is_finite() => {
                return wrong("value", "a finite number is expected".to_owned());
            }
            ScoreValue::Categorical(text) if text.is_empty() || text.len() > MAX_CATEGORY => {
                return wrong("value", format!("1 to {MAX_CATEGORY} bytes are expected of a category"));
            }
            ScoreValue::Text(text) if text.is_empty() || text.len() > MAX_TEXT => {
                return wrong("value", format!("1 to {MAX_TEXT} bytes are expected of a text"));
            }
            _ => {}
        }
        if self.comment.as_ref().is_some_and(|comment| comment.len() > MAX_TEXT) {
            return wrong("comment", format!("at most {MAX_TEXT} bytes are expected"));
        }
        if serde_json::to_vec(&self.metadata).is_ok_and(|json| json.len() > MAX_METADATA) {
            return wrong("metadata", format!("at most {MAX_METADATA} bytes are expected"));
        }
        if self.span_id.is_some() && self.trace_id.is_none() {
            return wrong("trace_id", "an observation is named together with its trace".to_owned());
        }
        if self.trace_id.is_some() == self.session.is_some() {
            return wrong(
                "trace_id",
                "either a trace (and an observation of it) or a session is expected".to_owned(),
            );
        }
        if super::Month::of(self.timestamp).is_none() {
            return wrong("timestamp", "a time of the years 1970 to 9999 is expected".to_owned());
        }
        Ok(())
    }
}
