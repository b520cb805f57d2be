//! Building a project: plain cargo, and a look at what came of it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use brokle_runtime::{Inspection, guest_stack, inspect};
use serde::{Deserialize, Serialize};

use super::ProjectError;

/// What components are built for.
const TARGET: &str = "wasm32-wasip2";

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

/// The one line of cargo's messages that is of interest.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
}

/// Builds the project in a folder: `cargo build --release --target wasm32-wasip2`, whose words go to standard error.
/// With `target_dir`, into that folder.
///
/// # Errors
/// What is missing and how to get it, or why no host would take what was built.
pub fn build(folder: &Path, target_dir: Option<&Path>) -> Result<Built, ProjectError> {
    let folder =
        std::path::absolute(folder).map_err(|source| ProjectError::Io { path: folder.to_owned(), source })?;
    for missing in ["Cargo.toml", "plugin.json"] {
        if !folder.join(missing).is_file() {
            return Err(ProjectError::NoProject { folder, missing });
        }
    }
    has_target(&folder)?;
    let cargo = tool("CARGO", "cargo");
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    if let Some(target_dir) = target_dir {
        command.arg("--target-dir").arg(target_dir);
    }
    let output = command.current_dir(&folder).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|source| no_tool(&cargo, source))?;
    if !output.status.success() {
        return Err(ProjectError::Failed);
    }
    let manifest = folder.join("Cargo.toml").canonicalize().unwrap_or_default();
    let mut components: Vec<PathBuf> = output
        .stdout
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .filter(|message| message.manifest_path.canonicalize().is_ok_and(|path| path == manifest))
        .flat_map(|message| message.filenames)
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    let path = match (components.pop(), components.is_empty()) {
        (None, _) => return Err(ProjectError::NoComponent),
        (Some(path), true) => path,
        (Some(path), false) => {
            components.push(path);
            return Err(ProjectError::Several(components));
        }
    };
    let bytes = std::fs::read(&path).map_err(|source| ProjectError::Io { path: path.clone(), source })?;
    match inspect(&bytes) {
        Ok(inspection) => Ok(Built { path, inspection, stack_size: guest_stack(&bytes) }),
        Err(error) => Err(ProjectError::Refused { path, error }),
    }
}

/// Asks the compiler, in the project's folder (where its toolchain file holds), whether it has the target's library.
fn has_target(folder: &Path) -> Result<(), ProjectError> {
    let rustc = tool("RUSTC", "rustc");
    let mut command = Command::new(&rustc);
    command.args(["--print", "target-libdir", "--target", TARGET]).current_dir(folder);
    let output = command.stdin(Stdio::null()).output().map_err(|source| no_tool(&rustc, source))?;
    let library = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    match output.status.success() && library.is_dir() {
        true => Ok(()),
        false => Err(ProjectError::NoTarget(folder.to_owned())),
    }
}

fn tool(variable: &str, name: &str) -> OsString {
    std::env::var_os(variable).unwrap_or_else(|| name.into())
}

fn no_tool(tool: &OsString, source: std::io::Error) -> ProjectError {
    ProjectError::NoTool { tool: tool.to_string_lossy().into_owned(), source }
}
