//! Recording: what is stored of whose calls and spans.

use std::time::Duration;

use brokle_core::money::Usd;
use brokle_core::tenancy::Capture;
use brokle_telemetry::recording::{Recording as Rules, Rule};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::ids;

/// A rule; the first that is for a project counts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Recording {
    /// Organizations that it is for, by id; with `projects`: any of them. Neither named: everybody.
    #[serde(default)]
    pub(crate) organizations: Vec<String>,
    /// Projects that it is for, by id.
    #[serde(default)]
    pub(crate) projects: Vec<String>,
    /// The share of traces that is stored, 0 to 1, by the trace's id.
    #[serde(default = "all")]
    pub(crate) rate: f64,
    /// Whatever didn't end well is stored in any case.
    #[serde(default = "yes")]
    pub(crate) keep_errors: bool,
    /// Whatever took at least so many milliseconds is stored in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_slower_ms: Option<u64>,
    /// Whatever cost at least so many dollars is stored in any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) keep_costlier_usd: Option<String>,
    /// `full`, `metadata` or `off`: the most that is captured; never more than the project's own setting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub(crate) capture: Option<Capture>,
    /// Bytes of an input, and of an output, at most: 1048576 and less.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) max_content_bytes: Option<usize>,
}

fn all() -> f64 {
    1.0
}

fn yes() -> bool {
    true
}

impl Recording {
    fn to_rule(&self) -> Result<Rule, String> {
        if !(0.0..=1.0).contains(&self.rate) {
            return Err("rate: a share from 0 to 1 is expected".into());
        }
        let cost = self.keep_costlier_usd.as_deref().map(str::parse::<Usd>).transpose();
        Ok(Rule {
            organizations: ids("organizations", &self.organizations)?,
            projects: ids("projects", &self.projects)?,
            rate: self.rate,
            keep_errors: self.keep_errors,
            keep_slower: self.keep_slower_ms.map(Duration::from_millis),
            keep_costlier: cost.map_err(|_| "keep_costlier_usd: dollars such as \"0.50\" are expected")?,
            capture: self.capture,
            max_content: self.max_content_bytes,
        })
    }
}

/// As telemetry takes them.
///
/// # Errors
/// What no type can refuse.
pub(crate) fn rules(recording: &[Recording]) -> Result<Rules, String> {
    let read = |(index, one): (usize, &Recording)| {
        one.to_rule().map_err(|problem| format!("recording.{index}.{problem}"))
    };
    recording.iter().enumerate().map(read).collect::<Result<_, _>>().map(Rules::new)
}
