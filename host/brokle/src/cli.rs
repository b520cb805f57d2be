//! The command line. Each command's work is in a file of its own.
//!
//! Exit codes: 0 for success, 1 for a failure (the reason is on standard error), 2 for a command line that can't be read
//! or a destructive command that nobody confirmed.

mod client;
mod config;
mod health;
mod import;
mod key;
mod keys;
mod license;
mod migrate;
mod plugin;
mod queue;
mod retention;
mod trust;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub(crate) use self::health::reachable;
use crate::{output, serve};

const EXAMPLES: &str = "Examples:
  brokle serve                          start on SQLite in ./data, on http://127.0.0.1:8080
  brokle serve --config brokle.toml     the same as the file says
  brokle key create --name ci --scopes gateway,traces:write
  brokle migrate status --json | jq
  brokle config check --config brokle.toml

Every key of the configuration is explained in brokle.example.toml.";

/// An OpenAI-compatible AI gateway and observability store.
#[derive(Debug, Parser)]
#[command(name = "brokle", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server.
    Serve(serve::ServeArgs),
    /// Bring the database's schema up or down, or see where it stands.
    #[command(subcommand)]
    Migrate(migrate::MigrateCommand),
    /// Make, list, rotate and revoke API keys.
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Sign components, and see whether and why one would run.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// See what of the telemetry queue can't be stored, try it again, or drop it.
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// See and change how long telemetry is kept, and delete what is older.
    #[command(subcommand)]
    Retention(retention::RetentionCommand),
    /// See and change whom this host believes.
    #[command(subcommand)]
    Trust(trust::TrustCommand),
    /// See, check and install a license.
    #[command(subcommand)]
    License(license::LicenseCommand),
    /// Check a configuration, or describe what one may hold.
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Turn another gateway's configuration into one of Brokle's.
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Print the OpenAPI description of the HTTP surface.
    Openapi,
    /// Ask a running server whether it is ready; for containers without curl.
    #[command(hide = true)]
    Health(health::HealthArgs),
}

/// Where the configuration is.
#[derive(Clone, Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration file [default: ./brokle.toml if it is there].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What a command ends with: nothing more to say, or why it failed.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error + Send + Sync>>;

/// What a destructive command that nobody confirmed ends with.
pub(crate) fn unconfirmed() -> ExitCode {
    output::complain("brokle: nothing was done: confirm with yes, or pass --yes");
    ExitCode::from(2)
}

/// Runs the command that the arguments name.
pub(crate) fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Serve(args) => serve::run(&args),
        Command::Migrate(command) => migrate::run(&command),
        Command::Key(command) => key::run(command),
        Command::Plugin(command) => plugin::run(command),
        Command::Queue(command) => queue::run(command),
        Command::Retention(command) => retention::run(command),
        Command::Trust(command) => trust::run(&command),
        Command::License(command) => license::run(&command),
        Command::Config(command) => config::run(&command),
        Command::Import(command) => import::run(&command),
        Command::Openapi => {
            output::json(&brokle_api::router::openapi()).map_err(Into::into).map(|()| ExitCode::SUCCESS)
        }
        Command::Health(args) => health::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        output::complain(&format!("brokle: {}", with_causes(error.as_ref())));
        ExitCode::FAILURE
    })
}

/// An error and what caused it, in one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Some libraries repeat their cause in their own words.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Runs an asynchronous command that needs no more than one thread.
pub(crate) fn block_on<F: Future<Output = Outcome>>(command: F) -> Outcome {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(command)
}
