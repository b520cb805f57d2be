//! Why a component isn't run, and why a root, a list or a key isn't taken.

use std::fmt;
use std::path::PathBuf;

/// The stable word for a refusal; metrics, events, health and exit messages carry it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RefusalCode {
    /// There is no signature, and nothing says that none is needed.
    PluginUnsigned,
    /// A signature or the envelope around it is wrong.
    PluginSigInvalid,
    /// No key that this host believes signed it, or the key may not sign for this id.
    PluginKeyUnknown,
    /// The key was revoked before the statement's date, or altogether.
    PluginKeyRevoked,
    /// The statement is about another file or another plugin.
    PluginHashMismatch,
    /// This component or version was revoked.
    PluginRevoked,
    /// An older release than one seen before, or than the least that is allowed.
    PluginDowngrade,
    /// Made for another host or contract.
    PluginAbi,
    /// It imports more than was signed for.
    PluginCapability,
    /// There is no license.
    LicenseMissing,
    /// The license has ended.
    LicenseExpired,
    /// The license doesn't cover this.
    LicenseNotEntitled,
    /// The license is bound to another instance.
    LicenseWrongInstance,
    /// The license isn't valid yet: one of the clocks is wrong.
    LicenseClock,
    /// The license was revoked.
    LicenseRevoked,
    /// The license isn't one: its form, type or signature is wrong.
    LicenseInvalid,
}

impl RefusalCode {
    /// `PLUGIN_UNSIGNED` and so on.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PluginUnsigned => "PLUGIN_UNSIGNED",
            Self::PluginSigInvalid => "PLUGIN_SIG_INVALID",
            Self::PluginKeyUnknown => "PLUGIN_KEY_UNKNOWN",
            Self::PluginKeyRevoked => "PLUGIN_KEY_REVOKED",
            Self::PluginHashMismatch => "PLUGIN_HASH_MISMATCH",
            Self::PluginRevoked => "PLUGIN_REVOKED",
            Self::PluginDowngrade => "PLUGIN_DOWNGRADE",
            Self::PluginAbi => "PLUGIN_ABI",
            Self::PluginCapability => "PLUGIN_CAPABILITY",
            Self::LicenseMissing => "LICENSE_MISSING",
            Self::LicenseExpired => "LICENSE_EXPIRED",
            Self::LicenseNotEntitled => "LICENSE_NOT_ENTITLED",
            Self::LicenseWrongInstance => "LICENSE_WRONG_INSTANCE",
            Self::LicenseClock => "LICENSE_CLOCK",
            Self::LicenseRevoked => "LICENSE_REVOKED",
            Self::LicenseInvalid => "LICENSE_INVALID",
        }
    }

    /// The refusal with its reason.
    pub fn because(self, detail: impl Into<String>) -> Refusal {
        Refusal { code: self, detail: detail.into() }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A no, with its reason.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, serde::Serialize)]
#[error("{code}: {detail}")]
pub struct Refusal {
    /// The stable code.
    pub code: RefusalCode,
    /// For people: what is wrong, and what mends it.
    pub detail: String,
}

/// A root, a list, a key or a file that isn't taken. What was held before stays.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// It can't be read, or not written.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its form is wrong.
    #[error("{what}: {detail}")]
    Malformed {
        /// What was read.
        what: &'static str,
        /// Where it is wrong.
        detail: String,
    },
    /// Too few of the right keys signed it.
    #[error("{what}: {detail}")]
    Unauthorized {
        /// What was signed.
        what: &'static str,
        /// Which keys are missing.
        detail: String,
    },
    /// Its version isn't the next one.
    #[error("{what}: version {found} is offered, {expected}")]
    Version {
        /// What has the version.
        what: &'static str,
        /// The one that came.
        found: u64,
        /// In words: which ones would do.
        expected: String,
    },
    /// The operator asks for what the policy forbids.
    #[error("{0}")]
    Forbidden(String),
}

impl TrustError {
    pub(crate) fn io(path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
