//! `brokle config`.

use std::process::ExitCode;

use clap::Subcommand;

use super::{ConfigFile, Outcome};
use crate::config::{self, Secrets};
use crate::output;

/// Check a configuration, or describe what one may hold.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read the configuration as `serve` would, and say what is wrong with it.
    Check(ConfigFile),
    /// Print the JSON schema of the configuration file.
    Schema,
}

pub(super) fn run(command: &ConfigCommand) -> Outcome {
    match command {
        ConfigCommand::Check(file) => {
            let config = config::load(file.config.as_deref())?;
            brokle_core::catalogue::Catalogue::builtin()?.with_overrides(config.models.clone())?;
            for warning in config.warnings().into_iter().chain(Secrets::from_env().warnings()) {
                output::complain(&format!("warning: {warning}"));
            }
            output::lines(["The configuration is valid."])?;
        }
        ConfigCommand::Schema => output::json(&config::schema())?,
    }
    Ok(ExitCode::SUCCESS)
}
