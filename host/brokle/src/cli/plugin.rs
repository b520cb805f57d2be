//! `brokle plugin`: write, build, test, sign, check and look into components; see and change what a running server makes of them.

mod build;
mod dev;
mod inspect;
mod keygen;
mod manage;
mod new;
mod sign;
mod test;
mod verify;

use clap::Subcommand;

use super::Outcome;

/// Write, build and test plugins; sign them, see whether and why one would run; install, enable, configure and roll back on a running server.
#[derive(Debug, Subcommand)]
#[command(after_help = "Examples:
  brokle plugin new --kind guardrail acme            then, in guardrail-acme:
  brokle plugin build
  brokle plugin test
  brokle plugin dev                                  a server with plugins.dev = true takes each change
  brokle plugin inspect acme_guard.wasm
  brokle plugin keygen --out keys
  brokle plugin sign acme_guard.wasm --key keys/publisher.key.pem
  brokle trust add-publisher --name Acme --prefix acme. --key keys/publisher.pub.pem
  brokle plugin verify acme_guard.wasm

On a running server, with a key that has plugins:read and plugins:write:
  export BROKLE_API_KEY=bk_...
  brokle plugin list
  brokle plugin install acme_guard.wasm              with acme_guard.wasm.dsse.json beside it
  brokle plugin install oci://registry.example/acme-guard:1.2.0
  brokle plugin grant acme.guard grants.json
  brokle plugin config acme.guard --set '{\"level\": 2}' --scope project
  brokle plugin rollback acme.guard
  brokle plugin events acme.guard --json

A signature is a file beside the component: acme_guard.wasm.dsse.json. Give both away together.")]
pub(crate) enum PluginCommand {
    /// Make a project that builds and passes at once.
    New(new::New),
    /// Build a project's component, and show what came of it.
    Build(build::Build),
    /// Play a plugin's fixtures in the real sandbox, with no server and no network.
    Test(test::Test),
    /// Build, test and install a project into a running server whenever it changes.
    Dev(dev::Dev),
    /// Make a publisher's key pair.
    Keygen(keygen::Keygen),
    /// Sign a component: writes FILE.wasm.dsse.json.
    Sign(sign::Sign),
    /// Say whether this host would run a component: exit 0, or the code on standard error and exit 1.
    Verify(verify::Verify),
    /// Show what a component says of itself, what it imports, and who signed it.
    Inspect(inspect::Inspect),
    #[command(flatten)]
    Manage(Box<manage::ManageCommand>),
}

pub(super) fn run(command: PluginCommand) -> Outcome {
    match command {
        PluginCommand::New(command) => new::run(&command),
        PluginCommand::Build(command) => build::run(&command),
        PluginCommand::Test(command) => test::run(&command),
        PluginCommand::Dev(command) => dev::run(&command),
        PluginCommand::Keygen(command) => keygen::run(&command),
        PluginCommand::Sign(command) => sign::run(&command),
        PluginCommand::Verify(command) => verify::run(&command),
        PluginCommand::Inspect(command) => inspect::run(&command),
        PluginCommand::Manage(command) => manage::run(*command),
    }
}
