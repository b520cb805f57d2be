//! Rust: plain cargo.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::project::ProjectError;

/// What components are built for.
const TARGET: &str = "wasm32-wasip2";

/// The one line of cargo's messages that is of interest.
#[derive(Deserialize)]
struct Message {
    reason: String,
    #[serde(default)]
    filenames: Vec<PathBuf>,
    #[serde(default)]
    manifest_path: PathBuf,
}

/// `cargo build --release --target wasm32-wasip2`: the component that came of it.
pub(super) fn build(folder: &Path, target_dir: Option<&Path>) -> Result<PathBuf, ProjectError> {
    has_target(folder)?;
    let cargo = tool("CARGO", "cargo");
    let mut command = Command::new(&cargo);
    command.args(["build", "--release", "--target", TARGET, "--message-format=json-render-diagnostics"]);
    if let Some(target_dir) = target_dir {
        command.arg("--target-dir").arg(target_dir);
    }
    let output = command.current_dir(folder).stdin(Stdio::null()).stderr(Stdio::inherit()).output();
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
    match (components.pop(), components.is_empty()) {
        (None, _) => Err(ProjectError::NoComponent),
        (Some(path), true) => Ok(path),
        (Some(path), false) => {
            components.push(path);
            Err(ProjectError::Several(components))
        }
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
    ProjectError::NoTool {
        tool: tool.to_string_lossy().into_owned(),
        source,
        remedy: "install Rust from https://rustup.rs".into(),
    }
}
