//! `brokle plugin verify`.

use std::path::PathBuf;
use std::process::ExitCode;

use brokle_core::clock::{Clock, SystemClock};
use brokle_runtime::inspect;
use brokle_runtime::trust::Rules;
use brokle_runtime::trust::files::PluginFile;
use clap::Args;

use super::Outcome;
use crate::cli::ConfigFile;
use crate::cli::trust::read_only_store;
use crate::output;

#[derive(Debug, Args)]
pub(crate) struct Verify {
    #[command(flatten)]
    config: ConfigFile,
    /// The component; its signature is looked for beside it.
    file: PathBuf,
    /// Hold it against this root only, not against what the data directory has.
    #[arg(long, value_name = "ROOT")]
    root: Option<PathBuf>,
    /// As in development: unsigned components pass.
    #[arg(long)]
    dev: bool,
    /// Take an older release than the highest seen.
    #[arg(long)]
    allow_downgrade: bool,
    /// Answer in JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &Verify) -> Outcome {
    let store = read_only_store(&command.config, command.root.as_deref())?;
    let file = PluginFile::read(&command.file)?;
    let inspection = match inspect(&file.component) {
        Ok(inspection) => inspection,
        Err(error) => {
            output::complain(&format!("{}: {error}", error.code()));
            return Ok(ExitCode::FAILURE);
        }
    };
    let rules = Rules { dev: command.dev, allow_downgrade: command.allow_downgrade, ..Rules::default() };
    let envelope = file.envelope.as_deref();
    match store.verify(&file.component, envelope, &inspection, &rules, SystemClock.now()) {
        Ok(verdict) if command.json => output::json(&verdict)?,
        Ok(verdict) => {
            let level = serde_json::to_value(verdict.level)?;
            let mut lines =
                vec![format!("{}: {}", inspection.manifest.label(), level.as_str().unwrap_or_default())];
            lines.extend(verdict.signers.iter().map(|id| format!("  signed by {id}")));
            if let Some(statement) = verdict.statement.filter(|statement| !statement.entitlements.is_empty())
            {
                lines.push(format!("  needs a license with {}", statement.entitlements.join(", ")));
            }
            output::lines(lines)?;
        }
        Err(refusal) => {
            if command.json {
                output::json(&refusal)?;
            }
            output::complain(&refusal.to_string());
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}
