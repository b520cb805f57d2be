//! `brokle plugin dev`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use brokle_testkit::project::build;
use clap::Args;
use reqwest::Method;
use serde::Serialize;

use super::Outcome;
use crate::cli::block_on;
use crate::cli::client::{Failure, Payload, Server};
use crate::output;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What a change in makes a new round.
const WATCHED: [&str; 4] = ["src", "fixtures", "plugin.json", "Cargo.toml"];

/// Builds, tests and installs a project now and each time that one of its files changes, until you stop it.
///
/// The server needs `plugins.dev = true`: what comes is unsigned, and takes the place of the same version. Only what
/// passes its fixtures is installed; calls that are under way end on what they began with.
#[derive(Debug, Args)]
pub(crate) struct Dev {
    #[command(flatten)]
    server: Server,
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
}

pub(super) fn run(command: &Dev) -> Outcome {
    loop {
        let seen = state(&command.dir);
        match round(command) {
            Ok(served) if command.server.json => output::json(&served)?,
            Ok(Served { plugin, sha256, fixtures }) => {
                output::lines([format!("{plugin} serves: {fixtures} fixtures passed, sha256 {sha256}")])?;
            }
            Err(failure) => output::complain(&failure.to_string()),
        }
        while state(&command.dir) == seen {
            block_on(async {
                tokio::time::sleep(LOOK).await;
                Ok(ExitCode::SUCCESS)
            })?;
        }
    }
}

/// What a round ended with.
#[derive(Serialize)]
struct Served {
    plugin: String,
    sha256: String,
    fixtures: usize,
}

/// One build, test and installation.
fn round(command: &Dev) -> Result<Served, Failure> {
    let built = build(&command.dir, None)?;
    let report = brokle_testkit::test(&built.path, &command.dir.join("fixtures"))?;
    if !report.passed() {
        return Err(format!("{}\nnot installed", report.lines().join("\n")).into());
    }
    let bytes = std::fs::read(&built.path)?;
    let name = built.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let query = [("name", name), ("enable", "true".to_owned())];
    block_on(async {
        let payload = Payload::Component { bytes, signature: None };
        command.server.ask(Method::POST, &["plugins"], &query, payload).await?;
        Ok(ExitCode::SUCCESS)
    })?;
    Ok(Served { plugin: report.plugin, sha256: built.inspection.sha256, fixtures: report.fixtures.len() })
}

/// Every watched file with its time and size, in order.
fn state(folder: &Path) -> Vec<(PathBuf, Option<SystemTime>, u64)> {
    let mut files = Vec::new();
    let mut waiting: Vec<PathBuf> = WATCHED.iter().map(|name| folder.join(name)).collect();
    while let Some(path) = waiting.pop() {
        // What is gone is a change too: it is no longer in the list.
        let Ok(about) = path.symlink_metadata() else { continue };
        if about.is_dir() {
            let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
            waiting.extend(entries.map(|entry| entry.path()));
        } else {
            files.push((path, about.modified().ok(), about.len()));
        }
    }
    files.sort();
    files
}

#[cfg(test)]
mod tests {
    use super::state;

    #[test]
    fn changes_are_seen_below_the_watched_folders_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put("src/deep/lib.rs", "1");
        let first = state(folder.path());
        put("target/x", "built");
        assert_eq!(state(folder.path()), first);
        put("src/deep/lib.rs", "12");
        let second = state(folder.path());
        assert_ne!(second, first);
        put("fixtures/new.yaml", "");
        assert_ne!(state(folder.path()), second);
    }
}
