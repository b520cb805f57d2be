//! Building a project, and a look at what came of it.

mod cargo;
mod script;

use std::path::{Path, PathBuf};

use brokle_runtime::{Inspection, guest_stack, inspect};
use serde::Serialize;

use super::{Language, ProjectError};

/// A component that was built.
#[derive(Debug, Clone, Serialize)]
pub struct Built {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    #[serde(flatten)]
    pub inspection: Inspection,
    /// Bytes of its stack, where that can be told. 64 or 128 KiB keep a fresh instance cheap.
    pub stack_size: Option<u32>,
}

/// Builds the project in a folder by its language's own tool, whose words go to standard error: `cargo build --release
/// --target wasm32-wasip2`, `componentize-py` or `componentize-js`. With `target_dir`, into that folder.
///
/// # Errors
/// What is missing and how to get it, or why no host would take what was built.
pub fn build(folder: &Path, target_dir: Option<&Path>) -> Result<Built, ProjectError> {
    let folder =
        std::path::absolute(folder).map_err(|source| ProjectError::Io { path: folder.to_owned(), source })?;
    let language = Language::of(&folder)?;
    if !folder.join("plugin.json").is_file() {
        return Err(ProjectError::NoProject { folder, missing: "plugin.json" });
    }
    let path = match language {
        Language::Rust => cargo::build(&folder, target_dir)?,
        Language::Python | Language::JavaScript => script::build(
            language,
            &folder,
            &target_dir.map_or_else(|| folder.join("target"), Path::to_owned),
        )?,
    };
    let bytes = std::fs::read(&path).map_err(|source| ProjectError::Io { path: path.clone(), source })?;
    match inspect(&bytes) {
        Ok(inspection) => Ok(Built { path, inspection, stack_size: guest_stack(&bytes) }),
        Err(error) => Err(ProjectError::Refused { path, error }),
    }
}
