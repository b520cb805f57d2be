//! What Brokle costs: a load generator, an upstream that answers at once, and the comparison with a bare proxy.
//!
//! `bench run` measures Brokle and the floor (`floor.rs`) in one run, against one upstream, in rounds that take turns, so
//! that whatever else the machine does meets both alike. What is compared is the ratio; the absolute numbers belong to
//! the machine and the minute.
//!
//! ```text
//! cargo build --release -p brokle -p brokle-bench
//! target/release/bench run --floor target/release/floor --brokle target/release/brokle [--quick]
//! ```
//!
//! `bench features` starts Brokle once for each feature, alone and all together, and compares with the floor and with a start without
//! any.
//!
//! `bench dialects` measures what translation costs, and large bodies.
//!
//! `bench soak` plays what isn't fair (slow clients, overload, hundreds of streams, a stop in the middle) and holds it against
//! promises.
//!
//! `bench telemetry` sends spans as fast as they are taken, and asks questions over many.
//!
//! Release builds on a machine that does nothing else, or the numbers mean little. A run with fewer shapes
//! (`--connections 32 --bodies 200`) is for looking closer: a target whose shape is missing isn't met.
#![expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a development tool: it spawns without the server's tracker, and what it prints is its purpose"
)]

mod candidate;
mod dialects;
mod features;
mod listen;
mod load;
mod paced;
mod process;
mod report;
mod request;
mod run;
mod soak;
mod streams;
mod telemetry;
mod upstream;
mod vendors;
mod wire;

use clap::{Parser, Subcommand};
use std::{io, net::SocketAddr, process::ExitCode, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// Measures Brokle against a bare pass-through proxy.
#[derive(Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Answer chat completions at once, with fixed bytes.
    Upstream {
        /// Where to listen.
        #[arg(long)]
        listen: SocketAddr,
        /// The pause between the chunks of a stream, in milliseconds.
        #[arg(long, default_value_t = 0)]
        chunk_delay_ms: u64,
    },
    /// Measure the floor and Brokle in turns; exits with 1 when a target is missed.
    Run(run::Args),
    /// Measure what each feature adds; exits with 1 when a target is missed.
    Features(features::Args),
    /// Measure translation and large bodies; exits with 1 when a target is missed.
    Dialects(dialects::Args),
    /// What Brokle does under load that isn't fair; exits with 1 when a promise is broken.
    Soak(soak::Args),
    /// Spans in, and questions over them; exits with 1 when a target is missed.
    Telemetry(telemetry::Args),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let outcome = match Args::parse().command {
        Command::Upstream { listen, chunk_delay_ms } => {
            upstream::serve(listen, Duration::from_millis(chunk_delay_ms)).await.map(|()| true)
        }
        Command::Run(args) => unless_stopped(run::run(&args)).await,
        Command::Features(args) => unless_stopped(features::run(&args)).await,
        Command::Dialects(args) => unless_stopped(dialects::run(&args)).await,
        Command::Soak(args) => unless_stopped(soak::run(&args)).await,
        Command::Telemetry(args) => unless_stopped(telemetry::run(&args)).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::from(2)
        }
    }
}

/// Measures until it is done, or the user has enough of it. Either way out drops the servers, and that ends them.
async fn unless_stopped(measuring: impl Future<Output = io::Result<bool>>) -> io::Result<bool> {
    let mut terminated = signal(SignalKind::terminate())?;
    tokio::select! {
        done = measuring => done,
        _ = tokio::signal::ctrl_c() => Err(io::ErrorKind::Interrupted.into()),
        _ = terminated.recv() => Err(io::ErrorKind::Interrupted.into()),
    }
}
