//! The `brokle` program: command line, configuration, wiring, lifecycle.

mod cli;
mod config;
mod import;
mod logs;
mod output;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
