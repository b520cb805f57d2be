//! `brokle plugin test`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_testkit::project::build;
use clap::Args;

use super::Outcome;
use crate::output;

/// Plays a plugin's fixtures in the real sandbox, with no server and no network: exit 0 if all pass, else 1.
///
/// Streams are played again cut at every place, and byte by byte. The clock stands still and the random numbers are
/// always the same. BROKLE_BLESS=1 writes a provider's expected files instead of comparing.
#[derive(Debug, Args)]
pub(crate) struct Test {
    /// A component, or a project's folder, which is built first.
    #[arg(default_value = ".")]
    what: PathBuf,
    /// The fixtures [default: the folder `fixtures` of the project; for a component, that of the folder you are in].
    #[arg(long, value_name = "DIR")]
    fixtures: Option<PathBuf>,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Test) -> Outcome {
    let (component, beside) = match command.what.is_dir() {
        true => (build(&command.what, None)?.path, command.what.join("fixtures")),
        false => (command.what.clone(), "fixtures".into()),
    };
    let report = brokle_testkit::test(&component, command.fixtures.as_ref().unwrap_or(&beside))?;
    if command.json {
        output::json(&report)?;
    } else {
        output::lines(report.lines())?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
