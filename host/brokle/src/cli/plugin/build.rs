//! `brokle plugin build`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_testkit::project::{Built, build};
use clap::Args;

use super::Outcome;
use crate::output;

/// Builds the project with its language's own tool (cargo, componentize-py, componentize-js) and shows what came of it. The
/// tool's words go to standard error.
#[derive(Debug, Args)]
pub(crate) struct Build {
    /// The project's folder.
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Build) -> Outcome {
    let built = build(&command.dir, None)?;
    if command.json {
        output::json(&built)?;
    } else {
        output::lines(lines(&built))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn lines(built: &Built) -> Vec<String> {
    let Built { path, inspection, stack_size } = built;
    let mut lines = vec![
        path.display().to_string(),
        format!("  {}, {}", inspection.manifest.label(), inspection.manifest.wit),
        format!("  size     {} KiB", inspection.size.div_ceil(1024)),
    ];
    lines.extend(stack_size.map(|bytes| format!("  stack    {} KiB", bytes >> 10)));
    lines.push(format!("  sha256   {}", inspection.sha256));
    lines.push("  imports".to_owned());
    lines.extend(inspection.imports.iter().map(|import| format!("    {import}")));
    lines
}
