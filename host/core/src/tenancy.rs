//! Whose something is.
//!
//! An [`Organization`](OrganizationId) has projects, a [`Project`](ProjectId) has environments. Every row belongs to an
//! organization, and whatever a call produces belongs to one [`Tenant`]: all three.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ids::{EnvironmentId, OrganizationId, ProjectId};

/// The organization, project and environment that a call is made for.
///
/// Whoever holds one got it from a database row in which the three belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Tenant {
    /// Who pays, and the border that no query crosses.
    pub organization: OrganizationId,
    /// The organization's project.
    pub project: ProjectId,
    /// The project's environment.
    pub environment: EnvironmentId,
}

/// What a project keeps of its calls' content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Capture {
    /// Prompts and answers too.
    Full,
    /// Models, tokens, cost, times and outcome; no content. The default.
    #[default]
    Metadata,
    /// Only what limits, budgets and billing need.
    Off,
}

/// A text that is none of `full`, `metadata` and `off`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a capture mode: full, metadata or off is expected")]
pub struct ParseCaptureError;

impl Capture {
    /// The mode's name in configuration, JSON and the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Metadata => "metadata",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for Capture {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for Capture {
    type Err = ParseCaptureError;

    fn from_str(text: &str) -> Result<Self, ParseCaptureError> {
        [Self::Full, Self::Metadata, Self::Off]
            .into_iter()
            .find(|mode| mode.as_str() == text)
            .ok_or(ParseCaptureError)
    }
}

impl TryFrom<String> for Capture {
    type Error = ParseCaptureError;

    fn try_from(text: String) -> Result<Self, ParseCaptureError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_mode_has_one_name_everywhere() {
        for (mode, name) in [(Capture::Full, "full"), (Capture::Metadata, "metadata"), (Capture::Off, "off")]
        {
            assert_eq!(mode.to_string(), name);
            assert_eq!(name.parse(), Ok(mode));
            assert_eq!(serde_json::to_value(mode).unwrap(), name);
        }
        assert_eq!("FULL".parse::<Capture>(), Err(ParseCaptureError));
    }
}
