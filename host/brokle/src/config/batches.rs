//! Files that projects upload, and batches of calls.

use std::path::PathBuf;
use std::time::Duration;

use brokle_gateway::{batches, files};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Files that projects upload, and that batches make.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Files {
    /// Where their bytes are; servers that share a database share this folder, too. None: `files` in the data directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) folder: Option<PathBuf>,
    /// Bytes of a file.
    pub(crate) max_bytes: u64,
    /// Bytes of a project's files together.
    pub(crate) project_bytes: u64,
    /// Files of a project.
    pub(crate) project_files: u64,
    /// How many days a file is kept.
    pub(crate) days: u32,
}

impl Default for Files {
    fn default() -> Self {
        let settings = files::Settings::default();
        Self {
            folder: None,
            max_bytes: settings.max_bytes,
            project_bytes: settings.project_bytes,
            project_files: settings.project_files,
            days: 30,
        }
    }
}

impl Files {
    /// What is kept, and how much of it.
    pub(crate) fn settings(&self) -> files::Settings {
        files::Settings {
            max_bytes: self.max_bytes,
            project_bytes: self.project_bytes,
            project_files: self.project_files,
            keep: Duration::from_secs(u64::from(self.days) * 86_400),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.max_bytes > 1 << 30 {
            return Err("files.max_bytes: 1 GiB at most: uploads are held in memory".to_owned());
        }
        match self.days {
            1..=3_650 => Ok(()),
            _ => Err("files.days: 1 to 3650 is expected".to_owned()),
        }
    }
}

/// Batches of calls.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Batches {
    /// Whether this server works on batches; it takes them on in any case.
    pub(crate) run: bool,
    /// Lines of a batch that are asked at once.
    pub(crate) concurrency: usize,
    /// Lines of a batch.
    pub(crate) max_lines: u64,
    /// Batches of a project that haven't ended.
    pub(crate) max_open: u64,
}

impl Default for Batches {
    fn default() -> Self {
        let settings = batches::Settings::default();
        Self {
            run: true,
            concurrency: settings.concurrency,
            max_lines: settings.max_lines,
            max_open: settings.max_open,
        }
    }
}

impl Batches {
    /// What batches may be.
    pub(crate) fn settings(&self) -> batches::Settings {
        batches::Settings {
            concurrency: self.concurrency,
            max_lines: self.max_lines,
            max_open: self.max_open,
            ..batches::Settings::default()
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        match self.concurrency {
            1..=1_000 => Ok(()),
            _ => Err("batches.concurrency: 1 to 1000 is expected".to_owned()),
        }
    }
}
