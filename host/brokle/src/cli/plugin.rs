//! `brokle plugin`: make, sign, check and look into components.

mod inspect;
mod keygen;
mod sign;
mod verify;

use clap::Subcommand;

use super::Outcome;

/// Sign components, and see whether and why one would run.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  brokle plugin inspect acme_guard.wasm
  brokle plugin keygen --out keys
  brokle plugin sign acme_guard.wasm --key keys/publisher.key.pem
  brokle trust add-publisher --name Acme --prefix acme. --key keys/publisher.pub.pem
  brokle plugin verify acme_guard.wasm

A signature is a file beside the component: acme_guard.wasm.dsse.json. Give both away together.")]
pub(crate) enum PluginCommand {
    /// Make a publisher's key pair.
    Keygen(keygen::Keygen),
    /// Sign a component: writes FILE.wasm.dsse.json.
    Sign(sign::Sign),
    /// Say whether this host would run a component: exit 0, or the code on standard error and exit 1.
    Verify(verify::Verify),
    /// Show what a component says of itself, what it imports, and who signed it.
    Inspect(inspect::Inspect),
}

pub(super) fn run(command: &PluginCommand) -> Outcome {
    match command {
        PluginCommand::Keygen(command) => keygen::run(command),
        PluginCommand::Sign(command) => sign::run(command),
        PluginCommand::Verify(command) => verify::run(command),
        PluginCommand::Inspect(command) => inspect::run(command),
    }
}
