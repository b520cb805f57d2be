//! `brokle import`: another gateway's configuration as ours.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use brokle_core::catalogue::Catalogue;
use clap::{Args, Subcommand};
use serde_json::json;

use super::Outcome;
use crate::import::litellm::{self, MAX_FILE};
use crate::import::{Imported, Kind, Note};
use crate::{config, output};

/// Turn another gateway's configuration into one of Brokle's.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  brokle import litellm config.yaml --out brokle.toml
  brokle import litellm config.yaml --json | jq .notes")]
pub(crate) enum ImportCommand {
    /// From LiteLLM's proxy. What has no equal is reported on standard error; secrets stay where they are.
    Litellm(Import),
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// LiteLLM's configuration file.
    file: PathBuf,
    /// Where the configuration is written, which must not be there yet [default: standard output].
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Answer in JSON: `config`, as TOML, and `notes`.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(command: &ImportCommand) -> Outcome {
    let ImportCommand::Litellm(import) = command;
    let yaml = read(&import.file)?;
    let catalogue = Catalogue::builtin()?;
    let variable = |name: &str| std::env::var(name).ok();
    let named = |error| format!("{}: {error}", import.file.display());
    let Imported { written, notes } = litellm::import(&yaml, &catalogue, &variable).map_err(named)?;
    let toml = toml::to_string(&written)?;
    // What is written is what `serve` would read.
    let config = config::parse(&toml)?;
    catalogue.with_overrides(config.models)?;
    if let Some(out) = &import.out {
        let created = std::fs::File::create_new(out).and_then(|mut file| file.write_all(toml.as_bytes()));
        created.map_err(|error| format!("{}: {error}", out.display()))?;
    }
    if import.json {
        output::json(&json!({ "config": toml, "notes": notes }))?;
        return Ok(ExitCode::SUCCESS);
    }
    if import.out.is_none() {
        output::lines([&toml])?;
    }
    report(&notes);
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let length = std::fs::metadata(path).map_err(named)?.len();
    if length > MAX_FILE {
        return Err(format!("{}: larger than {MAX_FILE} bytes", path.display()).into());
    }
    Ok(std::fs::read(path).map_err(named)?)
}

fn report(notes: &[Note]) {
    let mut before = None;
    for Note { kind, key, text } in notes {
        if before.replace(*kind) != Some(*kind) {
            output::complain(match kind {
                Kind::Todo => "To do:",
                Kind::Changed => "Works otherwise:",
                Kind::NoEqual => "Has no equal:",
            });
        }
        output::complain(&format!("  {key}: {text}"));
    }
}
