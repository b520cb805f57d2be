//! What can become of a version.
//!
//! ```text
//! available ──► installed ──► enabled ◄──► degraded
//!                  ▲  ▲          │            │
//!                  │  └──────────┤            │      quarantined ──► degraded (on probation, after the back-off)
//!                  │             └────────────┴────►      │
//!               rejected ◄── (any)                        └──► installed (an operator lets it go)
//! ```
//!
//! - **available**: a source offers it; an operator removed it, so nothing installs it again by itself.
//! - **installed**: verified, kept, compiled; serves nobody. `reason` says what it waits for, if it waits.
//! - **enabled**: serves in some scope.
//! - **degraded**: serves on probation after a quarantine; one more failure takes it out again.
//! - **quarantined**: taken out, since it failed too often and there was nothing to roll back to, or it was rolled back.
//! - **rejected**: refused, with its code. Looked at again when its source changes and at each start.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The state of one version of a component.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// A source offers it.
    Available,
    /// Verified and kept.
    Installed,
    /// Serves.
    Enabled,
    /// Serves on probation.
    Degraded,
    /// Taken out.
    Quarantined,
    /// Refused.
    Rejected,
}

/// A text that names no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a state")]
pub struct ParseStateError;

impl State {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Available, Self::Installed, Self::Enabled, Self::Degraded, Self::Quarantined, Self::Rejected];

    /// Its name in the API and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Installed => "installed",
            Self::Enabled => "enabled",
            Self::Degraded => "degraded",
            Self::Quarantined => "quarantined",
            Self::Rejected => "rejected",
        }
    }

    /// Does a version in this state get traffic where a scope has it enabled?
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Enabled | Self::Degraded)
    }

    /// Is there a way from here to `next`? Staying is none.
    #[must_use]
    pub const fn may_become(self, next: Self) -> bool {
        use State::{Available, Degraded, Enabled, Installed, Quarantined, Rejected};
        matches!(
            (self, next),
            (Available | Rejected, Installed)
                | (Installed, Enabled | Available)
                | (Enabled, Installed | Degraded | Quarantined)
                | (Degraded, Installed | Enabled | Quarantined)
                | (Quarantined, Installed | Degraded)
                | (Available | Installed | Enabled | Degraded | Quarantined, Rejected)
        )
    }
}

impl fmt::Display for State {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = ParseStateError;

    fn from_str(text: &str) -> Result<Self, ParseStateError> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(ParseStateError)
    }
}

impl Serialize for State {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Available, Degraded, Enabled, Installed, Quarantined, Rejected};
    use super::*;

    #[test]
    fn the_table_is_the_whole_machine() {
        let allowed = [
            (Available, vec![Installed, Rejected]),
            (Installed, vec![Available, Enabled, Rejected]),
            (Enabled, vec![Installed, Degraded, Quarantined, Rejected]),
            (Degraded, vec![Installed, Enabled, Quarantined, Rejected]),
            (Quarantined, vec![Installed, Degraded, Rejected]),
            (Rejected, vec![Installed]),
        ];
        for (from, to) in allowed {
            for next in State::ALL {
                assert_eq!(from.may_become(next), to.contains(&next), "{from} to {next}");
            }
        }
    }

    #[test]
    fn nothing_refused_or_taken_out_serves() {
        let serving: Vec<State> = State::ALL.into_iter().filter(|state| state.serves()).collect();
        assert_eq!(serving, [Enabled, Degraded]);
        for state in State::ALL {
            assert_eq!(state.as_str().parse(), Ok(state));
        }
    }
}
