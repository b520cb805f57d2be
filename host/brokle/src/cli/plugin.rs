//! `brokle plugin`: what a running server has, and what becomes of it.

mod client;
mod manage;

use clap::Subcommand;

use super::Outcome;

/// Install, enable, configure and roll back plugins of a running server.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  export BROKLE_API_KEY=bk_...                       a key with plugins:read and plugins:write
  brokle plugin list
  brokle plugin install acme.wasm                    with acme.wasm.dsse.json beside it, if it is signed
  brokle plugin install oci://registry.example/acme:1.2.0
  brokle plugin grant acme.guardrail grants.json
  brokle plugin config acme.guardrail --set '{\"level\": 2}' --scope project
  brokle plugin rollback acme.guardrail
  brokle plugin events acme.guardrail --json")]
pub(crate) enum PluginCommand {
    #[command(flatten)]
    Manage(manage::ManageCommand),
}

pub(super) fn run(command: PluginCommand) -> Outcome {
    match command {
        PluginCommand::Manage(command) => manage::run(command),
    }
}
