//! Who may load: asked at installation and again at each load, about the bytes that are then compiled.

use std::fmt::Debug;

use brokle_runtime::Inspection;
use serde::Serialize;

/// Where a component comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The server's own set: in the binary, or the folder that stands for it.
    Embedded,
    /// The watched folder.
    Folder,
    /// The API or the command line.
    Upload,
    /// A registry.
    Oci,
}

impl Source {
    /// Its name in the API and the database.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Folder => "folder",
            Self::Upload => "upload",
            Self::Oci => "oci",
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        let all = [Self::Embedded, Self::Folder, Self::Oci];
        all.into_iter().find(|source| source.as_str() == name).unwrap_or(Self::Upload)
    }
}

/// A component that wants in.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its bytes, the very ones that will be compiled.
    pub component: &'a [u8],
    /// Its signature.
    pub envelope: Option<&'a [u8]>,
    /// What it says of itself.
    pub inspection: &'a Inspection,
    /// Where it comes from.
    pub source: Source,
    /// Did an operator pin this very hash?
    pub pinned: bool,
    /// The newest release of its id that was ever let in.
    pub highest_seq: Option<u64>,
    /// Did an operator ask for an older release?
    pub allow_downgrade: bool,
}

/// It may load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admission {
    /// How far it is trusted: `vendor`, `verified`, `private`, `unsigned`.
    pub level: &'static str,
    /// Its place among the releases of its id.
    pub release_seq: Option<u64>,
}

/// It may not load.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Refusal {
    /// A stable code such as `PLUGIN_UNSIGNED`.
    pub code: &'static str,
    /// The same for people.
    pub detail: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(code: &'static str, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into() }
    }
}

/// Decides who may load: signature first, then licence.
pub trait Gate: Send + Sync + Debug {
    /// Lets a component in, or says why not.
    ///
    /// # Errors
    /// The refusal, with its code.
    fn admit(&self, candidate: &Candidate<'_>) -> Result<Admission, Refusal>;
}

/// A gate that knows no publishers' keys: the server's own set passes, and what an operator pinned by hash; anything
/// else only in development.
#[derive(Clone, Copy, Debug, Default)]
pub struct PinnedOnly {
    /// Development: everything passes.
    pub dev: bool,
}

impl Gate for PinnedOnly {
    fn admit(&self, candidate: &Candidate<'_>) -> Result<Admission, Refusal> {
        if candidate.source == Source::Embedded {
            return Ok(Admission { level: "vendor", release_seq: None });
        }
        if candidate.pinned || self.dev {
            return Ok(Admission { level: "unsigned", release_seq: None });
        }
        let label = candidate.inspection.manifest.label();
        let sha256 = &candidate.inspection.sha256;
        Err(Refusal::new(
            "PLUGIN_UNSIGNED",
            format!("{label} has no signature that is trusted here; sign it, or pin sha256:{sha256}"),
        ))
    }
}
