//! The `brokle` program: command line, configuration, wiring, lifecycle.

mod cli;
mod config;
mod logs;
mod output;
mod serve;

use std::process::ExitCode;

/// Each request makes and frees a few hundred small pieces on two threads, which is what this allocator is good at.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
